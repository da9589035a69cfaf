"""Ingest commits, then lets the caller acknowledge, then publishes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hive.ingest import Ingest
from hive.store.backend import StoreFull
from protocol.errors import RemoteProtocolError
from protocol.messages import NeedDone, Records, Skip, Snapshot
from tests.hive import reported
from tests.hive.reported import NODE, uid
from tests.hive.store.open_hive import OpenHive, opened


class Told:
    """What happened, in order."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def publish(self, changes) -> None:
        self.order.extend(change.kind for change in changes)


@pytest_asyncio.fixture
async def hive(tmp_path: Path) -> AsyncIterator[OpenHive]:
    """A store with two nodes enrolled."""
    async with opened(tmp_path) as open_hive:
        yield open_hive


@pytest.mark.asyncio
async def test_commit_then_acknowledge_then_publish(hive: OpenHive):
    """When a viewer hears of a change, its node's acknowledgement is on its way already."""
    alpha = await hive.reporting()
    told = Told()
    ingest = Ingest(hive.store, hive.database, told.publish)

    async def acknowledged() -> None:
        mark = await ingest.ops(NODE, alpha.link_no, 1, 1, [reported.attempt()])
        stored = await hive.rows("SELECT mark FROM epoch WHERE node_id = :id", id=NODE)
        assert stored[0]["mark"] == mark == 1
        told.order.append("committed")

    async def first_step() -> None:
        await ingest.ops(NODE, alpha.link_no, 1, 2, [reported.attempt(branch="b")])
        told.order.append("acknowledged")

    await acknowledged()
    await asyncio.sleep(0)
    told.order.clear()
    await first_step()
    await asyncio.sleep(0)
    assert told.order == ["acknowledged", "attempt.changed"]


@pytest.mark.asyncio
async def test_what_is_refused_is_not_published(hive: OpenHive):
    """A frame that breaks the protocol reaches no viewer, and its caller hears why."""
    alpha = await hive.reporting()
    await asyncio.sleep(0)
    told = Told()
    ingest = Ingest(hive.store, hive.database, told.publish)
    with pytest.raises(RemoteProtocolError):
        await ingest.ops(NODE, alpha.link_no, 1, 7, [reported.attempt()])
    await asyncio.sleep(0)
    assert told.order == []


@pytest.mark.asyncio
async def test_every_lane_reaches_the_store(hive: OpenHive):
    """Snapshots, skips, chunks, records and answers are committed through ingest."""
    alpha = await hive.reporting()
    told = Told()
    ingest = Ingest(hive.store, hive.database, told.publish)
    link = (NODE, alpha.link_no)
    records = [reported.record(reported.checkout()), reported.record(reported.attempt())]
    page = Snapshot(snapshot_id="s", epoch=1, seq=4, records=records, last=True)
    await ingest.snapshot(*link, page)
    assert await ingest.skip(*link, Skip(epoch=1, through=4, digest=b"d" * 16)) == 4
    answer = Records(request_id="r", records=[reported.record(reported.execution(), 1, 3)])
    await ingest.records(*link, answer)
    outcomes = await ingest.chunks(*link, [reported.chunk(1)])
    assert [outcome.kind for outcome in outcomes] == ["stored"]
    assert outcomes[0].mark.next_chunk == 2
    await ingest.need_done(*link, NeedDone(request_id="r", outcomes=[]))
    await asyncio.sleep(0)
    assert (await hive.row("execution", uid(20)))["attempt_id"] == uid(10)
    assert {"attempt.changed", "execution.changed", "log.appended"} <= set(told.order)


@pytest.mark.asyncio
async def test_changes_of_others_are_published_too(hive: OpenHive):
    """What a person changes through the same database is published in the same order."""
    told = Told()
    Ingest(hive.store, hive.database, told.publish)
    await hive.enrol(uid(90), "delta")
    await asyncio.sleep(0)
    assert told.order == ["node.changed"]


@pytest.mark.asyncio
async def test_a_full_store_is_said_and_nothing_is_kept(hive: OpenHive):
    """No room: the caller hears it, the mark stays, and later it goes on."""
    alpha = await hive.reporting()
    ingest = Ingest(hive.store, hive.database, lambda changes: None)

    async def pages(tx, more: int):
        [count] = await tx.fetch_one("PRAGMA page_count")
        await tx.fetch_one(f"PRAGMA max_page_count = {count + more}")

    # What PRAGMAs set stays with the writer's connection.
    await hive.write(pages, 1)
    big = [reported.attempt(number, reason="x" * 30_000) for number in range(10, 20)]
    with pytest.raises(StoreFull):
        await ingest.ops(NODE, alpha.link_no, 1, 1, big)
    assert (await hive.store.marks(NODE, [1]))[0].mark == 0
    await hive.write(pages, 100_000)
    assert await ingest.ops(NODE, alpha.link_no, 1, 1, big) == 10
