"""The record of changing calls: before they leave, after they end, and when nobody can say."""

import random

import pytest

from hive.store import operations
from protocol.errors import ErrorCode, OperationError
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS, uid
from tests.hive.store.open_hive import OpenHive


async def begin(hive: OpenHive, key: str = "key-1", body_hash: str = "h", **more):
    """Record a call before it leaves."""
    facts = {"operation": "stop", "node_id": NODE, "attempt_id": uid(10)}
    return await hive.write(
        operations.begin,
        key=key,
        body_hash=body_hash,
        actor="ann",
        now_ms=hive.now_ms,
        **{**facts, **more},
    )


@pytest.mark.asyncio
async def test_a_key_is_recorded_once(hive: OpenHive):
    """The first caller gets nothing back; whoever comes again gets the record, unchanged."""
    assert await begin(hive) is None
    again = await begin(hive, body_hash="other")
    assert (again.status, again.body_hash, again.attempt_id) == ("sent", "h", uid(10))
    assert (await hive.happened()).count("operation_sent") == 1


@pytest.mark.asyncio
async def test_an_outcome_is_looked_up_by_its_key(hive: OpenHive):
    """What became of a call stands with its reply or error; an unknown key says it never left."""
    await begin(hive)
    settled = await hive.write(
        operations.settle, "key-1", status="done", reply=b"reply", now_ms=NOW_MS + 9
    )
    assert settled == await hive.read(operations.get_operation, "key-1")
    assert (settled.status, settled.reply, settled.ended_at_ms) == ("done", b"reply", NOW_MS + 9)
    with pytest.raises(OperationError) as caught:
        await hive.read(operations.get_operation, "key-9")
    assert caught.value.code is ErrorCode.NOT_FOUND
    assert "never left" in caught.value.hint


@pytest.mark.asyncio
async def test_a_timeout_does_not_undo_what_the_node_reported(hive: OpenHive):
    """`unknown` that comes after the node's own word changes nothing."""
    await begin(hive)
    alpha = await hive.reporting()
    await alpha.tells(reported.operation("key-1", status="failed", error_code="git_failed"))
    row = await hive.write(operations.settle, "key-1", status="unknown", now_ms=NOW_MS)
    assert row.status == "failed"


@pytest.mark.asyncio
async def test_a_restart_loses_sight_until_the_node_tells(hive: OpenHive):
    """What was under way is unknown after a start, and settled by the node's record."""
    await begin(hive)
    assert await hive.write(operations.lose_sight, NOW_MS) == 1
    assert (await hive.read(operations.get_operation, "key-1")).status == "unknown"
    alpha = await hive.reporting()
    await alpha.tells(reported.operation("key-1", status="done", head_after="abc"))
    row = await hive.read(operations.get_operation, "key-1")
    assert (row.status, row.head_after) == ("done", "abc")


@pytest.mark.asyncio
async def test_what_only_the_node_recorded_is_found_too(hive: OpenHive):
    """An operation from the node's own command line has a record under its key."""
    alpha = await hive.reporting()
    await alpha.tells(reported.operation("local-1", actor="bob", status="done"))
    row = await hive.read(operations.get_operation, "local-1")
    assert (row.actor, row.status, row.node_id) == ("bob", "done", NODE)


@pytest.mark.asyncio
async def test_a_call_that_did_nothing_may_leave_again(hive: OpenHive):
    """The same key leaves once more, to another node."""
    await begin(hive)
    await hive.write(operations.settle, "key-1", status="failed", error="{}", now_ms=NOW_MS)
    await hive.write(operations.send_again, "key-1", "node-2", b"again")
    row = await hive.read(operations.get_operation, "key-1")
    assert (row.status, row.node_id, row.error, row.ended_at_ms) == ("sent", "node-2", None, None)


