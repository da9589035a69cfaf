"""Numbering a log on from the hive's cursor, where the two histories of it have parted.

After a restore of the node's disk, or of a copy of it, the hive may hold chunks this node does not
know, or others under the same numbers. What the hive holds stays; what it lacks follows under new
numbers behind a gap. Works inside a unit of the chunk store.
"""

from node_agent.store.contract import ChunksChanged, Log, LogGrew
from node_agent.store.log_rows import chunks_from, insert_chunk, log_of, log_row
from node_agent.store.transaction import Row, Transaction
from protocol.errors import ErrorCode, LocalProtocolError
from protocol.log_chunks import GapChunk, LogCursor, advance, check_follows
from protocol.log_chunks import Outcome as Follows
from protocol.messages import LogMark

_FIRST_UNHELD = """
SELECT chunk_seq, chunk_seq AS next_chunk, first_entry AS next_entry, blob_bytes_before FROM chunk
WHERE execution_id = :execution_id AND chunk_seq >= :chunk_seq ORDER BY chunk_seq LIMIT 1
"""
# Negative numbers first: in one step some would meet the numbers of others.
_SHIFT_AWAY = """
UPDATE chunk SET chunk_seq = -(chunk_seq + :by), through_seq = through_seq + :by,
    first_entry = first_entry + :entries_by
WHERE execution_id = :execution_id AND chunk_seq >= :chunk_seq
"""
_SHIFT_BACK = """
UPDATE chunk SET chunk_seq = -chunk_seq WHERE execution_id = :execution_id AND chunk_seq < 0
"""
_SET_ADOPTED = """
UPDATE log SET next_chunk = :next_chunk, next_entry = :next_entry, digest = :digest,
    acked_chunk = :acked_chunk, safe = 0
WHERE execution_id = :execution_id
"""
_CHUNK_DIGEST = """
SELECT digest FROM chunk WHERE execution_id = :execution_id AND chunk_seq = :chunk_seq
"""
_SET_CHUNK_DIGEST = """
UPDATE chunk SET digest = :digest WHERE execution_id = :execution_id AND chunk_seq = :chunk_seq
"""


async def adopt(tx: Transaction, mark: LogMark, held_through: int, now_ms: int) -> Log:
    """Number a log on from the hive's cursor, behind a gap; return it as it stands then."""
    row = await log_row(tx, mark.execution_id)
    name = {"execution_id": mark.execution_id}
    # What the hive holds is not numbered a second time: nothing twice.
    unheld = await tx.fetch_one(_FIRST_UNHELD, name | {"chunk_seq": held_through + 1})
    if unheld is not None and unheld["chunk_seq"] == mark.next_chunk and await _follows(tx, mark):
        # Adopted before, and the link broke before the gap had arrived.
        return log_of(row)
    gap = _gap(mark, row if unheld is None else unheld, now_ms)
    if unheld is not None:
        shift = {
            "chunk_seq": unheld["chunk_seq"],
            "by": gap.through_seq + 1 - unheld["chunk_seq"],
            "entries_by": gap.first_entry + gap.entries - unheld["next_entry"],
        }
        await tx.execute(_SHIFT_AWAY, name | shift)
        await tx.execute(_SHIFT_BACK, name)
    cursor = advance(
        LogCursor(next_chunk=mark.next_chunk, next_entry=mark.next_entry, digest=mark.digest), gap
    )
    before = row["blob_bytes"] if unheld is None else unheld["blob_bytes_before"]
    await insert_chunk(tx, gap, before, cursor.digest)
    cursor = await chain_again(tx, mark.execution_id, cursor)
    await tx.execute(
        _SET_ADOPTED,
        name
        | {
            "next_chunk": cursor.next_chunk,
            "next_entry": cursor.next_entry,
            "digest": cursor.digest,
            "acked_chunk": mark.next_chunk,
        },
    )
    adopted = log_of(await log_row(tx, mark.execution_id))
    tx.announce(ChunksChanged(mark.execution_id))
    tx.announce(LogGrew(mark.execution_id, adopted.next_chunk, adopted.closed, adopted.checkout_id))
    return adopted


async def _follows(tx: Transaction, mark: LogMark) -> bool:
    """Whether our chunk at the hive's cursor was chained to what the hive holds before it."""
    (chunk, *_) = await chunks_from(tx, mark.execution_id, mark.next_chunk, 1, 1 << 62)
    held = await tx.fetch_one(
        _CHUNK_DIGEST, {"execution_id": mark.execution_id, "chunk_seq": mark.next_chunk}
    )
    cursor = LogCursor(next_chunk=mark.next_chunk, next_entry=mark.next_entry, digest=mark.digest)
    return (
        held is not None
        and check_follows(cursor, chunk) is Follows.STORED
        and advance(cursor, chunk).digest == held["digest"]
    )


def _gap(mark: LogMark, ours: Row, now_ms: int) -> GapChunk:
    """Return the gap at the hive's cursor; `ours` is what is to follow it, or our own cursor."""
    return GapChunk(
        execution_id=mark.execution_id,
        chunk_seq=mark.next_chunk,
        through_seq=max(mark.next_chunk, ours["next_chunk"] - 1),
        first_entry=mark.next_entry,
        # Entry numbers only ever grow: where the hive has fewer, those between are missing there.
        entries=max(0, ours["next_entry"] - mark.next_entry),
        reason="node_restored",
        first_ms=now_ms,
        last_ms=now_ms,
    )


async def chain_again(tx: Transaction, execution_id: str, cursor: LogCursor) -> LogCursor:
    """Recompute the running digest of the chunks from the cursor on; return where they end."""
    while found := await chunks_from(tx, execution_id, cursor.next_chunk, 100, 1 << 62):
        for chunk in found:
            if check_follows(cursor, chunk) is not Follows.STORED:
                raise LocalProtocolError(ErrorCode.INTERNAL, f"a hole in the log {execution_id}")
            cursor = advance(cursor, chunk)
            await tx.execute(
                _SET_CHUNK_DIGEST,
                {
                    "execution_id": execution_id,
                    "chunk_seq": chunk.chunk_seq,
                    "digest": cursor.digest,
                },
            )
    return cursor
