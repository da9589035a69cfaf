"""Kept operations leave in order, in time, and only while it is right."""

import pytest

from hive.store import credentials, deferred, deliveries, operations
from protocol import limits
from protocol.errors import ErrorBody, ErrorCode
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS, uid
from tests.hive.store.open_hive import OpenHive
from tests.hive.store.test_deferred import AWAY, deferral, kept, status

WINDOW_MS = limits.DEFERRED_S_MAX * 1000
FULL = ErrorBody(code="slow_down", message="not now")


@pytest.mark.asyncio
async def test_the_next_to_leave(hive: OpenHive):
    """In the order they were asked, of that node alone, and none that is held."""
    await kept(hive, "b")
    await hive.write(deferred.keep, await deferral(hive, "a"), AWAY, NOW_MS + 1)
    first = await hive.read(deliveries.next_of_node, NODE, (-1, ""))
    assert first == (NOW_MS, "b")
    assert await hive.read(deliveries.next_of_node, NODE, first) == (NOW_MS + 1, "a")
    assert await hive.read(deliveries.next_of_node, "another", (-1, "")) is None
    await hive.write(deferred.hold_all, NOW_MS)
    assert await hive.read(deliveries.next_of_node, NODE, (-1, "")) is None
    assert await hive.write(deliveries.leave, "b", NOW_MS) is None


@pytest.mark.asyncio
async def test_what_is_said_leaves_behind_what_was_said_before(hive: OpenHive):
    """In the order asked, whatever keys and clock say; each once the one before is known."""
    await (await hive.reporting()).tells(reported.attempt())
    for key, at_ms in (("b", 5), ("a", 5), ("c", 0)):
        wanted = await deferral(hive, key, operation="follow_up")
        await hive.write(deferred.keep, wanted, AWAY, NOW_MS + at_ms)
    await hive.write(deferred.keep, await deferral(hive, "0"), AWAY, NOW_MS)
    first = await hive.read(deliveries.next_of_node, NODE, (-1, ""))
    assert first == (NOW_MS + 5, "b")
    # A stop waits for none of them.
    assert await hive.read(deliveries.next_of_node, NODE, first) == (NOW_MS + 8, "0")
    order = []
    for _ in range(3):
        _, key = await hive.read(deliveries.next_of_node, NODE, (-1, ""))
        order.append(key)
        assert (await hive.write(deliveries.leave, key, NOW_MS)).row.key == key
        assert (await hive.read(deliveries.next_of_node, NODE, (-1, "")))[1] == key
        await hive.write(deliveries.answered, key, b"reply", NOW_MS + 9)
    assert order == ["b", "a", "c"]
    assert not await hive.read(deferred.has_before, uid(10), "follow_up", "d")


@pytest.mark.asyncio
async def test_leaving_is_written_down_first(hive: OpenHive):
    """Delivered from then on; again under the same key until its outcome is known."""
    await kept(hive)
    first = await hive.write(deliveries.leave, "key-1", NOW_MS)
    assert (first.again, first.role.name) == (False, "OPERATOR")
    assert await status(hive) == "delivered"
    second = await hive.write(deliveries.leave, "key-1", NOW_MS + WINDOW_MS - 1)
    assert second.again
    await hive.write(deliveries.answered, "key-1", b"reply", NOW_MS + 9)
    row = await hive.read(operations.get_operation, "key-1")
    assert (row.status, row.reply, row.ended_at_ms) == ("done", b"reply", NOW_MS + 9)
    assert await hive.write(deliveries.leave, "key-1", NOW_MS + 9) is None
    assert (await hive.happened()).count("operation_delivered") == 1


@pytest.mark.asyncio
async def test_the_node_took_nothing(hive: OpenHive):
    """Back to waiting, as if it had not left: it may be taken back, and it expires."""
    await kept(hive)
    await hive.write(deliveries.leave, "key-1", NOW_MS)
    await hive.write(deliveries.put_back, "key-1", FULL, NOW_MS)
    assert await status(hive) == "waiting"
    assert await hive.write(deliveries.expire, NOW_MS + 999) == 0
    assert await hive.write(deliveries.expire, NOW_MS + 1000) == 1
    assert await status(hive) == "expired"


@pytest.mark.asyncio
async def test_time_is_looked_at_when_it_leaves(hive: OpenHive):
    """Also where no timer ran: what is over does not leave."""
    await kept(hive)
    assert await hive.write(deliveries.leave, "key-1", NOW_MS + 1000) is None
    assert await status(hive) == "expired"


@pytest.mark.asyncio
async def test_what_got_no_answer_is_given_up_as_unknown(hive: OpenHive):
    """Before the node may have forgotten the key; and then it is not sent again."""
    await kept(hive)
    await hive.write(deliveries.leave, "key-1", NOW_MS)
    assert await hive.read(deliveries.next_time_ms) == NOW_MS + WINDOW_MS
    assert await hive.write(deliveries.expire, NOW_MS + WINDOW_MS) == 1
    assert await status(hive) == "unknown"
    assert await hive.write(deliveries.leave, "key-1", NOW_MS + WINDOW_MS) is None
    assert await hive.read(deliveries.next_time_ms) is None


@pytest.mark.asyncio
@pytest.mark.parametrize(("left", "becomes"), [(False, "failed"), (True, "unknown")])
async def test_a_revoked_token_asks_for_nothing(hive: OpenHive, left, becomes):
    """Failed with the reason where it never left; where it did, nobody can say."""
    wanted = await kept(hive)
    if left:
        await hive.write(deliveries.leave, "key-1", NOW_MS)
    await hive.write(credentials.revoke_token, wanted.token_id, actor="admin", now_ms=NOW_MS + 1)
    assert await hive.write(deliveries.leave, "key-1", NOW_MS + 2) is None
    row = await hive.read(operations.get_operation, "key-1")
    assert row.status == becomes
    assert "was revoked before the node was back" in (row.error or "")


@pytest.mark.asyncio
async def test_an_attempt_its_node_forgot_is_not_asked_about(hive: OpenHive):
    """The node's disk was put back: the attempt is gone there."""
    await kept(hive)
    alpha = await hive.reporting(instance=2, at=5)
    await alpha.tells(reported.node_state())
    await alpha.snapshot(reported.node_state())
    assert await hive.write(deliveries.leave, "key-1", NOW_MS) is None
    row = await hive.read(operations.get_operation, "key-1")
    assert (row.status, ErrorCode.GONE in (row.error or "")) == ("failed", True)


@pytest.mark.asyncio
async def test_a_refusal_is_the_outcome(hive: OpenHive):
    """The node's own error is kept whole, also where its report came first."""
    await kept(hive)
    await hive.write(deliveries.leave, "key-1", NOW_MS)
    alpha = await hive.reporting(instance=2, at=5)
    await alpha.tells(reported.operation("key-1", status="failed", error_code="git_failed"))
    error = ErrorBody(code="git_failed", message="no such branch")
    await hive.write(deliveries.refused, "key-1", error, NOW_MS)
    row = await hive.read(operations.get_operation, "key-1")
    assert (row.status, "no such branch" in (row.error or "")) == ("failed", True)
