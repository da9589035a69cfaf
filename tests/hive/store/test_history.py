"""Old history goes where the admin wants that; what is not over stays."""

import pytest

from hive import history
from hive.history import History
from hive.store import events, operations
from protocol.entities import OperationRecord
from protocol.ops import Op, OpKind, encode_body
from tests.hive.reported import NODE, NOW_MS, uid
from tests.hive.store.open_hive import OpenHive, Reporting

_DAY_MS = 86_400_000


async def asked(hive: OpenHive, key: str, status: str | None, *, at_ms: int) -> None:
    """Record a call, and what became of it."""
    await hive.write(
        operations.begin,
        key=key,
        body_hash="h",
        operation="stop",
        actor="ann",
        node_id=NODE,
        now_ms=at_ms,
    )
    if status is not None:
        await hive.write(operations.settle, key, status=status, now_ms=at_ms)


async def left(hive: OpenHive) -> set[str]:
    """The keys that are still known."""
    return {row.key for row in await hive.read(operations.list_operations, limit=50)}


async def told(node: Reporting, number: int, status: str, *, at_ms: int, error: str = "") -> None:
    """Have the node report how it carried out an operation."""
    record = OperationRecord(
        key=f"told {number}",
        operation="stop",
        actor="ann",
        status=status,
        error_code=error or None,
        started_at_ms=at_ms,
        ended_at_ms=None if status == "running" else at_ms,
    )
    await node.tells(Op(OpKind.OPERATION, uid(number), at_ms, encode_body(record)))


@pytest.mark.asyncio
async def test_what_nodes_reported_goes_as_well(
    hive: OpenHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of operations that are over; the hive's own record goes and no other takes its place."""
    monkeypatch.setattr(history, "_ROWS_MAX", 1)
    node = await hive.reporting()
    for number, status in enumerate(("done", "failed", "running"), 50):
        await told(node, number, status, at_ms=NOW_MS)
    await told(node, 53, "failed", at_ms=NOW_MS, error="unknown")
    await told(node, 54, "done", at_ms=NOW_MS + 20 * _DAY_MS)
    await asked(hive, "told 50", "done", at_ms=NOW_MS)

    def now_ms() -> int:
        return NOW_MS + 40 * _DAY_MS

    assert await History(hive.database, now_ms, kept_days=None).look() == 0
    assert await left(hive) == {f"told {number}" for number in range(50, 55)}
    assert await History(hive.database, now_ms, kept_days=30).look()
    assert await left(hive) == {"told 52", "told 53", "told 54"}
    assert await hive.rows("SELECT 1 FROM node_operation WHERE key = 'told 50'") == []


@pytest.mark.asyncio
async def test_what_is_old_and_over_goes(hive: OpenHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events and settled operations, some at a time; by default nothing at all."""
    monkeypatch.setattr(history, "_ROWS_MAX", 1)
    for number, status in enumerate(("done", "failed", "unknown", None)):
        await asked(hive, f"old {status}", status, at_ms=NOW_MS + number)
    await asked(hive, "new", "done", at_ms=NOW_MS + 20 * _DAY_MS)
    before = await hive.read(events.list_events, limit=200)

    def now_ms() -> int:
        return NOW_MS + 40 * _DAY_MS

    assert await History(hive.database, now_ms, kept_days=None).look() == 0
    assert await hive.read(events.list_events, limit=200) == before
    aged = [event for event in before if event.at_ms < NOW_MS + 10 * _DAY_MS]
    assert await History(hive.database, now_ms, kept_days=30).look() == len(aged) + 2
    assert await left(hive) == {"old unknown", "old None", "new"}
    kept = await hive.read(events.list_events, limit=200)
    assert kept == before[: len(before) - len(aged)]
    assert kept
