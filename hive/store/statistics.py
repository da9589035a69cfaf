"""Totals of what the hive holds, for its status and metrics. Read only, and cheap at any size."""

import msgspec

from hive.store.backend import Transaction

# Ops and chunks are counted by their marks and cursors: their tables are the large ones.
_SELECT = """
SELECT
    (SELECT count(*) FROM node WHERE revoked_at_ms IS NULL) AS nodes,
    (SELECT count(*) FROM attempt) AS attempts,
    (SELECT coalesce(sum(mark), 0) FROM epoch) AS ops,
    (SELECT count(*) FROM dead_op) + (SELECT count(*) FROM unknown_op) AS ops_aside,
    (SELECT coalesce(sum(next_chunk - 1), 0) FROM log) AS chunks,
    (SELECT coalesce(sum(blob_bytes), 0) FROM log) AS log_bytes,
    (SELECT change_no FROM hive WHERE id = 1) AS change_no
"""


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """How much there is. `log_bytes` are as stored, `nodes` those not revoked."""

    nodes: int
    attempts: int
    ops: int
    ops_aside: int
    chunks: int
    log_bytes: int
    change_no: int


async def totals(tx: Transaction) -> Totals:
    """Return the totals."""
    row = await tx.fetch_one(_SELECT)
    if row is None:
        raise LookupError("the hive's own row is missing")
    return Totals(**{name: row[name] for name in Totals.__struct_fields__})
