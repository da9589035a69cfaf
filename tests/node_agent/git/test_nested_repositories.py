"""Repositories within a worktree, and whether their work stands anywhere else."""

from pathlib import Path

import pytest

from node_agent.git.errors import UnsavedWork
from node_agent.git.nested_repositories import check_nothing_nested
from tests.node_agent.git.attempts import make_worktree, write
from tests.node_agent.git.repositories import Sample, git


@pytest.mark.asyncio
async def test_clean_clone_is_no_work(sample: Sample, root: Path, tmp_path: Path) -> None:
    """What a remote has can be cloned again."""
    Sample.make(tmp_path / "library")
    _, worktree = await make_worktree(sample, root)
    git(worktree.path, "clone", "-q", str(tmp_path / "library"), "clone")
    await check_nothing_nested(worktree)


@pytest.mark.parametrize("work", ["dirty", "untracked", "commit", "branch", "stash", "broken"])
@pytest.mark.asyncio
async def test_clone_with_work(sample: Sample, root: Path, tmp_path: Path, work: str) -> None:
    """Every kind of work that only the clone has is found; so is a clone that cannot be read."""
    Sample.make(tmp_path / "library")
    _, worktree = await make_worktree(sample, root)
    git(worktree.path, "clone", "-q", str(tmp_path / "library"), "clone")
    clone = Sample(worktree.path / "clone")
    if work in {"dirty", "stash"}:
        clone.write("README", "changed\n")
    if work == "stash":
        clone.git("stash")
    if work == "untracked":
        clone.write("new", "new")
    if work == "commit":
        clone.commit("work", {"a": "a"})
    if work == "branch":
        clone.git("checkout", "-q", "-b", "side")
        clone.commit("work", {"a": "a"})
        clone.git("checkout", "-q", "main")
    if work == "broken":
        clone.write(".git/refs/heads/main", "0" * 39 + "1\n")
    with pytest.raises(UnsavedWork) as raised:
        await check_nothing_nested(worktree)
    assert raised.value.repositories == ["clone"]


@pytest.mark.asyncio
async def test_submodules(sample: Sample, root: Path, tmp_path: Path) -> None:
    """An unfilled submodule and a clean one are no work; one with a new commit is."""
    Sample.make(tmp_path / "library")
    sample.git("submodule", "add", "-q", str(tmp_path / "library"), "lib")
    sample.commit("submodule", {})
    _, worktree = await make_worktree(sample, root)
    await check_nothing_nested(worktree)
    git(worktree.path, "submodule", "update", "-q", "--init")
    await check_nothing_nested(worktree)
    Sample(worktree.path / "lib").commit("work", {"a": "a"})
    with pytest.raises(UnsavedWork):
        await check_nothing_nested(worktree)


@pytest.mark.asyncio
async def test_repository_without_commits(sample: Sample, root: Path) -> None:
    """A fresh `git init` is no work until there is a file in it."""
    _, worktree = await make_worktree(sample, root)
    git(worktree.path, "init", "-q", "fresh")
    await check_nothing_nested(worktree)
    write(worktree, "fresh/file", "x")
    with pytest.raises(UnsavedWork):
        await check_nothing_nested(worktree)
