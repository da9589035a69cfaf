"""An attempt's commits put on top of another base.

Where they go there cleanly it is done as objects, and the branch moves once. Where they do not, git
rebases in the worktree and stops at the conflict, as it does for a person, who resolves it there.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from node_agent.git.branch_errors import (
    CheckoutDirty,
    Conflicts,
    NotOnItsBranch,
    RebaseInProgress,
)
from node_agent.git.checked_out import CheckedOut
from node_agent.git.command import LONG_TIMEOUT_S
from node_agent.git.commit_identity import CommitIdentity
from node_agent.git.errors import BranchMissing, GitFailed
from node_agent.git.refs import branch_ref
from node_agent.git.repository import resolve_base
from node_agent.git.sources import Source
from node_agent.git.targets import merge_base, target_commit
from node_agent.git.unfinished import unfinished, unmerged_paths
from node_agent.git.worktrees import Worktree

_OPTIONS: Final = (
    "--merge",
    "--quiet",
    "--no-verify",
    "--no-stat",
    "--no-autostash",
    "--no-autosquash",
    "--no-update-refs",
    "--no-rebase-merges",
    "--no-fork-point",
    "--no-gpg-sign",
    "--empty=drop",
)


@dataclass(frozen=True)
class Bases:
    """Commits after `upstream` go on top of `onto`."""

    upstream: str
    onto: str


async def find_bases(source: Source, *, target_branch: str | None, new_base: str | None) -> Bases:
    """Return what a rebase goes from and to. Raises BranchMissing, InvalidRefName."""
    target = await target_commit(source, target_branch)
    if new_base is None:
        if target is None:
            raise BranchMissing("target_branch", target_branch or "")
        return Bases(target, target)
    onto = await resolve_base(source.repository, new_base, field="new_base")
    parted = None
    if target is not None and source.head is not None:
        parted = await merge_base(source, target, source.head)
    return Bases(parted or onto, onto)


async def check_can_rebase(worktree: Worktree, branch: str, head: str, onto: str) -> None:
    """Raise unless the worktree stands on its branch, finished and clean."""
    what = await asyncio.to_thread(unfinished, worktree.git_dir)
    if what is not None:
        raise RebaseInProgress(str(worktree.path), what)
    await check_on_branch(worktree, branch)
    place = CheckedOut(worktree.path, worktree.git_dir)
    if changed := await place.changed():
        raise CheckoutDirty(str(worktree.path), "has uncommitted changes", changed)
    if files := await place.in_the_way(head, onto):
        raise CheckoutDirty(
            str(worktree.path),
            "has files git does not know that would be overwritten",
            files,
            hint="Move them away, then ask again.",
        )


async def check_on_branch(worktree: Worktree, branch: str) -> None:
    """Raise NotOnItsBranch where HEAD is detached, or names another branch."""
    found = await worktree.git("symbolic-ref", "--quiet", "HEAD", exit_codes=(0, 1))
    if found.line != branch_ref(branch).encode("utf-8", "surrogateescape"):
        raise NotOnItsBranch(str(worktree.path), branch)


async def rebase_in_place(worktree: Worktree, bases: Bases, identity: CommitIdentity) -> None:
    """Rebase in the worktree. Raises Conflicts, with the rebase left in progress."""
    ended = await worktree.git(
        "rebase",
        *_OPTIONS,
        "--onto",
        bases.onto,
        bases.upstream,
        # Authors stay who they were.
        env={
            name: value
            for name, value in identity.environment.items()
            if name.startswith("GIT_COMMITTER_")
        },
        timeout_s=LONG_TIMEOUT_S,
        exit_codes=(0, 1),
    )
    if ended.exit_code:
        await check_nothing_left_open(worktree)
        raise GitFailed(["git", "rebase"], ended.exit_code, ended.stderr)


async def check_nothing_left_open(worktree: Worktree) -> None:
    """Raise Conflicts where a rebase stands in progress, naming the files in conflict."""
    if await asyncio.to_thread(unfinished, worktree.git_dir) is not None:
        files = await unmerged_paths(worktree)
        raise Conflicts("the rebase", files, left_open=str(worktree.path))
