"""Worktrees removed: never before their work is safe."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from node_agent.git.errors import UnsavedWork
from node_agent.git.repository import open_repository
from node_agent.git.worktree_removal import prune_worktrees, remove_worktree
from node_agent.git.worktrees import MARK_FILE, find_worktree, making_file, registrations
from tests.node_agent.git.attempts import commit, make_worktree, write
from tests.node_agent.git.repositories import ATTEMPT, OTHER_ATTEMPT, Sample, git

REF = f"refs/skep/saved/{ATTEMPT}"


@pytest.mark.asyncio
async def test_removal_saves_first(sample: Sample, root: Path) -> None:
    """Uncommitted work is in the ref, the branch keeps its commits, the folder is gone."""
    repository, worktree = await make_worktree(sample, root)
    head = commit(worktree, "work", {"a": "a"})
    write(worktree, "new", "new")
    before = sample.state()
    saved = await remove_worktree(repository, root, ATTEMPT)
    assert saved is not None
    assert sample.git("show", f"{REF}:new") == "new"
    assert sample.git("rev-parse", worktree.branch) == head
    assert list(root.iterdir()) == []
    assert list(registrations(repository.common_dir)) == []
    assert sample.state() == before


@pytest.mark.asyncio
async def test_removing_twice_is_fine(sample: Sample, root: Path) -> None:
    """What is gone needs no second removal; what a crash left is taken away."""
    repository, _ = await make_worktree(sample, root)
    assert await remove_worktree(repository, root, ATTEMPT) is None
    assert await remove_worktree(repository, root, ATTEMPT) is None
    _, worktree = await make_worktree(sample, root)
    worktree.path.rename(root / f".removed-{ATTEMPT}")
    assert await remove_worktree(repository, root, ATTEMPT) is None
    assert list(root.iterdir()) == []
    assert list(registrations(repository.common_dir)) == []


@pytest.mark.asyncio
async def test_branch_is_free_again(sample: Sample, root: Path) -> None:
    """After removal the user can check the attempt's branch out, or merge it."""
    repository, worktree = await make_worktree(sample, root)
    await remove_worktree(repository, root, ATTEMPT)
    sample.git("checkout", "-q", worktree.branch)


@pytest.mark.asyncio
async def test_work_that_cannot_be_saved_stops_removal(
    sample: Sample, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If saving fails, nothing is deleted."""
    repository, worktree = await make_worktree(sample, root)
    write(worktree, "new", "new")

    async def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("node_agent.git.worktree_removal.save_work", fail)
    with pytest.raises(OSError):
        await remove_worktree(repository, root, ATTEMPT)
    assert (worktree.path / "new").read_text() == "new"


@pytest.mark.asyncio
async def test_nested_work_stops_removal(sample: Sample, root: Path) -> None:
    """A repository an agent made within holds commits that are nowhere else."""
    repository, worktree = await make_worktree(sample, root)
    Sample.make(worktree.path / "tool")
    with pytest.raises(UnsavedWork) as raised:
        await remove_worktree(repository, root, ATTEMPT)
    assert raised.value.repositories == ["tool"]
    assert raised.value.code == "unsaved_work"
    assert worktree.path.exists()
    await remove_worktree(repository, root, ATTEMPT, lose_nested=True)
    assert not worktree.path.exists()


@pytest.mark.asyncio
async def test_read_only_folders_are_removed(sample: Sample, root: Path, tmp_path: Path) -> None:
    """Tools that make their caches read-only do not keep a worktree for ever."""
    repository, worktree = await make_worktree(sample, root)
    write(worktree, "cache/mod/file", "x")
    write(worktree, "cache/mod/.gitignore", "*\n")
    (worktree.path / "cache/mod").chmod(0o500)
    (worktree.path / "cache").chmod(0o500)
    await remove_worktree(repository, root, ATTEMPT)
    assert not worktree.path.exists()


def test_read_only_folders_are_removed_by_an_ordinary_user(tmp_path: Path, checkout: Path) -> None:
    """The same for a user whom permissions stop, unlike root."""
    program = (
        "import os, sys, tempfile, pathlib\n"
        "from node_agent.git.folders import remove_folder\n"
        "top = pathlib.Path(tempfile.mkdtemp())\n"
        "(top / 'a/b').mkdir(parents=True)\n"
        "(top / 'a/b/file').touch()\n"
        "(top / 'a/b').chmod(0o500)\n"
        "(top / 'a').chmod(0o000)\n"
        "if os.getuid() == 0: os.setgroups([]); os.chown(top, 65534, 65534)\n"
        "for at in [top / 'a', top / 'a/b', top / 'a/b/file']:\n"
        "    if os.getuid() == 0: os.chown(at, 65534, 65534)\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "remove_folder(top / 'a')\n"
        "assert not (top / 'a').exists()\n"
        "top.chmod(0o700)\n"
        "os.rmdir(top) if os.access(top.parent, os.W_OK) else None\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=checkout, timeout=60)


@pytest.mark.asyncio
async def test_links_out_of_the_worktree_are_not_followed(
    sample: Sample, root: Path, tmp_path: Path
) -> None:
    """Removing a link never removes what it leads to."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    repository, worktree = await make_worktree(sample, root)
    (worktree.path / "link").symlink_to(precious)
    await remove_worktree(repository, root, ATTEMPT)
    assert (precious / "file").exists()


@pytest.mark.asyncio
async def test_prune_forgets_only_ours(sample: Sample, root: Path, tmp_path: Path) -> None:
    """A deleted worktree of ours is forgotten; the user's, and those that are there, are not."""
    sample.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "mine"))
    shutil.rmtree(tmp_path / "mine")
    repository, worktree = await make_worktree(sample, root)
    _, other = await make_worktree(sample, root, OTHER_ATTEMPT)
    shutil.rmtree(worktree.path)
    (root / ".removed-x" / "y").mkdir(parents=True)
    assert await prune_worktrees(repository, root) == [ATTEMPT]
    assert sorted(path.name for path in root.iterdir()) == [OTHER_ATTEMPT]
    assert {path for _, path in registrations(repository.common_dir)} == {
        tmp_path / "mine",
        other.path,
    }
    assert await find_worktree(repository, root, OTHER_ATTEMPT) == other


