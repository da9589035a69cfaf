"""What wakes who follows an attempt's work, and what does not."""

import asyncio
from pathlib import Path

import pytest

from node_agent.git import watching
from node_agent.git.sources import Source, find_source
from node_agent.git.watching import WorkWatch
from node_agent.git.worktrees import Worktree
from tests.node_agent.git.attempts import commit, make_worktree, write
from tests.node_agent.git.repositories import ATTEMPT, Sample, git

BRANCH = "skep/do-it-deadbeef"
#: Nothing healthy comes near this.
WITHIN_S = 30.0


async def begin(sample: Sample, root: Path) -> tuple[Worktree, Source]:
    """An attempt's worktree with something that git ignores."""
    repository, worktree = await make_worktree(sample, root)
    commit(worktree, "more", {".gitignore": "cache/\n", "src/deep/one.txt": "1\n"})
    write(worktree, "cache/made/by.build", "")
    source = await find_source(repository, root, attempt_id=ATTEMPT, branch=BRANCH)
    return worktree, source


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda one: write(one, "src/deep/one.txt", "2\n"), id="a file"),
        pytest.param(lambda one: write(one, "new.txt", "2\n"), id="a new file"),
        pytest.param(lambda one: (one.path / "src/deep/one.txt").unlink(), id="a file removed"),
        pytest.param(lambda one: git(one.path, "commit", "-q", "--allow-empty", "-m", "x"), id="a"),
        pytest.param(lambda one: git(one.path, "checkout", "-q", "--detach"), id="HEAD"),
        pytest.param(lambda one: git(one.path, "branch", "-f", "other"), id="a ref"),
    ],
)
async def test_what_wakes(sample: Sample, root: Path, change) -> None:
    """Files, HEAD, index and refs of the attempt's worktree are watched."""
    worktree, source = await begin(sample, root)
    watch = await WorkWatch.open(source)
    try:
        waiting = asyncio.create_task(watch.changed(WITHIN_S))
        await asyncio.to_thread(change, worktree)
        assert await waiting
    finally:
        await watch.aclose()


@pytest.mark.asyncio
async def test_what_git_ignores_does_not_wake(sample: Sample, root: Path) -> None:
    """A build that writes into an ignored folder wakes nobody; the work beside it does."""
    worktree, source = await begin(sample, root)
    watch = await WorkWatch.open(source)
    try:
        for number in range(20):
            write(worktree, f"cache/made/{number}", "x")
        assert not await watch.changed(0.5)
        write(worktree, "src/two.txt", "2\n")
        assert await watch.changed(WITHIN_S)
        assert watch.is_of(source)
    finally:
        await watch.aclose()


@pytest.mark.asyncio
async def test_new_folders_ask_for_a_new_watch(sample: Sample, root: Path) -> None:
    """A folder that appears is not watched yet, and the watch says so."""
    worktree, source = await begin(sample, root)
    watch = await WorkWatch.open(source)
    try:
        write(worktree, "fresh/file.txt", "x")
        assert await watch.changed(WITHIN_S)
        assert not watch.is_of(source)
        assert await watch.changed(WITHIN_S)
    finally:
        await watch.aclose()
    again = await WorkWatch.open(source)
    try:
        write(worktree, "fresh/file.txt", "y")
        assert await again.changed(WITHIN_S)
        assert again.is_of(source)
    finally:
        await again.aclose()


@pytest.mark.asyncio
async def test_git_at_work_is_one_change(sample: Sample, root: Path) -> None:
    """While git holds the index's lock nothing is told; a lock left behind holds up nobody."""
    worktree, source = await begin(sample, root)
    watch = await WorkWatch.open(source)
    lock = worktree.git_dir / "index.lock"
    try:
        lock.touch()
        waiting = asyncio.create_task(watch.changed(WITHIN_S))
        write(worktree, "new.txt", "x")
        await asyncio.sleep(1.0)
        assert not waiting.done()
        lock.unlink()
        assert await waiting
    finally:
        await watch.aclose()


@pytest.mark.asyncio
async def test_where_nothing_can_be_watched(sample: Sample, root: Path, monkeypatch) -> None:
    """With more folders than may be watched the work is looked at from time to time."""
    monkeypatch.setattr(watching, "FOLDERS_MAX", 1)
    monkeypatch.setattr(watching, "LOOK_INTERVAL_S", 0.01)
    _, source = await begin(sample, root)
    watch = await WorkWatch.open(source)
    try:
        assert await watch.changed(WITHIN_S)
        assert watch.is_of(source)
    finally:
        await watch.aclose()


@pytest.mark.asyncio
async def test_closing_ends_a_wait(sample: Sample, root: Path) -> None:
    """Who is cancelled while waiting closes the watch without waiting for a change."""
    _, source = await begin(sample, root)
    watch = await WorkWatch.open(source)
    waiting = asyncio.create_task(watch.changed(3600))
    await asyncio.sleep(0.1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(WITHIN_S):
        await watch.aclose()
