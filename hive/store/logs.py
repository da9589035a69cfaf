"""The logs as the hive holds them: chunks as they came, one contiguous cursor for each log.

Nothing is decoded on the way in: the checksum is compared, the numbers are checked, the blob is
written. Reading hands out chunks that cover what was asked for, and no others.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from hive.store import sync
from hive.store.backend import Change, ChunkKind, ChunkOutcome, Row, Transaction
from hive.store.link_checks import check_link, foreign
from protocol import limits
from protocol.digest import EMPTY
from protocol.log_chunks import (
    GapChunk,
    LogChunk,
    LogCursor,
    Outcome,
    advance,
    check_follows,
    through,
)
from protocol.messages import LogMark, LogState
from protocol.states import SyncPolicy
from protocol.whole_numbers import following

_SELECT_LOG = """
SELECT log.node_id, log.next_chunk, log.next_entry, log.digest, log.end_chunks,
    execution.node_id AS execution_node, execution.attempt_id, attempt.project_id,
    project.sync_policy
FROM (SELECT CAST(:id AS TEXT) AS id) named
LEFT JOIN log ON log.execution_id = named.id
LEFT JOIN execution ON execution.id = named.id
LEFT JOIN attempt ON attempt.id = execution.attempt_id
LEFT JOIN project ON project.id = attempt.project_id
"""
_SELECT_DIGEST = """
SELECT through_seq, digest FROM chunk WHERE execution_id = :id AND chunk_seq <= :chunk_seq
ORDER BY chunk_seq DESC LIMIT 1
"""
_INSERT_CHUNK = """
INSERT INTO chunk (execution_id, chunk_seq, through_seq, first_entry, entries, raw_bytes, crc32,
    first_ms, last_ms, style, gap_reason, digest, blob)
VALUES (:execution_id, :chunk_seq, :through_seq, :first_entry, :entries, :raw_bytes, :crc32,
    :first_ms, :last_ms, :style, :gap_reason, :digest, :blob)
"""
_MOVE_CURSOR = """
UPDATE log SET next_chunk = :next_chunk, next_entry = :next_entry, digest = :digest,
    raw_bytes = raw_bytes + :raw_bytes, blob_bytes = blob_bytes + :blob_bytes,
    gap_bytes = CASE WHEN gap_bytes + :gap_bytes > :most THEN :most
        ELSE gap_bytes + :gap_bytes END,
    last_ms = CASE WHEN last_ms > :last_ms THEN last_ms ELSE :last_ms END
WHERE execution_id = :id
"""
_COLUMNS: Final = """
SELECT execution_id, chunk_seq, through_seq, first_entry, entries, raw_bytes, crc32, first_ms,
    last_ms, style, gap_reason, blob
FROM chunk
"""
_SELECT_START = """
SELECT chunk_seq FROM chunk WHERE execution_id = :id AND first_entry <= :entry
ORDER BY first_entry DESC, chunk_seq DESC LIMIT 1
"""
_SELECT_FROM = f"""
{_COLUMNS} WHERE execution_id = :id AND chunk_seq >= :chunk_seq
ORDER BY chunk_seq LIMIT :limit
"""
_SELECT_GAPS = f"""
{_COLUMNS} WHERE execution_id = :id AND gap_reason IS NOT NULL AND chunk_seq > :after
ORDER BY chunk_seq LIMIT :limit
"""
_SELECT_STATE = """
SELECT execution_id, node_id, next_chunk, next_entry, raw_bytes, blob_bytes, gap_bytes, last_ms,
    end_chunks, end_entries, end_bytes, gone_reason
