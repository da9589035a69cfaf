"""What every node store must do, whichever backend: the journal and the chunk store."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest
import pytest_asyncio

from node_agent.store import journal as sqlite_journal
from node_agent.store.contract import ChunkStore, JournalGrew, JournalStore, LogGrew
from node_agent.store.database import Database
from node_agent.store.errors import LogMoved
from node_agent.store.journal import SqliteJournal
from node_agent.store.log_chunks import SqliteChunkStore
from protocol import digest, limits
from protocol.entities import Checkout, Notice
from protocol.errors import LocalProtocolError
from protocol.log_chunks import (
    STDOUT,
    GapChunk,
    LogChunk,
    LogCursor,
    Segment,
    advance,
    chain,
    seal,
)
from protocol.messages import LogMark
from protocol.ops import EpochState, Op, OpKind, Position, encode_body
from tests.simulation.memory_node import MemoryChunks, MemoryJournal

NOW_MS = 1_700_000_000_000


class Journal(Protocol):
    """A journal under test, and the way the node's own code appends to it."""

    store: JournalStore

    async def append(self, kind: str, entity_id: str, body: bytes, at_ms: int = NOW_MS) -> Position:
        """Append one op in a transaction of its own."""


class SqliteUnderTest:
    """The journal on SQLite, and its append."""

    def __init__(self, database: Database) -> None:
        self.store = SqliteJournal(database)
        self._database = database

    async def append(self, kind: str, entity_id: str, body: bytes, at_ms: int = NOW_MS) -> Position:
        return await self._database.write(sqlite_journal.append, kind, entity_id, at_ms, body)


@contextlib.asynccontextmanager
async def sqlite_journals(folder: Path) -> AsyncIterator[Journal]:
    """Open a journal in a file of its own."""
    database = await Database.open(folder / "state.db", "state", on_fatal=_fatal)
    try:
        yield SqliteUnderTest(database)
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def sqlite_logs(folder: Path) -> AsyncIterator[ChunkStore]:
    """Open a chunk store in a file of its own."""
    database = await Database.open(folder / "logs.db", "logs", on_fatal=_fatal, shrinks=True)
    store = SqliteChunkStore(database, lambda: NOW_MS)
    try:
        yield store
    finally:
        await store.close()
        await database.close()


class MemoryUnderTest:
    """The simulator's journal."""

    def __init__(self, store: MemoryJournal) -> None:
        self.store = store

    async def append(self, kind: str, entity_id: str, body: bytes, at_ms: int = NOW_MS) -> Position:
        return await self.store.append(kind, entity_id, body, at_ms)


@contextlib.asynccontextmanager
async def memory_journals(folder: Path) -> AsyncIterator[Journal]:
    """Open the simulator's journal; its disk is one for each folder."""
    yield MemoryUnderTest(_journal_disks.setdefault(folder, MemoryJournal()))


@contextlib.asynccontextmanager
async def memory_logs(folder: Path) -> AsyncIterator[ChunkStore]:
    """Open the simulator's chunk store; its disk is one for each folder."""
    yield _chunk_disks.setdefault(folder, MemoryChunks(lambda: NOW_MS))


_journal_disks: dict[Path, MemoryJournal] = {}
_chunk_disks: dict[Path, MemoryChunks] = {}


def _fatal(error: Exception) -> None:
    raise AssertionError from error


class Backend(NamedTuple):
    """How to open both stores of one backend in a folder."""

    journals: Callable[[Path], contextlib.AbstractAsyncContextManager[Journal]]
    logs: Callable[[Path], contextlib.AbstractAsyncContextManager[ChunkStore]]


BACKENDS = {
    "sqlite": Backend(sqlite_journals, sqlite_logs),
    "memory": Backend(memory_journals, memory_logs),
}


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    return BACKENDS[request.param]


