"""Chunks that were damaged on the disk: found by their checksums, and a gap from then on.

Works inside a unit of the chunk store. Must not guess at content: what was there is gone.
"""

import zlib
from collections.abc import Sequence

from node_agent.failpoints import failpoint
from node_agent.store.contract import ChunksChanged, LogGrew
from node_agent.store.log_adoption import chain_again
from node_agent.store.log_rows import log_row
from node_agent.store.transaction import Transaction
from protocol.log_chunks import GapChunk, LogChunk, LogCursor

_MAKE_GAP = """
UPDATE chunk SET blob = NULL, reason = 'corrupt', gap_bytes = raw_bytes
WHERE execution_id = :execution_id AND chunk_seq = :chunk_seq AND blob IS NOT NULL
"""
_PLACE = """
SELECT chunk.first_entry, before.digest FROM chunk
LEFT JOIN chunk AS before ON before.execution_id = chunk.execution_id
    AND before.chunk_seq = (
        SELECT max(earlier.chunk_seq) FROM chunk AS earlier
        WHERE earlier.execution_id = chunk.execution_id AND earlier.chunk_seq < chunk.chunk_seq
    )
WHERE chunk.execution_id = :execution_id AND chunk.chunk_seq = :chunk_seq
"""
_SET_DIGEST = "UPDATE log SET digest = :digest WHERE execution_id = :execution_id"


def first_damaged(chunks: Sequence[LogChunk | GapChunk]) -> int | None:
    """Return the number of the first chunk whose blob is not what its checksum says."""
    for chunk in chunks:
        if isinstance(chunk, LogChunk) and zlib.crc32(chunk.blob) != chunk.crc32:
            return chunk.chunk_seq
    return None


async def make_gap(tx: Transaction, execution_id: str, chunk_seq: int) -> None:
    """Put a gap in the place of a damaged chunk; chain anew what the hive has not got yet."""
    log = await log_row(tx, execution_id)
    place = {"execution_id": execution_id, "chunk_seq": chunk_seq}
    if not await tx.execute(_MAKE_GAP, place):
        return
    if chunk_seq >= log["acked_chunk"]:
        # Before that the hive has the chunk as it was, and our digests after it are right.
        row = await tx.fetch_one(_PLACE, place)
        assert row is not None  # noqa: S101  it was just updated
        cursor = LogCursor(next_chunk=chunk_seq, next_entry=row["first_entry"])
        if row["digest"] is not None:
            cursor = LogCursor(
                next_chunk=chunk_seq, next_entry=row["first_entry"], digest=row["digest"]
            )
        cursor = await chain_again(tx, execution_id, cursor)
        await tx.execute(_SET_DIGEST, {"execution_id": execution_id, "digest": cursor.digest})
    tx.announce(ChunksChanged(execution_id))
    closed = bool(log["closed"])
    tx.announce(LogGrew(execution_id, log["next_chunk"], closed, log["checkout_id"]))
    failpoint("node.logs.gap_made")
