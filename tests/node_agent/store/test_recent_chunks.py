"""The newest chunks in memory: what was committed, bounded, never what is no longer true."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from node_agent.store.database import Database
from node_agent.store.log_chunks import SqliteChunkStore
from node_agent.store.recent_chunks import CHUNK_OVERHEAD_BYTES, RecentChunks
from protocol.log_chunks import STDOUT, GapChunk, LogChunk, LogCursor, Segment, advance, seal
from protocol.messages import LogMark


def chunk(execution_id: str, chunk_seq: int, text: bytes = b"a line\n") -> LogChunk:
    """A chunk of one line."""
    return seal(
        [Segment(STDOUT, 5, text)],
        execution_id=execution_id,
        chunk_seq=chunk_seq,
        first_entry=chunk_seq,
        entries=1,
    )


def numbers(recent: RecentChunks, execution_id: str, first: int, **bounds: int) -> list[int]:
    """Which chunks are handed out."""
    limits = {"chunks_max": 99, "bytes_max": 1 << 20} | bounds
    return [found.chunk_seq for found in recent.chunks_from(execution_id, first, **limits)]


def test_chunks_are_handed_out_from_a_place_within_bounds():
    """From exactly that chunk on, at least one, and none where that one is not there."""
    recent = RecentChunks()
    recent.add([chunk("e", number) for number in range(5, 10)])
    one = CHUNK_OVERHEAD_BYTES + len(chunk("e", 5).blob)
    assert numbers(recent, "e", 6) == [6, 7, 8, 9]
    assert numbers(recent, "e", 6, chunks_max=2) == [6, 7]
    assert numbers(recent, "e", 6, bytes_max=3 * one) == [6, 7, 8]
    assert numbers(recent, "e", 6, bytes_max=0) == [6]
    assert numbers(recent, "e", 4) == numbers(recent, "e", 10) == numbers(recent, "f", 1) == []


def test_the_bytes_of_all_logs_together_are_bounded():
    """The log that was silent for longest loses its oldest first, and then itself."""
    one = CHUNK_OVERHEAD_BYTES + len(chunk("e", 1).blob)
    recent = RecentChunks(bytes_max=4 * one)
    recent.add([chunk("e", 1), chunk("e", 2)])
    recent.add([chunk("f", 1), chunk("f", 2), chunk("f", 3)])
    assert (numbers(recent, "e", 1), numbers(recent, "e", 2)) == ([], [2])
    recent.add([chunk("f", 4), chunk("f", 5)])
    assert (numbers(recent, "e", 2), numbers(recent, "f", 2)) == ([], [2, 3, 4, 5])


def test_only_chunks_that_follow_one_another_are_kept():
    """A chunk behind a hole begins anew: what is handed out is without holes."""
    recent = RecentChunks()
    gap = GapChunk(
        execution_id="e", chunk_seq=2, through_seq=4, first_entry=2, entries=1, reason="quota"
    )
    recent.add([chunk("e", 1), gap, chunk("e", 5)])
    assert numbers(recent, "e", 1) == [1, 2, 5]
    recent.add([chunk("e", 9)])
    assert (numbers(recent, "e", 1), numbers(recent, "e", 9)) == ([], [9])


def test_a_log_that_changed_is_forgotten():
    """All of it, and its bytes make room for others."""
    recent = RecentChunks(bytes_max=2 * (CHUNK_OVERHEAD_BYTES + len(chunk("e", 1).blob)))
    recent.add([chunk("e", 1), chunk("e", 2)])
    recent.forget("e")
    recent.forget("f")
    recent.add([chunk("f", 1), chunk("f", 2)])
    assert (numbers(recent, "e", 1), numbers(recent, "f", 1)) == ([], [1, 2])


@pytest.mark.asyncio
async def test_a_store_reads_back_the_same_with_and_without_them(tmp_path: Path):
    """Committed, numbered on behind a gap, committed again: memory and disk say the same."""
    database = await Database.open(tmp_path / "logs.db", "logs", on_fatal=lambda _: None)
    store = SqliteChunkStore(database, lambda: 1)
    await store.open_log("e", "a", "c")
    cursor = LogCursor()
    for text in (b"one\n", b"two\n", b"three\n"):
        new = chunk("e", cursor.next_chunk, text)
        await store.commit([(new, b"")])
        cursor = advance(cursor, new)

    async def same() -> list[int]:
        bounds = {"chunks_max": 99, "bytes_max": 1 << 20}
        unread = SqliteChunkStore(database, lambda: 1)
        told = await store.chunks_from("e", 1, **bounds)
        assert told == await unread.chunks_from("e", 1, **bounds)
        return [found.chunk_seq for found in told]

    assert await same() == [1, 2, 3]
    # The hive holds another history up to chunk 7: ours goes on behind a gap.
    log = await store.adopt(LogMark("e", 8, 8, b"theirs".ljust(16)), 1)
    assert await same() == [1, 8, 9, 10]
    await store.commit([(replace(chunk("e", log.next_chunk), first_entry=log.next_entry), b"")])
    assert (await same())[-1] == log.next_chunk
    await store.close_log("e")
    await store.purge("e")
    assert await same() == []
    await database.close()
