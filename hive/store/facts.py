"""Writes what a node reports: one op or record to the rows viewers read.

A row is set by the newest position alone; a lower one never overwrites. An entity of another node
refuses the whole frame; what cannot be applied is kept aside.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from hive import projections
from hive.projections import Dead, EventDraft, Fact, Source, UnknownKind
from hive.store import (
    conversation_facts,
    events,
    fact_rows,
    follow,
    foreign_rows,
    linking,
    reports,
    sync,
)
from hive.store.backend import Change, Row, Transaction
from hive.store.link_checks import foreign
from hive.store.linking import LinkContext, Repository
from protocol import entities
from protocol.errors import RemoteProtocolError, SkepError
from protocol.ops import Op, OpKind

_KEEP_UNKNOWN = """
INSERT INTO unknown_op (node_id, epoch, seq, kind, entity_id, at_ms, body)
VALUES (:node_id, :epoch, :seq, :kind, :entity_id, :at_ms, :body)
ON CONFLICT (node_id, kind, entity_id, epoch, seq) DO NOTHING
"""
_KEEP_DEAD = """
INSERT INTO dead_op (node_id, epoch, seq, kind, entity_id, at_ms, body, reason, kept_at_ms)
VALUES (:node_id, :epoch, :seq, :kind, :entity_id, :at_ms, :body, :reason, :now_ms)
ON CONFLICT (node_id, kind, entity_id, epoch, seq) DO NOTHING
"""
# --- one op ---------------------------------------------------------------------------------------


async def apply(tx: Transaction, context: LinkContext, source: Source, op: Op) -> None:
    """Give one op or record its one outcome. Raises FORBIDDEN for what is not the node's own."""
    fact = projections.fold(op.kind, op.entity_id, op.body)
    if isinstance(fact, UnknownKind):
        await tx.execute(_KEEP_UNKNOWN, _kept(source, op))
        return
    if isinstance(fact, Dead):
        await _keep_dead(tx, context, source, op, fact.reason)
        return
    try:
        async with tx.savepoint():
            await _APPLY[fact.kind](tx, context, source, op.at_ms, fact)
    except SkepError:
        raise
    except Exception as error:  # noqa: BLE001  a poisonous op must not stop its stream
        reason = f"it cannot be applied: {type(error).__name__}: {error}"
        await _keep_dead(tx, context, source, op, reason)


_SELECT_UNKNOWN = """
SELECT unknown_op.*, epoch.rank FROM unknown_op
JOIN epoch ON epoch.node_id = unknown_op.node_id AND epoch.epoch = unknown_op.epoch
ORDER BY unknown_op.node_id, epoch.rank, unknown_op.seq
"""
_FORGET_UNKNOWN = """
DELETE FROM unknown_op WHERE node_id = :node_id AND kind = :kind AND entity_id = :entity_id
    AND epoch = :epoch AND seq = :seq
"""


async def apply_unknown(tx: Transaction, context: LinkContext) -> int:
    """After an upgrade: apply what was kept because its kind was unknown; return how many.

    Called at a start of the hive, before any link.
    """
    applied = 0
    for row in await tx.fetch_all(_SELECT_UNKNOWN):
        if row["kind"] not in set(OpKind):
            continue
        source = Source(
            node_id=row["node_id"], epoch=row["epoch"], rank=row["rank"], seq=row["seq"]
        )
        op = Op(row["kind"], row["entity_id"], row["at_ms"], bytes(row["body"]))
        await tx.execute(_FORGET_UNKNOWN, _kept(source, op))
        try:
            await apply(tx, context, source, op)
        except RemoteProtocolError as error:
            await _keep_dead(tx, context, source, op, error.message)
        applied += 1
    return applied


def _kept(source: Source, op: Op) -> dict[str, Any]:
    return {
        "node_id": source.node_id,
        "epoch": source.epoch,
        "seq": source.seq,
        "kind": op.kind,
        "entity_id": op.entity_id,
        "at_ms": op.at_ms,
        "body": op.body,
    }


async def _keep_dead(
    tx: Transaction, context: LinkContext, source: Source, op: Op, reason: str
) -> None:
    values = {**_kept(source, op), "reason": reason, "now_ms": context.now_ms}
    if not await tx.execute(_KEEP_DEAD, values):
        return
    draft = EventDraft(
        kind="op_kept_aside",
        what="node",
        what_id=source.node_id,
        why=reason,
        level="error",
        node_id=source.node_id,
        details={"kind": op.kind, "entity_id": op.entity_id, "seq": source.seq},
    )
    await events.record(tx, draft, context.now_ms)


