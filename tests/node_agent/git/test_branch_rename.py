"""Renaming a branch, step by step; the operation has tests of its own."""

from pathlib import Path

import pytest

from node_agent.git.branch_rename import rename_branch
from tests.node_agent.git.attempts import make_worktree
from tests.node_agent.git.repositories import Sample, git


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.asyncio
async def test_what_was_cut_short_is_brought_to_its_end(
    tmp_path: Path, root: Path, object_format: str
) -> None:
    """Where git had taken the old name away and not made the new one."""
    sample = Sample.make(tmp_path / "project", object_format=object_format)
    repository, worktree = await make_worktree(sample, root)
    head = sample.head
    sample.git("update-ref", "-d", f"refs/heads/{worktree.branch}")
    await rename_branch(repository, worktree, before=worktree.branch, after="skep/new", head=head)
    assert sample.git("rev-parse", "refs/heads/skep/new") == head
    assert git(worktree.path, "symbolic-ref", "HEAD") == "refs/heads/skep/new"
