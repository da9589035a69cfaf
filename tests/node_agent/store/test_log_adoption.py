"""Adoption on SQLite beyond the contract: said twice, over gaps, and deep in a long log."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.store.database import Database
from node_agent.store.log_chunks import SqliteChunkStore
from protocol.log_chunks import STDOUT, GapChunk, LogChunk, LogCursor, Segment, advance, seal
from protocol.messages import LogMark


@pytest_asyncio.fixture
async def logs(tmp_path: Path) -> AsyncIterator[SqliteChunkStore]:
    """A chunk store with an open log."""
    database = await Database.open(tmp_path / "logs.db", "logs", on_fatal=lambda _: None)
    store = SqliteChunkStore(database, lambda: 1_000)
    await store.open_log("e", "a", "c")
    yield store
    await store.close()
    await database.close()


async def write(logs: SqliteChunkStore, count: int) -> list[LogChunk]:
    """Append chunks of one line each."""
    log = await logs.log("e")
    assert log is not None
    cursor = LogCursor(next_chunk=log.next_chunk, next_entry=log.next_entry, digest=log.digest)
    made = []
    for _ in range(count):
        chunk = seal(
            [Segment(STDOUT, 5, b"line %d\n" % cursor.next_entry)],
            execution_id="e",
            chunk_seq=cursor.next_chunk,
            first_entry=cursor.next_entry,
            entries=1,
        )
        cursor = advance(cursor, chunk)
        made.append(chunk)
    await logs.commit([(chunk, b"") for chunk in made])
    return made


async def read(logs: SqliteChunkStore, chunk_seq: int) -> list[LogChunk | GapChunk]:
    """All chunks from one on."""
    return await logs.chunks_from("e", chunk_seq, chunks_max=9_999, bytes_max=1 << 30)


@pytest.mark.asyncio
async def test_the_same_word_again_changes_nothing(logs: SqliteChunkStore):
    """The link broke before the gap arrived: the next one finds it where it was put."""
    await write(logs, 3)
    mark = LogMark("e", 7, 9, b"h" * 16)
    first = await logs.adopt(mark, 1)
    again = await logs.adopt(mark, 1)
    assert again == first
    assert [type(chunk) for chunk in await read(logs, 7)] == [GapChunk, LogChunk, LogChunk]
    # Once more lines came, it is still the same gap.
    await write(logs, 1)
    assert (await logs.adopt(mark, 1)).next_chunk == first.next_chunk + 1


@pytest.mark.asyncio
async def test_many_chunks_are_chained_again(logs: SqliteChunkStore):
    """Each keeps its content and follows the one before it, however many there are."""
    made = await write(logs, 350)
    mark = LogMark("e", 2, 2, b"h" * 16)
    log = await logs.adopt(mark, 0)
    cursor = LogCursor(next_chunk=2, next_entry=2, digest=mark.digest)
    chunks = await read(logs, 2)
    for chunk in chunks:
        assert (chunk.chunk_seq, chunk.first_entry) == (cursor.next_chunk, cursor.next_entry)
        cursor = advance(cursor, chunk)
        assert await logs.digest_at("e", chunk.chunk_seq) == cursor.digest
    assert [chunk.blob for chunk in chunks[1:]] == [chunk.blob for chunk in made]
    assert (log.next_chunk, log.digest) == (cursor.next_chunk, cursor.digest)


@pytest.mark.asyncio
async def test_the_outbox_is_counted_anew(logs: SqliteChunkStore):
    """Bytes that wait are those behind the hive's cursor."""
    made = await write(logs, 4)
    await logs.adopt(LogMark("e", 9, 9, b"h" * 16), 2)
    waiting = await logs.outbox()
    assert waiting.bytes == sum(len(chunk.blob) for chunk in made[2:])
    assert waiting.chunks == 3


@pytest.mark.asyncio
async def test_digests_go_down_past_a_gap(logs: SqliteChunkStore):
    """Asked for what is below a place within a gap, that gap is not named: it ends above."""
    await write(logs, 1)
    gap = GapChunk(
        execution_id="e",
        chunk_seq=2,
        through_seq=4,
        first_entry=2,
        entries=3,
        reason="node_restored",
    )
    await logs.commit([(gap, b"")])
    named = await logs.digests_below("e", 5, limit=9)
    assert [seq for seq, _ in named] == [4, 1]
    named = await logs.digests_below("e", 4, limit=9)
    assert [seq for seq, _ in named] == [1]
