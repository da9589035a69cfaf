"""The chunk store: every execution's log in numbered chunks, in a database file of its own.

Keeps what it is given and proves what it kept (cursor, running digest). Must not cut, redact or
decode chunks, and must not decide what may be deleted.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final

from node_agent.failpoints import failpoint
from node_agent.store import log_purge
from node_agent.store.contract import (
    ChunksChanged,
    ChunksCommitted,
    Cut,
    Log,
    LogGrew,
    PendingChunks,
)
from node_agent.store.database import Database
from node_agent.store.errors import LogMoved
from node_agent.store.log_adoption import adopt
from node_agent.store.log_damage import first_damaged, make_gap
from node_agent.store.log_rows import (
    LOG_COLUMNS,
    chunks_from,
    find_log,
    insert_chunk,
    log_of,
    log_row,
)
from node_agent.store.recent_chunks import RecentChunks
from node_agent.store.transaction import Transaction
from protocol.errors import ErrorCode, LocalProtocolError, SkepError
from protocol.log_chunks import GapChunk, LogChunk, LogCursor, advance, check_follows
from protocol.log_chunks import Outcome as Follows
from protocol.messages import LogMark, LogState
from protocol.whole_numbers import following

LOG: Final = logging.getLogger(__name__)
#: Acknowledgements may be written late: one that is lost makes the hive say it again.
ACK_WRITE_S: Final = 1.0
_BLANK: Final = LogCursor()


class SqliteChunkStore:
    """The chunk store in a database of its own. A `ChunkStore`."""

    def __init__(self, database: Database, now_ms: Callable[[], int]) -> None:
        self._database = database
        self._now_ms = now_ms
        self._acks: dict[str, int] = {}
        self._writing_acks: asyncio.Task[None] | None = None
        self._ack_soon = asyncio.Event()
        self._recent = RecentChunks()
        # Before any other listener: one that is told of a chunk may ask for it at once.
        database.listen(self._committed)

    def _committed(self, events: Sequence[object]) -> None:
        for event in events:
            if isinstance(event, ChunksCommitted):
                self._recent.add(event.chunks)
            elif isinstance(event, ChunksChanged):
                self._recent.forget(event.execution_id)

    async def open_log(self, execution_id: str, attempt_id: str, checkout_id: str) -> Log:
        return await self._database.write(
            _open_log, execution_id, attempt_id, checkout_id, self._now_ms()
        )

    async def commit(self, cuts: Sequence[Cut]) -> None:
        if cuts:
            await self._database.write(_commit, cuts)
            failpoint("node.logs.committed")

    async def close_log(self, execution_id: str) -> Log:
        return await self._database.write(_close_log, execution_id, self._now_ms())

    async def log(self, execution_id: str) -> Log | None:
        return await self._database.read(find_log, execution_id)

    async def logs_of(self, attempt_id: str) -> list[Log]:
        return await self._database.read(_logs_of, attempt_id)

    async def logs_to_name(self, without: Collection[str] = ()) -> list[LogState]:
        await self._write_acks()
        return await self._database.read(_logs_to_name, without)

    async def digest_at(self, execution_id: str, chunk_seq: int) -> bytes | None:
        return await self._database.read(_digest_at, execution_id, chunk_seq)

    async def chunks_from(
        self, execution_id: str, chunk_seq: int, *, chunks_max: int, bytes_max: int
    ) -> list[LogChunk | GapChunk]:
        recent = self._recent.chunks_from(
            execution_id, chunk_seq, chunks_max=chunks_max, bytes_max=bytes_max
        )
        if recent:
            return recent
        return await self._sound(chunks_from, execution_id, chunk_seq, chunks_max, bytes_max)

    async def whole_from(self, execution_id: str, chunk_seq: int) -> bool:
        return await self._database.read(_whole_from, execution_id, chunk_seq)

    async def chunks_covering(
        self, execution_id: str, after_entry: int, *, chunks_max: int, bytes_max: int
    ) -> list[LogChunk | GapChunk]:
        return await self._sound(_chunks_covering, execution_id, after_entry, chunks_max, bytes_max)

    async def _sound(
        self,
        unit: Callable[
            [Transaction, str, int, int, int], Coroutine[Any, Any, list[LogChunk | GapChunk]]
        ],
        execution_id: str,
        first: int,
        chunks_max: int,
        bytes_max: int,
    ) -> list[LogChunk | GapChunk]:
        """Read chunks; one that was damaged on the disk is made a gap, and read as that."""
        while True:
            chunks = await self._database.read(unit, execution_id, first, chunks_max, bytes_max)
            damaged = first_damaged(chunks)
            if damaged is None:
                return chunks
            LOG.warning("chunk %d of log %s is damaged on the disk", damaged, execution_id)
            await self._database.write(make_gap, execution_id, damaged)

    async def acked(self, marks: Sequence[LogMark]) -> None:
        for mark in marks:
            self._acks[mark.execution_id] = mark.next_chunk
        if self._acks and self._writing_acks is None:
            self._writing_acks = asyncio.create_task(self._write_acks_soon(), name="log acks")

    async def digests_below(
        self, execution_id: str, chunk_seq: int, *, limit: int
    ) -> list[tuple[int, bytes]]:
        return await self._database.read(_digests_below, execution_id, chunk_seq, limit)

    async def adopt(self, mark: LogMark, held_through: int) -> Log:
        await self._write_acks()
        adopted = await self._database.write(adopt, mark, held_through, self._now_ms())
        failpoint("node.logs.adopted")
        return adopted

    async def outbox(self, without: Collection[str] = ()) -> PendingChunks:
        await self._write_acks()
        return await self._database.read(_outbox, without)

    async def purge(self, execution_id: str) -> None:
        await self._database.write(log_purge.plan_purge, execution_id, self._now_ms())
        failpoint("node.logs.purge_planned")
        while await self._database.write(log_purge.purge_some, execution_id):
            failpoint("node.logs.purged_some")

    async def purges_to_finish(self) -> list[str]:
        """Return the logs whose purge was begun and broken off."""
        return await self._database.read(log_purge.half_purged)

    async def closed_logs(
        self, after: tuple[int, str] = (-1, ""), *, limit: int
    ) -> list[log_purge.ClosedLog]:
        """Return logs that are closed and not purged, oldest first, from behind (time, id)."""
        await self._write_acks()
        return await self._database.read(log_purge.closed_logs, after, limit)

    async def set_safe(self, logs: Sequence[tuple[str, bytes]]) -> None:
        """Note that every verified backup of the hive has all of these logs."""
        await self._database.write(log_purge.set_safe, logs)

    async def blob_bytes(self) -> int:
        """Return the bytes of all blobs that are kept."""
        return await self._database.read(log_purge.blob_bytes)

    def listen(self, listener: Callable[[LogGrew], None]) -> Callable[[], None]:
        def heard(events: Sequence[object]) -> None:
            for event in events:
                if isinstance(event, LogGrew):
                    listener(event)

        return self._database.listen(heard)

    async def close(self) -> None:
        """Write what was acknowledged; the database is its opener's to close."""
        if self._writing_acks is not None:
            self._ack_soon.set()
            await self._writing_acks
        await self._write_acks()

    async def _write_acks_soon(self) -> None:
        # One commit a second for all of them: each would cost a sync, and none is worth one.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ack_soon.wait(), ACK_WRITE_S)
        self._writing_acks = None
        try:
            await self._write_acks()
        except SkepError as error:
            LOG.warning("acknowledged logs were not written down: %s", error)

    async def _write_acks(self) -> None:
        if self._acks:
            acks, self._acks = self._acks, {}
            await self._database.write(_acked, acks)