@pytest.mark.asyncio
async def test_operations_are_listed_newest_first(hive: OpenHive):
    """Pages continue after the last one, and filters narrow them."""
    for number in range(4):
        hive.now_ms = NOW_MS + number
        await begin(hive, f"key-{number}", attempt_id=uid(number % 2))
    first = await hive.read(operations.list_operations, limit=3)
    assert [row.key for row in first] == ["key-3", "key-2", "key-1"]
    rest = await hive.read(operations.list_operations, before=(first[-1].sent_at_ms, first[-1].key))
    assert [row.key for row in rest] == ["key-0"]
    odd = await hive.read(operations.list_operations, attempt_id=uid(1))
    assert [row.key for row in odd] == ["key-3", "key-1"]
    assert await hive.read(operations.list_operations, status="done") == []


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 20])
async def test_pages_of_records_and_reports_leave_nothing_out(hive: OpenHive, limit: int):
    """Whatever their order, also where many came at one time: each once, the newest first."""
    chance = random.Random(limit)
    wanted = []
    for number in range(12):
        key, hive.now_ms = f"asked-{number}", NOW_MS + chance.randrange(6)
        await begin(hive, key, attempt_id=uid(10))
        wanted.append((hive.now_ms, key))
    alpha = await hive.reporting()
    await alpha.tells(reported.attempt())
    for number in range(12):
        # What the hive recorded is told too, and stands behind its record.
        told = NOW_MS + chance.randrange(6)
        await alpha.tells(reported.operation(f"asked-{number}", started_at_ms=told))
    for number in range(8):
        told = NOW_MS + chance.randrange(6)
        await alpha.tells(reported.operation(f"local-{number}", started_at_ms=told))
        wanted.append((told, f"local-{number}"))
    listed: list[tuple[int, str]] = []
    while True:
        page = await hive.read(
            operations.list_operations, before=listed[-1] if listed else None, limit=limit
        )
        listed += [(row.sent_at_ms, row.key) for row in page]
        if len(page) < limit:
            break
    assert listed == sorted(wanted, reverse=True)


@pytest.mark.asyncio
async def test_what_was_done_at_the_node_is_listed_too(hive: OpenHive):
    """Once each: the hive's own record stands for the node's report of the same call."""
    await begin(hive, "asked", attempt_id=uid(10))
    alpha = await hive.reporting()
    await alpha.tells(
        reported.attempt(),
        reported.operation("asked", status="done", started_at_ms=NOW_MS + 1),
        reported.operation("local", actor="bob", status="done", started_at_ms=NOW_MS + 2),
        reported.operation(
            "halfway", status="failed", error_code="unknown", started_at_ms=NOW_MS + 3
        ),
    )
    listed = await hive.read(operations.list_operations, attempt_id=uid(10))
    shown = [(row.key, row.status) for row in listed]
    assert shown == [("halfway", "unknown"), ("local", "done"), ("asked", "done")]
    page = await hive.read(operations.list_operations, limit=2)
    rest = await hive.read(
        operations.list_operations, before=(page[-1].sent_at_ms, page[-1].key), limit=2
    )
    assert [row.key for row in (*page, *rest)] == ["halfway", "local", "asked"]
    unknown = await hive.read(operations.list_operations, status="unknown")
    assert [row.key for row in unknown] == ["halfway"]


@pytest.mark.asyncio
async def test_a_restored_hive_knows_a_key_by_its_nodes_report(hive: OpenHive):
    """The same request again is not taken for a new one."""
    alpha = await hive.reporting()
    await alpha.tells(reported.operation("key-1", actor="ann", status="done"))
    row = await begin(hive, body_hash="h", node_id="node-2")
    assert (row.status, row.node_id, row.actor) == ("done", NODE, "ann")


@pytest.mark.asyncio
@pytest.mark.parametrize("other", [{"attempt_id": uid(11)}, {"operation": "release"}])
async def test_a_key_that_a_node_reported_stands_for_what_was_reported(hive: OpenHive, other):
    """After a restore no other operation, nor one on another attempt, gets the answer of that."""
    alpha = await hive.reporting()
    await alpha.tells(reported.operation("key-1", actor="ann", status="done"))
    row = await begin(hive, body_hash="h", **other)
    assert (row.operation, row.attempt_id, row.body_hash) == ("stop", uid(10), "")
    again = await begin(hive, body_hash="h")
    assert (again.attempt_id, again.body_hash) == (uid(10), "h")


@pytest.mark.asyncio
async def test_the_head_that_was_expected_is_known(hive: OpenHive):
    """What is unknown is shown with what was to be there before."""
    await begin(hive, expected_head="abc")
    assert (await hive.read(operations.get_operation, "key-1")).head_before == "abc"
