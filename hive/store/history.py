"""History that is old enough to go: events, and operations whose outcome is known.

What waits for its node, is under way or ended unknown stays however old it is, be it the hive's own
record or a node's report.
"""

from typing import Final

from hive.store.backend import Transaction

#: By number, which follows time, so that no more rows are looked at than may go.
_OLD_EVENTS: Final = """
DELETE FROM event WHERE no IN (
    SELECT no FROM (SELECT no, at_ms FROM event ORDER BY no LIMIT :limit) AS oldest
    WHERE at_ms < :before_ms
)
"""
_OLD_OPERATIONS: Final = """
SELECT key FROM operation
WHERE sent_at_ms < :before_ms AND ended_at_ms < :before_ms
    AND status IN ('done', 'failed', 'expired', 'cancelled')
ORDER BY sent_at_ms, key LIMIT :limit
"""
#: A node may not have said when it ended.
_OLD_REPORTS: Final = """
DELETE FROM node_operation WHERE (node_id, id) IN (
    SELECT node_id, id FROM node_operation
    WHERE started_at_ms < :before_ms AND coalesce(ended_at_ms, at_ms) < :before_ms
        AND status IN ('done', 'failed') AND coalesce(error_code, '') <> 'unknown'
    ORDER BY started_at_ms, key LIMIT :limit
)
"""
_DELETE: Final = (
    "DELETE FROM deferred_operation WHERE key = :key",
    "DELETE FROM operation WHERE key = :key",
)


async def let_go(tx: Transaction, before_ms: int, limit: int) -> int:
    """Delete some of what ended before a time, oldest first; return how many rows there were."""
    old = {"before_ms": before_ms, "limit": limit}
    gone = await tx.execute(_OLD_EVENTS, old)
    # Before the hive's own records: these stand for the reports of the same calls.
    gone += await tx.execute(_OLD_REPORTS, old)
    keys = [{"key": row["key"]} for row in await tx.fetch_all(_OLD_OPERATIONS, old)]
    for delete in _DELETE:
        await tx.executemany(delete, keys)
    return gone + len(keys)