# --- logs -----------------------------------------------------------------------------------------

_INSERT_LOG = """
INSERT INTO log (execution_id, attempt_id, checkout_id, next_chunk, next_entry, digest, raw_bytes,
    blob_bytes, closed, acked_chunk, created_at_ms)
VALUES (:execution_id, :attempt_id, :checkout_id, 1, 1, :digest, 0, 0, 0, 1, :now_ms)
ON CONFLICT (execution_id) DO NOTHING
"""


async def _open_log(
    tx: Transaction, execution_id: str, attempt_id: str, checkout_id: str, now_ms: int
) -> Log:
    await tx.execute(
        _INSERT_LOG,
        {
            "execution_id": execution_id,
            "attempt_id": attempt_id,
            "checkout_id": checkout_id,
            "digest": _BLANK.digest,
            "now_ms": now_ms,
        },
    )
    return log_of(await log_row(tx, execution_id))


_LOGS_OF = f"""
SELECT {LOG_COLUMNS} FROM log WHERE attempt_id = :attempt_id ORDER BY created_at_ms, execution_id
"""  # noqa: S608  the columns are a constant of this file


async def _logs_of(tx: Transaction, attempt_id: str) -> list[Log]:
    return [log_of(row) for row in await tx.fetch_all(_LOGS_OF, {"attempt_id": attempt_id})]


