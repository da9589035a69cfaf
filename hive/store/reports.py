"""What nodes report beside their entities: operations carried out, notices, ops withheld."""

from typing import Final

from hive import projections
from hive.projections import EventDraft, Fact, Source
from hive.store import events, follow
from hive.store.backend import Change, Transaction
from hive.store.linking import LinkContext
from protocol import entities
from protocol.errors import ErrorCode

_SET_OPERATION = """
INSERT INTO node_operation (node_id, id, key, operation, attempt_id, actor, status, error_code,
    head_before, head_after, started_at_ms, ended_at_ms, rank, seq, at_ms)
VALUES (:node_id, :id, :key, :operation, :attempt_id, :actor, :status, :error_code,
    :head_before, :head_after, :started_at_ms, :ended_at_ms, :rank, :seq, :at_ms)
ON CONFLICT (node_id, id) DO UPDATE SET status = excluded.status,
    error_code = excluded.error_code, head_before = excluded.head_before,
    head_after = excluded.head_after, ended_at_ms = excluded.ended_at_ms, rank = excluded.rank,
    seq = excluded.seq, at_ms = excluded.at_ms
WHERE node_operation.rank < excluded.rank
    OR (node_operation.rank = excluded.rank AND node_operation.seq < excluded.seq)
"""
#: The hive's own record learns the outcome where no answer came in time: the node's word counts,
#: also of a call that the hive thinks waits, expired or was taken back (it was restored since).
#: What the hive said of the lost answer is no longer so; the node has reply or error under the key.
_SETTLE_OPERATION = """
UPDATE operation SET status = :outcome, error = NULL, ended_at_ms = :ended_at_ms
WHERE key = :key AND node_id = :node_id AND status NOT IN ('done', 'failed')
"""
#: Only the node knows the heads, and says them in its op, before or after its answer is here.
_SET_HEADS = """
UPDATE operation SET head_before = coalesce(:head_before, head_before), head_after = :head_after
WHERE key = :key AND node_id = :node_id
"""
_SETTLED: Final = frozenset({"done", "failed"})


async def apply_operation(
    tx: Transaction, context: LinkContext, source: Source, at_ms: int, fact: Fact
) -> None:
    """Write how a node carried an operation out, and settle the hive's own record of it."""
    values = {
        **fact.values,
        "id": fact.entity_id,
        "node_id": source.node_id,
        "rank": source.rank,
        "seq": source.seq,
        "at_ms": at_ms,
    }
    if not await tx.execute(_SET_OPERATION, values):
        return
    body = fact.body
    if not isinstance(body, entities.OperationRecord) or body.status not in _SETTLED:
        return
    # A node that stopped in the middle, and could not find out, reports that nobody knows.
    unknown = body.error_code == ErrorCode.UNKNOWN_OUTCOME
    settled = {
        **values,
        "outcome": "unknown" if unknown else body.status,
        "ended_at_ms": body.ended_at_ms or context.now_ms,
    }
    await tx.execute(_SETTLE_OPERATION, settled)
    await tx.execute(_SET_HEADS, settled)
    ids = follow.live_ids(operation=body.key, attempt=body.attempt_id, node=source.node_id)
    tx.note(Change(kind="operation.changed", ids=ids))
    if source.whole_state:
        return
    draft = EventDraft(
        kind="operation_done" if body.status == "done" else "operation_failed",
        what="operation",
        what_id=body.key,
        to_state=body.status,
        why=body.error_code or "",
        level="info" if body.status == "done" else "warning",
        audit=True,
        actor_kind="user" if body.actor else "node",
        actor=body.actor,
        node_id=source.node_id,
        attempt_id=body.attempt_id,
        details={"operation": body.operation, "head": body.head_after},
    )
    await events.record(tx, draft, context.now_ms)


async def apply_notice(
    tx: Transaction, context: LinkContext, source: Source, at_ms: int, fact: Fact
) -> None:
    """Write what a node wants a person to know as an event."""
    del at_ms
    if source.whole_state or not isinstance(fact.body, entities.Notice):
        return
    draft = projections.notice_event(source.node_id, fact.body)
    await events.record(tx, draft, context.now_ms)
    tx.note(Change(kind="node.changed", ids={"node": source.node_id}))


async def apply_withheld(
    tx: Transaction, context: LinkContext, source: Source, at_ms: int, fact: Fact
) -> None:
    """Write down that an op was withheld, and which."""
    del at_ms
    if source.whole_state or not isinstance(fact.body, entities.Withheld):
        return
    draft = EventDraft(
        kind="op_withheld",
        what="node",
        what_id=source.node_id,
        why=fact.body.reason,
        level="error",
        node_id=source.node_id,
        details={"kind": fact.body.kind, "entity_id": fact.entity_id},
    )
    await events.record(tx, draft, context.now_ms)
