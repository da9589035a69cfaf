"""Rows of the chunk store's two tables, to values and back.

What the store, adoption and purging share. Must not decide what follows what.
"""

from typing import Any

from node_agent.store.contract import Log
from node_agent.store.errors import NotStored
from node_agent.store.recent_chunks import CHUNK_OVERHEAD_BYTES
from node_agent.store.transaction import Row, Transaction
from protocol.log_chunks import GapChunk, LogChunk

LOG_COLUMNS = """
execution_id, attempt_id, checkout_id, next_chunk, next_entry, digest, raw_bytes, blob_bytes,
closed, acked_chunk, spool_end, created_at_ms, closed_at_ms, purged_at_ms
"""
_LOG = f"SELECT {LOG_COLUMNS} FROM log WHERE execution_id = :execution_id"  # noqa: S608


async def find_log(tx: Transaction, execution_id: str) -> Log | None:
    """Return a log as it stands."""
    row = await tx.fetch_one(_LOG, {"execution_id": execution_id})
    return None if row is None else log_of(row)


async def log_row(tx: Transaction, execution_id: str) -> Row:
    """Return the row of a log. Raises NotStored."""
    row = await tx.fetch_one(_LOG, {"execution_id": execution_id})
    if row is None:
        raise NotStored("log", execution_id)
    return row


def log_of(row: Row) -> Log:
    """Return a log's row as a value."""
    return Log(
        execution_id=row["execution_id"],
        attempt_id=row["attempt_id"],
        checkout_id=row["checkout_id"],
        next_chunk=row["next_chunk"],
        next_entry=row["next_entry"],
        digest=row["digest"],
        raw_bytes=row["raw_bytes"],
        closed=bool(row["closed"]),
        acked_chunk=row["acked_chunk"],
        spool_end=row["spool_end"],
        created_at_ms=row["created_at_ms"],
        purged=row["purged_at_ms"] is not None,
    )


_INSERT_CHUNK = """
INSERT INTO chunk (execution_id, chunk_seq, through_seq, first_entry, entries, first_ms, last_ms,
    raw_bytes, crc32, style, blob, reason, gap_bytes, blob_bytes_before, digest)
VALUES (:execution_id, :chunk_seq, :through_seq, :first_entry, :entries, :first_ms, :last_ms,
    :raw_bytes, :crc32, :style, :blob, :reason, :gap_bytes, :blob_bytes_before, :digest)
"""


async def insert_chunk(
    tx: Transaction, chunk: LogChunk | GapChunk, blob_bytes_before: int, digest: bytes
) -> None:
    """Write a chunk; `digest` is the log's after it, `blob_bytes_before` of its blobs before it."""
    await tx.execute(_INSERT_CHUNK, _chunk_columns(chunk, blob_bytes_before, digest))


def _chunk_columns(
    chunk: LogChunk | GapChunk, blob_bytes_before: int, digest: bytes
) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "execution_id": chunk.execution_id,
        "chunk_seq": chunk.chunk_seq,
        "first_entry": chunk.first_entry,
        "entries": chunk.entries,
        "first_ms": chunk.first_ms,
        "last_ms": chunk.last_ms,
        "blob_bytes_before": blob_bytes_before,
        "digest": digest,
    }
    if isinstance(chunk, GapChunk):
        return columns | {
            "through_seq": chunk.through_seq,
            "raw_bytes": 0,
            "crc32": 0,
            "style": b"",
            "blob": None,
            "reason": chunk.reason,
            "gap_bytes": chunk.bytes,
        }
    return columns | {
        "through_seq": chunk.chunk_seq,
        "raw_bytes": chunk.raw_bytes,
        "crc32": chunk.crc32,
        "style": chunk.style,
        "blob": chunk.blob,
        "reason": None,
        "gap_bytes": 0,
    }


def chunk_of(row: Row) -> LogChunk | GapChunk:
    """Return a chunk's row as it came."""
    if row["reason"] is not None:
        return GapChunk(
            execution_id=row["execution_id"],
            chunk_seq=row["chunk_seq"],
            through_seq=row["through_seq"],
            first_entry=row["first_entry"],
            entries=row["entries"],
            reason=row["reason"],
            bytes=row["gap_bytes"],
            first_ms=row["first_ms"],
            last_ms=row["last_ms"],
        )
    return LogChunk(
        execution_id=row["execution_id"],
        chunk_seq=row["chunk_seq"],
        first_entry=row["first_entry"],
        entries=row["entries"],
        raw_bytes=row["raw_bytes"],
        crc32=row["crc32"],
        first_ms=row["first_ms"],
        last_ms=row["last_ms"],
        blob=row["blob"],
        style=row["style"],
    )


_CHUNKS = """
SELECT execution_id, chunk_seq, through_seq, first_entry, entries, first_ms, last_ms, raw_bytes,
    crc32, style, blob, reason, gap_bytes
FROM chunk WHERE execution_id = :execution_id AND chunk_seq >= :chunk_seq
ORDER BY chunk_seq LIMIT :chunks_max
"""


async def chunks_from(
    tx: Transaction, execution_id: str, chunk_seq: int, chunks_max: int, bytes_max: int
) -> list[LogChunk | GapChunk]:
    """Return chunks from `chunk_seq` on, at least one where there is one, within the bounds."""
    left = bytes_max

    def full(row: Row) -> bool:
        nonlocal left
        left -= len(row["blob"] or b"") + CHUNK_OVERHEAD_BYTES
        return left < 0

    rows = await tx.fetch_up_to(
        _CHUNKS,
        {"execution_id": execution_id, "chunk_seq": chunk_seq, "chunks_max": chunks_max},
        full,
    )
    return [chunk_of(row) for row in (rows[:-1] if left < 0 and len(rows) > 1 else rows)]
