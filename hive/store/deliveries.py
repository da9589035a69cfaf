"""Kept operations on their way: which leaves next, whether it still may, and what came of it.

The right of whoever asked, the time, and what it is for are looked at in the transaction in which
it leaves. Must not send anything.
"""

from typing import Final

import msgspec

from hive.store import attempts, credentials, operations
from hive.store.backend import Transaction
from hive.store.deferred import DeferredRow, find_deferred, settle, tell
from hive.store.operations import OperationRow
from protocol import limits
from protocol.errors import ErrorBody, ErrorCode, OperationError
from protocol.operations import OPERATIONS, Role
from protocol.states import DeferredStatus

_S = DeferredStatus
_WINDOW_MS: Final = limits.DEFERRED_S_MAX * 1000

#: Names of operations, of our own table.
_QUEUED: Final = ", ".join(f"'{row.name}'" for row in OPERATIONS.values() if row.queues)
_NEXT = f"""
SELECT operation.sent_at_ms, operation.key FROM operation
JOIN deferred_operation ON deferred_operation.key = operation.key
WHERE operation.node_id = :node_id AND operation.status IN ('waiting', 'delivered')
    AND deferred_operation.held = 0
    AND (operation.sent_at_ms > :sent_at_ms
        OR (operation.sent_at_ms = :sent_at_ms AND operation.key > :key))
    AND NOT (operation.operation IN ({_QUEUED}) AND EXISTS (
        SELECT 1 FROM operation AS before
        JOIN deferred_operation AS kept_before ON kept_before.key = before.key
        WHERE before.attempt_id = operation.attempt_id
            AND before.operation = operation.operation
            AND before.status IN ('waiting', 'delivered') AND kept_before.held = 0
            AND before.sent_at_ms < operation.sent_at_ms
    ))
ORDER BY operation.sent_at_ms, operation.key LIMIT 1
"""  # noqa: S608  no word of a caller
_NEXT_TIME = """
SELECT min(CASE WHEN operation.status = 'waiting' THEN deferred_operation.expires_at_ms
    ELSE deferred_operation.first_delivered_at_ms + :window_ms END) AS at_ms
FROM operation JOIN deferred_operation ON deferred_operation.key = operation.key
WHERE operation.status IN ('waiting', 'delivered')
"""
_OVERDUE = """
SELECT operation.key FROM operation
JOIN deferred_operation ON deferred_operation.key = operation.key
WHERE operation.status IN ('waiting', 'delivered')
    AND :now_ms >= CASE WHEN operation.status = 'waiting' THEN deferred_operation.expires_at_ms
        ELSE deferred_operation.first_delivered_at_ms + :window_ms END
ORDER BY operation.sent_at_ms, operation.key LIMIT :limit
"""
_LEAVES = """
UPDATE deferred_operation SET deliveries = deliveries + 1,
    first_delivered_at_ms = coalesce(first_delivered_at_ms, :now_ms)
WHERE key = :key
"""
_PUT_BACK = "UPDATE deferred_operation SET first_delivered_at_ms = NULL WHERE key = :key"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """An operation that is about to leave, with the role its caller has now.

    `again`: it may have been carried out already.
    """

    row: OperationRow
    deferred: DeferredRow
    role: Role
    again: bool


# --- which is next --------------------------------------------------------------------------------


async def next_of_node(
    tx: Transaction, node_id: str, after: tuple[int, str]
) -> tuple[int, str] | None:
    """Return time and key of the next one to leave to a node, in the order they were asked.

    Of those that are done one behind the other, one waits until what became of the one before it
    is known.
    """
    sent_at_ms, key = after
    row = await tx.fetch_one(_NEXT, {"node_id": node_id, "sent_at_ms": sent_at_ms, "key": key})
    return None if row is None else (row["sent_at_ms"], row["key"])


async def next_time_ms(tx: Transaction) -> int | None:
    """Return when the next one expires, or is given up; None where there is none."""
    row = await tx.fetch_one(_NEXT_TIME, {"window_ms": _WINDOW_MS})
    return None if row is None else row["at_ms"]


# --- leaving --------------------------------------------------------------------------------------


async def leave(tx: Transaction, key: str, now_ms: int) -> Delivery | None:
    """Have an operation leave for its node, if that is still right; None where it is not.

    What is not right any more is settled: failed with the reason, or unknown where it may have been
    carried out before.
    """
    deferred = await find_deferred(tx, key)
    row = await operations.find_operation(tx, key)
    if deferred is None or row is None or deferred.held:
        return None
    if row.status not in {_S.WAITING, _S.DELIVERED} or await _overdue(tx, row, deferred, now_ms):
        return None
    try:
        role = await _role_now(tx, row, deferred, now_ms)
    except OperationError as refusal:
        status = _S.FAILED if row.status == _S.WAITING else _S.UNKNOWN
        await settle(tx, row, status, now_ms, error=refusal)
        return None
    await tx.execute(_LEAVES, {"key": key, "now_ms": now_ms})
    if row.status == _S.WAITING:
        await operations.move(tx, key, {_S.WAITING}, _S.DELIVERED)
        await tell(tx, row, "operation_delivered", now_ms, to=_S.DELIVERED)
    again = deferred.first_delivered_at_ms is not None
    return Delivery(row=row, deferred=deferred, role=role, again=again)


