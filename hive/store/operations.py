"""The hive's own record of each changing call: written before it leaves, settled after.

A caller that lost its answer finds it here by its key. Where the hive never got one, the node's own
record of the operation (an op) settles it.
"""

from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec

from hive.projections import EventDraft
from hive.store import events
from hive.store.backend import Change, Row, Transaction
from protocol.errors import ErrorBody, ErrorCode, OperationError

SENT: Final = "sent"
DONE: Final = "done"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"

_INSERT = """
INSERT INTO operation (key, body_hash, operation, node_id, attempt_id, task_id, project_id, actor,
    status, body, reply, error, head_before, head_after, sent_at_ms, ended_at_ms)
VALUES (:key, :body_hash, :operation, :node_id, :attempt_id, :task_id, :project_id, :actor,
    :status, :body, NULL, NULL, :expected_head, NULL, :now_ms, NULL)
"""
_BEGIN = f"{_INSERT} ON CONFLICT (key) DO NOTHING"
_PUT = f"""{_INSERT} ON CONFLICT (key) DO UPDATE SET status = excluded.status,
    node_id = excluded.node_id, head_before = excluded.head_before,
    sent_at_ms = excluded.sent_at_ms, body = NULL, reply = NULL, error = NULL, ended_at_ms = NULL
"""
_SELECT = "SELECT * FROM operation WHERE key = :key"
_SELECT_BODY = "SELECT body FROM operation WHERE key = :key"
_SEND_AGAIN = """
UPDATE operation SET status = 'sent', node_id = :node_id, body = :body, error = NULL,
    reply = NULL, ended_at_ms = NULL
WHERE key = :key
"""
_SETTLE = """
UPDATE operation SET status = :status, reply = :reply, error = :error,
    body = CASE WHEN :status = 'unknown' THEN body END,
    attempt_id = coalesce(:attempt_id, attempt_id), ended_at_ms = :now_ms
WHERE key = :key
"""
_MOVE = """
UPDATE operation SET status = :status, reply = :reply, error = :error, ended_at_ms = :ended_at_ms
WHERE key = :key AND status = :before
"""
#: After a start of the hive nobody waits for these any more; their outcome may still come as ops.
_LOST_SIGHT = """
UPDATE operation SET status = 'unknown', ended_at_ms = :now_ms WHERE status = 'sent'
"""
_SELECT_RECORDED = """
SELECT key, operation, node_id, attempt_id, task_id, project_id, actor, status, body_hash, reply,
    error, head_before, head_after, sent_at_ms, ended_at_ms
FROM operation
WHERE sent_at_ms <= :sent_at_ms AND (sent_at_ms < :sent_at_ms OR key < :key)
"""
#: The hive's own record stands for the node's report of the same call.
_SELECT_TOLD = """
SELECT told.key, told.operation, told.node_id, told.attempt_id, attempt.task_id,
    attempt.project_id, told.actor, CASE WHEN told.error_code = 'unknown' THEN 'unknown'
        ELSE told.status END AS status,
    '' AS body_hash, NULL AS reply, told.error_code AS error, told.head_before,
    told.head_after, told.started_at_ms AS sent_at_ms, told.ended_at_ms
FROM node_operation AS told LEFT JOIN attempt ON attempt.id = told.attempt_id
WHERE told.started_at_ms BETWEEN :oldest_ms AND :sent_at_ms
    AND (told.started_at_ms < :sent_at_ms OR told.key < :key)
    AND NOT EXISTS (SELECT 1 FROM operation WHERE operation.key = told.key
        AND operation.node_id = told.node_id)
"""
#: Filters of a list, by name: the condition each adds to the hive's records, and to the reports.
_FILTERS: Final = {
    "attempt_id": ("attempt_id = :attempt_id", "told.attempt_id = :attempt_id"),
    "node_id": ("node_id = :node_id", "told.node_id = :node_id"),
    "project_id": ("project_id = :project_id", "attempt.project_id = :project_id"),
    "status": (
        "status = :status",
        ":status = CASE WHEN told.error_code = 'unknown' THEN 'unknown' ELSE told.status END",
    ),
}
_SELECT_REPORTED = """
SELECT told.key, told.operation, told.node_id, told.attempt_id, attempt.task_id,
    attempt.project_id, told.actor, told.status, told.error_code, told.head_before,
    told.head_after, told.started_at_ms, told.ended_at_ms
FROM node_operation AS told LEFT JOIN attempt ON attempt.id = told.attempt_id
WHERE told.key = :key ORDER BY told.at_ms DESC LIMIT 1
"""


class ReportRow(msgspec.Struct, frozen=True, kw_only=True):
    """A changing call as its node says it carried it out."""

    key: str
    operation: str
    node_id: str
    attempt_id: str | None
    task_id: str | None
    project_id: str | None
    actor: str
    status: str
    error_code: str | None
    head_before: str | None
    head_after: str | None
    started_at_ms: int
    ended_at_ms: int | None


