"""The hive's own record of each changing call: written before it leaves, settled after.

A caller that lost its answer finds it here by its key. Where the hive never got one, the node's own
record of the operation (an op) settles it.
"""

from typing import Any, Final

import msgspec

from hive.projections import EventDraft
from hive.store import events
from hive.store.backend import Change, Row, Transaction
from protocol.errors import ErrorCode, OperationError

SENT: Final = "sent"
DONE: Final = "done"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"

_INSERT = """
INSERT INTO operation (key, body_hash, operation, node_id, attempt_id, task_id, project_id, actor,
    status, reply, error, head_before, head_after, sent_at_ms, ended_at_ms)
VALUES (:key, :body_hash, :operation, :node_id, :attempt_id, :task_id, :project_id, :actor,
    'sent', NULL, NULL, NULL, NULL, :now_ms, NULL)
ON CONFLICT (key) DO NOTHING
"""
_SELECT = "SELECT * FROM operation WHERE key = :key"
_SEND_AGAIN = """
UPDATE operation SET status = 'sent', node_id = :node_id, error = NULL, reply = NULL,
    ended_at_ms = NULL
WHERE key = :key
"""
_SETTLE = """
UPDATE operation SET status = :status, reply = :reply, error = :error,
    attempt_id = coalesce(:attempt_id, attempt_id), ended_at_ms = :now_ms
WHERE key = :key
"""
#: After a start of the hive nobody waits for these any more; their outcome may still come as ops.
_LOST_SIGHT = """
UPDATE operation SET status = 'unknown', ended_at_ms = :now_ms WHERE status = 'sent'
"""
_SELECT_PAGE = """
SELECT * FROM operation
WHERE (sent_at_ms < :sent_at_ms OR (sent_at_ms = :sent_at_ms AND key < :key))
    AND (:attempt_id IS NULL OR attempt_id = :attempt_id)
    AND (:node_id IS NULL OR node_id = :node_id)
    AND (:project_id IS NULL OR project_id = :project_id)
    AND (:status IS NULL OR status = :status)
ORDER BY sent_at_ms DESC, key DESC LIMIT :limit
"""
_SELECT_REPORTED = """
SELECT * FROM node_operation WHERE key = :key ORDER BY at_ms DESC LIMIT 1
"""


class OperationRow(msgspec.Struct, frozen=True, kw_only=True):
    """A changing call. `status`: sent, done, failed, unknown. `error` is an ErrorBody in JSON."""

    key: str
    body_hash: str
    operation: str
    node_id: str | None
    attempt_id: str | None
    task_id: str | None
    project_id: str | None
    actor: str
    status: str
    reply: bytes | None
    error: str | None
    head_before: str | None
    head_after: str | None
    sent_at_ms: int
    ended_at_ms: int | None


def _operation(row: Row) -> OperationRow:
    return OperationRow(**{name: row[name] for name in OperationRow.__struct_fields__})


async def begin(
    tx: Transaction,
    *,
    key: str,
    body_hash: str,
    operation: str,
    actor: str,
    now_ms: int,
    node_id: str | None = None,
    attempt_id: str | None = None,
    task_id: str | None = None,
    project_id: str | None = None,
) -> OperationRow | None:
    """Write a call down before it leaves; return the record of that key where there is one."""
    values = {
        "key": key,
        "body_hash": body_hash,
        "operation": operation,
        "node_id": node_id,
        "attempt_id": attempt_id,
        "task_id": task_id,
        "project_id": project_id,
        "actor": actor,
        "now_ms": now_ms,
    }
    if not await tx.execute(_INSERT, values):
        return await find_operation(tx, key)
    draft = EventDraft(
        kind="operation_sent",
        what="operation",
        what_id=key,
        to_state=SENT,
        audit=True,
        actor_kind="user",
        actor=actor,
        node_id=node_id,
        project_id=project_id,
        task_id=task_id,
        attempt_id=attempt_id,
        details={"operation": operation, "body_hash": body_hash},
    )
    await events.record(tx, draft, now_ms)
    _note(tx, key, attempt_id, node_id)
    return None


async def send_again(tx: Transaction, key: str, node_id: str) -> None:
    """Write down that a recorded call leaves once more, to this node."""
    await tx.execute(_SEND_AGAIN, {"key": key, "node_id": node_id})


async def settle(
    tx: Transaction,
    key: str,
    *,
    status: str,
    now_ms: int,
    reply: bytes | None = None,
    error: str | None = None,
    attempt_id: str | None = None,
) -> OperationRow | None:
    """Write down what became of a call; what a node already reported as its outcome stays."""
    values: dict[str, Any] = {
        "key": key,
        "status": status,
        "reply": reply,
        "error": error,
        "attempt_id": attempt_id,
        "now_ms": now_ms,
    }
    if status == UNKNOWN:
        present = await find_operation(tx, key)
        if present is not None and present.status in {DONE, FAILED}:
            return present
    await tx.execute(_SETTLE, values)
    settled = await find_operation(tx, key)
    if settled is not None:
        _note(tx, key, settled.attempt_id, settled.node_id)
    return settled


async def lose_sight(tx: Transaction, now_ms: int) -> int:
    """After a start of the hive: what was under way is unknown until its node tells."""
    return await tx.execute(_LOST_SIGHT, {"now_ms": now_ms})


async def find_operation(tx: Transaction, key: str) -> OperationRow | None:
    """Return the record of a key; where only its node has one, that; else None."""
    row = await tx.fetch_one(_SELECT, {"key": key})
    if row is not None:
        return _operation(row)
    reported = await tx.fetch_one(_SELECT_REPORTED, {"key": key})
    if reported is None:
        return None
    return OperationRow(
        key=key,
        body_hash="",
        operation=reported["operation"],
        node_id=reported["node_id"],
        attempt_id=reported["attempt_id"],
        task_id=None,
        project_id=None,
        actor=reported["actor"],
        status=reported["status"],
        reply=None,
        error=None,
        head_before=reported["head_before"],
        head_after=reported["head_after"],
        sent_at_ms=reported["started_at_ms"],
        ended_at_ms=reported["ended_at_ms"],
    )


async def get_operation(tx: Transaction, key: str) -> OperationRow:
    """Return the record of a key. Raises NOT_FOUND."""
    found = await find_operation(tx, key)
    if found is None:
        raise OperationError(
            ErrorCode.NOT_FOUND,
            f"no operation was recorded under the key {key!r}",
            hint="It never left the hive: sending it is safe.",
        )
    return found


async def list_operations(
    tx: Transaction,
    *,
    before: tuple[int, str] | None = None,
    limit: int = 50,
    attempt_id: str | None = None,
    node_id: str | None = None,
    project_id: str | None = None,
    status: str | None = None,
) -> list[OperationRow]:
    """Return calls, newest first; `before` is time and key of the last of the page before."""
    sent_at_ms, key = before or (2**62, "")
    rows = await tx.fetch_all(
        _SELECT_PAGE,
        {
            "sent_at_ms": sent_at_ms,
            "key": key,
            "limit": limit,
            "attempt_id": attempt_id,
            "node_id": node_id,
            "project_id": project_id,
            "status": status,
        },
    )
    return [_operation(row) for row in rows]


def _note(tx: Transaction, key: str, attempt_id: str | None, node_id: str | None) -> None:
    ids = {"operation": key}
    if attempt_id is not None:
        ids["attempt"] = attempt_id
    if node_id is not None:
        ids["node"] = node_id
    tx.note(Change(kind="operation.changed", ids=ids))
