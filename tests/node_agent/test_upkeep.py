"""Housekeeping on real stores: what goes, what stays, and when the hive's word lets more go."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from node_agent import upkeep as upkeep_module
from node_agent.notices import Notices
from node_agent.store import checkouts, log_purge
from node_agent.store.database import Database
from node_agent.store.journal import SqliteJournal, append
from node_agent.store.log_chunks import SqliteChunkStore
from node_agent.store.operations import SqliteKeyLedger
from node_agent.upkeep import DiskFull, Upkeep, check_room
from protocol.entities import OperationRecord
from protocol.log_chunks import STDOUT, Segment, seal
from protocol.messages import LogMark, ProjectLink, Safe
from protocol.ops import OpKind
from tests.node_agent.workshop import make_repository, open_workshop

NOW_MS = 2_000_000_000_000
DAY_MS = 24 * 3600 * 1000


class House(NamedTuple):
    """The stores and who keeps them."""

    database: Database
    journal: SqliteJournal
    chunks: SqliteChunkStore
    ledger: SqliteKeyLedger
    upkeep: Upkeep

    async def told(self, ops: int, at_ms: int) -> None:
        for number in range(ops):
            await self.database.write(append, OpKind.TASK, str(number), at_ms, b"\x80")

    async def first_kept(self) -> int:
        (held,) = await self.journal.epochs()
        return held.first_kept

    async def log(self, name: str, clock: dict[str, int], closed_at_ms: int) -> LogMark:
        """A closed log of one chunk."""
        await self.chunks.open_log(name, "a", "c")
        chunk = seal(
            [Segment(STDOUT, 1, b"x" * 1000)],
            execution_id=name,
            chunk_seq=1,
            first_entry=1,
            entries=1,
        )
        await self.chunks.commit([(chunk, b"")])
        clock["now"] = closed_at_ms
        closed = await self.chunks.close_log(name)
        clock["now"] = NOW_MS
        return LogMark(name, 2, 2, closed.digest)

    async def purged(self, *names: str) -> list[bool]:
        logs = [await self.chunks.log(name) for name in names]
        return [log is not None and log.purged for log in logs]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The wall clock of stores and upkeep."""
    clock = {"now": NOW_MS}
    monkeypatch.setattr(upkeep_module, "now_ms", lambda: clock["now"])
    return clock


@contextlib.asynccontextmanager
async def open_house(
    folder: Path, clock: dict[str, int], *, joined: bool, **options: Any
) -> AsyncIterator[House]:
    """Open stores with an upkeep that does nothing by itself."""
    database = await Database.open(folder / "state.db", "state", on_fatal=lambda _: None)
    logs = await Database.open(folder / "logs.db", "logs", on_fatal=lambda _: None, shrinks=True)
    chunks = SqliteChunkStore(logs, lambda: clock["now"])
    journal = SqliteJournal(database)
    await journal.open_epoch(7)
    ledger = SqliteKeyLedger(database)
    wanted = {"kept_days": 14, "kept_bytes": 10**9, "keys_kept_days": 30} | options
    upkeep = Upkeep(
        database=database,
        logs=logs,
        journal=journal,
        chunks=chunks,
        ledger=ledger,
        notices=Notices(database),
        joined=lambda: joined,
        **wanted,
    )
    try:
        yield House(database, journal, chunks, ledger, upkeep)
    finally:
        await chunks.close()
        await logs.close()
        await database.close()


@pytest.mark.asyncio
async def test_alone_everything_goes_by_age(tmp_path: Path, clock: dict[str, int]):
    """With no hive joined, old ops and logs are deleted and young ones stay."""
    async with open_house(tmp_path, clock, joined=False) as house:
        await house.told(5, NOW_MS - 20 * DAY_MS)
        await house.told(3, NOW_MS - 2 * DAY_MS)
        await house.log("old", clock, NOW_MS - 20 * DAY_MS)
        await house.log("young", clock, NOW_MS - 2 * DAY_MS)
        await house.upkeep.round()
        assert await house.first_kept() == 6
        assert await house.purged("old", "young") == [True, False]