async def _role_now(tx: Transaction, row: OperationRow, deferred: DeferredRow, now_ms: int) -> Role:
    """Return the role its caller has now.

    Raises OperationError where they may not ask for it any more, or what it is for is gone.
    """
    token = await credentials.get_token(tx, deferred.token_id)
    role = Role[token.role.upper()]
    ended_ms = token.revoked_at_ms or token.expires_at_ms
    if ended_ms is not None and ended_ms <= now_ms:
        how = "was revoked" if token.revoked_at_ms else "has expired"
        raise OperationError(
            ErrorCode.FORBIDDEN,
            f"the token {token.name}, which asked for this, {how} before the node was back",
            hint="Ask again with a token that is good, if it is still meant.",
        )
    operation = OPERATIONS.get(row.operation)
    if operation is None or role < operation.role:
        raise OperationError(
            ErrorCode.FORBIDDEN,
            f"the token {token.name} may not do this any more",
            hint="Ask for a token with the role it needs.",
        )
    if not await attempts.exists(tx, row.attempt_id or ""):
        raise OperationError(ErrorCode.NOT_FOUND, "the attempt is not there any more")
    attempt = await attempts.get_attempt(tx, row.attempt_id or "")
    if attempt.forgotten_at_ms is not None or attempt.node_id != row.node_id:
        raise OperationError(
            ErrorCode.GONE,
            "the node does not know the attempt any more",
            hint="Its disk was put back to an older state.",
        )
    return role


async def _overdue(tx: Transaction, row: OperationRow, deferred: DeferredRow, now_ms: int) -> bool:
    """Settle what may not leave any more; looked at when it leaves, not by a timer alone."""
    if row.status == _S.WAITING:
        if now_ms < deferred.expires_at_ms:
            return False
        error = OperationError(
            ErrorCode.EXPIRED,
            "the node was not back in time; nothing was done",
            hint="Ask again if it is still meant.",
            expires_at_ms=deferred.expires_at_ms,
        )
        await settle(tx, row, _S.EXPIRED, now_ms, error=error)
        return True
    if now_ms < (deferred.first_delivered_at_ms or 0) + _WINDOW_MS:
        return False
    # Nodes forget keys after a while: sent again later it might be done twice.
    error = OperationError(
        ErrorCode.UNKNOWN_OUTCOME,
        "it was sent to the node, and no answer came for too long",
        hint="Look at the attempt before you ask again.",
    )
    await settle(tx, row, _S.UNKNOWN, now_ms, error=error)
    return True


async def put_back(tx: Transaction, key: str, error: ErrorBody, now_ms: int) -> None:
    """The node took nothing of it: it goes on waiting, with what was in the way."""
    if await operations.move(tx, key, {_S.DELIVERED}, _S.WAITING):
        await tx.execute(_PUT_BACK, {"key": key})
        row = await operations.get_operation(tx, key)
        await tell(tx, row, "operation_put_back", now_ms, why=error.code, to=_S.WAITING)


async def answered(tx: Transaction, key: str, reply: bytes, now_ms: int) -> None:
    """The node carried it out; its own report of that may have come before."""
    await operations.move(
        tx, key, {_S.WAITING, _S.DELIVERED, _S.UNKNOWN, _S.DONE}, _S.DONE, reply=reply, at_ms=now_ms
    )


async def refused(tx: Transaction, key: str, error: ErrorBody, now_ms: int) -> None:
    """The node said no, for good; its own report of that may have come before."""
    row = await operations.get_operation(tx, key)
    text = msgspec.json.encode(error).decode()
    if row.status == _S.DELIVERED:
        await tell(tx, row, "operation_refused", now_ms, why=error.code, to=_S.FAILED)
    await operations.move(tx, key, {_S.DELIVERED, _S.FAILED}, _S.FAILED, error=text, at_ms=now_ms)


async def expire(tx: Transaction, now_ms: int, limit: int = 200) -> int:
    """Settle those whose time is over; return how many."""
    overdue = {"now_ms": now_ms, "window_ms": _WINDOW_MS, "limit": limit}
    rows = await tx.fetch_all(_OVERDUE, overdue)
    for found in rows:
        row = await operations.get_operation(tx, found["key"])
        deferred = await find_deferred(tx, found["key"])
        if deferred is not None:
            await _overdue(tx, row, deferred, now_ms)
    return len(rows)
