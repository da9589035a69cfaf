"""Repositories within a worktree: submodules that were filled, clones an agent made.

What they hold stands in no ref of ours, so their work must be known before a worktree goes.
"""

import os

from node_agent.git.command import run_git
from node_agent.git.errors import GitError, UnsavedWork
from node_agent.git.path_text import to_text
from node_agent.git.untracked import submodule_paths, untracked_paths
from node_agent.git.worktrees import Worktree


async def check_nothing_nested(worktree: Worktree) -> None:
    """Raise UnsavedWork, naming them, if nested repositories hold work that is nowhere else."""
    untracked = await untracked_paths(worktree)
    paths = [*untracked.nested, *await submodule_paths(worktree)]
    unsaved = [to_text(path) for path in paths if await _holds_work(worktree, path)]
    if unsaved:
        raise UnsavedWork(str(worktree.path), unsaved)


async def _holds_work(worktree: Worktree, path: bytes) -> bool:
    """Whether a nested repository has changes, or commits that none of its remotes has."""
    place = worktree.path / os.fsdecode(path)
    if not os.path.lexists(place / ".git"):  # noqa: ASYNC240  one look
        return False  # a submodule that nobody filled
    # A `.git` that is none must not lead git to the repository above.
    env = {"GIT_CEILING_DIRECTORIES": str(place.parent)}
    try:
        status = await run_git(place, "status", "--porcelain", "-z", env=env)
        if status.stdout:
            return True
        born = await run_git(
            place, "rev-parse", "--verify", "--quiet", "HEAD", env=env, exit_codes=(0, 1)
        )
        only_here = await run_git(
            place,
            "rev-list",
            "--max-count=1",
            *(["HEAD"] if born.exit_code == 0 else []),
            "--branches",
            # A glob without a sign of one would mean what stands below it.
            "--glob=refs/stas[h]",
            "--not",
            "--remotes",
            env=env,
        )
    except GitError:
        return True  # what cannot be read cannot be said to be safe
    return bool(only_here.stdout)
