"""Uncommitted work committed to the attempt's branch."""

import os
from pathlib import Path

import pytest

from node_agent.git.commit_identity import commit_identity
from node_agent.git.errors import ConflictsOpen, InvalidInput
from node_agent.git.leftovers import commit_all
from node_agent.git.untracked import note_copied
from tests.node_agent.git.attempts import commit, make_sparse, make_worktree, write
from tests.node_agent.git.repositories import Sample, git


@pytest.mark.asyncio
async def test_all_changes_are_committed(sample: Sample, root: Path) -> None:
    """Changed, deleted and new files go onto the branch, with the identity we resolved."""
    sample.commit("ignore", {".gitignore": "*.o\n"})
    repository, worktree = await make_worktree(sample, root)
    identity = await commit_identity(repository, setting=None, node_name="bee")
    write(worktree, "README", "changed\n")
    write(worktree, b"-new \xff\n", "new\n")
    write(worktree, "build.o", "x")
    (worktree.path / "src/code.py").unlink()
    made = await commit_all(worktree, "What was left\n\n# no comment\n", identity)
    assert made == sample.git("rev-parse", worktree.branch)
    assert git(worktree.path, "status", "--porcelain") == ""
    assert sample.git("log", "-1", "--format=%an <%ae>|%B", worktree.branch) == (
        "Skep on bee <skep@node.invalid>|What was left\n\n# no comment\n"
    )
    names = sample.git("ls-tree", "-r", "-z", "--name-only", worktree.branch).split("\0")
    assert set(names) == {"", ".gitignore", "README", os.fsdecode(b"-new \xff\n")}


@pytest.mark.asyncio
async def test_nothing_left_makes_no_commit(sample: Sample, root: Path) -> None:
    """A clean worktree stays where it is."""
    repository, worktree = await make_worktree(sample, root)
    identity = await commit_identity(repository, setting=None, node_name="bee")
    assert await commit_all(worktree, "x", identity) is None
    assert git(worktree.path, "rev-parse", "HEAD") == sample.head


@pytest.mark.asyncio
async def test_lock_of_a_killed_git_does_not_stop_it(sample: Sample, root: Path) -> None:
    """An agent killed in the middle of `git add` leaves a lock; the work is committed anyway."""
    repository, worktree = await make_worktree(sample, root)
    identity = await commit_identity(repository, setting=None, node_name="bee")
    write(worktree, "new", "new")
    (worktree.git_dir / "index.lock").touch()
    assert await commit_all(worktree, "x", identity)


@pytest.mark.asyncio
async def test_conflicts_are_never_committed(sample: Sample, root: Path) -> None:
    """Files with conflict marks stay uncommitted; a half-done rebase stays as it is."""
    repository, worktree = await make_worktree(sample, root)
    identity = await commit_identity(repository, setting=None, node_name="bee")
    head = commit(worktree, "ours", {"README": "ours\n"})
    sample.commit("theirs", {"README": "theirs\n"})
    for start in (("merge", "main"), ("rebase", "main")):
        git(worktree.path, *start, check=False)
        with pytest.raises(ConflictsOpen):
            await commit_all(worktree, "x", identity)
        git(worktree.path, start[0], "--abort")
    assert sample.git("rev-parse", worktree.branch) == head


@pytest.mark.asyncio
async def test_resolved_merge_is_finished(sample: Sample, root: Path) -> None:
    """A merge whose conflicts are settled becomes the merge it was meant to be."""
    repository, worktree = await make_worktree(sample, root)
    identity = await commit_identity(repository, setting=None, node_name="bee")
    commit(worktree, "ours", {"README": "ours\n"})
    sample.commit("theirs", {"other": "theirs\n"})
    git(worktree.path, "merge", "--no-commit", "main")
    made = await commit_all(worktree, "merged", identity)
    assert made
    assert len(sample.git("rev-list", "--parents", "-1", made).split()) == 3


@pytest.mark.asyncio
async def test_copied_files_and_nested_repositories_stay_out(sample: Sample, root: Path) -> None:
    """A secret the user had copied in is not committed, and neither is a clone within."""
    repository, worktree = await make_worktree(sample, root)
    identity = await commit_identity(repository, setting=None, node_name="bee")
    write(worktree, ".env", "secret")
    note_copied(worktree, frozenset({b".env"}))
    Sample.make(worktree.path / "clone")
    assert await commit_all(worktree, "x", identity) is None
    write(worktree, "new", "new")
    made = await commit_all(worktree, "x", identity)
    assert made
    assert sample.git("diff", "--name-only", f"{made}^", made) == "new"


@pytest.mark.parametrize("message", ["", " \n", "a\0b"])
@pytest.mark.asyncio
async def test_message_must_say_something(sample: Sample, root: Path, message: str) -> None:
    """A commit without a message is refused before anything is staged."""
    repository, worktree = await make_worktree(sample, root)
    identity = await commit_identity(repository, setting=None, node_name="bee")
    with pytest.raises(InvalidInput):
        await commit_all(worktree, message, identity)


@pytest.mark.asyncio
async def test_work_outside_a_sparse_checkout_is_committed(sample: Sample, root: Path) -> None:
    """A new file where the sparse checkout shows nothing is work; what is not shown stays."""
    make_sparse(sample)
    repository, worktree = await make_worktree(sample, root)
    identity = await commit_identity(repository, setting=None, node_name="bee")
    write(worktree, "far/new", "new\n")
    assert await commit_all(worktree, "What was left", identity) is not None
    names = sample.git("ls-tree", "-r", "--name-only", worktree.branch).split("\n")
    assert names == ["README", "far/new", "src/code.py"]
