"""Writing a fast log: the next piece is cut while the last is committed, and no line is touched."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.log_writer import LogWriter
from node_agent.run_folder import write_record
from node_agent.spool import SpoolReader
from node_agent.spool_frames import STDERR, STDOUT
from node_agent.spool_writer import SpoolWriter
from node_agent.store.contract import LogGrew
from node_agent.store.database import Database
from node_agent.store.log_chunks import SqliteChunkStore
from protocol.log_chunks import GapChunk, LogChunk, LogCursor, advance, check_follows, open_chunk
from protocol.log_chunks import Outcome as Follows
from protocol.messages import LogMark

LINES = b"".join(b"line %07d of a program that prints fast\n" % number for number in range(200_000))


@pytest_asyncio.fixture
async def logs(tmp_path: Path) -> AsyncIterator[SqliteChunkStore]:
    """A chunk store with an open log."""
    database = await Database.open(tmp_path / "logs.db", "logs", on_fatal=lambda _: None)
    store = SqliteChunkStore(database, lambda: 1_000)
    await store.open_log("e", "a", "c")
    yield store
    await store.close()
    await database.close()


@pytest.fixture
def printed(tmp_path: Path) -> Path:
    """The run folder of a program that printed all the lines, as its supervisor left it."""
    folder = tmp_path / "run"
    folder.mkdir()
    spool = SpoolWriter(folder, quota_bytes=1 << 30, segment_bytes=4 << 20, sync_s=60)
    for at in range(0, len(LINES), 250_000):
        piece = bytearray(LINES[at : at + 250_000])
        spool.append(STDOUT, piece, len(piece))
    spool.finish()
    totals = {str(STDOUT): {"bytes": len(LINES)}, str(STDERR): {"bytes": 0}}
    write_record(folder / "exit", {"version": 1, "exit_code": 0, "streams": totals})
    return folder


async def chunks_of(logs: SqliteChunkStore) -> list[LogChunk | GapChunk]:
    """All chunks of the log."""
    return await logs.chunks_from("e", 1, chunks_max=9_999, bytes_max=1 << 30)


def content_of(chunks: list[LogChunk | GapChunk]) -> bytes:
    """What the chunks hold, in order, each behind the one before."""
    first = chunks[0]
    cursor = LogCursor(next_chunk=first.chunk_seq, next_entry=first.first_entry)
    content = []
    for chunk in chunks:
        assert check_follows(cursor, chunk) is Follows.STORED
        cursor = advance(cursor, chunk)
        if isinstance(chunk, LogChunk):
            content += [bytes(segment.data) for segment in open_chunk(chunk)]
    return b"".join(content)


@pytest.mark.asyncio
async def test_all_is_written_once_and_in_order(logs: SqliteChunkStore, printed: Path):
    """What is cut ahead follows what is committed."""
    writer = await LogWriter.open(logs, "e", [])
    await writer.drain(SpoolReader(printed))
    end = await writer.close()
    assert content_of(await chunks_of(logs)) == LINES
    assert (end.bytes, end.entries) == (len(LINES), 200_000)


@pytest.mark.asyncio
async def test_a_log_renumbered_while_more_of_it_is_cut(logs: SqliteChunkStore, printed: Path):
    """What was cut ahead under the old numbers follows under the new ones, and all that comes."""
    moved: list[asyncio.Task[object]] = []

    def renumber(event: object) -> None:
        if isinstance(event, LogGrew) and not event.closed and len(moved) < 2:
            # The hive says that it holds this much more than we know of.
            beyond = LogMark("e", event.next_chunk + 5, 1_000_000 * (len(moved) + 1), b"h" * 16)
            moved.append(asyncio.ensure_future(logs.adopt(beyond, event.next_chunk - 1)))

    stop = logs.listen(renumber)
    writer = await LogWriter.open(logs, "e", [])
    await writer.drain(SpoolReader(printed))
    stop()
    await asyncio.gather(*moved)
    end = await writer.close()
    chunks = await chunks_of(logs)
    gaps = [chunk for chunk in chunks if isinstance(chunk, GapChunk)]
    assert [gap.reason for gap in gaps] == ["node_restored", "node_restored"]
    # In front of each gap stands what the hive held by then.
    first, second = (chunks.index(gap) for gap in gaps)
    parts = chunks[:first], chunks[first:second], chunks[second:]
    assert b"".join(map(content_of, parts)) == LINES
    last = chunks[-1]
    assert end.entries == last.first_entry + last.entries - 1


@pytest.mark.asyncio
async def test_one_who_stops_half_way_is_gone_on_from(logs: SqliteChunkStore, printed: Path):
    """A writer cancelled while it reads ahead leaves a log that another goes on with."""
    begun = asyncio.Event()
    stop = logs.listen(lambda event: begun.set() if isinstance(event, LogGrew) else None)
    writing = asyncio.ensure_future(
        (await LogWriter.open(logs, "e", [])).drain(SpoolReader(printed))
    )
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    stop()
    assert 0 < len(content_of(await chunks_of(logs))) < len(LINES)
    writer = await LogWriter.open(logs, "e", [])
    await writer.drain(SpoolReader(printed, writer.position, writer.emitted))
    await writer.close()
    assert content_of(await chunks_of(logs)) == LINES