# Said as the partial index says it, so that the thousands of finished logs are not looked at.
_UNFINISHED = """
SELECT execution_id, checkout_id, next_chunk, next_entry, digest FROM log
WHERE (closed = 0 OR acked_chunk < next_chunk) AND purged_at_ms IS NULL
ORDER BY created_at_ms, execution_id
"""


async def _logs_to_name(tx: Transaction, without: Collection[str]) -> list[LogState]:
    return [
        LogState(row["execution_id"], row["next_chunk"], row["next_entry"], row["digest"])
        for row in await tx.fetch_all(_UNFINISHED)
        if row["checkout_id"] not in without
    ]


_CLOSE = """
UPDATE log SET closed = 1, closed_at_ms = coalesce(closed_at_ms, :now_ms)
WHERE execution_id = :execution_id
"""


async def _close_log(tx: Transaction, execution_id: str, now_ms: int) -> Log:
    await tx.execute(_CLOSE, {"execution_id": execution_id, "now_ms": now_ms})
    log = log_of(await log_row(tx, execution_id))
    tx.announce(LogGrew(execution_id, log.next_chunk, True, log.checkout_id))
    return log


# --- chunks ---------------------------------------------------------------------------------------

_SET_CURSOR = """
UPDATE log SET next_chunk = :next_chunk, next_entry = :next_entry, digest = :digest,
    blob_bytes = :blob_bytes, raw_bytes = raw_bytes + :more_bytes,
    spool_end = coalesce(:spool_end, spool_end)
WHERE execution_id = :execution_id
"""


async def _commit(tx: Transaction, cuts: Sequence[Cut]) -> None:
    by_log: dict[str, list[Cut]] = {}
    for cut in cuts:
        by_log.setdefault(cut[0].execution_id, []).append(cut)
    for execution_id, own in by_log.items():
        await _commit_to(tx, execution_id, own)


async def _commit_to(tx: Transaction, execution_id: str, cuts: Sequence[Cut]) -> None:
    row = await log_row(tx, execution_id)
    if row["closed"]:
        raise LocalProtocolError(ErrorCode.INTERNAL, f"the log of {execution_id} is closed")
    cursor = LogCursor(
        next_chunk=row["next_chunk"], next_entry=row["next_entry"], digest=row["digest"]
    )
    blob_bytes = row["blob_bytes"]
    more_bytes = 0
    for chunk, _ in cuts:
        if check_follows(cursor, chunk) is not Follows.STORED:
            raise LogMoved(execution_id, cursor.next_chunk, chunk.chunk_seq)
        cursor = advance(cursor, chunk)
        await insert_chunk(tx, chunk, blob_bytes, cursor.digest)
        if isinstance(chunk, LogChunk):
            blob_bytes += len(chunk.blob)
            more_bytes += chunk.raw_bytes
    await _set_cursor(tx, execution_id, cursor, blob_bytes, more_bytes, cuts[-1][1])
    tx.announce(ChunksCommitted([chunk for chunk, _ in cuts]))
    tx.announce(LogGrew(execution_id, cursor.next_chunk, False, row["checkout_id"]))


async def _set_cursor(
    tx: Transaction,
    execution_id: str,
    cursor: LogCursor,
    blob_bytes: int,
    more_bytes: int,
    spool_end: bytes | None,
) -> None:
    await tx.execute(
        _SET_CURSOR,
        {
            "execution_id": execution_id,
            "next_chunk": cursor.next_chunk,
            "next_entry": cursor.next_entry,
            "digest": cursor.digest,
            "blob_bytes": blob_bytes,
            "more_bytes": more_bytes,
            "spool_end": spool_end,
        },
    )