class OperationRow(msgspec.Struct, frozen=True, kw_only=True):
    """A changing call. `error` is an ErrorBody in JSON.

    `status`: sent, done, failed or unknown; and of one that was kept for a node that was away,
    those of `protocol.states.DeferredStatus`. `body_hash` is empty where only its node recorded it.
    """

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
    expected_head: str | None = None,
    body: bytes | None = None,
) -> OperationRow | None:
    """Write a call down before it leaves; return the record of that key where there is one."""
    values = {
        "status": SENT,
        "body": body,
        "expected_head": expected_head,
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
    told = await find_report(tx, key)
    if told is not None and await tx.fetch_one(_SELECT, {"key": key}) is None:
        # This hive was restored since: what its node reported is what became of the key.
        if told.operation != operation or attempt_id not in {None, told.attempt_id}:
            # Another request's: what is returned has no body that this one's could be.
            return await find_operation(tx, key)
        known = {"status": told.status, "node_id": told.node_id, "actor": told.actor, "body": None}
        await tx.execute(_BEGIN, {**values, **known})
        return await find_operation(tx, key)
    if not await tx.execute(_BEGIN, values):
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


async def put(
    tx: Transaction,
    *,
    key: str,
    body_hash: str,
    operation: str,
    actor: str,
    status: str,
    sent_at_ms: int,
    node_id: str,
    attempt_id: str,
    task_id: str | None,
    project_id: str | None,
    expected_head: str | None,
) -> None:
    """Write a call down that does not leave now, over one under its key that did nothing."""
    values = {
        "key": key,
        "body_hash": body_hash,
        "operation": operation,
        "node_id": node_id,
        "attempt_id": attempt_id,
        "task_id": task_id,
        "project_id": project_id,
        "actor": actor,
        "status": status,
        "body": None,
        "expected_head": expected_head,
        "now_ms": sent_at_ms,
    }
    await tx.execute(_PUT, values)
    _note(tx, key, attempt_id, node_id)


async def move(
    tx: Transaction,
    key: str,
    before: AbstractSet[str],
    after: str,
    *,
    at_ms: int | None = None,
    reply: bytes | None = None,
    error: str | None = None,
) -> bool:
    """Change a call's status if it is one of `before`; whether it was. `at_ms`: when it ended."""
    row = await find_operation(tx, key)
    if row is None or row.status not in before:
        return False
    values = {
        "key": key,
        "before": row.status,
        "status": str(after),
        "ended_at_ms": at_ms,
        "reply": reply,
        "error": error,
    }
    if not await tx.execute(_MOVE, values):
        return False
    _note(tx, key, row.attempt_id, row.node_id)
    return True


async def send_again(tx: Transaction, key: str, node_id: str, body: bytes | None) -> None:
    """Write down that a recorded call leaves once more, to this node, and as what."""
    await tx.execute(_SEND_AGAIN, {"key": key, "node_id": node_id, "body": body})


async def sent_body(tx: Transaction, key: str) -> bytes | None:
    """Return what left for the node; None where its answer is known, or it left another way."""
    row = await tx.fetch_one(_SELECT_BODY, {"key": key})
    return None if row is None else row["body"]


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
    told = await find_report(tx, key)
    if told is None:
        return None
    return OperationRow(
        key=key,
        body_hash="",
        operation=told.operation,
        node_id=told.node_id,
        attempt_id=told.attempt_id,
        task_id=told.task_id,
        project_id=told.project_id,
        actor=told.actor,
        status=UNKNOWN if told.error_code == ErrorCode.UNKNOWN_OUTCOME else told.status,
        reply=None,
        error=_error_text(told.error_code),
        head_before=told.head_before,
        head_after=told.head_after,
        sent_at_ms=told.started_at_ms,
        ended_at_ms=told.ended_at_ms,
    )


async def find_report(tx: Transaction, key: str) -> ReportRow | None:
    """Return what a node said of the call under a key; None where none said anything."""
    row = await tx.fetch_one(_SELECT_REPORTED, {"key": key})
    if row is None:
        return None
    return ReportRow(**{name: row[name] for name in ReportRow.__struct_fields__})


def error_told(code: str | None) -> ErrorBody | None:
    """Return what a node's report says of an error: its code alone travels in an op."""
    if code is None:
        return None
    return ErrorBody(
        code=code,
        message="the node reported that it failed",
        hint="The same request with the same key gets the node's whole answer.",
    )


def _error_text(code: str | None) -> str | None:
    body = error_told(code)
    return None if body is None else msgspec.json.encode(body).decode()


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
    **filters: str | None,
) -> list[OperationRow]:
    """Return calls, newest first; `before` is time and key of the last of the page before.

    `filters`: attempt_id, node_id, project_id, status.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    recorded, told = ("".join(f" AND {_FILTERS[name][side]}" for name in given) for side in (0, 1))
    sent_at_ms, key = before or (2**62, "")
    place = {**given, "sent_at_ms": sent_at_ms, "key": key, "limit": limit}
    found = await tx.fetch_all(
        f"{_SELECT_RECORDED}{recorded} ORDER BY sent_at_ms DESC, key DESC LIMIT :limit", place
    )
    # What was told before the last of a whole page is not on it. Most reports are of calls that are
    # recorded: without a bound all of them would be read to find none.
    oldest_ms = found[-1]["sent_at_ms"] if len(found) == limit else 0
    found += await tx.fetch_all(
        f"{_SELECT_TOLD}{told} ORDER BY told.started_at_ms DESC, told.key DESC LIMIT :limit",
        {**place, "oldest_ms": oldest_ms},
    )
    rows = sorted(map(_operation, found), key=lambda row: (row.sent_at_ms, row.key), reverse=True)
    return [
        row
        if row.body_hash or row.error is None
        else msgspec.structs.replace(row, error=_error_text(row.error))
        for row in rows[:limit]
    ]


def _note(tx: Transaction, key: str, attempt_id: str | None, node_id: str | None) -> None:
    ids = {"operation": key}
    if attempt_id is not None:
        ids["attempt"] = attempt_id
    if node_id is not None:
        ids["node"] = node_id
    tx.note(Change(kind="operation.changed", ids=ids))
