"""How much the hive holds, in numbers: for the status and the metrics.

Sums of cursors, not counts of rows: cheap however long the journals and logs are.
"""

import msgspec

from hive.store.backend import Transaction

_TOTALS = """
SELECT (SELECT count(*) FROM node WHERE revoked_at_ms IS NULL) AS nodes,
    (SELECT count(*) FROM attempt) AS attempts,
    (SELECT coalesce(sum(mark), 0) FROM epoch) AS ops,
    (SELECT count(*) FROM dead_op) + (SELECT count(*) FROM unknown_op) AS ops_aside,
    (SELECT coalesce(sum(next_chunk - 1), 0) FROM log) AS chunks,
    (SELECT coalesce(sum(blob_bytes), 0) FROM log) AS log_bytes,
    (SELECT change_no FROM hive WHERE id = 1) AS change_no
"""


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What is held in all."""

    nodes: int
    attempts: int
    ops: int
    ops_aside: int
    chunks: int
    log_bytes: int
    change_no: int


async def totals(tx: Transaction) -> Totals:
    """Return what is held in all."""
    row = await tx.fetch_one(_TOTALS)
    if row is None:
        raise LookupError("the hive's own row is missing")
    return Totals(**{name: row[name] for name in Totals.__struct_fields__})
