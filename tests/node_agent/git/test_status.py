"""Where a branch stands."""

import shutil
from pathlib import Path

import pytest

from node_agent.git.errors import WorktreeGone
from node_agent.git.sources import find_source
from node_agent.git.status import branch_status
from node_agent.git.untracked import note_copied
from node_agent.git.worktree_removal import remove_worktree
from node_agent.git.worktrees import Worktree
from protocol.work_requests import BranchStatusReply
from tests.node_agent.git.attempts import commit, make_worktree, write
from tests.node_agent.git.repositories import ATTEMPT, Sample, git


async def status_of(
    sample: Sample, root: Path, worktree: Worktree, target: str | None = "main"
) -> BranchStatusReply:
    """The status as the operation asks for it."""
    repository, _ = await make_worktree(sample, root)
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    return await branch_status(source, target_branch=target, base_commit=worktree.base)


@pytest.mark.asyncio
async def test_fresh_attempt(sample: Sample, root: Path) -> None:
    """Nothing ahead, nothing behind, nothing dirty."""
    _, worktree = await make_worktree(sample, root)
    assert await status_of(sample, root, worktree) == BranchStatusReply(
        branch="skep/do-it-deadbeef",
        target_branch="main",
        head=sample.head,
        base=sample.head,
    )


@pytest.mark.asyncio
async def test_ahead_behind_and_changes(sample: Sample, root: Path) -> None:
    """Commits on both sides, staged, changed, deleted, renamed and untracked files are counted."""
    base = sample.commit("more", {"a": "a\n", "b": "b\n", "c": "c\n"})
    _, worktree = await make_worktree(sample, root)
    commit(worktree, "one", {"x": "x"})
    head = commit(worktree, "two", {"y": "y"})
    sample.commit("theirs", {"z": "z"})
    write(worktree, "a", "changed\n")
    (worktree.path / "b").unlink()
    git(worktree.path, "mv", "c", "moved")
    write(worktree, "new/one\n", "1")
    write(worktree, b"new/\xff", "2")
    write(worktree, ".env", "secret")
    note_copied(worktree, frozenset({b".env"}))
    found = await status_of(sample, root, worktree)
    assert (found.head, found.base) == (head, base)
    assert (found.ahead, found.behind) == (2, 1)
    # A rename counts as its two files.
    assert (found.dirty, found.untracked) == (4, 2)
    assert (found.conflicts, found.source) == ([], "worktree")


@pytest.mark.asyncio
async def test_status_takes_no_lock(sample: Sample, root: Path) -> None:
    """Looking never writes the index an agent is using."""
    _, worktree = await make_worktree(sample, root)
    (worktree.path / "README").touch()
    before = worktree.index.read_bytes()
    await status_of(sample, root, worktree)
    assert worktree.index.read_bytes() == before


@pytest.mark.asyncio
async def test_conflicts_merge_and_rebase(sample: Sample, root: Path) -> None:
    """Files in conflict are named, and what is half done is said."""
    _, worktree = await make_worktree(sample, root)
    commit(worktree, "ours", {"README": "ours\n", "n\u00e9w\n": "ours\n"})
    sample.commit("theirs", {"README": "theirs\n", "n\u00e9w\n": "theirs\n"})
    git(worktree.path, "merge", "main", check=False)
    found = await status_of(sample, root, worktree)
    assert found.conflicts == ["README", "n\u00e9w\n"]
    assert (found.merge_in_progress, found.rebase_in_progress) == (True, False)
    git(worktree.path, "merge", "--abort")
    git(worktree.path, "rebase", "main", check=False)
    found = await status_of(sample, root, worktree)
    assert found.conflicts == ["README", "n\u00e9w\n"]
    assert (found.merge_in_progress, found.rebase_in_progress) == (False, True)


