"""`follow_diff`: from a worktree that changes to updates a client applies."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from node_agent.git.repository import open_repository
from node_agent.git.worktrees import create_worktree
from node_agent.operations import follow
from node_agent.operations.asking import Streamed
from node_agent.operations.follow import DiffFollowing
from node_agent.operations.work import WorkReading
from protocol.errors import ErrorCode, OperationError
from protocol.states import AttemptPhase
from protocol.work_requests import FollowDiffRequest
from tests.node_agent.git.repositories import git
from tests.node_agent.operations.conftest import StoredNode

#: Nothing healthy comes near this.
WITHIN_S = 60.0


class Reader:
    """Reads updates off a stream, as a client does."""

    def __init__(self, answer: Any) -> None:
        assert isinstance(answer, Streamed)
        assert answer.head.media_type == "application/x-ndjson"
        self.pieces: AsyncIterator[bytes] = answer.pieces
        self._buffer = b""
        self.signs_of_life = 0

    async def update(self) -> Any:
        """The next update; None at the end of the stream."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                line, newline, rest = self._buffer.partition(b"\n")
                if newline and not line:
                    self.signs_of_life += 1
                if newline:
                    self._buffer = rest
                    if line:
                        return msgspec.json.decode(line)
                    continue
                piece = await anext(self.pieces, None)
                if piece is None:
                    return None
                self._buffer += piece

    async def aclose(self) -> None:
        await self.pieces.aclose()  # type: ignore[attr-defined]


async def begin(stored: StoredNode) -> tuple[Path, DiffFollowing]:
    """Give the attempt its worktree."""
    attempt = stored.attempt
    worktree = await create_worktree(
        await open_repository(stored.sample.path),
        stored.worktrees_dir,
        attempt_id=attempt.id,
        branch=attempt.branch,
        base=attempt.base_commit,
    )
    await stored.change(phase=AttemptPhase.PREPARING, worktree=str(worktree.path))
    reading = WorkReading(stored.stores.database, stored.worktrees_dir)
    return worktree.path, DiffFollowing(reading)


@pytest.mark.asyncio
async def test_edits_arrive_one_after_the_other(stored: StoredNode) -> None:
    """First all there is, then each edit, in folders old and new."""
    path, following = await begin(stored)
    reader = Reader(await following.run(stored.asking("follow_diff")))
    first = await reader.update()
    assert (first["whole"], first["changed"]) == (True, [])
    (path / "README").write_text("hello\nthere\n")
    update = await reader.update()
    assert [file["path"] for file in update["changed"]] == ["README"]
    (path / "new/deep").mkdir(parents=True)
    (path / "new/deep/file").write_text("1\n")
    update = await reader.update()
    assert [file["path"] for file in update["changed"]] == ["new/deep/file"]
    (path / "new/deep/file").write_text("2\n")
    update = await reader.update()
    assert "+2" in update["changed"][0]["patch"]
    await reader.aclose()


@pytest.mark.asyncio
async def test_a_switch_of_five_thousand_files_is_one_update(stored: StoredNode) -> None:
    """A branch switch of 5,000 files is told as one change."""
    path, following = await begin(stored)
    for number in range(5_000):
        folder = path / f"d{number % 50}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text(f"{number}\n")
    git(path, "checkout", "-q", "-b", "other")
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", "many")
    git(path, "checkout", "-q", stored.attempt.branch)
    reader = Reader(await following.run(stored.asking("follow_diff")))
    assert (await reader.update())["changed"] == []
    await asyncio.to_thread(git, path, "checkout", "-q", "other")
    update = await reader.update()
    assert len(update["changed"]) == 5_000
    # The next one is of another change: the switch was told whole.
    (path / "last.txt").write_text("1\n")
    update = await reader.update()
    assert [file["path"] for file in update["changed"]] == ["last.txt"]
    await reader.aclose()


@pytest.mark.asyncio
async def test_with_a_cursor_it_goes_on(stored: StoredNode) -> None:
    """With the cursor of the last update, nothing is told twice and nothing left out."""
    path, following = await begin(stored)
    (path / "one.txt").write_text("1\n")
    reader = Reader(await following.run(stored.asking("follow_diff")))
    first = await reader.update()
    await reader.aclose()
    asked = FollowDiffRequest(cursor=first["cursor"])
    reader = Reader(await following.run(stored.asking("follow_diff", asked)))
    again = await reader.update()
    assert (again["whole"], again["changed"], again["cursor"]) == (False, [], first["cursor"])
    (path / "two.txt").write_text("2\n")
    assert [file["path"] for file in (await reader.update())["changed"]] == ["two.txt"]
    await reader.aclose()


@pytest.mark.asyncio
async def test_it_ends_with_the_work(stored: StoredNode) -> None:
    """An attempt that has ended and whose worktree is gone is told once, and that is the end."""
    following = DiffFollowing(WorkReading(stored.stores.database, stored.worktrees_dir))
    sample = stored.sample
    sample.git("checkout", "-q", "-b", stored.attempt.branch)
    sample.commit("work", {"done.txt": "done\n"})
    sample.git("checkout", "-q", "main")
    for phase in (AttemptPhase.PREPARING, AttemptPhase.RUNNING, AttemptPhase.FINISHING):
        await stored.change(phase=phase)
    await stored.change(phase=AttemptPhase.ENDED)
    reader = Reader(await following.run(stored.asking("follow_diff")))
    first = await reader.update()
    assert [file["path"] for file in first["changed"]] == ["done.txt"]
    assert await reader.update() is None


@pytest.mark.asyncio
async def test_silence_has_signs_of_life(stored: StoredNode, monkeypatch) -> None:
    """While nothing changes there is an empty line from time to time."""
    monkeypatch.setattr(follow, "SIGN_OF_LIFE_S", 0.05)
    _, following = await begin(stored)
    answer = await following.run(stored.asking("follow_diff"))
    assert (await anext(answer.pieces)).endswith(b"}\n")
    assert await anext(answer.pieces) == b"\n"
    await answer.pieces.aclose()  # type: ignore[attr-defined]


@pytest.mark.asyncio
async def test_no_more_than_can_be_watched(stored: StoredNode, monkeypatch) -> None:
    """Beyond the bound a follower is told to come later; one that left makes room."""
    monkeypatch.setattr(follow, "FOLLOWERS_MAX", 1)
    _, following = await begin(stored)
    reader = Reader(await following.run(stored.asking("follow_diff")))
    # From its being accepted on, also before it reads; with what was refused it has no part.
    with pytest.raises(OperationError) as refused:
        await following.run(stored.asking("follow_diff"))
    assert refused.value.code is ErrorCode.SLOW_DOWN
    await reader.update()
    await reader.aclose()
    reader = Reader(await following.run(stored.asking("follow_diff")))
    assert (await reader.update())["whole"]
    await reader.aclose()
    # Left before its first update, or never begun: both make room.
    await Reader(await following.run(stored.asking("follow_diff"))).aclose()
    with pytest.raises(OperationError) as unknown:
        await following.run(stored.asking("follow_diff", attempt_id="none"))
    assert unknown.value.code is ErrorCode.NOT_FOUND
    await Reader(await following.run(stored.asking("follow_diff"))).aclose()


@pytest.mark.asyncio
async def test_wrong_requests_are_refused_at_once(stored: StoredNode) -> None:
    """What cannot be followed is said before anything is sent."""
    _, following = await begin(stored)
    with pytest.raises(OperationError) as refused:
        await following.run(stored.asking("follow_diff", FollowDiffRequest(against="moon")))
    assert refused.value.details["field"] == "against"
