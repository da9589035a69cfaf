"""Uncommitted work kept in a ref, and put back."""

import os
import shutil
from pathlib import Path

import pytest

from node_agent.git.saved_work import find_saved_work, restore_saved_work, save_work
from node_agent.git.worktree_removal import remove_worktree
from tests.node_agent.git.attempts import commit, make_sparse, make_worktree, write
from tests.node_agent.git.repositories import ATTEMPT, Sample, git

REF = f"refs/skep/saved/{ATTEMPT}"


@pytest.mark.asyncio
async def test_everything_uncommitted_is_saved(sample: Sample, root: Path) -> None:
    """Staged, changed, deleted, untracked and oddly named files; not the ignored ones."""
    sample.commit("ignore", {".gitignore": "*.o\n"})
    _, worktree = await make_worktree(sample, root)
    write(worktree, "README", "changed\n")
    write(worktree, "staged", "staged\n")
    git(worktree.path, "add", "staged")
    (worktree.path / "src/code.py").unlink()
    odd = [b"-dash", b"new\nline", b"caf\xe9", b"\xc3\xbc/deep", b":(top)x", b'q"uote', b"*"]
    for name in odd:
        write(worktree, name, b"odd")
    (worktree.path / "link").symlink_to("/etc/passwd")
    write(worktree, "build.o", "machine code")
    before = (worktree.index.read_bytes(), git(worktree.path, "status", "--porcelain"))
    saved = await save_work(worktree)
    assert saved is not None
    assert (saved.ref, saved.head) == (REF, sample.head)
    assert sample.git("rev-parse", REF, f"{REF}^") == f"{saved.commit}\n{sample.head}"
    names = sample.git("ls-tree", "-r", "-z", "--name-only", REF).split("\0")
    expected = {".gitignore", "README", "staged", "link", *map(os.fsdecode, odd)}
    assert set(names) - {""} == expected
    assert sample.git("show", f"{REF}:README") == "changed"
    assert sample.git("ls-tree", REF, "link").startswith("120000")
    assert (worktree.index.read_bytes(), git(worktree.path, "status", "--porcelain")) == before


@pytest.mark.asyncio
async def test_a_repository_with_longer_hashes(tmp_path: Path, root: Path) -> None:
    """Work is saved, saved again and put back there too: ids of commits have 64 digits."""
    sample = Sample.make(tmp_path / "longer", object_format="sha256")
    repository, worktree = await make_worktree(sample, root)
    write(worktree, "README", "changed\n")
    first = await save_work(worktree)
    assert first is not None
    assert len(first.commit) == 64
    write(worktree, "README", "changed again\n")
    saved = await save_work(worktree)
    assert saved is not None
    assert sample.git("show", f"{REF}:README") == "changed again"
    git(worktree.path, "reset", "-q", "--hard")
    assert await restore_saved_work(repository, worktree)
    assert (worktree.path / "README").read_text() == "changed again\n"


@pytest.mark.asyncio
async def test_nothing_to_save_makes_no_ref(sample: Sample, root: Path) -> None:
    """Committed work on the attempt's branch is safe already."""
    _, worktree = await make_worktree(sample, root)
    commit(worktree, "work", {"a": "a"})
    assert await save_work(worktree) is None
    assert sample.git("for-each-ref", "refs/skep") == ""


@pytest.mark.asyncio
async def test_commits_on_no_branch_are_saved(sample: Sample, root: Path) -> None:
    """An agent that detached HEAD and committed loses nothing."""
    _, worktree = await make_worktree(sample, root)
    git(worktree.path, "checkout", "-q", "--detach")
    head = commit(worktree, "detached", {"a": "a"})
    saved = await save_work(worktree)
    assert saved is not None
    assert saved.head == head
    sample.git("merge-base", "--is-ancestor", head, REF)


@pytest.mark.asyncio
async def test_orphan_branch_without_commits_is_saved(sample: Sample, root: Path) -> None:
    """A worktree whose HEAD has no commit yet still has its files saved."""
    _, worktree = await make_worktree(sample, root)
    git(worktree.path, "checkout", "-q", "--orphan", "fresh")
    write(worktree, "new", "new")
    saved = await save_work(worktree)
    assert saved is not None
    assert saved.head is None
    assert sample.git("show", f"{REF}:new") == "new"


@pytest.mark.asyncio
async def test_conflicts_are_saved_as_they_stand(sample: Sample, root: Path) -> None:
    """Files with conflict marks are kept; the index goes on saying that they conflict."""
    _, worktree = await make_worktree(sample, root)
    commit(worktree, "ours", {"README": "ours\n"})
    sample.commit("theirs", {"README": "theirs\n"})
    git(worktree.path, "merge", "main", check=False)
    saved = await save_work(worktree)
    assert saved is not None
    assert "<<<<<<<" in sample.git("show", f"{REF}:README")
    assert git(worktree.path, "ls-files", "-u")


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
@pytest.mark.asyncio
async def test_files_git_was_told_to_ignore_are_saved(
    sample: Sample, root: Path, flag: str
) -> None:
    """Work hidden from git status is still work."""
    _, worktree = await make_worktree(sample, root)
    git(worktree.path, "update-index", flag, "README")
    write(worktree, "README", "hidden\n")
    assert await save_work(worktree) is not None
    assert sample.git("show", f"{REF}:README") == "hidden"


