"""A chunk store of an older copy: what it lost is cut again, just as it was, or not at all."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node_agent import run_context
from node_agent.log_replay import CUTS_FILE, replay_cuts
from node_agent.log_writer import LogWriter
from node_agent.spool import SpoolReader
from node_agent.spool_frames import STDERR, STDOUT
from node_agent.spool_writer import SpoolWriter
from node_agent.store.database import Database
from node_agent.store.errors import LogMoved, StoreFull
from node_agent.store.log_chunks import SqliteChunkStore
from protocol.log_chunks import GapChunk, LogChunk

SECRET = b"a-secret-of-this-node"
LINES = 10_000


def printed(start: int) -> bytes:
    """Several chunks of output, with a secret now and then, that does not end with a line."""
    lines = [
        b"line %06d %s %s\n" % (n, SECRET if n % 97 == 0 else b"", b"." * (n % 61))
        for n in range(start, start + LINES)
    ]
    return b"".join(lines) + b"and"


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[SqliteChunkStore]:
    """The chunk store in a folder."""
    database = await Database.open(folder / "logs.db", "logs", on_fatal=lambda _: None)
    store = SqliteChunkStore(database, lambda: 1_000)
    try:
        yield store
    finally:
        await store.close()
        await database.close()


async def chunks_of(store: SqliteChunkStore) -> list[LogChunk | GapChunk]:
    """All there is of the log."""
    return await store.chunks_from("e", 1, chunks_max=1000, bytes_max=1 << 30)


class Printing:
    """A log that is written in three goes, and copies of its store from before the others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.copies: list[Path] = []
        self.whole: list[LogChunk | GapChunk] = []

    async def go(self, *, event: bool = False) -> None:
        """Print and write; with an event of the node's own in the last go."""
        self.run.mkdir()
        store = self.folder / "store"
        store.mkdir()
        spool = SpoolWriter(self.run, quota_bytes=1 << 30, segment_bytes=1 << 20, sync_s=60)
        for number in range(3):
            if number:
                # The store is closed between two goes: a copy of it is whole.
                self.copies.append(Path(shutil.copytree(store, self.folder / f"copy{number}")))
            put(spool, STDOUT, printed(number * LINES))
            put(spool, STDERR, b"of the other stream\n" * 500)
            async with opened(store) as chunks:
                await chunks.open_log("e", "a", "c")
                writer = await LogWriter.open(chunks, "e", [SECRET], folder=self.run)
                if event and number == 2:
                    await writer.event(b"something happened")
                await writer.drain(SpoolReader(self.run, writer.position, writer.emitted))
                self.whole = await chunks_of(chunks)
        spool.finish()

    async def replayed(self, copy: int) -> list[LogChunk | GapChunk]:
        """What a store has that is of an older copy, once it was replayed."""
        async with opened(self.copies[copy]) as chunks:
            before = await chunks_of(chunks)
            again = await replay_cuts(chunks, "e", [SECRET], self.run)
            after = await chunks_of(chunks)
        assert after[: len(before)] == before
        assert len(after) == len(before) + again
        return after


def put(spool: SpoolWriter, stream: int, content: bytes) -> None:
    """Have a program print this in reads of odd sizes."""
    for start in range(0, len(content), 7001):
        piece = bytearray(content[start : start + 7001])
        spool.append(stream, piece, len(piece))


@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.asyncio
async def test_what_was_lost_is_cut_again_as_it_was(tmp_path: Path, copy: int):
    """Every chunk is the same, so that a hive that has them finds nothing new in them."""
    log = Printing(tmp_path)
    await log.go()
    assert len(log.whole) >= 6
    assert await log.replayed(copy) == log.whole


@pytest.mark.asyncio
async def test_a_store_that_lacks_nothing(tmp_path: Path):
    """Nothing is cut again, as after every start but one on an older copy."""
    log = Printing(tmp_path)
    await log.go()
    log.copies.append(tmp_path / "store")
    assert await log.replayed(-1) == log.whole


@pytest.mark.asyncio
async def test_notes_that_are_torn(tmp_path: Path):
    """What is noted before the tear is cut again; of the rest nothing is made up."""
    log = Printing(tmp_path)
    await log.go()
    notes = log.run / CUTS_FILE
    notes.write_bytes(notes.read_bytes()[:-7])
    assert await log.replayed(0) == log.whole[:-1]
    notes.write_bytes(b"\x00\x00\x00\x05nonsense")
    assert len(await log.replayed(1)) < len(log.whole)


@pytest.mark.asyncio
async def test_what_comes_out_as_another_is_left(tmp_path: Path):
    """An event stands in no spool: what holds one, and all behind it, is cut as it comes."""
    log = Printing(tmp_path)
    await log.go(event=True)
    after = await log.replayed(0)
    assert after == log.whole[: len(after)]
    assert len(after) < len(log.whole)


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.asyncio
async def test_what_keeps_it_from_being_cut_again_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: bool
):
    """A full disk is waited out, and a log that was numbered on goes on as it is."""
    monkeypatch.setattr(run_context, "_ROOM_S_FIRST", 0.01)
    log = Printing(tmp_path)
    await log.go()
    errors = [StoreFull("logs.db"), *([LogMoved("e", 9, 2)] if moves else [])]
    commit = SqliteChunkStore.commit

    async def fails_first(store: SqliteChunkStore, *given: object) -> None:
        if errors:
            raise errors.pop(0)
        await commit(store, *given)

    monkeypatch.setattr(SqliteChunkStore, "commit", fails_first)
    after = await log.replayed(0)
    assert not errors
    assert (after == log.whole) is not moves
