"""What the hive holds of each attempt against what it should hold: kept in the attempt's row.

The state is derived (`projections.sync_state`); it is written anew where something it rests on
changed: the attempt, its executions, the end of a log, a need, the project's policy.
"""

import json
from typing import Final

from hive import projections
from hive.projections import Fact, LogHeld, Position
from hive.store.backend import Change, Lacking, LogLack, Row, Transaction
from hive.store.link_checks import foreign
from protocol import digest as digests
from protocol.states import SyncPolicy, SyncState

_SELECT_ATTEMPT = """
SELECT attempt.node_id, attempt.project_id, attempt.executions, attempt.sync_state,
    attempt.gone_reason, project.sync_policy
FROM attempt LEFT JOIN project ON project.id = attempt.project_id
WHERE attempt.id = :id
"""
_SELECT_LOGS = """
SELECT execution.id, log.next_chunk, log.next_entry, log.digest, log.end_chunks, log.end_chain,
    log.gone_reason
FROM execution LEFT JOIN log ON log.execution_id = execution.id
WHERE execution.attempt_id = :id
ORDER BY execution.started_at_ms, execution.id
"""
_SELECT_ASKED = """
SELECT need_item.outcome, need.status FROM need_item
JOIN need ON need.request_id = need_item.request_id
WHERE need_item.node_id = :node_id AND need_item.id = :id
"""
_NOT_GONE = """
UPDATE attempt SET gone_reason = NULL
WHERE id = :id AND node_id = :node_id AND gone_reason IS NOT NULL
"""
_MAY_ASK_AGAIN = """
UPDATE need_item SET outcome = 'sent'
WHERE node_id = :node_id AND id = :id AND outcome IN ('gone', 'unknown')
"""
_SET_STATE = "UPDATE attempt SET sync_state = :state WHERE id = :id"
_SELECT_NOT_COMPLETE = """
SELECT attempt.id FROM attempt LEFT JOIN project ON project.id = attempt.project_id
WHERE attempt.node_id = :node_id AND attempt.sync_state = 'partial'
    AND attempt.forgotten_at_ms IS NULL AND coalesce(project.sync_policy, 'full') = 'full'
ORDER BY attempt.created_at_ms DESC, attempt.id DESC LIMIT :limit
"""
_SELECT_OF_PROJECT = "SELECT id FROM attempt WHERE project_id = :project_id"
_SELECT_ATTEMPT_OF = "SELECT attempt_id, node_id FROM execution WHERE id = :id"

#: Answers that count as held: the node will never have more to say.
GONE: Final = frozenset({"gone", "unknown"})


async def refresh(tx: Transaction, attempt_id: str) -> SyncState | None:
    """Derive an attempt's sync state anew; None where the attempt is not known."""
    attempt = await tx.fetch_one(_SELECT_ATTEMPT, {"id": attempt_id})
    if attempt is None:
        return None
    state = await _derive(tx, attempt_id, attempt)
    if state != attempt["sync_state"]:
        await tx.execute(_SET_STATE, {"id": attempt_id, "state": state.value})
        ids = {"attempt": attempt_id, "node": attempt["node_id"]}
        if attempt["project_id"] is not None:
            ids["project"] = attempt["project_id"]
        tx.note(Change(kind="sync.changed", ids=ids))
    return state


async def _derive(tx: Transaction, attempt_id: str, attempt: Row) -> SyncState:
    policy = SyncPolicy(attempt["sync_policy"] or SyncPolicy.FULL)
    rows = await tx.fetch_all(_SELECT_LOGS, {"id": attempt_id})
    logs = {row["id"]: _held(row) for row in rows}
    named: list[str] = json.loads(attempt["executions"])
    state = projections.sync_state(
        policy, named, logs, gone=named if attempt["gone_reason"] else (), asked=False
    )
    if state is SyncState.COMPLETE:
        # Nothing is lacking: then it does not matter what was asked.
        return state
    gone, asked = set(named if attempt["gone_reason"] else ()), False
    for entity_id in {attempt_id, *named, *logs}:
        for row in await tx.fetch_all(
            _SELECT_ASKED, {"node_id": attempt["node_id"], "id": entity_id}
        ):
            asked = asked or (row["outcome"] is None and row["status"] == "open")
            if row["outcome"] in GONE:
                gone.add(entity_id)
    return projections.sync_state(policy, named, logs, gone=gone, asked=asked)


def _held(row: Row) -> LogHeld:
    next_chunk, end = row["next_chunk"] or 1, row["end_chunks"]
    # An end without a chain is an older node's.
    differs = (
        end is not None
        and next_chunk > end
        and bool(row["end_chain"])
        and row["end_chain"] != row["digest"]
    )
    return LogHeld(next_chunk, end, row["gone_reason"] is not None, differs)


async def executions_grew(tx: Transaction, node_id: str, attempt_id: str) -> None:
    """An attempt names other executions than before: what was gone is not all there is any more."""
    values = {"id": attempt_id, "node_id": node_id}
    if await tx.execute(_NOT_GONE, values):
        await tx.execute(_MAY_ASK_AGAIN, values)