@pytest.mark.asyncio
async def test_change_within_the_same_second_is_seen(sample: Sample, root: Path) -> None:
    """A change that leaves a file's size and time as git last saw them is saved all the same."""
    _, worktree = await make_worktree(sample, root)
    for _ in range(5):
        write(worktree, "README", "aaaaa\n")
        git(worktree.path, "add", "README")
        write(worktree, "README", "bbbbb\n")
        assert await save_work(worktree) is not None
        assert sample.git("show", f"{REF}:README") == "bbbbb"


@pytest.mark.asyncio
async def test_saving_again(sample: Sample, root: Path) -> None:
    """The same work is saved once; other work stands on the former, which stays."""
    _, worktree = await make_worktree(sample, root)
    write(worktree, "a", "1")
    first = await save_work(worktree)
    assert await save_work(worktree) == first
    write(worktree, "a", "2")
    second = await save_work(worktree)
    assert first is not None
    assert second is not None
    assert sample.git("rev-parse", f"{REF}^1", f"{REF}^2") == f"{sample.head}\n{first.commit}"


@pytest.mark.asyncio
async def test_saved_work_comes_back_uncommitted(sample: Sample, root: Path) -> None:
    """A worktree made again has the changes it had, and the branch stays where it was."""
    repository, worktree = await make_worktree(sample, root)
    head = commit(worktree, "work", {"a": "a"})
    write(worktree, "README", "changed\n")
    write(worktree, "new", "new\n")
    (worktree.path / "src/code.py").unlink()
    status = git(worktree.path, "status", "--porcelain")
    await remove_worktree(repository, root, ATTEMPT)
    _, again = await make_worktree(sample, root)
    assert await restore_saved_work(repository, again)
    assert git(again.path, "status", "--porcelain") == status
    assert git(again.path, "rev-parse", "HEAD") == head
    assert (again.path / "new").read_text() == "new\n"


@pytest.mark.asyncio
async def test_saved_work_of_another_head_is_not_put_back(sample: Sample, root: Path) -> None:
    """Where the branch has moved on, old changes would undo newer commits."""
    repository, worktree = await make_worktree(sample, root)
    assert not await restore_saved_work(repository, worktree)
    write(worktree, "a", "1")
    await save_work(worktree)
    commit(worktree, "moved on", {"a": "2"})
    assert not await restore_saved_work(repository, worktree)
    assert (worktree.path / "a").read_text() == "2"
    assert (await find_saved_work(repository, ATTEMPT)) is not None


@pytest.mark.asyncio
async def test_nested_repositories_do_not_stop_a_save(sample: Sample, root: Path) -> None:
    """Repositories within, even without commits, are left out; all else is saved."""
    _, worktree = await make_worktree(sample, root)
    write(worktree, "new", "new")
    git(worktree.path, "init", "-q", "empty")
    write(worktree, "empty/file", "x")
    Sample.make(worktree.path / "full")
    saved = await save_work(worktree)
    assert saved is not None
    names = sample.git("ls-tree", "-r", "--name-only", REF).splitlines()
    assert names == ["README", "new", "src/code.py"]


@pytest.mark.asyncio
async def test_emptied_worktree_is_saved(sample: Sample, root: Path) -> None:
    """A worktree whose every file was deleted is a change like any other."""
    _, worktree = await make_worktree(sample, root)
    (worktree.path / "README").unlink()
    shutil.rmtree(worktree.path / "src")
    saved = await save_work(worktree)
    assert saved is not None
    assert sample.git("ls-tree", REF) == ""


@pytest.mark.asyncio
async def test_work_that_was_undone_is_saved_as_undone(sample: Sample, root: Path) -> None:
    """A clean worktree on the commit of an earlier save takes that save's place, on top of it."""
    _, worktree = await make_worktree(sample, root)
    write(worktree, "README", "changed\n")
    first = await save_work(worktree)
    assert first is not None
    git(worktree.path, "checkout", "-q", "--", "README")
    second = await save_work(worktree)
    assert second is not None
    assert sample.git("diff", "--name-only", sample.head, REF) == ""
    assert sample.git("rev-parse", f"{REF}^2") == first.commit
    assert await save_work(worktree) == second


@pytest.mark.asyncio
async def test_work_outside_a_sparse_checkout_is_saved(sample: Sample, root: Path) -> None:
    """A new file where the sparse checkout shows nothing is work; what is not shown stays."""
    make_sparse(sample)
    _, worktree = await make_worktree(sample, root)
    write(worktree, "far/new", "new\n")
    assert await save_work(worktree) is not None
    names = sample.git("ls-tree", "-r", "--name-only", REF).split("\n")
    assert names == ["README", "far/new", "src/code.py"]
