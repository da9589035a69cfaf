"""Notices: told once, not over and over."""

from pathlib import Path

import pytest

from node_agent import notices as notices_module
from node_agent.notices import REPEAT_MS, Notices
from node_agent.store.database import Database
from node_agent.store.journal import SqliteJournal
from protocol.entities import Notice
from protocol.ops import decode_body


@pytest.mark.asyncio
async def test_the_same_notice_is_told_again_only_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Once an hour for each thing and attempt; a clock set back does not silence it."""
    clock = {"now": 10 * REPEAT_MS}
    monkeypatch.setattr(notices_module, "now_ms", lambda: clock["now"])
    database = await Database.open(tmp_path / "state.db", "state", on_fatal=lambda _: None)
    try:
        journal = SqliteJournal(database)
        await journal.open_epoch(1)
        notices = Notices(database)
        assert await notices.tell("warning", "disk_full", "m" * 9_000, hint="h")
        assert not await notices.tell("warning", "disk_full", "again")
        assert await notices.tell("warning", "disk_full", "of one", attempt_id="a")
        assert await notices.tell("warning", "other", "m")
        clock["now"] += REPEAT_MS
        assert await notices.tell("warning", "disk_full", "later")
        clock["now"] -= 5 * REPEAT_MS
        assert await notices.tell("warning", "disk_full", "earlier")
        ops = await journal.ops_after(1, 0, ops_max=99, bytes_max=1 << 20)
        told = [decode_body(op.kind, op.body) for op in ops]
        assert all(isinstance(notice, Notice) for notice in told)
        assert [notice.message[:7] for notice in told] == [
            "mmmmmmm",
            "of one",
            "m",
            "later",
            "earlier",
        ]
        assert len(told[0].message) == 2_000
    finally:
        await database.close()