@pytest.mark.asyncio
async def test_remote_counts(sample: Sample, root: Path, tmp_path: Path) -> None:
    """Against the pushed branch, with or without an upstream set; none before a push."""
    git(tmp_path, "clone", "-q", "--bare", str(sample.path), "origin.git")
    sample.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    _, worktree = await make_worktree(sample, root)
    found = await status_of(sample, root, worktree)
    assert (found.remote_ahead, found.remote_behind) == (None, None)
    commit(worktree, "pushed", {"a": "a"})
    git(worktree.path, "push", "-q", "origin", worktree.branch)
    commit(worktree, "amended", {"b": "b"})
    git(worktree.path, "reset", "-q", "--hard", "HEAD~2")
    commit(worktree, "other", {"c": "c"})
    commit(worktree, "other", {"d": "d"})
    found = await status_of(sample, root, worktree)
    assert (found.remote_ahead, found.remote_behind) == (2, 1)
    sample.git("branch", f"--set-upstream-to=origin/{worktree.branch}", worktree.branch)
    assert await status_of(sample, root, worktree) == found


@pytest.mark.asyncio
async def test_target_of_the_origin_or_missing(sample: Sample, root: Path, tmp_path: Path) -> None:
    """A target that only the origin has counts; one that is nowhere leaves the base."""
    sample.git("checkout", "-q", "-b", "trunk")
    sample.commit("trunk", {"t": "t"})
    git(tmp_path, "clone", "-q", str(sample.path), "clone")
    clone = Sample(tmp_path / "clone")
    clone.git("checkout", "-q", "-b", "main", "HEAD~1")
    clone.git("branch", "-D", "trunk")
    clone.git("remote", "set-head", "origin", "main", check=False)
    clone.git("symbolic-ref", "-d", "refs/remotes/origin/HEAD")
    _, worktree = await make_worktree(clone, root)
    commit(worktree, "work", {"a": "a"})
    found = await status_of(clone, root, worktree, "trunk")
    assert (found.ahead, found.behind) == (1, 1)
    found = await status_of(clone, root, worktree, "nowhere")
    assert (found.ahead, found.behind, found.base) == (1, 0, worktree.base)
    found = await status_of(clone, root, worktree, None)
    assert (found.ahead, found.target_branch) == (1, None)


@pytest.mark.asyncio
async def test_without_the_worktree(sample: Sample, root: Path) -> None:
    """From the branch alone, or the saved work, what can be said is said."""
    repository, worktree = await make_worktree(sample, root)
    head = commit(worktree, "work", {"a": "a"})
    await remove_worktree(repository, root, ATTEMPT)
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    found = await branch_status(source, target_branch="main", base_commit=worktree.base)
    assert (found.source, found.head, found.ahead, found.dirty) == ("branch", head, 1, 0)
    _, worktree = await make_worktree(sample, root)
    write(worktree, "b", "b")
    await remove_worktree(repository, root, ATTEMPT)
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    found = await branch_status(source, target_branch="main", base_commit=worktree.base)
    assert (found.source, found.head, found.ahead) == ("saved", head, 1)


@pytest.mark.asyncio
async def test_detached_orphan_and_deleted(sample: Sample, root: Path) -> None:
    """A worktree left in an odd state has a status all the same; one deleted under us is gone."""
    repository, worktree = await make_worktree(sample, root)
    git(worktree.path, "checkout", "-q", "--detach")
    head = commit(worktree, "detached", {"a": "a"})
    found = await status_of(sample, root, worktree)
    assert (found.head, found.ahead, found.branch) == (head, 1, worktree.branch)
    git(worktree.path, "checkout", "-q", "--orphan", "fresh")
    found = await status_of(sample, root, worktree)
    assert (found.head, found.ahead, found.dirty) == (None, 0, 3)
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=worktree.branch)
    shutil.rmtree(worktree.path)
    with pytest.raises(WorktreeGone):
        await branch_status(source, target_branch="main", base_commit=worktree.base)