@pytest.mark.asyncio
async def test_joined_nothing_goes_before_the_hives_word(tmp_path: Path, clock: dict[str, int]):
    """Neither age nor acknowledgement is enough; what every backup has of this history goes."""
    async with open_house(tmp_path, clock, joined=True) as house:
        await house.told(8, NOW_MS - 20 * DAY_MS)
        marks = [await house.log(name, clock, NOW_MS - 20 * DAY_MS) for name in ("a", "b", "c")]
        await house.journal.saw_marks({7: 6})
        await house.chunks.acked(marks[:2])
        await house.upkeep.round()
        assert await house.first_kept() == 1
        assert await house.purged("a", "b", "c") == [False, False, False]
        await house.upkeep.safe_moved(
            Safe(epochs=[(7, 4, b"a rival's")], logs=[("a", b"a rival's")], backups=True)
        )
        await house.upkeep.round()
        assert await house.first_kept() == 1
        assert await house.purged("a", "b", "c") == [False, False, False]
        ours = await house.journal.digest_at(7, 4)
        await house.upkeep.safe_moved(
            Safe(epochs=[(7, 4, ours)], logs=[("a", marks[0].digest)], backups=True)
        )
        await house.upkeep.round()
        assert await house.first_kept() == 5
        assert await house.purged("a", "b", "c") == [True, False, False]
        # A hive without backups: what it acknowledged goes by age.
        await house.upkeep.safe_moved(Safe(epochs=[], backups=False))
        await house.upkeep.round()
        assert await house.first_kept() == 7
        assert await house.purged("a", "b", "c") == [True, True, False]


@pytest.mark.asyncio
async def test_the_oldest_go_beyond_the_size(tmp_path: Path, clock: dict[str, int]):
    """Logs that may go do so as soon as there are too many bytes of them."""
    async with open_house(tmp_path, clock, joined=False, kept_bytes=0) as house:
        await house.log("a", clock, NOW_MS - DAY_MS)
        await house.upkeep.round()
        assert await house.purged("a") == [True]
        assert await house.chunks.blob_bytes() == 0


@pytest.mark.asyncio
async def test_logs_the_hive_never_keeps_go_by_age(tmp_path: Path, clock: dict[str, int]):
    """Policy metadata: nobody will ever acknowledge them. Policy lazy: the hive may yet ask."""
    async with open_house(tmp_path, clock, joined=True) as house:
        await house.log("a", clock, NOW_MS - 20 * DAY_MS)
        for policy, purged in (("lazy", False), ("metadata", True)):
            link = ProjectLink(checkout_id="c", project_id="p", sync_policy=policy)
            await house.database.write(checkouts.save_links, [link])
            await house.upkeep.round()
            assert await house.purged("a") == [purged]


@pytest.mark.asyncio
async def test_a_purge_that_broke_off_is_finished(tmp_path: Path, clock: dict[str, int]):
    """Planned and not done, as after a crash: the next round does it."""
    async with open_house(tmp_path, clock, joined=True) as house:
        await house.log("a", clock, NOW_MS)
        await house.chunks._database.write(log_purge.plan_purge, "a", NOW_MS)
        assert await house.chunks.purges_to_finish() == ["a"]
        await house.upkeep.round()
        assert await house.chunks.purges_to_finish() == []
        assert await house.chunks.blob_bytes() == 0


@pytest.mark.asyncio
async def test_old_keys_are_forgotten(tmp_path: Path, clock: dict[str, int]):
    """A settled key lives 30 days; one without its result is never forgotten."""
    async with open_house(tmp_path, clock, joined=True) as house:
        for key, days in (("old", 40), ("young", 5), ("open", 40)):
            record = OperationRecord(
                key=key, operation="stop", started_at_ms=NOW_MS - days * DAY_MS
            )
            await house.ledger.intend(record, "hash")
            if key != "open":
                await house.ledger.settle(record, reply=b"\x80")
        await house.upkeep.round()
        found = [await house.ledger.find(key) for key in ("old", "young", "open")]
        assert [known is not None for known in found] == [False, True, True]
        records = (await house.journal.snapshot())[1]
        assert len([row for row in records if row.kind == OpKind.OPERATION]) == 1


@pytest.mark.asyncio
async def test_too_little_room_takes_no_new_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A start is refused and a notice tells of it; with room again it starts."""
    check_room(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    async with open_workshop(tmp_path / "data", 5) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
        for _ in range(2):
            with pytest.raises(DiskFull):
                await shop.start("true")
        ops = await shop.journal.ops_after(5, 0, ops_max=99, bytes_max=1 << 20)
        assert [op.kind for op in ops] == ["checkout", "notice"]
        monkeypatch.undo()
        assert (await shop.run("true")).outcome == "succeeded"