async def refresh_of_execution(tx: Transaction, execution_id: str) -> None:
    """Derive anew the state of the attempt an execution belongs to, where that is known."""
    row = await tx.fetch_one(_SELECT_ATTEMPT_OF, {"id": execution_id})
    if row is not None:
        await refresh(tx, row["attempt_id"])


async def refresh_project(tx: Transaction, project_id: str) -> None:
    """Derive anew the states of a project's attempts: its policy changed."""
    for row in await tx.fetch_all(_SELECT_OF_PROJECT, {"project_id": project_id}):
        await refresh(tx, row["id"])


async def lacking(tx: Transaction, node_id: str, limit: int) -> list[Lacking]:
    """Return the node's attempts that are partial and should not be, newest first."""
    rows = await tx.fetch_all(_SELECT_NOT_COMPLETE, {"node_id": node_id, "limit": limit})
    return [await lacking_of(tx, row["id"]) for row in rows]


async def lacking_of(
    tx: Transaction, attempt_id: str, policy: SyncPolicy = SyncPolicy.FULL
) -> Lacking:
    """Return what the hive lacks of one attempt, as if its project's policy were `policy`."""
    attempt = await tx.fetch_one(_SELECT_ATTEMPT, {"id": attempt_id})
    if attempt is None:
        return Lacking(attempt_id=attempt_id, executions=[], logs=[])
    rows = await tx.fetch_all(_SELECT_LOGS, {"id": attempt_id})
    known = {row["id"] for row in rows}
    unknown = [
        execution_id
        for execution_id in json.loads(attempt["executions"])
        if execution_id not in known and not await _is_gone(tx, attempt["node_id"], execution_id)
    ]
    logs = [
        LogLack(
            execution_id=row["id"],
            from_chunk=row["next_chunk"] or 1,
            after=(row["next_entry"] or 1) - 1,
            digest=digests.EMPTY if row["digest"] is None else bytes(row["digest"]),
        )
        for row in rows
        if projections.lacks_log(policy, _held(row))
    ]
    return Lacking(attempt_id=attempt_id, executions=unknown, logs=logs)


async def _is_gone(tx: Transaction, node_id: str, entity_id: str) -> bool:
    rows = await tx.fetch_all(_SELECT_ASKED, {"node_id": node_id, "id": entity_id})
    return any(row["outcome"] in GONE for row in rows)


# --- the ends of logs -----------------------------------------------------------------------------

_SELECT_LOG = "SELECT node_id, end_rank, end_seq FROM log WHERE execution_id = :id"
_OPEN_LOG = """
INSERT INTO log (execution_id, node_id, next_chunk, next_entry, digest, raw_bytes, blob_bytes,
    gap_bytes, last_ms, end_chunks, end_entries, end_bytes, end_digest, end_chain, end_rank,
    end_seq, gone_reason)
VALUES (:id, :node_id, 1, 1, :digest, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL)
ON CONFLICT (execution_id) DO NOTHING
"""
_SET_END = """
UPDATE log SET end_chunks = :end_chunks, end_entries = :end_entries, end_bytes = :end_bytes,
    end_digest = :end_digest, end_chain = :end_chain, end_rank = :rank, end_seq = :seq
WHERE execution_id = :id
"""
_SET_LOG_GONE = "UPDATE log SET gone_reason = :reason WHERE execution_id = :id"


async def open_log(tx: Transaction, node_id: str, execution_id: str) -> None:
    """Make the row of a log that nothing is held of yet."""
    values = {"id": execution_id, "node_id": node_id, "digest": digests.EMPTY}
    await tx.execute(_OPEN_LOG, values)


async def set_log_end(tx: Transaction, node_id: str, position: Position, fact: Fact) -> None:
    """Write what a node says the whole log is. Raises FORBIDDEN for another node's."""
    execution = await tx.fetch_one(_SELECT_ATTEMPT_OF, {"id": fact.entity_id})
    log = await tx.fetch_one(_SELECT_LOG, {"id": fact.entity_id})
    for owned in (execution, log):
        if owned is not None and owned["node_id"] != node_id:
            raise foreign("log", fact.entity_id)
    if log is None:
        await open_log(tx, node_id, fact.entity_id)
    elif position < (log["end_rank"], log["end_seq"]):
        return
    values = {**fact.values, "id": fact.entity_id, "rank": position.rank, "seq": position.seq}
    await tx.execute(_SET_END, values)
    if execution is None:
        return
    await refresh(tx, execution["attempt_id"])
    ids = {"execution": fact.entity_id, "attempt": execution["attempt_id"], "node": node_id}
    tx.note(Change(kind="execution.changed", ids=ids))


async def set_log_gone(tx: Transaction, node_id: str, execution_id: str, reason: str) -> None:
    """The node has no more of this log than the hive holds."""
    await open_log(tx, node_id, execution_id)
    await tx.execute(_SET_LOG_GONE, {"id": execution_id, "reason": reason})
