"""Worktrees for tests, made by the code under test in a repository a user made."""

import os
from pathlib import Path

from node_agent.git.refs import attempt_branch
from node_agent.git.repository import Repository, open_repository, resolve_base
from node_agent.git.worktrees import Worktree, create_worktree
from tests.node_agent.git.repositories import ATTEMPT, Sample, git


async def make_worktree(
    sample: Sample, root: Path, attempt_id: str = ATTEMPT
) -> tuple[Repository, Worktree]:
    """Make an attempt's worktree of a sample from its default branch."""
    repository = await open_repository(sample.path)
    worktree = await create_worktree(
        repository,
        root,
        attempt_id=attempt_id,
        branch=attempt_branch("Do it", attempt_id),
        base=await resolve_base(repository, None),
    )
    return repository, worktree


def write(worktree: Worktree, name: str | bytes, content: str | bytes = "") -> Path:
    """Write a file of a worktree, as an agent does."""
    path = worktree.path / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def commit(worktree: Worktree, message: str, files: dict[str, str | bytes]) -> str:
    """Commit in a worktree, as an agent does."""
    for name, content in files.items():
        write(worktree, name, content)
    git(worktree.path, "add", "-A")
    git(worktree.path, "commit", "-q", "-m", message)
    return git(worktree.path, "rev-parse", "HEAD")


def make_sparse(sample: Sample) -> None:
    """Have a user's checkout, and so its worktrees, show nothing but README."""
    sample.git("sparse-checkout", "set", "--no-cone", "/README")
