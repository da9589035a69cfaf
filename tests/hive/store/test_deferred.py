"""Kept operations in the store: guarded changes, bounds, and what a restore does to them."""

import pytest

from hive.store import credentials, deferred, operations
from hive.store.deferred import Deferral
from protocol import limits
from protocol.errors import ErrorBody, ErrorCode, OperationError
from protocol.operations import Role
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS, uid
from tests.hive.store.open_hive import OpenHive

AWAY = frozenset({"node_offline"})


async def deferral(hive: OpenHive, key: str = "key-1", **changes) -> Deferral:
    """A stop of attempt 10, as a person with a token of their own asks for it."""
    _, token = await hive.write(
        credentials.create_token,
        name=f"ann-{key}",
        role=Role.OPERATOR,
        actor="admin",
        ttl_ms=None,
        now_ms=NOW_MS,
    )
    facts = {
        "body_hash": "h",
        "operation": "stop",
        "node_id": NODE,
        "attempt_id": uid(10),
        "task_id": None,
        "project_id": None,
        "actor": "ann",
        "token_id": token.id,
        "body": b"\x80",
        "expected_head": None,
        "deadline_s": 30.0,
        "expires_at_ms": NOW_MS + 1000,
    }
    return Deferral(key=key, **{**facts, **changes})


async def kept(hive: OpenHive, key: str = "key-1", **changes) -> Deferral:
    """Keep a stop of an attempt that runs."""
    alpha = await hive.reporting()
    await alpha.tells(reported.attempt())
    wanted = await deferral(hive, key, **changes)
    assert await hive.write(deferred.keep, wanted, AWAY, NOW_MS)
    return wanted


async def status(hive: OpenHive, key: str = "key-1") -> str:
    """How an operation stands."""
    return (await hive.read(operations.get_operation, key)).status


@pytest.mark.asyncio
async def test_a_key_is_kept_once(hive: OpenHive):
    """Again, or as another request, it is left as it is."""
    wanted = await kept(hive)
    assert not await hive.write(deferred.keep, wanted, AWAY, NOW_MS + 5)
    other = await deferral(hive, body_hash="other")
    assert not await hive.write(deferred.keep, other, AWAY, NOW_MS + 5)
    row = await hive.read(deferred.find_deferred, "key-1")
    assert (row.expires_at_ms, row.phase, row.deliveries) == (NOW_MS + 1000, "running", 0)
    assert (await hive.happened()).count("operation_kept") == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("before", "code", "becomes"),
    [
        ("failed", "node_offline", "waiting"),
        ("failed", "git_failed", "failed"),
        ("unknown", "unknown", "delivered"),
        ("done", None, "done"),
    ],
)
async def test_what_a_call_that_left_before_becomes(hive: OpenHive, before, code, becomes):
    """Nothing done: it waits. Perhaps done: it counts as delivered, from when it left."""
    await hive.write(
        operations.begin,
        key="key-1",
        body_hash="h",
        operation="stop",
        actor="ann",
        now_ms=NOW_MS - 50,
        node_id=NODE,
        attempt_id=uid(10),
    )
    error = None if code is None else f'{{"code": "{code}", "message": "m"}}'
    await hive.write(operations.settle, "key-1", status=before, error=error, now_ms=NOW_MS)
    alpha = await hive.reporting()
    await alpha.tells(reported.attempt())
    fresh = await hive.write(deferred.keep, await deferral(hive), AWAY, NOW_MS)
    assert fresh is (becomes in {"waiting", "delivered"})
    assert await status(hive) == becomes
    if becomes == "delivered":
        row = await hive.read(deferred.find_deferred, "key-1")
        assert row.first_delivered_at_ms == NOW_MS - 50


@pytest.mark.asyncio
async def test_no_more_wait_for_a_node_than_the_bound(hive: OpenHive, monkeypatch):
    """The one too many is refused, and told what to do."""
    monkeypatch.setattr(limits, "DEFERRED_PER_NODE_MAX", 1)
    await kept(hive)
    with pytest.raises(OperationError) as caught:
        await hive.write(deferred.keep, await deferral(hive, "key-2"), AWAY, NOW_MS)
    assert caught.value.code is ErrorCode.SLOW_DOWN


@pytest.mark.asyncio
async def test_cancelled_once(hive: OpenHive):
    """Taken back while it waits; after that it does not wait any more."""
    await kept(hive)
    row = await hive.write(deferred.cancel, "key-1", actor="bob", now_ms=NOW_MS)
    assert (row.status, row.ended_at_ms) == ("cancelled", NOW_MS)
    for decide in (deferred.cancel, deferred.confirm):
        with pytest.raises(OperationError) as caught:
            await hive.write(decide, "key-1", actor="bob", now_ms=NOW_MS)
        assert caught.value.code is ErrorCode.CONFLICT
    events = await hive.rows("SELECT actor FROM event WHERE kind = 'operation_cancelled'")
    assert [event["actor"] for event in events] == ["bob"]


@pytest.mark.asyncio
async def test_held_ones_wait_for_a_person(hive: OpenHive):
    """After a restore all that is open is held; confirmed, it may leave again."""
    await kept(hive)
    assert await hive.write(deferred.hold_all, NOW_MS) == 1
    assert (await hive.read(deferred.find_deferred, "key-1")).held
    await hive.write(deferred.confirm, "key-1", actor="bob", now_ms=NOW_MS)
    await hive.write(deferred.confirm, "key-1", actor="bob", now_ms=NOW_MS)
    assert not (await hive.read(deferred.find_deferred, "key-1")).held
    happened = await hive.happened()
    assert (happened.count("operations_held"), happened.count("operation_confirmed")) == (1, 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("ended", ["waiting", "expired", "cancelled", "unknown"])
async def test_the_nodes_word_counts_whatever_the_hive_thinks(hive: OpenHive, ended):
    """A restored hive forgot that it was delivered: the op of its node says what happened."""
    wanted = await kept(hive)
    body = ErrorBody(code=ended, message="m")
    if ended != "waiting":
        row = await hive.read(operations.get_operation, wanted.key)
        error = OperationError(ErrorCode.CANCELLED, body.message)
        to = deferred.DeferredStatus(ended)
        await hive.write(deferred.settle, row, to, NOW_MS, error=error)
    alpha = await hive.reporting(instance=2, at=5)
    await alpha.tells(reported.operation("key-1", status="done", head_after="abc"))
    row = await hive.read(operations.get_operation, "key-1")
    assert (row.status, row.head_after, row.error) == ("done", "abc", None)
