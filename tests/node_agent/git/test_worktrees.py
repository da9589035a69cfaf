"""Worktrees made, found again and mended; the user's checkout left as it was."""

import asyncio
import shutil
from pathlib import Path

import pytest

from node_agent.git.errors import (
    BranchInUse,
    GitFailed,
    InvalidInput,
    InvalidRefName,
    WorktreeExists,
    WorktreeGone,
)
from node_agent.git.locks import repository_lock
from node_agent.git.repository import open_repository
from node_agent.git.worktrees import (
    MARK_FILE,
    create_worktree,
    find_worktree,
    making_file,
    registrations,
)
from tests.node_agent.git.attempts import commit, make_worktree, write
from tests.node_agent.git.repositories import ATTEMPT, OTHER_ATTEMPT, Sample, git

BRANCH = "skep/do-it-deadbeef"


@pytest.mark.asyncio
async def test_worktree_stands_on_its_own_branch(sample: Sample, root: Path) -> None:
    """The attempt's files are those of the base, on a branch named for task and attempt."""
    repository, worktree = await make_worktree(sample, root)
    assert worktree.path == root / ATTEMPT
    assert (worktree.path / "src/code.py").read_text() == "print(1)\n"
    assert git(worktree.path, "symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"
    assert git(worktree.path, "status", "--porcelain") == ""
    assert (worktree.branch, worktree.base) == (BRANCH, sample.head)
    assert await find_worktree(repository, root, ATTEMPT) == worktree
    assert await find_worktree(repository, root, OTHER_ATTEMPT) is None
    assert (await worktree.git("rev-parse", "--show-toplevel")).line.decode() == str(worktree.path)


@pytest.mark.asyncio
async def test_a_branch_renamed_meanwhile(sample: Sample, root: Path) -> None:
    """Whoever waited for the repository makes no second branch under the name it had before."""
    repository = await open_repository(sample.path)
    name = BRANCH
    sample.git("branch", BRANCH)

    async def branch_now() -> str:
        return name

    async with repository_lock(repository.common_dir):
        making = asyncio.create_task(
            create_worktree(
                repository,
                root,
                attempt_id=ATTEMPT,
                branch=BRANCH,
                base=sample.head,
                branch_now=branch_now,
            )
        )
        await asyncio.sleep(0)
        name = "skep/renamed"
        sample.git("branch", "-m", BRANCH, name)
    assert (await making).branch == name
    assert sample.git("branch", "--list", BRANCH) == ""


@pytest.mark.asyncio
async def test_users_checkout_is_untouched(sample: Sample, root: Path) -> None:
    """A dirty checkout with staged and untracked files stays exactly as it was."""
    sample.write("README", "changed\n")
    sample.write("staged", "staged\n")
    sample.git("add", "staged")
    sample.write("new", "new\n")
    before = sample.state()
    _, worktree = await make_worktree(sample, root)
    commit(worktree, "work", {"README": "other\n"})
    assert sample.state() == before
    assert (sample.path / "README").read_text() == "changed\n"


@pytest.mark.asyncio
async def test_no_hook_of_the_user_runs(sample: Sample, root: Path, tmp_path: Path) -> None:
    """Making a worktree starts nothing of the repository's."""
    mark = tmp_path / "ran"
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        sample.write(f".git/hooks/{hook}", f"#!/bin/sh\ntouch {mark}\n").chmod(0o755)
    await make_worktree(sample, root)
    assert not mark.exists()


@pytest.mark.asyncio
async def test_creating_again_returns_what_is_there(sample: Sample, root: Path) -> None:
    """A second call changes nothing, also where the agent has worked meanwhile."""
    _, worktree = await make_worktree(sample, root)
    head = commit(worktree, "work", {"a": "a"})
    write(worktree, "untracked", "u")
    _, again = await make_worktree(sample, root)
    assert again == worktree
    assert git(worktree.path, "rev-parse", "HEAD") == head
    assert (worktree.path / "untracked").read_text() == "u"


@pytest.mark.asyncio
async def test_creating_at_once_makes_one(sample: Sample, root: Path) -> None:
    """Two calls for one attempt and one for another do not disturb each other."""
    made = await asyncio.gather(
        make_worktree(sample, root),
        make_worktree(sample, root),
        make_worktree(sample, root, OTHER_ATTEMPT),
    )
    assert made[0][1] == made[1][1]
    for (repository, worktree), attempt_id in zip(
        made, (ATTEMPT, ATTEMPT, OTHER_ATTEMPT), strict=True
    ):
        assert await find_worktree(repository, root, attempt_id) == worktree


@pytest.mark.parametrize("crash", ["branch", "registered", "files", "no files", "admin broken"])
@pytest.mark.asyncio
async def test_what_a_crash_left_is_made_anew(sample: Sample, root: Path, crash: str) -> None:
    """Wherever making it stopped, making it again ends with a whole worktree."""
    if crash == "branch":
        sample.git("branch", BRANCH)
    else:
        _, worktree = await make_worktree(sample, root)
        (worktree.git_dir / MARK_FILE).unlink()
        making_file(worktree.path).touch()
        if crash == "registered":
            shutil.rmtree(worktree.path)
            worktree.path.mkdir()
        elif crash == "files":
            (worktree.path / "README").unlink()
            (worktree.git_dir / "index").unlink()
        elif crash == "no files":
            shutil.rmtree(worktree.path)
        else:
            (worktree.git_dir / "HEAD").unlink()
            (worktree.git_dir / "index.lock").touch()
        repository = await open_repository(sample.path)
        assert await find_worktree(repository, root, ATTEMPT) is None
    _, again = await make_worktree(sample, root)
    assert git(again.path, "status", "--porcelain") == ""
    assert git(again.path, "symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"
    assert (again.path / "README").read_text() == "hello\n"
    assert len(list(registrations(again.common_dir))) == 1
    assert [path.name for path in root.iterdir()] == [ATTEMPT]


@pytest.mark.asyncio
async def test_worktree_comes_back_with_its_commits(sample: Sample, root: Path) -> None:
    """A deleted folder is made again from the branch, not from the base."""
    repository, worktree = await make_worktree(sample, root)
    head = commit(worktree, "work", {"a": "a"})
    shutil.rmtree(worktree.path)
    assert await find_worktree(repository, root, ATTEMPT) is None
    with pytest.raises(WorktreeGone):
        await worktree.git("status")
    _, again = await make_worktree(sample, root)
    assert git(again.path, "rev-parse", "HEAD") == head


@pytest.mark.asyncio
async def test_unknown_files_are_never_deleted(sample: Sample, root: Path) -> None:
    """A folder no repository knows may be the last copy of someone's work."""
    (root / ATTEMPT).mkdir(parents=True)
    (root / ATTEMPT / "work").write_text("mine")
    with pytest.raises(WorktreeExists):
        await make_worktree(sample, root)
    assert (root / ATTEMPT / "work").read_text() == "mine"


@pytest.mark.asyncio
async def test_link_in_place_of_the_folder_is_refused(
    sample: Sample, root: Path, tmp_path: Path
) -> None:
    """Neither made nor found through a link that leads to someone else's files."""
    other = tmp_path / "elsewhere"
    other.mkdir()
    root.mkdir(parents=True)
    (root / ATTEMPT).symlink_to(other)
    with pytest.raises(WorktreeExists):
        await make_worktree(sample, root)
    (root / ATTEMPT).unlink()
    repository, worktree = await make_worktree(sample, root)
    worktree.path.rename(tmp_path / "moved")
    worktree.path.symlink_to(sample.path)
    assert await find_worktree(repository, root, ATTEMPT) is None
    with pytest.raises(WorktreeGone):
        await worktree.git("status")


@pytest.mark.asyncio
async def test_root_within_the_checkout_is_refused(sample: Sample) -> None:
    """Worktrees in the user's checkout would be files of the checkout."""
    for root in (sample.path / "node", sample.path / ".git" / "node", sample.path):
        with pytest.raises(InvalidInput) as raised:
            await make_worktree(sample, root)
        assert raised.value.field == "data_dir"


@pytest.mark.asyncio
async def test_branch_checked_out_by_the_user_is_refused(sample: Sample, root: Path) -> None:
    """The user's own branch is not taken from under the user."""
    repository = await open_repository(sample.path)
    with pytest.raises(BranchInUse) as raised:
        await create_worktree(repository, root, attempt_id=ATTEMPT, branch="main", base=sample.head)
    assert raised.value.code == "exists"
    assert not list(registrations(repository.common_dir))


@pytest.mark.asyncio
async def test_branch_that_stands_in_the_way_is_named(sample: Sample, root: Path) -> None:
    """A branch called `skep` leaves no room for `skep/...`; the hint says so."""
    sample.git("branch", "skep")
    with pytest.raises(BranchInUse) as raised:
        await make_worktree(sample, root)
    assert "`skep`" in raised.value.hint


@pytest.mark.asyncio
async def test_options_and_paths_in_names_are_refused(sample: Sample, root: Path) -> None:
    """Neither a branch nor an attempt can be an option or lead out of the root."""
    repository = await open_repository(sample.path)
    for branch, attempt_id in (("--upload-pack=x", ATTEMPT), ("skep/a", "../x"), ("-d", ATTEMPT)):
        with pytest.raises(InvalidRefName):
            await create_worktree(
                repository, root, attempt_id=attempt_id, branch=branch, base=sample.head
            )


@pytest.mark.asyncio
async def test_failed_checkout_leaves_nothing(sample: Sample, root: Path) -> None:
    """Where the files cannot be written, no worktree and no branch remain."""
    sample.write(".gitattributes", "* filter=broken\n")
    sample.commit("attributes", {})
    sample.git("config", "filter.broken.smudge", "exit 1")
    sample.git("config", "filter.broken.required", "true")
    with pytest.raises(GitFailed):
        await make_worktree(sample, root)
    repository = await open_repository(sample.path)
    assert not list(registrations(repository.common_dir))
    assert not (root / ATTEMPT).exists()
    assert sample.git("branch", "--list", "skep/*") == ""
    sample.git("config", "filter.broken.smudge", "cat")
    await make_worktree(sample, root)


@pytest.mark.asyncio
async def test_broken_link_file_is_mended(sample: Sample, root: Path) -> None:
    """An agent that deleted `.git`, or a checkout that moved, gets a working `.git` again."""
    _, worktree = await make_worktree(sample, root)
    (worktree.path / ".git").unlink()
    await make_worktree(sample, root)
    assert git(worktree.path, "rev-parse", "HEAD") == sample.head
    moved = Sample(sample.path.rename(sample.path.with_name("moved")))
    _, again = await make_worktree(moved, root)
    assert again.git_dir.is_relative_to(moved.path)
    assert git(worktree.path, "rev-parse", "HEAD") == moved.head


@pytest.mark.asyncio
async def test_git_stays_in_the_worktree_whatever_its_link_says(
    sample: Sample, root: Path, tmp_path: Path
) -> None:
    """An agent cannot lead our git into another repository by rewriting `.git`."""
    other = Sample.make(tmp_path / "other")
    _, worktree = await make_worktree(sample, root)
    (worktree.path / ".git").write_text(f"gitdir: {other.path}/.git\n")
    found = await worktree.git("rev-parse", "--git-common-dir")
    assert found.line.decode() == str(sample.path / ".git")
    shutil.rmtree(worktree.path / ".git", ignore_errors=True)
    (worktree.path / ".git").unlink(missing_ok=True)
    git(worktree.path, "init", "-q")
    assert (await worktree.git("rev-parse", "HEAD")).line.decode() == sample.head
    await make_worktree(sample, root)
    assert (worktree.path / ".git").is_dir()


@pytest.mark.asyncio
async def test_bare_shallow_and_detached_sources(
    sample: Sample, root: Path, tmp_path: Path
) -> None:
    """Any checkout that opens can carry attempts."""
    sample.commit("second", {"README": "more\n"})
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{sample.path}", "shallow")
    git(tmp_path, "clone", "-q", "--bare", str(sample.path), "bare.git")
    git(tmp_path, "clone", "-q", str(sample.path), "detached")
    git(tmp_path / "detached", "checkout", "-q", "--detach", "HEAD~1")
    for name in ("shallow", "bare.git", "detached"):
        _, worktree = await make_worktree(Sample(tmp_path / name), root / name)
        assert (worktree.path / "README").read_text() == "more\n"


@pytest.mark.asyncio
async def test_submodules_stay_empty(sample: Sample, root: Path, tmp_path: Path) -> None:
    """A repository with submodules gives a worktree with their folders, and no download."""
    Sample.make(tmp_path / "library")
    sample.git("submodule", "add", "-q", str(tmp_path / "library"), "lib")
    sample.commit("submodule", {})
    _, worktree = await make_worktree(sample, root)
    assert list((worktree.path / "lib").iterdir()) == []
    assert git(worktree.path, "status", "--porcelain") == ""


@pytest.mark.asyncio
async def test_users_prune_does_not_take_it(sample: Sample, root: Path, tmp_path: Path) -> None:
    """While the node's disk is away, `git worktree prune` keeps the attempt's registration."""
    repository, worktree = await make_worktree(sample, root)
    root.rename(tmp_path / "away")
    sample.git("worktree", "prune", "--expire=now")
    (tmp_path / "away").rename(root)
    assert await find_worktree(repository, root, ATTEMPT) == worktree


@pytest.mark.asyncio
async def test_users_worktrees_are_not_ours(sample: Sample, root: Path, tmp_path: Path) -> None:
    """Only what we made, under our root."""
    sample.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "mine"))
    sample.git("worktree", "add", "-q", "-b", "near", str(root / OTHER_ATTEMPT))
    repository, worktree = await make_worktree(sample, root)
    assert await find_worktree(repository, root, ATTEMPT) == worktree
    assert await find_worktree(repository, root, OTHER_ATTEMPT) is None
    with pytest.raises(WorktreeExists):
        await make_worktree(sample, root, OTHER_ATTEMPT)
    assert (root / OTHER_ATTEMPT / "README").exists()
