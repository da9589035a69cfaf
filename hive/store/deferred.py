"""Operations kept for nodes that are away: each with its record in `operations`, until it is known.

The status stands in the operation's own row; here stands what it needs to leave later, and what its
caller had seen. Every change is a guarded update, so that of cancelling, expiring and leaving just
one happens. How it leaves is `deliveries`.
"""

from typing import Final

import msgspec

from hive.projections import EventDraft
from hive.store import attempts, credentials, events, nodes, operations
from hive.store.backend import Row, Transaction
from hive.store.operations import OperationRow
from protocol import limits
from protocol.errors import ErrorBody, ErrorCode, OperationError
from protocol.states import DeferredStatus, ExecutionKind

_S = DeferredStatus
_WINDOW_MS: Final = limits.DEFERRED_S_MAX * 1000

_INSERT = """
INSERT INTO deferred_operation (key, body, expected_head, expected_execution, phase, token_id,
    deadline_s, expires_at_ms, held, first_delivered_at_ms, deliveries)
VALUES (:key, :body, :expected_head, :expected_execution, :phase, :token_id,
    :deadline_s, :expires_at_ms, 0, :first_delivered_at_ms, 0)
"""
_SELECT = "SELECT * FROM deferred_operation WHERE key = :key"
_COUNT = """
SELECT count(*) AS waiting FROM operation
WHERE node_id = :node_id AND status IN ('waiting', 'delivered')
"""
#: Whether another of the same kind waits for this attempt, to be done before it.
_BEFORE = """
SELECT 1 FROM operation JOIN deferred_operation ON deferred_operation.key = operation.key
WHERE operation.attempt_id = :attempt_id AND operation.operation = :operation
    AND operation.status IN ('waiting', 'delivered') AND deferred_operation.held = 0
    AND operation.key <> :key
LIMIT 1
"""
_LAST = """
SELECT max(sent_at_ms) AS last_ms FROM operation
WHERE node_id = :node_id AND status IN ('waiting', 'delivered')
"""
_HOLD = """
UPDATE deferred_operation SET held = 1
WHERE key IN (SELECT key FROM operation WHERE status IN ('waiting', 'delivered'))
"""
_CONFIRM = "UPDATE deferred_operation SET held = 0 WHERE key = :key AND held = 1"


class DeferredRow(msgspec.Struct, frozen=True, kw_only=True):
    """What an operation needs to leave later. `body` is the request's msgpack.

    `expected_execution` is the newest run of the agent that its caller saw, empty for none.
    """

    key: str
    body: bytes
    expected_head: str | None
    expected_execution: str
    phase: str
    token_id: str
    deadline_s: float
    expires_at_ms: int
    held: bool
    first_delivered_at_ms: int | None
    deliveries: int


class Deferral(msgspec.Struct, frozen=True, kw_only=True):
    """An operation as it is to be kept."""

    key: str
    body_hash: str
    operation: str
    node_id: str
    attempt_id: str
    task_id: str | None
    project_id: str | None
    actor: str
    token_id: str
    body: bytes
    expected_head: str | None
    deadline_s: float
    expires_at_ms: int


# --- keeping --------------------------------------------------------------------------------------


async def keep(tx: Transaction, wanted: Deferral, retried: frozenset[str], now_ms: int) -> bool:
    """Keep an operation until its node is there; whether it is kept by this call.

    False where its key stands for something already, which is left as it is; but for a call of the
    same request that did nothing (its error is one of `retried`) or whose outcome is not known.
    """
    present = await operations.find_operation(tx, wanted.key)
    left_at_ms = None
    if present is not None:
        same = (present.body_hash, present.actor) == (wanted.body_hash, wanted.actor)
        if not same or await find_deferred(tx, wanted.key) is not None:
            return False
        if present.status in {operations.SENT, operations.UNKNOWN}:
            left_at_ms = present.sent_at_ms
        elif not (present.status == operations.FAILED and _code(present.error) in retried):
            return False
    await _check_room(tx, wanted.node_id)
    attempt = await attempts.get_attempt(tx, wanted.attempt_id)
    token = await credentials.get_token(tx, wanted.token_id)
    runs = [one.id for one in attempt.executions if one.kind == ExecutionKind.AGENT]
    expires_at_ms = min(wanted.expires_at_ms, now_ms + _WINDOW_MS, token.expires_at_ms or 2**62)
    status = _S.WAITING if left_at_ms is None else _S.DELIVERED
    # They leave in the order in which they were asked, within a millisecond too.
    last = await tx.fetch_one(_LAST, {"node_id": wanted.node_id})
    asked_ms = max(now_ms, 0 if last is None else (last["last_ms"] or 0) + 1)
    await operations.put(
        tx,
        key=wanted.key,
        body_hash=wanted.body_hash,
        operation=wanted.operation,
        node_id=wanted.node_id,
        attempt_id=wanted.attempt_id,
        task_id=wanted.task_id,
        project_id=wanted.project_id,
        actor=wanted.actor,
        expected_head=wanted.expected_head,
        status=status.value,
        # As what left: the time of the first sending stays the one it is known by.
        sent_at_ms=asked_ms if left_at_ms is None else left_at_ms,
    )
    await tx.execute(
        _INSERT,
        {
            "key": wanted.key,
            "body": wanted.body,
            "expected_head": wanted.expected_head,
            "expected_execution": runs[-1] if runs else "",
            "phase": attempt.phase,
            "token_id": wanted.token_id,
            "deadline_s": wanted.deadline_s,
            "expires_at_ms": expires_at_ms,
            "first_delivered_at_ms": left_at_ms,
        },
    )
    row = await operations.get_operation(tx, wanted.key)
    await tell(tx, row, "operation_kept", now_ms, actor=row.actor, to=status)
    return True


