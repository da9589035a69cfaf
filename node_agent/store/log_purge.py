"""Deleting the chunks of closed logs, in small commits that may break off and be taken up again.

Must not decide which: `retention` does. Works inside units of the chunk store.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from node_agent.store.contract import ChunksChanged
from node_agent.store.log_rows import log_row
from node_agent.store.transaction import Transaction
from protocol.errors import ErrorCode, LocalProtocolError

#: Chunks deleted in one commit, so that no running log waits long behind a purge.
_PURGE_CHUNKS_MAX: Final = 100


class ClosedLog(NamedTuple):
    """A log that may be a candidate for deletion."""

    execution_id: str
    checkout_id: str
    closed_at_ms: int
    blob_bytes: int
    acknowledged: bool
    safe: bool


_PLAN_PURGE = """
UPDATE log SET purged_at_ms = :now_ms
WHERE execution_id = :execution_id AND closed = 1 AND purged_at_ms IS NULL
"""
_SOME_CHUNKS = """
DELETE FROM chunk WHERE rowid IN (
    SELECT rowid FROM chunk WHERE execution_id = :execution_id LIMIT :limit
)
"""
_PURGED = """
UPDATE log SET blob_bytes = 0, spool_end = NULL WHERE execution_id = :execution_id
"""


async def plan_purge(tx: Transaction, execution_id: str, now_ms: int) -> None:
    """Say that a closed log is going, before the first chunk goes."""
    row = await log_row(tx, execution_id)
    if not row["closed"]:
        raise LocalProtocolError(ErrorCode.INTERNAL, f"the log of {execution_id} is still open")
    await tx.execute(_PLAN_PURGE, {"execution_id": execution_id, "now_ms": now_ms})
    tx.announce(ChunksChanged(execution_id))


async def purge_some(tx: Transaction, execution_id: str) -> int:
    """Delete some chunks of a log that is going; return how many, 0 once none is left."""
    row = await log_row(tx, execution_id)
    if row["purged_at_ms"] is None:
        return 0
    deleted = await tx.execute(
        _SOME_CHUNKS, {"execution_id": execution_id, "limit": _PURGE_CHUNKS_MAX}
    )
    if deleted < _PURGE_CHUNKS_MAX:
        await tx.execute(_PURGED, {"execution_id": execution_id})
        return 0
    return deleted


_HALF_PURGED = """
SELECT execution_id FROM log
WHERE purged_at_ms IS NOT NULL AND (blob_bytes > 0 OR spool_end IS NOT NULL)
"""


async def half_purged(tx: Transaction) -> list[str]:
    """Return the logs whose purge was begun and broken off."""
    return [row["execution_id"] for row in await tx.fetch_all(_HALF_PURGED)]


_CLOSED_LOGS = """
SELECT execution_id, checkout_id, closed_at_ms, blob_bytes, safe,
    acked_chunk >= next_chunk AS acknowledged
FROM log WHERE closed = 1 AND purged_at_ms IS NULL
    AND (closed_at_ms, execution_id) > (:after_ms, :after_id)
ORDER BY closed_at_ms, execution_id LIMIT :limit
"""


async def closed_logs(tx: Transaction, after: tuple[int, str], limit: int) -> list[ClosedLog]:
    """Return logs that are closed and not purged, oldest first, from behind (time, id)."""
    rows = await tx.fetch_all(
        _CLOSED_LOGS, {"after_ms": after[0], "after_id": after[1], "limit": limit}
    )
    return [
        ClosedLog(
            row["execution_id"],
            row["checkout_id"],
            row["closed_at_ms"],
            row["blob_bytes"],
            bool(row["acknowledged"]),
            bool(row["safe"]),
        )
        for row in rows
    ]


# Of another history is what a copy of this disk wrote: our own is in no backup then.
_SET_SAFE = """
UPDATE log SET safe = 1
WHERE execution_id = :execution_id AND closed = 1 AND digest = :digest
"""


async def set_safe(tx: Transaction, logs: Sequence[tuple[str, bytes]]) -> None:
    """Note that every verified backup of the hive has all of these logs (id, running digest)."""
    await tx.executemany(
        _SET_SAFE, [{"execution_id": name, "digest": digest} for name, digest in logs]
    )


_BLOB_BYTES = "SELECT coalesce(sum(blob_bytes), 0) AS bytes FROM log"


async def blob_bytes(tx: Transaction) -> int:
    """Return the bytes of all blobs that are kept."""
    row = await tx.fetch_one(_BLOB_BYTES)
    return 0 if row is None else int(row["bytes"])
