"""Executions as viewers read them: the node's facts, and how far their logs are held. Read only."""

import json
from typing import Any, Final

import msgspec

from hive.store.backend import Row, Transaction
from hive.store.logs import LogHead
from protocol.errors import ErrorCode, OperationError

_COLUMNS: Final = """
SELECT execution.*, log.execution_id, log.next_chunk, log.next_entry, log.raw_bytes,
    log.blob_bytes, log.gap_bytes, log.last_ms, log.end_chunks, log.end_entries, log.end_bytes,
    log.gone_reason, attempt.project_id
FROM execution
LEFT JOIN log ON log.execution_id = execution.id
LEFT JOIN attempt ON attempt.id = execution.attempt_id
"""
_OF_ATTEMPT = f"""
{_COLUMNS} WHERE execution.attempt_id = :attempt_id
ORDER BY execution.started_at_ms, execution.id
"""
_OF_ID = f"{_COLUMNS} WHERE execution.id = :id"


class ExecutionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One process run inside an attempt, and how far its log is held."""

    id: str
    node_id: str
    attempt_id: str
    project_id: str | None
    kind: str
    script: str | None
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


async def get_execution(tx: Transaction, execution_id: str) -> ExecutionRow:
    """Return one execution. Raises NOT_FOUND."""
    row = await tx.fetch_one(_OF_ID, {"id": execution_id})
    if row is None:
        raise OperationError(ErrorCode.NOT_FOUND, f"there is no execution {execution_id}")
    return _execution(row)


async def of_attempt(tx: Transaction, attempt_id: str) -> list[ExecutionRow]:
    """Return the executions that are known of an attempt, in the order they started."""
    rows = await tx.fetch_all(_OF_ATTEMPT, {"attempt_id": attempt_id})
    return [_execution(row) for row in rows]


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