async def _record_all(
    tx: Transaction, context: LinkContext, source: Source, drafts: list[EventDraft]
) -> None:
    for draft in drafts:
        if source.whole_state and draft.from_state is None:
            # A snapshot tells of what is; that it was new happened before.
            continue
        await events.record(tx, draft, context.now_ms)


# --- kinds ----------------------------------------------------------------------------------------

_UPDATE_NODE = """
UPDATE node SET slots = :slots, executors = :executors, agents = :agents, os = :os,
    arch = :arch, version = :version, cores = :cores,
    memory_bytes = :memory_bytes, direct_urls = :direct_urls, rank = :rank, seq = :seq,
    name = CASE WHEN EXISTS (SELECT 1 FROM node other WHERE other.name = :name
        AND other.id <> :id AND other.revoked_at_ms IS NULL) OR :name = '' THEN name ELSE :name END
WHERE id = :id
"""
_SELECT_NODE = "SELECT rank, seq FROM node WHERE id = :id"


async def _apply_node(
    tx: Transaction, context: LinkContext, source: Source, at_ms: int, fact: Fact
) -> None:
    del context, at_ms
    if fact.entity_id != source.node_id:
        raise foreign("node", fact.entity_id)
    row = await tx.fetch_one(_SELECT_NODE, {"id": source.node_id})
    if row is None or not source.is_newer(row["rank"], row["seq"]):
        return
    await tx.execute(
        _UPDATE_NODE,
        {**fact.values, "id": fact.entity_id, "rank": source.rank, "seq": source.seq},
    )
    tx.note(Change(kind="node.changed", ids={"node": source.node_id}))


_SET_PROJECT = """
UPDATE checkout SET project_id = :project_id, problem = :problem WHERE id = :id
"""


async def _apply_checkout(
    tx: Transaction, context: LinkContext, source: Source, at_ms: int, fact: Fact
) -> None:
    before, newer = await fact_rows.present(tx, OpKind.CHECKOUT, source, fact.entity_id)
    if not newer or not isinstance(fact.body, entities.Checkout):
        return
    await fact_rows.upsert(tx, context, source, at_ms, fact)
    body = fact.body
    if not body.removed:
        repository = Repository(
            node_id=source.node_id,
            identity=body.identity,
            name=body.name,
            default_branch=body.default_branch,
        )
        choice = await linking.link_checkout(
            tx,
            context,
            repository,
            checkout_id=body.id,
            linked_id=None if before is None else before["project_id"],
            identity_before="" if before is None else before["identity"],
        )
        await tx.execute(
            _SET_PROJECT,
            {"id": body.id, "project_id": choice.project_id, "problem": choice.problem},
        )
        await _checkout_event(tx, context, source, body, before, choice)
    await note_changed(tx, OpKind.CHECKOUT, body.id, source.node_id)


async def _checkout_event(
    tx: Transaction,
    context: LinkContext,
    source: Source,
    body: entities.Checkout,
    before: Row | None,
    choice: projections.ProjectChoice,
) -> None:
    if before is not None and before["problem"] == choice.problem:
        return
    draft = EventDraft(
        kind="checkout_not_linked" if choice.problem else "checkout_linked",
        what="checkout",
        what_id=body.id,
        to_state=body.path,
        why=choice.problem,
        level="warning" if choice.problem else "info",
        node_id=source.node_id,
        project_id=choice.project_id,
    )
    await events.record(tx, draft, context.now_ms)


async def _apply_task(
    tx: Transaction, context: LinkContext, source: Source, at_ms: int, fact: Fact
) -> None:
    row = await tx.fetch_one(fact_rows.SELECT[OpKind.TASK], {"id": fact.entity_id})
    if row is not None:
        if row["node_id"] is None and not await follow.may_take_over(tx, row, source.node_id):
            raise foreign("task", fact.entity_id)
        if row["node_id"] is not None:
            _, newer = await fact_rows.present(tx, OpKind.TASK, source, fact.entity_id)
            if not newer:
                return
    await follow.set_local_task(
        tx,
        {
            **fact.values,
            "id": fact.entity_id,
            "node_id": source.node_id,
            "rank": source.rank,
            "seq": source.seq,
            "at_ms": at_ms,
            "snapshot_id": source.snapshot_id,
            "forgotten_at_ms": fact_rows.forgotten_at_ms(context, source),
            "now_ms": context.now_ms,
        },
    )
    await note_changed(tx, OpKind.TASK, fact.entity_id, source.node_id)


