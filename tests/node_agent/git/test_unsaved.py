"""What a worktree holds that its branch does not is named, and what is safe is not."""

from pathlib import Path

import pytest

from node_agent.git.errors import UnsavedChanges
from node_agent.git.unsaved import check_nothing_unsaved
from node_agent.git.untracked import note_copied
from tests.node_agent.git.attempts import commit, make_worktree, write
from tests.node_agent.git.repositories import Sample, git


@pytest.mark.asyncio
async def test_what_is_safe(sample: Sample, root: Path) -> None:
    """Commits of the branch, ignored files and files we copied in are nothing to lose."""
    sample.commit("ignore", {".gitignore": "*.o\n"})
    _, worktree = await make_worktree(sample, root)
    commit(worktree, "work", {"a": "a"})
    write(worktree, "build.o", "x")
    write(worktree, "copied", "x")
    note_copied(worktree, frozenset({b"copied"}))
    await check_nothing_unsaved(worktree)


@pytest.mark.asyncio
async def test_all_that_would_be_lost(sample: Sample, root: Path) -> None:
    """Changed, staged, deleted and new files are named, whatever they are called."""
    _, worktree = await make_worktree(sample, root)
    write(worktree, "README", "changed")
    (worktree.path / "src/code.py").unlink()
    write(worktree, "staged", "x")
    git(worktree.path, "add", "staged")
    for name in (b"a b", b"new\nline", b"-dash", b"\xc3\xbc/deep"):
        write(worktree, name, "x")
    with pytest.raises(UnsavedChanges) as caught:
        await check_nothing_unsaved(worktree)
    details = caught.value.details
    assert (details["unsaved_count"], details["commits_off_branch"]) == (7, False)
    assert {"README", "src/code.py", "staged", "a b", "-dash", "ü/deep"} <= set(details["unsaved"])


@pytest.mark.asyncio
async def test_commits_off_the_branch(sample: Sample, root: Path) -> None:
    """Commits on a detached HEAD are work too."""
    _, worktree = await make_worktree(sample, root)
    git(worktree.path, "checkout", "-q", "--detach")
    commit(worktree, "detached", {"a": "a"})
    with pytest.raises(UnsavedChanges) as caught:
        await check_nothing_unsaved(worktree)
    assert caught.value.details["commits_off_branch"] is True


@pytest.mark.asyncio
async def test_a_great_many(sample: Sample, root: Path) -> None:
    """All are counted; a hundred are named."""
    _, worktree = await make_worktree(sample, root)
    for number in range(250):
        write(worktree, f"file{number}", "x")
    with pytest.raises(UnsavedChanges) as caught:
        await check_nothing_unsaved(worktree)
    assert caught.value.details["unsaved_count"] == 250
    assert len(caught.value.details["unsaved"]) == 100
    assert "and 240 more" in caught.value.message
