"""`hold`, `release` and `cleanup` as operations: a hold holds, and each is answered once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from node_agent import worktree_upkeep
from node_agent.notices import Notices
from node_agent.operations.asking import Asking
from node_agent.operations.keeping import FOR_EVER_MS, KeepingOperations
from node_agent.stamps import now_ms
from node_agent.store import plans, removals
from node_agent.worktree_upkeep import WorktreeUpkeep
from protocol.attempt_requests import CleanupRequest, HoldRequest, ReleaseRequest
from protocol.entities import Attempt, OperationRecord
from protocol.errors import ErrorCode, SkepError
from protocol.operation_values import Request
from protocol.operations import OPERATIONS
from tests.node_agent.workshop import Workshop, make_repository, open_workshop

_REQUESTS = {"hold": HoldRequest, "release": ReleaseRequest, "cleanup": CleanupRequest}


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """A node with one checkout."""
    async with open_workshop(tmp_path / "data", 11) as opened:
        await opened.add_checkout(make_repository(tmp_path / "project"))
        yield opened


def keeping_of(shop: Workshop) -> KeepingOperations:
    """The operations of this node."""
    return KeepingOperations(shop.database, shop.context.worktrees_dir)


def asking(attempt: Attempt, name: str, *, key: str = "k", **fields: Any) -> Asking:
    """An asking about the attempt."""
    request: Request = _REQUESTS[name](**fields)
    return Asking(
        operation=OPERATIONS[name],
        attempt_id=attempt.id,
        request=request,
        body_hash=f"{name} {fields}",
        actor="tester",
        key=key,
    )


async def upkeep_at(shop: Workshop, at_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after the worktrees as if it was that time."""
    monkeypatch.setattr(worktree_upkeep, "now_ms", lambda: at_ms)
    upkeep = WorktreeUpkeep(shop.database, Notices(shop.database), shop.context.worktrees_dir)
    await upkeep.round()


@pytest.mark.asyncio
async def test_a_hold_prevents_removal(shop: Workshop, monkeypatch: pytest.MonkeyPatch):
    """A worktree whose time is over stays while it is held, and goes once it is released."""
    attempt = await shop.run("sh -c 'echo x > new; exit 1'")
    worktree = Path(str(attempt.worktree))
    over = int(attempt.hold_until_ms or 0) + 1
    held = (await keeping_of(shop).hold(asking(attempt, "hold"))).attempt
    assert held.hold_until_ms == FOR_EVER_MS
    await upkeep_at(shop, over, monkeypatch)
    assert worktree.is_dir()
    released = (await keeping_of(shop).release(asking(attempt, "release", key="r"))).attempt
    assert released.hold_until_ms is not None
    assert released.hold_until_ms <= now_ms()
    await upkeep_at(shop, over, monkeypatch)
    assert not worktree.exists()


@pytest.mark.asyncio
async def test_a_hold_outlives_a_follow_up(shop: Workshop):
    """What was held before or during a turn is held after it, whatever its outcome."""
    attempt = await shop.run("false")
    until_ms = now_ms() + 3_600_000
    await keeping_of(shop).hold(asking(attempt, "hold", until_ms=until_ms))
    await shop.follow_up(attempt, "true")
    ended = await shop.runner.wait_ended(attempt.id)
    assert (ended.outcome, ended.hold_until_ms) == ("succeeded", until_ms)
    released = (await keeping_of(shop).release(asking(attempt, "release", key="r"))).attempt
    # It waits for its review, and is kept for that.
    assert released.hold_until_ms is None


@pytest.mark.asyncio
async def test_a_hold_takes_a_planned_removal_back(shop: Workshop):
    """What was to be removed and is held before that stays."""
    attempt = await shop.run("true")
    await shop.database.write(removals.plan, attempt.id, lose_nested=False, at_ms=1)
    await keeping_of(shop).hold(asking(attempt, "hold"))
    assert await shop.database.read(removals.planned) == []


@pytest.mark.asyncio
async def test_each_is_answered_once(shop: Workshop):
    """The same key is the same answer, and changes nothing a second time."""
    attempt = await shop.run("true")
    first = await keeping_of(shop).hold(asking(attempt, "hold", until_ms=now_ms() + 60_000))
    plan = await shop.database.read(plans.get, attempt.id)
    assert plan.hold_until_ms == first.attempt.hold_until_ms
    await keeping_of(shop).release(asking(attempt, "release", key="r"))
    again = asking(attempt, "hold")
    with pytest.raises(SkepError) as caught:
        await keeping_of(shop).hold(again)
    assert caught.value.code is ErrorCode.KEY_REUSED
    assert (await shop.database.read(plans.get, attempt.id)).hold_until_ms is None


@pytest.mark.asyncio
async def test_what_cannot_be_held(shop: Workshop):
    """A time that is over is refused, and so is a worktree that is gone."""
    attempt = await shop.run("true")
    for until_ms in (0, now_ms() - 1000, FOR_EVER_MS + 1):
        with pytest.raises(SkepError) as caught:
            await keeping_of(shop).hold(asking(attempt, "hold", until_ms=until_ms))
        assert caught.value.code is ErrorCode.INVALID
    cleaned = (await keeping_of(shop).cleanup(asking(attempt, "cleanup"))).attempt
    assert cleaned.worktree is None
    with pytest.raises(SkepError) as caught:
        await keeping_of(shop).hold(asking(attempt, "hold", key="h"))
    assert caught.value.code is ErrorCode.WORKTREE_GONE
    record = OperationRecord(key="k", operation="cleanup", attempt_id=attempt.id)
    assert (await keeping_of(shop).settle_cleanup(record, None)).attempt == cleaned
