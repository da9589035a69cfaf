"""Kept operations on their way: sent again until their outcome is known, and never twice as two."""

import asyncio
import time
from typing import Any

import pytest
import pytest_asyncio

from hive import deferred_operations
from hive.store import deferred
from protocol.entities import Attempt, OperationRecord
from protocol.errors import ErrorCode, OperationError
from protocol.ops import OpKind
from tests.hive.api.kept import away, settled, stops, until
from tests.hive.api.running import FakeNode, RunningHive, running_hive

KEY = {"Idempotency-Key": "later-1"}


@pytest_asyncio.fixture
async def running(tmp_path):
    """A hive of its own, served."""
    async with running_hive(tmp_path) as hive:
        yield hive


async def keep(running: RunningHive, attempt: Attempt) -> None:
    """Ask a node that is away to stop an attempt."""
    kept = await running.post(f"attempts/{attempt.id}/stop", headers=KEY, when="online")
    assert kept.status == 202, kept.content


async def asked(node: FakeNode, times: int) -> None:
    """Wait until a node was asked so often."""

    async def look() -> bool:
        return len(node.calls) >= times

    await until(look)


@pytest.mark.asyncio
async def test_a_lost_answer_is_asked_for_again_under_the_same_key(running: RunningHive):
    """The link breaks before the answer: delivered, and sent again at the next connection."""
    node, attempt, _ = await away(running)

    async def silent(_call: Any) -> None:
        await node.leave()

    node.answers["stop"] = silent
    await keep(running, attempt)
    await node.connect()
    await asked(node, 1)
    row = await settled(running, "later-1", "delivered")
    assert "asked for until it is known" in row["hint"]
    refused = await running.post("operations/later-1/cancel")
    assert (refused.status, refused.error["code"]) == (409, "conflict")

    stopped = stops(node)
    await until(lambda: asyncio.sleep(0, not running.hive.registry.is_online(node.id)))
    await node.connect()
    row = await settled(running, "later-1", "done")
    assert [call.idempotency_key for call in node.calls] == ["later-1", "later-1"]
    assert (len(stopped), row["kept"]["deliveries"]) == (1, 2)
    assert len({call.capability for call in node.calls}) == 2


@pytest.mark.asyncio
async def test_the_nodes_own_report_settles_it(running: RunningHive):
    """Its answer is lost and its op comes: that is the outcome, and it is not sent again."""
    node, attempt, _ = await away(running)

    async def silent(_call: Any) -> None:
        record = OperationRecord(
            key="later-1", operation="stop", attempt_id=attempt.id, actor="admin", status="done"
        )
        await node.tell((OpKind.OPERATION, "0" * 32, record))
        await node.leave()

    node.answers["stop"] = silent
    await keep(running, attempt)
    await node.connect()
    row = await settled(running, "later-1", "done")
    assert (row["reply"], row["report"]["status"]) == (None, "done")
    await until(lambda: asyncio.sleep(0, not running.hive.registry.is_online(node.id)))
    await node.connect()
    assert len(node.calls) == 1


@pytest.mark.asyncio
async def test_a_node_that_took_nothing_is_asked_again(running: RunningHive, monkeypatch):
    """Too busy: it waits on, until the node takes it."""
    monkeypatch.setattr(deferred_operations, "_AGAIN_S", 0.05)
    node, attempt, _ = await away(running)

    async def busy(_call: Any) -> None:
        raise OperationError(ErrorCode.SLOW_DOWN, "too much at a time")

    node.answers["stop"] = busy
    await keep(running, attempt)
    await node.connect()
    await asked(node, 2)
    await settled(running, "later-1", "waiting")
    stopped = stops(node)
    await settled(running, "later-1", "done")
    assert len(stopped) == 1


@pytest.mark.asyncio
async def test_what_met_another_operation_can_be_taken_back(running: RunningHive):
    """The node did nothing, as another one was at work on the attempt: it waits on."""
    node, attempt, _ = await away(running)

    async def busy(_call: Any) -> None:
        raise OperationError(
            ErrorCode.IN_PROGRESS, "another operation is at work", operation="push"
        )

    node.answers["stop"] = busy
    await keep(running, attempt)
    await node.connect()
    await asked(node, 1)
    await settled(running, "later-1", "waiting")
    assert (await running.post("operations/later-1/cancel")).json["status"] == "cancelled"


@pytest.mark.asyncio
async def test_once_sent_it_is_never_called_failed_on_a_guess(running: RunningHive):
    """It may have been done; then the token is revoked: unknown, not failed, and not sent again."""
    node, attempt, _ = await away(running)

    async def silent(_call: Any) -> None:
        await node.leave()

    node.answers["stop"] = silent
    token = await running.token_of("operator")
    path = f"attempts/{attempt.id}/stop"
    await running.post(path, headers=KEY, token=token, when="online")
    await node.connect()
    await asked(node, 1)
    await until(lambda: asyncio.sleep(0, not running.hive.registry.is_online(node.id)))
    await running.ask("DELETE", "tokens/operator")
    await node.connect()
    row = await settled(running, "later-1", "unknown")
    assert "nobody knows" in row["hint"]
    assert len(node.calls) == 1


@pytest.mark.asyncio
async def test_held_after_a_restore_until_somebody_confirms(running: RunningHive):
    """Nothing leaves by itself; confirmed, it does, once."""
    node, attempt, stopped = await away(running)
    await keep(running, attempt)
    held = await running.hive.database.write(deferred.hold_all, int(time.time() * 1000))
    assert held == 1
    await node.connect()
    row = (await running.get("operations/later-1")).json
    assert (row["status"], row["kept"]["held"]) == ("waiting", True)
    assert "hive operations confirm later-1" in row["hint"]
    assert node.calls == []
    confirmed = await running.post("operations/later-1/confirm")
    assert (confirmed.status, confirmed.json["kept"]["held"]) == (200, False)
    await settled(running, "later-1", "done")
    assert len(stopped) == 1
    again = await running.post("operations/later-1/confirm")
    assert (again.status, again.error["code"]) == (409, "conflict")


@pytest.mark.asyncio
async def test_one_node_does_not_wait_for_another(running: RunningHive):
    """A node that does not answer holds up its own only."""
    slow, slow_attempt, _ = await away(running, "slow")
    quick, quick_attempt, stopped = await away(running, "quick")
    never = asyncio.Event()

    async def silent(_call: Any) -> None:
        await never.wait()

    slow.answers["stop"] = silent
    for number, attempt in enumerate((slow_attempt, quick_attempt)):
        key = {"Idempotency-Key": f"k-{number}"}
        await running.post(f"attempts/{attempt.id}/stop", headers=key, when="online")
    await slow.connect()
    await asked(slow, 1)
    await quick.connect()
    await settled(running, "k-1", "done")
    assert (await running.get("operations/k-0")).json["status"] == "delivered"
    assert len(stopped) == 1
    never.set()