async def _apply_attempt(
    tx: Transaction, context: LinkContext, source: Source, at_ms: int, fact: Fact
) -> None:
    before, newer = await fact_rows.present(tx, OpKind.ATTEMPT, source, fact.entity_id)
    body = fact.body
    if not newer or not isinstance(body, entities.Attempt):
        return
    if before is None:
        await foreign_rows.drop_of_attempt(tx, context, body.id, source.node_id)
    project_id = await follow.project_of(tx, context, source.node_id, body, before)
    after = await fact_rows.upsert(tx, context, source, at_ms, fact, project_id=project_id)
    if before is not None and before["executions"] != after["executions"]:
        await sync.executions_grew(tx, source.node_id, body.id)
    await follow.follow_attempt(tx, context, before, body, project_id, source.node_id)
    await sync.refresh(tx, body.id)
    await _record_all(tx, context, source, projections.attempt_events(before, after))
    tx.note(
        Change(
            kind="attempt.changed",
            ids=follow.live_ids(
                attempt=body.id, project=project_id, node=source.node_id, task=body.task_id
            ),
        )
    )


_SELECT_ATTEMPT = "SELECT node_id, project_id, task_id FROM attempt WHERE id = :id"


async def _apply_execution(
    tx: Transaction, context: LinkContext, source: Source, at_ms: int, fact: Fact
) -> None:
    before, newer = await fact_rows.present(tx, OpKind.EXECUTION, source, fact.entity_id)
    body = fact.body
    if not newer or not isinstance(body, entities.Execution):
        return
    attempt = await tx.fetch_one(_SELECT_ATTEMPT, {"id": body.attempt_id})
    if attempt is not None and attempt["node_id"] != source.node_id:
        raise foreign("attempt", body.attempt_id)
    after = await fact_rows.upsert(tx, context, source, at_ms, fact)
    await foreign_rows.drop_of_execution(tx, context, body.id, source.node_id)
    await sync.refresh(tx, body.attempt_id)
    project_id = None if attempt is None else attempt["project_id"]
    task_id = None if attempt is None else attempt["task_id"]
    drafts = projections.execution_events(before, after, project_id=project_id, task_id=task_id)
    await _record_all(tx, context, source, drafts)
    ids = follow.live_ids(
        execution=body.id, attempt=body.attempt_id, project=project_id, node=source.node_id
    )
    tx.note(Change(kind="execution.changed", ids=ids))


async def _apply_log_end(
    tx: Transaction, context: LinkContext, source: Source, at_ms: int, fact: Fact
) -> None:
    del context, at_ms
    await sync.set_log_end(tx, source.node_id, source.position, fact)


_Apply = Callable[[Transaction, LinkContext, Source, int, Fact], Awaitable[None]]
_APPLY: Final[Mapping[OpKind, _Apply]] = {
    OpKind.NODE: _apply_node,
    OpKind.CHECKOUT: _apply_checkout,
    OpKind.TASK: _apply_task,
    OpKind.ATTEMPT: _apply_attempt,
    OpKind.EXECUTION: _apply_execution,
    OpKind.LOG_END: _apply_log_end,
    OpKind.OPERATION: reports.apply_operation,
    OpKind.NOTICE: reports.apply_notice,
    OpKind.SESSION: conversation_facts.apply_session,
    OpKind.TURN: conversation_facts.apply_turn,
    OpKind.MESSAGE: conversation_facts.apply_message,
    OpKind.REQUEST: conversation_facts.apply_request,
    OpKind.WITHHELD: reports.apply_withheld,
}

_CHANGE_KINDS: Final = {
    OpKind.CHECKOUT: "node.changed",
    OpKind.TASK: "task.changed",
    OpKind.ATTEMPT: "attempt.changed",
    OpKind.EXECUTION: "execution.changed",
    OpKind.SESSION: "session.changed",
    OpKind.TURN: "session.changed",
    OpKind.MESSAGE: "message.changed",
    OpKind.REQUEST: "request.changed",
}


async def note_changed(tx: Transaction, kind: OpKind, entity_id: str, node_id: str) -> None:
    """Have viewers read an entity anew."""
    row = await tx.fetch_one(fact_rows.SELECT[kind], {"id": entity_id})
    columns = () if row is None else set(row.keys())
    beside = {
        word: row[f"{word}_id"]
        for word in ("project", "attempt", "session")
        if row is not None and f"{word}_id" in columns
    }
    ids = follow.live_ids(**{kind.value: entity_id}, **beside, node=node_id)
    tx.note(Change(kind=_CHANGE_KINDS[kind], ids=ids))
