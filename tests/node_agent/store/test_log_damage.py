"""Bytes that changed on the disk: found, set aside, told of; everything else goes on."""

import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.store.contract import LogGrew
from node_agent.store.database import Database
from node_agent.store.journal import SqliteJournal, append
from node_agent.store.log_chunks import SqliteChunkStore
from protocol import digest
from protocol.entities import Withheld
from protocol.log_chunks import (
    STDOUT,
    GapChunk,
    LogChunk,
    LogCursor,
    Segment,
    advance,
    check_follows,
    seal,
)
from protocol.log_chunks import Outcome as Follows
from protocol.messages import LogMark
from protocol.ops import OpKind, decode_body


def change(path: Path, sql: str, *parameters: object) -> None:
    """Change the file behind the store's back."""
    with sqlite3.connect(path) as other:
        assert other.execute(sql, parameters).rowcount == 1
    other.close()


@pytest_asyncio.fixture
async def state(tmp_path: Path) -> AsyncIterator[Database]:
    """A state database with ten ops of ten entities."""
    database = await Database.open(tmp_path / "state.db", "state", on_fatal=lambda _: None)
    await SqliteJournal(database).open_epoch(1)
    for number in range(1, 11):
        await database.write(append, OpKind.CHECKOUT, f"c{number}", number, b"body %d" % number)
    yield database
    await database.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("seq", [1, 4, 10])
async def test_a_damaged_op_is_withheld_under_its_number(state: Database, seq: int):
    """Nothing blocks behind it, the chain holds, and its state is told again."""
    journal = SqliteJournal(state)
    change(state.path, "UPDATE op SET body = x'00' WHERE seq = ?", seq)
    ops = []
    while page := await journal.ops_after(1, len(ops), ops_max=3, bytes_max=1 << 20):
        ops += page
    assert [op.entity_id for op in ops] == [*(f"c{number}" for number in range(1, 11)), f"c{seq}"]
    assert ops[seq - 1].kind == OpKind.WITHHELD
    assert decode_body(ops[seq - 1].kind, ops[seq - 1].body) == Withheld(
        reason="corrupt", kind="checkout"
    )
    assert ops[-1].body == b"body %d" % seq
    (held,) = await journal.epochs()
    assert (held.last, held.digest) == (11, digest.running(digest.EMPTY, 1, 1, ops)[-1])


@pytest.mark.asyncio
async def test_a_missing_op_is_withheld_too(state: Database):
    """A hole in the numbers would hold the stream up for ever."""
    journal = SqliteJournal(state)
    change(state.path, "DELETE FROM op WHERE seq = ?", 5)
    ops = await journal.ops_after(1, 0, ops_max=99, bytes_max=1 << 20)
    assert len(ops) == 4
    ops += await journal.ops_after(1, 4, ops_max=99, bytes_max=1 << 20)
    assert [op.kind == OpKind.WITHHELD for op in ops] == [n == 5 for n in range(1, 12)]
    (held,) = await journal.epochs()
    assert held.digest == digest.running(digest.EMPTY, 1, 1, ops)[-1]


@pytest.mark.asyncio
async def test_an_op_superseded_since_is_not_told_again(state: Database):
    """Its entity has a newer state, which stands."""
    journal = SqliteJournal(state)
    await state.write(append, OpKind.CHECKOUT, "c2", 11, b"newer")
    change(state.path, "UPDATE op SET entity_id = 'other' WHERE seq = 2")
    await journal.ops_after(1, 1, ops_max=99, bytes_max=1 << 20)
    (held,) = await journal.epochs()
    assert held.last == 11
    (record,) = await journal.records(OpKind.CHECKOUT, ["c2"])
    assert record.body == b"newer"


@pytest_asyncio.fixture
async def logs(tmp_path: Path) -> AsyncIterator[SqliteChunkStore]:
    """A chunk store with a log of ten chunks."""
    database = await Database.open(tmp_path / "logs.db", "logs", on_fatal=lambda _: None)
    store = SqliteChunkStore(database, lambda: 1)
    await store.open_log("e", "a", "c")
    await store.commit([(chunk, b"") for chunk in made(10)])
    # Anew, as after a restart: what is still in memory was not damaged on the disk.
    store = SqliteChunkStore(database, lambda: 1)
    yield store
    await store.close()
    await database.close()


