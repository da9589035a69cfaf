"""Attempts and executions as viewers read them: the node's facts, and the hive's beside them.

Whether a node is reachable is not stored: `NodeRegistry` knows. Everything here only reads.
"""

import json
from typing import Any, Final

import msgspec

from hive.store.backend import Lacking, Row, Transaction
from hive.store.logs import LogHead
from hive.store.sync import lacking_of
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
_SELECT_NEWEST = f"""
{_COLUMNS} WHERE attempt.task_id = :task_id
ORDER BY attempt.created_at_ms DESC, attempt.id DESC LIMIT 1
"""
_SELECT_EXECUTIONS = """
SELECT execution.*, log.execution_id, log.next_chunk, log.next_entry, log.raw_bytes,
    log.blob_bytes, log.gap_bytes, log.last_ms, log.end_chunks, log.end_entries, log.end_bytes,
    log.gone_reason, attempt.project_id
FROM execution
LEFT JOIN log ON log.execution_id = execution.id
LEFT JOIN attempt ON attempt.id = execution.attempt_id
"""
_OF_ATTEMPT = f"""
{_SELECT_EXECUTIONS} WHERE execution.attempt_id = :attempt_id
ORDER BY execution.started_at_ms, execution.id
"""
_OF_ID = f"{_SELECT_EXECUTIONS} WHERE execution.id = :id"
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


class ExecutionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One process run inside an attempt, and how far its log is held."""

    id: str
    node_id: str
    attempt_id: str
    project_id: str | None
    kind: str
    argv: list[str]
    process: dict[str, Any] | None
    head_before: str | None
    head_after: str | None
    status: str
    exit_code: int | None
    signal: int | None
    reason: str | None
    started_at_ms: int
    ended_at_ms: int | None
    at_ms: int
    forgotten_at_ms: int | None
    log: LogHead


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
    hold_until_ms: int | None
    fence: str | None
    start_key: str | None
    saved_ref: str | None
    created_at_ms: int
    ended_at_ms: int | None
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
                f"{status!r} is no status of an attempt",
                hint=f"One of: {', '.join(_STATUSES)}.",
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


async def get_execution(tx: Transaction, execution_id: str) -> ExecutionRow:
    """Return one execution. Raises NOT_FOUND."""
    row = await tx.fetch_one(_OF_ID, {"id": execution_id})
    if row is None:
        raise OperationError(ErrorCode.NOT_FOUND, f"there is no execution {execution_id}")
    return _execution(row)


async def executions_of(tx: Transaction, attempt_id: str) -> list[ExecutionRow]:
    """Return the executions that are known of an attempt, in the order they started."""
    rows = await tx.fetch_all(_OF_ATTEMPT, {"attempt_id": attempt_id})
    return [_execution(row) for row in rows]


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
    executions = await executions_of(tx, row["id"])
    heard = [row["at_ms"]]
    heard += [max(execution.at_ms, execution.log.last_ms) for execution in executions]
    taken = {"execution_ids", "executions", "superseded", "synced_through_ms", "sync_policy"}
    values = {name: row[name] for name in AttemptRow.__struct_fields__ if name not in taken}
    return AttemptRow(
        **values,
        execution_ids=json.loads(row["executions"]),
        executions=executions,
        superseded=bool(row["superseded"]),
        synced_through_ms=max(heard),
        sync_policy=row["sync_policy"] or "full",
    )


def _execution(row: Row) -> ExecutionRow:
    taken = {"argv", "process", "log"}
    values = {name: row[name] for name in ExecutionRow.__struct_fields__ if name not in taken}
    process = row["process"]
    return ExecutionRow(
        **values,
        argv=json.loads(row["argv"]),
        process=None if process is None else json.loads(process),
        log=_log(row),
    )


def _log(row: Row) -> LogHead:
    held = row["execution_id"] is not None
    return LogHead(
        execution_id=row["id"],
        node_id=row["node_id"],
        next_chunk=row["next_chunk"] if held else 1,
        next_entry=row["next_entry"] if held else 1,
        raw_bytes=row["raw_bytes"] or 0,
        blob_bytes=row["blob_bytes"] or 0,
        gap_bytes=row["gap_bytes"] or 0,
        last_ms=row["last_ms"] or 0,
        closed=row["end_chunks"] is not None,
        end_chunks=row["end_chunks"],
        end_entries=row["end_entries"],
        end_bytes=row["end_bytes"],
        gone_reason=row["gone_reason"],
    )