async def _check_room(tx: Transaction, node_id: str) -> None:
    node = await nodes.get_node(tx, node_id)
    if node.revoked_at_ms is not None:
        raise OperationError(
            ErrorCode.REVOKED,
            f"the node {node.name} was revoked: it will not be back",
            hint="What it reported stays; nothing can be asked of it.",
            node_id=node_id,
        )
    row = await tx.fetch_one(_COUNT, {"node_id": node_id})
    if row is not None and row["waiting"] >= limits.DEFERRED_PER_NODE_MAX:
        raise OperationError(
            ErrorCode.SLOW_DOWN,
            f"{limits.DEFERRED_PER_NODE_MAX} operations wait for this node",
            hint="hive operations --waiting lists them; hive operations cancel takes one back.",
        )


# --- looking --------------------------------------------------------------------------------------


async def has_before(tx: Transaction, attempt_id: str, operation: str, key: str) -> bool:
    """Return whether another operation of this kind waits for an attempt's node."""
    values = {"attempt_id": attempt_id, "operation": operation, "key": key}
    return await tx.fetch_one(_BEFORE, values) is not None


async def find_deferred(tx: Transaction, key: str) -> DeferredRow | None:
    """Return what is kept of an operation; None where it was never kept."""
    row = await tx.fetch_one(_SELECT, {"key": key})
    return None if row is None else _deferred(row)


def _deferred(row: Row) -> DeferredRow:
    values = {name: row[name] for name in DeferredRow.__struct_fields__ if name != "held"}
    return DeferredRow(**values, held=bool(row["held"]))


# --- by people ------------------------------------------------------------------------------------


async def cancel(tx: Transaction, key: str, *, actor: str, now_ms: int) -> OperationRow:
    """Take back an operation that waits. Raises CONFLICT where it has left, or was not kept.

    One that left before a restore, and is held since, is not sent again: its outcome is unknown.
    """
    row, deferred = await _kept(tx, key)
    if row.status == _S.DELIVERED and not deferred.held:
        raise OperationError(
            ErrorCode.CONFLICT,
            "it has been delivered to its node; it cannot be taken back",
            hint=f"hive operations show {key} tells what becomes of it.",
            status=row.status,
        )
    status, code = _S.CANCELLED, ErrorCode.CANCELLED
    message = f"{actor} took it back before its node was there; nothing was done"
    if row.status == _S.DELIVERED:
        status, code = _S.UNKNOWN, ErrorCode.UNKNOWN_OUTCOME
        message = f"{actor} had it not sent again; it had been sent before the hive was restored"
    await settle(tx, row, status, now_ms, error=OperationError(code, message), actor=actor)
    return await operations.get_operation(tx, key)


async def confirm(tx: Transaction, key: str, *, actor: str, now_ms: int) -> OperationRow:
    """Have an operation leave that is held since a restore. Once confirmed, again is no change."""
    row, _ = await _kept(tx, key)
    if await tx.execute(_CONFIRM, {"key": key}):
        await tell(tx, row, "operation_confirmed", now_ms, actor=actor, to=_S(row.status))
    return await operations.get_operation(tx, key)


async def _kept(tx: Transaction, key: str) -> tuple[OperationRow, DeferredRow]:
    row = await operations.get_operation(tx, key)
    deferred = await find_deferred(tx, key)
    if deferred is None or row.status not in {_S.WAITING, _S.DELIVERED}:
        raise OperationError(
            ErrorCode.CONFLICT,
            f"the operation does not wait for a node: it is {row.status}",
            hint="hive operations --waiting lists those that do.",
            status=row.status,
        )
    return row, deferred


async def hold_all(tx: Transaction, now_ms: int) -> int:
    """After a restore: nothing leaves by itself, as it may have been done or taken back since."""
    held = await tx.execute(_HOLD)
    if held:
        draft = EventDraft(
            kind="operations_held",
            what="hive",
            what_id="",
            why="the store was put back from a copy; each waits until a person confirms it",
            level="warning",
            audit=True,
            actor_kind="hive",
            details={"count": held},
        )
        await events.record(tx, draft, now_ms)
    return held


# --- written down ---------------------------------------------------------------------------------


async def settle(
    tx: Transaction,
    row: OperationRow,
    status: DeferredStatus,
    now_ms: int,
    *,
    error: OperationError,
    actor: str = "",
) -> None:
    """End an operation that was kept, if it still stands as `row` says; and write down why."""
    text = msgspec.json.encode(error.body()).decode()
    if await operations.move(tx, row.key, {row.status}, status, error=text, at_ms=now_ms):
        kind = f"operation_{status.value}"
        await tell(tx, row, kind, now_ms, actor=actor, why=error.message, to=status)


async def tell(
    tx: Transaction,
    row: OperationRow,
    kind: str,
    now_ms: int,
    *,
    to: DeferredStatus,
    actor: str = "",
    why: str = "",
) -> None:
    """Write down what happened to a kept operation, for the audit."""
    draft = EventDraft(
        kind=kind,
        what="operation",
        what_id=row.key,
        from_state=None if kind == "operation_kept" else row.status,
        to_state=to.value,
        why=why,
        level="warning" if to in {_S.FAILED, _S.EXPIRED, _S.UNKNOWN} else "info",
        audit=True,
        actor_kind="user" if actor else "hive",
        actor=actor,
        node_id=row.node_id,
        project_id=row.project_id,
        task_id=row.task_id,
        attempt_id=row.attempt_id,
        details={"operation": row.operation},
    )
    await events.record(tx, draft, now_ms)


def _code(error: str | None) -> str:
    return "" if error is None else msgspec.json.decode(error, type=ErrorBody).code