_DIGEST_AT = """
SELECT digest FROM chunk WHERE execution_id = :execution_id AND through_seq = :chunk_seq
    AND chunk_seq = (
        SELECT max(chunk_seq) FROM chunk
        WHERE execution_id = :execution_id AND chunk_seq <= :chunk_seq
    )
"""


_HELD_FROM = """
SELECT min(chunk_seq) AS first, sum(through_seq - chunk_seq + 1) AS held FROM chunk
WHERE execution_id = :execution_id AND through_seq >= :chunk_seq
"""


async def _whole_from(tx: Transaction, execution_id: str, chunk_seq: int) -> bool:
    log = await log_row(tx, execution_id)
    if chunk_seq >= log["next_chunk"]:
        return True
    row = await tx.fetch_one(_HELD_FROM, {"execution_id": execution_id, "chunk_seq": chunk_seq})
    if row is None or row["first"] is None or row["first"] > chunk_seq:
        return False
    return bool(row["first"] + row["held"] == log["next_chunk"])


async def _digest_at(tx: Transaction, execution_id: str, chunk_seq: int) -> bytes | None:
    if chunk_seq == 0:
        return _BLANK.digest
    row = await tx.fetch_one(_DIGEST_AT, {"execution_id": execution_id, "chunk_seq": chunk_seq})
    return None if row is None else row["digest"]


_DIGESTS_BELOW = """
SELECT through_seq, digest FROM chunk
WHERE execution_id = :execution_id AND through_seq < :chunk_seq
ORDER BY chunk_seq DESC LIMIT :limit
"""


async def _digests_below(
    tx: Transaction, execution_id: str, chunk_seq: int, limit: int
) -> list[tuple[int, bytes]]:
    parameters = {"execution_id": execution_id, "chunk_seq": chunk_seq, "limit": limit}
    return [
        (row["through_seq"], row["digest"])
        for row in await tx.fetch_all(_DIGESTS_BELOW, parameters)
    ]


# Chunks in which no entry begins go on with a line of before; they are not where one begins.
_CHUNK_OF_ENTRY = """
SELECT chunk_seq FROM chunk
WHERE execution_id = :execution_id AND first_entry <= :entry AND entries > 0
ORDER BY first_entry DESC, chunk_seq DESC LIMIT 1
"""


async def _chunks_covering(
    tx: Transaction, execution_id: str, after_entry: int, chunks_max: int, bytes_max: int
) -> list[LogChunk | GapChunk]:
    row = await tx.fetch_one(
        _CHUNK_OF_ENTRY, {"execution_id": execution_id, "entry": following(after_entry)}
    )
    first = 1 if row is None else row["chunk_seq"]
    return await chunks_from(tx, execution_id, first, chunks_max, bytes_max)


# --- what the hive has ----------------------------------------------------------------------------

_SET_ACKED = "UPDATE log SET acked_chunk = :next_chunk WHERE execution_id = :execution_id"


async def _acked(tx: Transaction, marks: dict[str, int]) -> None:
    await tx.executemany(
        _SET_ACKED,
        [{"execution_id": name, "next_chunk": next_chunk} for name, next_chunk in marks.items()],
    )


_OUTBOX = """
SELECT execution_id, checkout_id, next_chunk, acked_chunk, blob_bytes FROM log
WHERE acked_chunk < next_chunk AND (closed = 0 OR acked_chunk < next_chunk)
    AND purged_at_ms IS NULL
"""
_FIRST_UNSENT = """
SELECT first_ms, blob_bytes_before FROM chunk
WHERE execution_id = :execution_id AND chunk_seq >= :chunk_seq ORDER BY chunk_seq LIMIT 1
"""


async def _outbox(tx: Transaction, without: Collection[str]) -> PendingChunks:
    chunks, nbytes, oldest = 0, 0, []
    for log in await tx.fetch_all(_OUTBOX):
        if log["checkout_id"] in without:
            continue
        first = await tx.fetch_one(
            _FIRST_UNSENT,
            {"execution_id": log["execution_id"], "chunk_seq": log["acked_chunk"]},
        )
        if first is not None:
            chunks += log["next_chunk"] - log["acked_chunk"]
            nbytes += log["blob_bytes"] - first["blob_bytes_before"]
            if first["first_ms"]:
                oldest.append(first["first_ms"])
    return PendingChunks(chunks, nbytes, min(oldest, default=None))
