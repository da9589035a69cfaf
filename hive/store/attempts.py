"""Attempts and executions as viewers read them: the node's facts, and the hive's beside them.

Whether a node is reachable is not stored: `NodeRegistry` knows. Everything here only reads.
"""

import json
from typing import Final

import msgspec

from hive.store.backend import Lacking, Row, Transaction
from hive.store.executions import ExecutionRow, of_attempt
from hive.store.sessions import sessions_of
from hive.store.sync import lacking_of
from protocol.entities import MergeFact, PullRequest
from protocol.errors import ErrorCode, OperationError
from protocol.states import AttemptOutcome, AttemptPhase, SyncPolicy

_COLUMNS: Final = """
SELECT attempt.*, node.name AS node_name, node.last_seen_at_ms AS node_seen_at_ms,
    project.name AS project_name, project.sync_policy
FROM attempt
JOIN node ON node.id = attempt.node_id
LEFT JOIN project ON project.id = attempt.project_id
"""
_SELECT = f"{_COLUMNS} WHERE attempt.id = :id"
_SELECT_ID = "SELECT 1 FROM attempt WHERE id = :id"
_SELECT_NEWEST = f"""
{_COLUMNS} WHERE attempt.task_id = :task_id
ORDER BY attempt.created_at_ms DESC, attempt.id DESC LIMIT 1
"""
#: Filters of a list, by name: the condition each adds.
_FILTERS: Final = {
    "task_id": "attempt.task_id = :task_id",
    "node_id": "attempt.node_id = :node_id",
    "project_id": "attempt.project_id = :project_id",
    "start_key": "attempt.start_key = :start_key",
    "sync_state": "attempt.sync_state = :sync_state",
}
_STATUSES: Final = {
    **{phase.value: "attempt.phase = :status" for phase in AttemptPhase},
    **{outcome.value: "attempt.outcome = :status" for outcome in AttemptOutcome},
}


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a task, as its node last told it.

    `execution_ids` are those the attempt names, `executions` those that are known here.
    `synced_through_ms` is the time of the newest thing heard of it.
    """

    id: str
    node_id: str
    node_name: str
    node_seen_at_ms: int | None
    task_id: str
    task_title: str
    project_id: str | None
    project_name: str | None
    sync_policy: str
    checkout_id: str
    executor: str
    profile: str | None
    branch: str
    target_branch: str | None
    base_commit: str
    head_commit: str | None
    worktree: str | None
    phase: str
    outcome: str | None
    reason: str | None
    execution_ids: list[str]
    executions: list[ExecutionRow]
    sessions: list[str]
    hold_until_ms: int | None
    fence: str | None
    start_key: str | None
    saved_ref: str | None
    created_at_ms: int
    ended_at_ms: int | None
    merges: list[MergeFact]
    pr: PullRequest | None
    parked_until_ms: int | None
    silent_since_ms: int | None
    superseded: bool
    sync_state: str
    synced_through_ms: int
    gone_reason: str | None
    forgotten_at_ms: int | None


async def get_attempt(tx: Transaction, attempt_id: str) -> AttemptRow:
    """Return one attempt with its executions. Raises NOT_FOUND."""
    row = await tx.fetch_one(_SELECT, {"id": attempt_id})
    if row is None:
        raise OperationError(ErrorCode.NOT_FOUND, f"there is no attempt {attempt_id}")
    return await _attempt(tx, row)


async def exists(tx: Transaction, attempt_id: str) -> bool:
    """Whether an attempt is known here."""
    return await tx.fetch_one(_SELECT_ID, {"id": attempt_id}) is not None


async def newest_attempt(tx: Transaction, task_id: str) -> AttemptRow | None:
    """Return a task's newest attempt; None where it has none."""
    row = await tx.fetch_one(_SELECT_NEWEST, {"task_id": task_id})
    return None if row is None else await _attempt(tx, row)


async def list_attempts(
    tx: Transaction,
    *,
    before: tuple[int, str] | None = None,
    limit: int = 50,
    status: str | None = None,
    **filters: str | None,
) -> list[AttemptRow]:
    """Return attempts, newest first; `before` is creation time and id of the last one before.

    `status` is a phase or an outcome. `filters`: task_id, node_id, project_id, start_key,
    sync_state.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    conditions = [_FILTERS[name] for name in given]
    if status is not None:
        if status not in _STATUSES:
            raise OperationError(
                ErrorCode.INVALID,
                f"status: {status[:100]!r} is none of an attempt",
                hint=f"One of: {', '.join(_STATUSES)}.",
                field="status",
            )
        conditions.append(_STATUSES[status])
    if before is not None:
        conditions.append(
            "(attempt.created_at_ms < :created_at_ms"
            " OR (attempt.created_at_ms = :created_at_ms AND attempt.id < :id))"
        )
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    created_at_ms, attempt_id = before or (0, "")
    rows = await tx.fetch_all(
        f"{_COLUMNS} {where} ORDER BY attempt.created_at_ms DESC, attempt.id DESC LIMIT :limit",
        {
            **given,
            "status": status,
            "created_at_ms": created_at_ms,
            "id": attempt_id,
            "limit": limit,
        },
    )
    return [await _attempt(tx, row) for row in rows]


async def lack_of(tx: Transaction, attempt_id: str) -> tuple[str, Lacking] | None:
    """Return an attempt's node and what is not held of it, whatever the project's policy.

    None where there is no such attempt, where nothing lacks, or where its logs are never held.
    """
    row = await tx.fetch_one(_SELECT, {"id": attempt_id})
    if row is None or row["sync_policy"] == "metadata":
        return None
    policy = SyncPolicy(row["sync_policy"] or SyncPolicy.FULL)
    lacking = await lacking_of(tx, attempt_id, policy)
    if not lacking.executions and not lacking.logs:
        return None
    return row["node_id"], lacking


async def _attempt(tx: Transaction, row: Row) -> AttemptRow:
    executions = await of_attempt(tx, row["id"])
    heard = [row["at_ms"]]
    heard += [max(execution.at_ms, execution.log.last_ms) for execution in executions]
    taken = {
        "execution_ids",
        "executions",
        "sessions",
        "merges",
        "pr",
        "superseded",
        "synced_through_ms",
        "sync_policy",
    }
    pr = row["pr"]
    values = {name: row[name] for name in AttemptRow.__struct_fields__ if name not in taken}
    return AttemptRow(
        **values,
        execution_ids=json.loads(row["executions"]),
        executions=executions,
        sessions=await sessions_of(tx, row["id"]),
        merges=msgspec.json.decode(row["merges"], type=list[MergeFact]),
        pr=None if pr is None else msgspec.json.decode(pr, type=PullRequest),
        superseded=bool(row["superseded"]),
        synced_through_ms=max(heard),
        sync_policy=row["sync_policy"] or "full",
    )