@pytest_asyncio.fixture
async def journal(backend: Backend, tmp_path: Path) -> AsyncIterator[Journal]:
    """A journal with nothing in it."""
    async with backend.journals(tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture
async def logs(backend: Backend, tmp_path: Path) -> AsyncIterator[ChunkStore]:
    """A chunk store with nothing in it."""
    async with backend.logs(tmp_path) as opened:
        yield opened


def state(name: str) -> bytes:
    """A state of some entity."""
    return encode_body(Checkout(id="c", path="/src", name=name, identity="root:1"))


def op(entity_id: str, body: bytes) -> Op:
    """The op that `append` makes of this."""
    return Op(OpKind.CHECKOUT.value, entity_id, NOW_MS, body)


async def tell(journal: Journal, *names: str, entity_id: str = "c") -> list[Op]:
    """Append one state op for each name."""
    for name in names:
        await journal.append(OpKind.CHECKOUT, entity_id, state(name))
    return [op(entity_id, state(name)) for name in names]


# --- the journal ----------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_epochs_keep_their_order_of_birth(journal: Journal):
    """The list follows birth, whatever the numbers, and an epoch without ops is in it."""
    for instance in (9, 3, 7):
        await journal.store.open_epoch(instance)
    assert await journal.store.epochs() == [
        EpochState(9, 1, 0, digest.EMPTY),
        EpochState(3, 1, 0, digest.EMPTY),
        EpochState(7, 1, 0, digest.EMPTY),
    ]


@pytest.mark.asyncio
async def test_many_starts_leave_no_ops_unnamed(journal: Journal, monkeypatch: pytest.MonkeyPatch):
    """An epoch with ops is named however often the agent was started since; empty ones go first."""
    monkeypatch.setattr(limits, "HELLO_EPOCHS_MAX", 3)
    await journal.store.open_epoch(9)
    await tell(journal, "a")
    await journal.store.open_epoch(8)
    await tell(journal, "b")
    await journal.store.prune(8, 1)
    for instance in (3, 7, 5):
        await journal.store.open_epoch(instance)
    named = [(epoch.epoch, epoch.last) for epoch in await journal.store.epochs()]
    assert named == [(9, 1), (8, 1), (5, 0)]
    await tell(journal, "c")
    await journal.store.open_epoch(4)
    assert [epoch.epoch for epoch in await journal.store.epochs()] == [9, 5, 4]


@pytest.mark.asyncio
async def test_ops_are_numbered_in_the_newest_epoch(journal: Journal):
    """Each epoch counts from 1, and only the newest grows."""
    await journal.store.open_epoch(9)
    assert await journal.append(OpKind.CHECKOUT, "a", state("a")) == (9, 1)
    assert await journal.append(OpKind.CHECKOUT, "b", state("b")) == (9, 2)
    await journal.store.open_epoch(3)
    assert await journal.append(OpKind.CHECKOUT, "c", state("c")) == (3, 1)
    assert [epoch.last for epoch in await journal.store.epochs()] == [2, 1]


@pytest.mark.asyncio
async def test_digests_are_those_of_the_protocol(journal: Journal):
    """The kept digest after each op is what the other end computes from the ops alone."""
    await journal.store.open_epoch(9)
    ops = await tell(journal, "a", "b", "c")
    expected = [digest.EMPTY, *digest.running(digest.EMPTY, 9, 1, ops)]
    assert [await journal.store.digest_at(9, seq) for seq in range(4)] == expected
    assert (await journal.store.epochs())[0].digest == expected[-1]
    assert await journal.store.digest_at(9, 4) is None


@pytest.mark.asyncio
async def test_ops_are_read_in_pages(journal: Journal):
    """A page obeys both bounds and still holds one op where even one is too large."""
    await journal.store.open_epoch(9)
    ops = await tell(journal, *"abcde")
    read = journal.store.ops_after
    assert await read(9, 0, ops_max=200, bytes_max=1 << 20) == ops
    assert await read(9, 2, ops_max=2, bytes_max=1 << 20) == ops[2:4]
    assert await read(9, 1, ops_max=200, bytes_max=1) == ops[1:2]
    assert await read(9, 5, ops_max=200, bytes_max=1 << 20) == []
    assert await read(8, 0, ops_max=200, bytes_max=1 << 20) == []


@pytest.mark.asyncio
async def test_a_snapshot_has_the_newest_state_of_each_entity(journal: Journal):
    """Superseded states are not in it, notices never are, and the position is the newest op's."""
    await journal.store.open_epoch(9)
    await tell(journal, "old", "new")
    await journal.store.open_epoch(3)
    await tell(journal, "other", entity_id="d")
    notice = encode_body(Notice(id="n", level="warning", code="disk", message="full"))
    await journal.append(OpKind.NOTICE, "n", notice)
    position, records = await journal.store.snapshot()
    assert position == (3, 2)
    assert [(row.entity_id, row.body, row.epoch, row.seq) for row in records] == [
        ("c", state("new"), 9, 2),
        ("d", state("other"), 3, 1),
    ]
    assert await journal.store.records(OpKind.CHECKOUT, ["d", "unknown"]) == [records[1]]


@pytest.mark.asyncio
async def test_pruning_keeps_numbers_digests_and_state(journal: Journal):
    """Pruned ops are gone, but not their last digest, their numbers, or what they told."""
    await journal.store.open_epoch(9)
    ops = await tell(journal, *"abcd")
    digests = digest.running(digest.EMPTY, 9, 1, ops)
    assert await journal.store.prune(9, 3) == 3
    assert await journal.store.prune(9, 3) == 0
    assert await journal.store.epochs() == [EpochState(9, 4, 4, digests[3])]
    assert await journal.store.digest_at(9, 3) == digests[2]
    assert await journal.store.digest_at(9, 2) is None
    assert await journal.store.ops_after(9, 3, ops_max=9, bytes_max=9999) == ops[3:]
    assert await journal.store.ops_after(9, 2, ops_max=9, bytes_max=9999) == []
    await journal.store.prune(9, 99)
    assert await journal.store.epochs() == [EpochState(9, 5, 4, digests[3])]
    assert await journal.append(OpKind.CHECKOUT, "c", state("e")) == (9, 5)
    assert (await journal.store.epochs())[0].digest == digest.after(
        digests[3], 9, 5, op("c", state("e"))
    )


@pytest.mark.asyncio
async def test_pruning_thousands_at_a_time(journal: Journal):
    """Any number is pruned by one call."""
    await journal.store.open_epoch(9)
    for seq in range(2_300):
        await journal.append(OpKind.CHECKOUT, str(seq), b"\x80")
    assert await journal.store.prune(9, 2_250) == 2_250
    assert (await journal.store.epochs())[0].first_kept == 2_251


@pytest.mark.asyncio
async def test_a_fork_is_written_again_in_a_new_epoch(journal: Journal):
    """The old epoch ends where both agreed; the rest stands, in order, in a new newest epoch."""
    await journal.store.open_epoch(9)
    ops = await tell(journal, *"abcd")
    digests = digest.running(digest.EMPTY, 9, 1, ops)
    await journal.store.refork(9, 2, 5)
    assert await journal.store.epochs() == [
        EpochState(9, 1, 2, digests[1]),
        EpochState(5, 1, 2, digest.running(digest.EMPTY, 5, 1, ops[2:])[-1]),
    ]
    assert await journal.store.ops_after(5, 0, ops_max=9, bytes_max=9999) == ops[2:]
    position, records = await journal.store.snapshot()
    assert position == (5, 2)
    assert [(row.body, row.epoch, row.seq) for row in records] == [(state("d"), 5, 2)]
    assert await journal.append(OpKind.CHECKOUT, "c", state("e")) == (5, 3)


@pytest.mark.asyncio
async def test_a_fork_never_brings_an_older_state_back(journal: Journal):
    """What a later epoch has told since stands behind the ops that are written again."""
    await journal.store.open_epoch(9)
    await tell(journal, "a", "old")
    await journal.store.open_epoch(3)
    await tell(journal, "newest")
    await journal.store.refork(9, 1, 5)
    again = await journal.store.ops_after(5, 0, ops_max=9, bytes_max=9999)
    assert [row.body for row in again] == [state("old"), state("newest")]
    _, records = await journal.store.snapshot()
    assert [(row.body, row.epoch, row.seq) for row in records] == [(state("newest"), 5, 2)]


@pytest.mark.asyncio
async def test_nothing_agrees_with_the_hive(journal: Journal):
    """A fork may take the whole epoch, also one whose beginning is pruned."""
    await journal.store.open_epoch(9)
    ops = await tell(journal, *"abc")
    await journal.store.prune(9, 1)
    await journal.store.refork(9, 0, 5)
    old, new = await journal.store.epochs()
    assert old == EpochState(9, 1, 0, digest.EMPTY)
    # What was pruned is nowhere now: the new epoch has a hole in its place, for a snapshot to fill.
    assert (new.first_kept, new.last) == (2, 3)
    assert await journal.store.digest_at(5, 1) == digest.running(digest.EMPTY, 9, 1, ops)[0]
    assert await journal.store.ops_after(5, 1, ops_max=9, bytes_max=9999) == ops[1:]
    assert await journal.store.ops_after(5, 0, ops_max=9, bytes_max=9999) == []


@pytest.mark.asyncio
async def test_what_is_pending_lies_above_the_marks(journal: Journal):
    """Ops at or below an epoch's mark are not counted; an epoch without a mark is, whole."""
    await journal.store.open_epoch(9)
    await tell(journal, *"abc")
    await journal.store.open_epoch(3)
    await journal.append(OpKind.CHECKOUT, "d", b"1234", NOW_MS + 5)
    size = len(state("a"))
    assert await journal.store.pending({}) == (4, 3 * size + 4, NOW_MS)
    assert await journal.store.pending({9: 2}) == (2, size + 4, NOW_MS)
    assert await journal.store.pending({9: 3}) == (1, 4, NOW_MS + 5)
    assert await journal.store.pending({9: 3, 3: 1}) == (0, 0, None)
    await journal.store.saw_marks({9: 3, 77: 1})
    assert await journal.store.marks_seen() == {9: 3}


@pytest.mark.asyncio
async def test_every_commit_is_told(journal: Journal):
    """A listener hears of each op in order, until it is taken off."""
    heard: list[JournalGrew] = []
    await journal.store.open_epoch(9)
    stop = journal.store.listen(heard.append)
    await tell(journal, "a", "b")
    stop()
    await tell(journal, "c")
    assert heard == [(9, 1), (9, 2)]


@pytest.mark.asyncio
async def test_a_body_over_the_limit_is_refused_before_it_is_numbered(journal: Journal):
    """No op is written that no frame could carry."""
    await journal.store.open_epoch(9)
    with pytest.raises(LocalProtocolError):
        await journal.append(OpKind.CHECKOUT, "c", bytes(limits.OP_BODY_BYTES_MAX + 1))
    await journal.append(OpKind.CHECKOUT, "c", bytes(limits.OP_BODY_BYTES_MAX))
    assert (await journal.store.epochs())[0].last == 1


@pytest.mark.asyncio
async def test_the_journal_survives_a_restart(backend: Backend, tmp_path: Path):
    """What was appended is there for the next process, whose epoch follows."""
    async with backend.journals(tmp_path) as first:
        await first.store.open_epoch(9)
        ops = await tell(first, "a", "b")
    async with backend.journals(tmp_path) as second:
        await second.store.open_epoch(3)
        await tell(second, "c")
        assert [epoch.epoch for epoch in await second.store.epochs()] == [9, 3]
        assert await second.store.ops_after(9, 0, ops_max=9, bytes_max=9999) == ops


# --- the chunk store ------------------------------------------------------------------------------


class Made:
    """A log as its writer makes it: chunks of one or more lines, numbered on."""

    def __init__(self, execution_id: str = "e", cursor: LogCursor | None = None) -> None:
        self.execution_id = execution_id
        self.cursor = cursor or LogCursor()
        self.chunks: list[LogChunk | GapChunk] = []

    def chunk(self, text: bytes = b"line\n", *, continued: bool = False) -> LogChunk:
        """The next chunk, with this text."""
        segment = Segment(STDOUT, NOW_MS + self.cursor.next_chunk, text, continued)
        begun = text.count(b"\n") + (not text.endswith(b"\n")) - continued
        made = seal(
            [segment],
            execution_id=self.execution_id,
            chunk_seq=self.cursor.next_chunk,
            first_entry=self.cursor.next_entry,
            entries=begun,
        )
        self.cursor = advance(self.cursor, made)
        self.chunks.append(made)
        return made

    def cut(self, text: bytes = b"line\n", *, continued: bool = False):
        """The next chunk with the note of where it ended in the spool."""
        made = self.chunk(text, continued=continued)
        return made, f"after {made.chunk_seq}".encode()


async def read_all(
    logs: ChunkStore, execution_id: str = "e", chunk_seq: int = 1
) -> Sequence[LogChunk | GapChunk]:
    """All chunks of a log from one on."""
    return await logs.chunks_from(execution_id, chunk_seq, chunks_max=999, bytes_max=1 << 30)


@pytest.mark.asyncio
async def test_a_log_keeps_what_was_committed(logs: ChunkStore):
    """Chunks come back as they were; cursor, digest and the writer's note are those of the last."""
    log = await logs.open_log("e", "a", "c")
    assert (log.next_chunk, log.next_entry, log.acked_chunk, log.spool_end) == (1, 1, 1, None)
    made = Made()
    await logs.commit([made.cut(b"a\nb\n"), made.cut(b"c"), made.cut(b"d\n", continued=True)])
    assert await read_all(logs) == made.chunks
    log = await logs.open_log("e", "a", "c")
    assert (log.next_chunk, log.next_entry, log.digest) == (4, 4, made.cursor.digest)
    assert log.spool_end == b"after 3"
    assert await logs.log("e") == log
    assert await logs.log("other") is None
    assert await logs.logs_of("a") == [log]


@pytest.mark.asyncio
async def test_only_the_next_chunk_is_taken(logs: ChunkStore):
    """A chunk that was committed, or that leaves a hole, is refused with all it came with."""
    await logs.open_log("e", "a", "c")
    made = Made()
    first = made.cut()
    await logs.commit([first])
    second, third = made.cut(), made.cut()
    for wrong in ([first], [third], [second, second], [third, second]):
        with pytest.raises(LogMoved):
            await logs.commit(wrong)
    await logs.commit([second, third])
    assert await read_all(logs) == made.chunks


@pytest.mark.asyncio
async def test_a_closed_log_takes_nothing_more(logs: ChunkStore):
    """The end of a log is an end."""
    await logs.open_log("e", "a", "c")
    made = Made()
    await logs.commit([made.cut()])
    assert (await logs.close_log("e")).closed
    with pytest.raises(LocalProtocolError):
        await logs.commit([made.cut()])
    assert (await logs.close_log("e")).next_chunk == 2


@pytest.mark.asyncio
async def test_pages_of_chunks(logs: ChunkStore):
    """A page obeys both bounds and still holds one chunk where even one is too large."""
    await logs.open_log("e", "a", "c")
    made = Made()
    await logs.commit([made.cut(b"x" * 100) for _ in range(5)])
    read = logs.chunks_from
    assert await read("e", 2, chunks_max=2, bytes_max=1 << 20) == made.chunks[1:3]
    assert await read("e", 2, chunks_max=9, bytes_max=1) == made.chunks[1:2]
    assert await read("e", 6, chunks_max=9, bytes_max=1 << 20) == []


@pytest.mark.asyncio
async def test_the_chunk_in_which_an_entry_begins(logs: ChunkStore):
    """Reading starts where the entry begins, also behind chunks that only go on with a line."""
    await logs.open_log("e", "a", "c")
    made = Made()
    await logs.commit(
        [
            made.cut(b"1\n2\n"),
            made.cut(b"3"),
            made.cut(b"...", continued=True),
            made.cut(b"...", continued=True),
            made.cut(b"\n4\n", continued=True),
        ]
    )
    for after, first in ((0, 1), (1, 1), (2, 2), (3, 5), (4, 5), (9, 5), (2**63 - 1, 5)):
        found = await logs.chunks_covering("e", after, chunks_max=9, bytes_max=1 << 20)
        assert found[0].chunk_seq == first, after
        assert found[-1].chunk_seq == 5


@pytest.mark.asyncio
async def test_digests_of_chunks(logs: ChunkStore):
    """The digest after each chunk is the protocol's chain; inside a gap there is none."""
    await logs.open_log("e", "a", "c")
    made = Made()
    first = made.cut()
    gap = GapChunk(
        execution_id="e", chunk_seq=2, through_seq=4, first_entry=2, entries=7, reason="quota"
    )
    await logs.commit([first, (gap, b"g")])
    after_first = chain(bytes(16), first[0])
    assert await logs.digest_at("e", 0) == bytes(16)
    assert await logs.digest_at("e", 1) == after_first
    assert await logs.digest_at("e", 2) is None
    assert await logs.digest_at("e", 4) == chain(after_first, gap)
    assert await logs.digest_at("e", 5) is None
    assert (await logs.log("e")).next_entry == 9
    assert await read_all(logs) == [first[0], gap]


@pytest.mark.asyncio
async def test_logs_a_hello_names(logs: ChunkStore):
    """Named while open or while the hive lacks chunks; not once it holds all of a closed one."""
    made = {name: Made(name) for name in ("e1", "e2", "e3")}
    for name, log in made.items():
        await logs.open_log(name, "a", "c")
        await logs.commit([log.cut()])
    await logs.close_log("e1")
    await logs.close_log("e2")
    assert [state.execution_id for state in await logs.logs_to_name()] == ["e1", "e2", "e3"]
    await logs.acked([mark(made["e1"]), mark(made["e3"])])
    named = await logs.logs_to_name()
    assert [state.execution_id for state in named] == ["e2", "e3"]
    assert named[1].digest == made["e3"].cursor.digest
    # A hive restored from a backup holds less than it said before.
    await logs.acked([LogMark("e1", 1, 1, bytes(16))])
    assert [state.execution_id for state in await logs.logs_to_name()] == ["e1", "e2", "e3"]


def mark(made: Made) -> LogMark:
    """What a hive says that holds all of this."""
    cursor = made.cursor
    return LogMark(made.execution_id, cursor.next_chunk, cursor.next_entry, cursor.digest)


@pytest.mark.asyncio
async def test_the_outbox_counts_what_is_unacknowledged(logs: ChunkStore):
    """Chunks, bytes and age of what the hive lacks, over all logs."""
    first, second = Made("e1"), Made("e2")
    await logs.open_log("e1", "a", "c")
    await logs.open_log("e2", "a", "c")
    assert await logs.outbox() == (0, 0, None)
    await logs.commit([first.cut(), first.cut(b"another\n"), second.cut()])
    sizes = [len(chunk.blob) for chunk in first.chunks + second.chunks]
    assert await logs.outbox() == (3, sum(sizes), NOW_MS + 1)
    assert await logs.outbox({"c"}) == (0, 0, None)
    assert await logs.outbox({"other"}) == (3, sum(sizes), NOW_MS + 1)
    await logs.acked([LogMark("e1", 2, 2, b""), mark(second)])
    assert await logs.outbox() == (1, sizes[1], NOW_MS + 2)
    await logs.acked([mark(first)])
    assert await logs.outbox() == (0, 0, None)


def check_whole(chunks: Sequence[LogChunk | GapChunk], cursor: LogCursor) -> LogCursor:
    """The chunks follow the cursor and each other without a hole."""
    for chunk in chunks:
        assert (chunk.chunk_seq, chunk.first_entry) == (cursor.next_chunk, cursor.next_entry)
        cursor = advance(cursor, chunk)
    return cursor


@pytest.mark.asyncio
async def test_adopting_where_the_hive_is_ahead(logs: ChunkStore):
    """The node was restored: what it has that the hive lacks follows the hive's cursor."""
    await logs.open_log("e", "a", "c")
    made = Made()
    await logs.commit([made.cut(b"1\n"), made.cut(b"2\n"), made.cut(b"3\n")])
    await logs.acked([LogMark("e", 3, 3, b"")])
    ahead = LogMark("e", 7, 9, b"h" * 16)
    log = await logs.adopt(ahead, 2)
    chunks = await read_all(logs, chunk_seq=7)
    end = check_whole(chunks, LogCursor(next_chunk=7, next_entry=9, digest=ahead.digest))
    assert [type(chunk) for chunk in chunks] == [GapChunk, LogChunk]
    assert (chunks[0].reason, chunks[0].entries) == ("node_restored", 0)
    assert chunks[1].blob == made.chunks[2].blob
    assert (log.next_chunk, log.next_entry, log.digest) == (9, 10, end.digest)
    assert log.acked_chunk == 7
    # The log grows on from there.
    more = Made(cursor=end)
    await logs.commit([more.cut(b"4\n")])
    assert await logs.digest_at("e", 9) == more.cursor.digest


@pytest.mark.asyncio
async def test_adopting_with_nothing_to_send(logs: ChunkStore):
    """The gap stands there all the same, so that later chunks follow it."""
    await logs.open_log("e", "a", "c")
    made = Made()
    await logs.commit([made.cut(b"1\n")])
    await logs.acked([mark(made)])
    log = await logs.adopt(LogMark("e", 5, 6, b"h" * 16), 1)
    chunks = await read_all(logs, chunk_seq=5)
    check_whole(chunks, LogCursor(next_chunk=5, next_entry=6, digest=b"h" * 16))
    assert [chunk.reason for chunk in chunks] == ["node_restored"]
    assert (log.next_chunk, log.next_entry) == (6, 6)


@pytest.mark.asyncio
async def test_adopting_where_digests_differ(logs: ChunkStore):
    """Under the same numbers lies something else: ours goes behind a gap, no entry twice."""
    await logs.open_log("e", "a", "c")
    made = Made()
    await logs.commit([made.cut(b"1\n2\n"), made.cut(b"3\n"), made.cut(b"4\n")])
    await logs.acked([LogMark("e", 3, 4, b"")])
    theirs = LogMark("e", 2, 2, b"h" * 16)
    await logs.adopt(theirs, 1)
    chunks = await read_all(logs, chunk_seq=2)
    check_whole(chunks, LogCursor(next_chunk=2, next_entry=2, digest=theirs.digest))
    assert [chunk.entries for chunk in chunks] == [1, 1, 1]
    assert [chunk.blob for chunk in chunks[1:]] == [chunk.blob for chunk in made.chunks[1:]]


@pytest.mark.asyncio
async def test_a_writer_learns_that_its_log_was_renumbered(logs: ChunkStore):
    """Its next chunk is refused, and it goes on from the log as it stands."""
    await logs.open_log("e", "a", "c")
    made = Made()
    await logs.commit([made.cut()])
    await logs.adopt(LogMark("e", 5, 6, b"h" * 16), 1)
    with pytest.raises(LogMoved):
        await logs.commit([made.cut()])
    log = await logs.log("e")
    assert log.spool_end == b"after 1"
    on = Made(
        cursor=LogCursor(next_chunk=log.next_chunk, next_entry=log.next_entry, digest=log.digest)
    )
    await logs.commit([on.cut()])


@pytest.mark.asyncio
async def test_purging_keeps_that_the_log_was_there(logs: ChunkStore):
    """Chunks go, the log's row stays and says so; an open log is not purged."""
    await logs.open_log("e", "a", "c")
    made = Made()
    await logs.commit([made.cut() for _ in range(250)])
    with pytest.raises(LocalProtocolError):
        await logs.purge("e")
    await logs.close_log("e")
    await logs.purge("e")
    await logs.purge("e")
    assert await read_all(logs) == []
    log = await logs.log("e")
    assert (log.purged, log.next_chunk) == (True, 251)
    assert await logs.logs_to_name() == []
    assert await logs.outbox() == (0, 0, None)


@pytest.mark.asyncio
async def test_every_change_of_a_log_is_told(logs: ChunkStore):
    """A listener hears of chunks and of the end, after the commit."""
    heard: list[LogGrew] = []
    stop = logs.listen(heard.append)
    await logs.open_log("e", "a", "c")
    made = Made()
    await logs.commit([made.cut(), made.cut()])
    await logs.close_log("e")
    stop()
    assert heard == [LogGrew("e", 3, False, "c"), LogGrew("e", 3, True, "c")]


@pytest.mark.asyncio
async def test_logs_survive_a_restart(backend: Backend, tmp_path: Path):
    """Chunks, cursor and what was acknowledged are there for the next process."""
    made = Made()
    async with backend.logs(tmp_path) as first:
        await first.open_log("e", "a", "c")
        await first.commit([made.cut(), made.cut()])
        await first.acked([LogMark("e", 2, 2, b"")])
        before = await first.log("e")
    async with backend.logs(tmp_path) as second:
        log = await second.log("e")
        assert log == before._replace(acked_chunk=2)
        await second.commit([made.cut()])
        assert await read_all(second) == made.chunks


@pytest.mark.asyncio
@pytest.mark.parametrize("told_again", [True, False])
async def test_an_op_is_withheld_under_its_number(journal: Journal, told_again: bool):
    """Numbers stay, digests follow, and its state is told again where that is wanted."""
    await journal.store.open_epoch(9)
    ops = await tell(journal, "a")
    ops += await tell(journal, "b", entity_id="d")
    await journal.store.withhold(9, 1, "refused", told_again=told_again)
    after = await journal.store.ops_after(9, 0, ops_max=9, bytes_max=9999)
    assert [one.kind for one in after[:2]] == [OpKind.WITHHELD, OpKind.CHECKOUT]
    assert after[1] == ops[1]
    assert after[2:] == ([ops[0]] if told_again else [])
    expected = digest.running(digest.EMPTY, 9, 1, after)
    assert [await journal.store.digest_at(9, seq) for seq in range(1, len(after) + 1)] == expected