@pytest.mark.asyncio
async def test_prune_clears_what_was_never_finished(sample: Sample, root: Path) -> None:
    """A crash while a worktree was made leaves nothing for ever."""
    repository, worktree = await make_worktree(sample, root)
    (worktree.git_dir / MARK_FILE).unlink()
    making_file(worktree.path).touch()
    assert await prune_worktrees(repository, root) == []
    assert list(root.iterdir()) == []
    assert list(registrations(repository.common_dir)) == []


@pytest.mark.asyncio
async def test_folder_we_did_not_make_stays(sample: Sample, root: Path) -> None:
    """Neither a user's worktree nor loose files under the root are removed."""
    root.mkdir(parents=True)
    sample.git("worktree", "add", "-q", "-b", "near", str(root / ATTEMPT))
    (root / OTHER_ATTEMPT).mkdir()
    repository = await open_repository(sample.path)
    assert await remove_worktree(repository, root, ATTEMPT) is None
    assert await remove_worktree(repository, root, OTHER_ATTEMPT) is None
    assert (root / ATTEMPT / "README").exists()
    assert (root / OTHER_ATTEMPT).exists()


@pytest.mark.asyncio
async def test_prune_waits_for_a_root_that_is_away(
    sample: Sample, root: Path, tmp_path: Path
) -> None:
    """An unmounted disk is no reason to forget what is on it."""
    repository, worktree = await make_worktree(sample, root)
    root.rename(tmp_path / "away")
    assert await prune_worktrees(repository, root) == []
    (tmp_path / "away").rename(root)
    assert await find_worktree(repository, root, ATTEMPT) == worktree


@pytest.mark.asyncio
async def test_last_commit_of_a_deleted_worktree_is_saved(sample: Sample, root: Path) -> None:
    """Of a worktree whose folder is gone, the commit it stood on is kept where no branch has it."""
    repository, worktree = await make_worktree(sample, root)
    git(worktree.path, "checkout", "-q", "--detach")
    head = commit(worktree, "detached", {"a": "a"})
    shutil.rmtree(worktree.path)
    assert await prune_worktrees(repository, root) == [ATTEMPT]
    assert sample.git("rev-parse", REF) == head


@pytest.mark.asyncio
async def test_what_was_saved_before_stays_below_the_last_commit(
    sample: Sample, root: Path
) -> None:
    """The commit of a deleted worktree is kept upon earlier saved work, and not in its place."""
    repository, worktree = await make_worktree(sample, root)
    write(worktree, "precious", "saved once")
    assert await remove_worktree(repository, root, ATTEMPT) is not None
    _, worktree = await make_worktree(sample, root)
    git(worktree.path, "checkout", "-q", "--detach")
    head = commit(worktree, "detached", {"a": "a"})
    shutil.rmtree(worktree.path)
    assert await prune_worktrees(repository, root) == [ATTEMPT]
    assert sample.git("rev-parse", f"{REF}^1") == head
    assert sample.git("show", f"{REF}:a") == "a"
    assert sample.git("show", f"{REF}^2:precious") == "saved once"
