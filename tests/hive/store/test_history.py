"""Old history goes where the admin wants that; what is not over stays."""

import pytest

from hive import history
from hive.history import History
from hive.store import events, operations
from tests.hive.reported import NODE, NOW_MS
from tests.hive.store.open_hive import OpenHive

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