FROM log WHERE execution_id = :id
"""


class _Log:
    """A log while chunks of one commit are added to it."""

    def __init__(self, execution_id: str, row: Row) -> None:
        self.execution_id = execution_id
        self.node_id: str | None = row["node_id"]
        self.execution_node: str | None = row["execution_node"]
        self.attempt_id: str | None = row["attempt_id"]
        self.project_id: str | None = row["project_id"]
        self.stored = row["sync_policy"] != SyncPolicy.METADATA
        self.end_chunks: int | None = row["end_chunks"]
        self.cursor = LogCursor()
        if self.node_id is not None:
            self.cursor = LogCursor(
                next_chunk=row["next_chunk"],
                next_entry=row["next_entry"],
                digest=bytes(row["digest"]),
            )
        self.new: list[LogChunk | GapChunk] = []

    def belongs_to(self, node_id: str) -> bool:
        return {self.node_id, self.execution_node} <= {None, node_id}

    def take(self, chunk: LogChunk | GapChunk) -> ChunkKind:
        """Return what the chunk is to this log, and take it in where it follows."""
        if isinstance(chunk, LogChunk) and zlib.crc32(chunk.blob) != chunk.crc32:
            return ChunkKind.BAD
        if not self.stored:
            return ChunkKind.KNOWN
        outcome = check_follows(self.cursor, chunk)
        if outcome is not Outcome.STORED:
            return ChunkKind(outcome.value)
        self.cursor = advance(self.cursor, chunk)
        self.new.append(chunk)
        return ChunkKind.STORED

    def mark(self) -> LogMark:
        cursor = self.cursor
        return LogMark(self.execution_id, cursor.next_chunk, cursor.next_entry, cursor.digest)


async def _log(tx: Transaction, execution_id: str) -> _Log:
    row = await tx.fetch_one(_SELECT_LOG, {"id": execution_id})
    if row is None:
        raise LookupError(execution_id)
    return _Log(execution_id, row)


# --- from the links -------------------------------------------------------------------------------


async def log_marks(tx: Transaction, node_id: str, states: Sequence[LogState]) -> list[LogMark]:
    """Return the cursor of each log, compared with what the node holds. Raises FORBIDDEN."""
    marks = []
    for state in states:
        log = await _log(tx, state.execution_id)
        if not log.belongs_to(node_id):
            raise foreign("log", state.execution_id)
        mark = log.mark()
        agreed = (
            state.next_chunk == 1
            or await _digest_after(tx, log, state.next_chunk - 1) == state.digest
        )
        marks.append(msgspec.structs.replace(mark, agreed=agreed))
    return marks


async def agreed_chunk(
    tx: Transaction, node_id: str, execution_id: str, digests: Sequence[tuple[int, bytes]]
) -> int:
    """Return the newest of these chunks after which our digest is the one given; 0: none."""
    log = await _log(tx, execution_id)
    if not log.belongs_to(node_id):
        raise foreign("log", execution_id)
    for chunk_seq, theirs in sorted(digests, reverse=True):
        if chunk_seq > 0 and await _digest_after(tx, log, chunk_seq) == theirs:
            return chunk_seq
    return 0


async def _digest_after(tx: Transaction, log: _Log, chunk_seq: int) -> bytes | None:
    """Return our digest after a chunk; None where we hold no boundary there."""
    if chunk_seq == log.cursor.next_chunk - 1:
        return log.cursor.digest
    if chunk_seq == 0:
        return EMPTY
    row = await tx.fetch_one(_SELECT_DIGEST, {"id": log.execution_id, "chunk_seq": chunk_seq})
    if row is None or row["through_seq"] != chunk_seq:
        return None
    return bytes(row["digest"])


async def commit_chunks(
    tx: Transaction, node_id: str, link_no: int, chunks: Sequence[LogChunk | GapChunk]
) -> list[ChunkOutcome]:
    """Commit the chunks that follow; return what became of each, in order."""
    await check_link(tx, node_id, link_no)
    logs: dict[str, _Log] = {}
    outcomes = []
    rows: list[dict[str, Any]] = []
    for chunk in chunks:
        log = logs.get(chunk.execution_id)
        if log is None:
            log = logs[chunk.execution_id] = await _log(tx, chunk.execution_id)
        if not log.belongs_to(node_id):
            # Its cursor is none of the sender's business.
            blank = LogMark(chunk.execution_id, 1, 1, EMPTY)
            outcomes.append(ChunkOutcome(kind=ChunkKind.FOREIGN.value, mark=blank))
            continue
        kind = log.take(chunk)
        if kind is ChunkKind.STORED:
            rows.append(_row(chunk, log.cursor.digest))
        outcomes.append(ChunkOutcome(kind=kind.value, mark=log.mark()))
    if rows:
        await tx.executemany(_INSERT_CHUNK, rows)
    for log in logs.values():
        if log.new:
            await _moved(tx, node_id, log)
    return outcomes


def _row(chunk: LogChunk | GapChunk, digest: bytes) -> dict[str, Any]:
    values = {
        "execution_id": chunk.execution_id,
        "chunk_seq": chunk.chunk_seq,
        "through_seq": through(chunk),
        "first_entry": chunk.first_entry,
        "entries": chunk.entries,
        "first_ms": chunk.first_ms,
        "last_ms": chunk.last_ms,
        "digest": digest,
    }
    if isinstance(chunk, GapChunk):
        gap = {"gap_reason": chunk.reason, "raw_bytes": chunk.bytes}
        return {**values, **gap, "crc32": 0, "style": b"", "blob": None}
    kept = {"raw_bytes": chunk.raw_bytes, "crc32": chunk.crc32, "blob": chunk.blob}
    return {**values, **kept, "style": chunk.style, "gap_reason": None}


async def _moved(tx: Transaction, node_id: str, log: _Log) -> None:
    if log.node_id is None:
        await sync.open_log(tx, node_id, log.execution_id)
    kept = [chunk for chunk in log.new if isinstance(chunk, LogChunk)]
    await tx.execute(
        _MOVE_CURSOR,
        {
            "id": log.execution_id,
            "next_chunk": log.cursor.next_chunk,
            "next_entry": log.cursor.next_entry,
            "digest": log.cursor.digest,
            "raw_bytes": sum(chunk.raw_bytes for chunk in kept),
            "blob_bytes": sum(len(chunk.blob) for chunk in kept),
            "gap_bytes": sum(chunk.bytes for chunk in log.new if isinstance(chunk, GapChunk)),
            "last_ms": max(chunk.last_ms for chunk in log.new),
            "most": limits.NUMBER_MAX,
        },
    )
    end = log.end_chunks
    if end is not None and end < log.cursor.next_chunk:
        await sync.refresh_of_execution(tx, log.execution_id)
    ids = {"execution": log.execution_id, "node": node_id}
    if log.attempt_id is not None:
        ids["attempt"] = log.attempt_id
    if log.project_id is not None:
        ids["project"] = log.project_id
    tx.note(Change(kind="log.appended", ids=ids))


# --- for readers ----------------------------------------------------------------------------------


class LogHead(msgspec.Struct, frozen=True, kw_only=True):
    """How far a log is held, and what its node says the whole of it is."""

    execution_id: str
    node_id: str
    next_chunk: int
    next_entry: int
    raw_bytes: int
    blob_bytes: int
    gap_bytes: int
    last_ms: int
    closed: bool
    end_chunks: int | None
    end_entries: int | None
    end_bytes: int | None
    gone_reason: str | None

    @property
    def whole(self) -> bool:
        """Whether all there is of the log is held: it is closed, and held to its end."""
        if self.gone_reason is not None:
            return True
        return self.end_chunks is not None and self.next_chunk > self.end_chunks


async def log_head(tx: Transaction, execution_id: str) -> LogHead | None:
    """Return how far a log is held; None where nothing of it is known."""
    row = await tx.fetch_one(_SELECT_STATE, {"id": execution_id})
    if row is None:
        return None
    values = {name: row[name] for name in LogHead.__struct_fields__ if name != "closed"}
    return LogHead(**values, closed=row["end_chunks"] is not None)


async def chunks_covering(
    tx: Transaction, execution_id: str, after: int, *, chunks_max: int, bytes_max: int
) -> list[LogChunk | GapChunk]:
    """Return chunks from the one that holds entry `after + 1` on, in order, as they came.

    `protocol.log_entries` makes lines of them. To go on, ask `chunks_from` with the last one's
    number plus one.
    """
    start = await tx.fetch_one(_SELECT_START, {"id": execution_id, "entry": following(after)})
    first = 1 if start is None else start["chunk_seq"]
    return await chunks_from(tx, execution_id, first, chunks_max=chunks_max, bytes_max=bytes_max)


async def chunks_from(
    tx: Transaction, execution_id: str, chunk_seq: int, *, chunks_max: int, bytes_max: int
) -> list[LogChunk | GapChunk]:
    """Return chunks from `chunk_seq` on, in order, as they came; at least one where there is."""
    rows = await tx.fetch_all(
        _SELECT_FROM, {"id": execution_id, "chunk_seq": chunk_seq, "limit": chunks_max}
    )
    found: list[LogChunk | GapChunk] = []
    nbytes = 0
    for chunk in _chunks(rows):
        nbytes += len(chunk.blob) if isinstance(chunk, LogChunk) else 0
        if found and nbytes > bytes_max:
            break
        found.append(chunk)
    return found


async def gaps(
    tx: Transaction, execution_id: str, *, after: int = 0, limit: int = 200
) -> list[GapChunk]:
    """Return the gaps of a log whose chunk numbers are above `after`, in order."""
    rows = await tx.fetch_all(_SELECT_GAPS, {"id": execution_id, "after": after, "limit": limit})
    return [chunk for chunk in _chunks(rows) if isinstance(chunk, GapChunk)]


def _chunks(rows: list[Row]) -> Iterator[LogChunk | GapChunk]:
    for row in rows:
        if row["gap_reason"] is not None:
            yield GapChunk(
                execution_id=row["execution_id"],
                chunk_seq=row["chunk_seq"],
                through_seq=row["through_seq"],
                first_entry=row["first_entry"],
                entries=row["entries"],
                reason=row["gap_reason"],
                bytes=row["raw_bytes"],
                first_ms=row["first_ms"],
                last_ms=row["last_ms"],
            )
        else:
            yield LogChunk(
                execution_id=row["execution_id"],
                chunk_seq=row["chunk_seq"],
                first_entry=row["first_entry"],
                entries=row["entries"],
                raw_bytes=row["raw_bytes"],
                crc32=row["crc32"],
                first_ms=row["first_ms"],
                last_ms=row["last_ms"],
                blob=bytes(row["blob"]),
                style=bytes(row["style"]),
            )