def made(count: int) -> list[LogChunk]:
    """Chunks of two lines each."""
    cursor, chunks = LogCursor(), []
    for _ in range(count):
        text = b"line %d\nand more\n" % cursor.next_entry
        chunk = seal(
            [Segment(STDOUT, 5, text)],
            execution_id="e",
            chunk_seq=cursor.next_chunk,
            first_entry=cursor.next_entry,
            entries=2,
        )
        cursor = advance(cursor, chunk)
        chunks.append(chunk)
    return chunks


DAMAGE = "UPDATE chunk SET blob = zeroblob(length(blob)) WHERE chunk_seq = ?"


@pytest.mark.asyncio
@pytest.mark.parametrize("chunk_seq", [1, 4, 10])
async def test_a_damaged_chunk_is_a_gap(logs: SqliteChunkStore, tmp_path: Path, chunk_seq: int):
    """Its entries keep their numbers, the others their content, and the chain holds."""
    change(tmp_path / "logs.db", DAMAGE, chunk_seq)
    chunks = await logs.chunks_from("e", 1, chunks_max=99, bytes_max=1 << 20)
    assert [isinstance(chunk, GapChunk) for chunk in chunks] == [
        number == chunk_seq for number in range(1, 11)
    ]
    cursor = LogCursor()
    for chunk in chunks:
        assert check_follows(cursor, chunk) is Follows.STORED
        cursor = advance(cursor, chunk)
        assert await logs.digest_at("e", chunk.chunk_seq) == cursor.digest
    gap = chunks[chunk_seq - 1]
    assert isinstance(gap, GapChunk)
    assert (gap.reason, gap.entries, gap.bytes > 0) == ("corrupt", 2, True)
    log = await logs.log("e")
    assert log is not None
    assert log.digest == cursor.digest
    assert await logs.chunks_covering("e", 2 * chunk_seq, chunks_max=99, bytes_max=1 << 20)


@pytest.mark.asyncio
async def test_a_gap_is_told_of_with_its_checkout(logs: SqliteChunkStore, tmp_path: Path):
    """Whether a log streams is its checkout's policy: without one it would be sent unasked."""
    heard: list[LogGrew] = []
    logs.listen(heard.append)
    change(tmp_path / "logs.db", DAMAGE, 4)
    await logs.chunks_from("e", 1, chunks_max=99, bytes_max=1 << 20)
    assert heard == [LogGrew("e", 11, False, "c")]


@pytest.mark.asyncio
async def test_what_the_hive_has_keeps_its_digests(logs: SqliteChunkStore, tmp_path: Path):
    """It was sent whole: both ends still agree on the log after our copy was damaged."""
    before = [await logs.digest_at("e", number) for number in range(11)]
    await logs.acked([LogMark("e", 6, 11, b"")])
    await logs.logs_to_name()
    change(tmp_path / "logs.db", DAMAGE, 3)
    chunks = await logs.chunks_from("e", 1, chunks_max=99, bytes_max=1 << 20)
    assert isinstance(chunks[2], GapChunk)
    assert [await logs.digest_at("e", number) for number in range(11)] == before


@pytest.mark.asyncio
async def test_bytes_flipped_anywhere_in_the_blobs_are_found(
    logs: SqliteChunkStore, tmp_path: Path
):
    """Whatever bit of a blob changed, no wrong content is ever given out."""
    whole = made(10)
    random_bits = random.Random(5)
    for _ in range(40):
        seq = random_bits.randrange(1, 11)
        blob = bytearray(whole[seq - 1].blob)
        blob[random_bits.randrange(len(blob))] ^= 1 << random_bits.randrange(8)
        change(
            tmp_path / "logs.db",
            "UPDATE chunk SET blob = ?, reason = NULL WHERE chunk_seq = ?",
            bytes(blob),
            seq,
        )
        for chunk in await logs.chunks_from("e", 1, chunks_max=99, bytes_max=1 << 20):
            assert isinstance(chunk, GapChunk) or chunk == whole[chunk.chunk_seq - 1]
