"""Sessions: the conversations of attempts with their agents, each change with its op.

Functions take the transaction they work in. Must not decide when a session rests, closes or goes
on with another session of the agent's: `sessions` does.
"""

from typing import Final

import msgspec

from node_agent.store.attempts import IllegalTransition
from node_agent.store.errors import NotStored
from node_agent.store.journal import save as save_state
from node_agent.store.journal import state_of
from node_agent.store.transaction import Transaction
from protocol.conversation import Session, SessionStatus
from protocol.ops import OpKind
from protocol.states import AttemptPhase

#: What may follow what, beside staying as it is.
_FOLLOWS: Final = {
    SessionStatus.OPEN: {SessionStatus.IDLE, SessionStatus.CLOSED},
    SessionStatus.IDLE: {SessionStatus.OPEN, SessionStatus.CLOSED},
    SessionStatus.CLOSED: {SessionStatus.OPEN},
}
_SET = """
INSERT INTO session (id, attempt_id, status, created_at_ms, last_activity_at_ms)
VALUES (:id, :attempt_id, :status, :created_at_ms, :last_activity_at_ms)
ON CONFLICT (id) DO UPDATE SET status = excluded.status,
    last_activity_at_ms = excluded.last_activity_at_ms
"""


async def save(tx: Transaction, session: Session, at_ms: int) -> Session:
    """Write a session and its op, with the messages it has now.

    Raises IllegalTransition where its status may not follow.
    """
    before = await find(tx, session.id)
    moved = before is not None and session.status is not before.status
    if before is not None and moved and session.status not in _FOLLOWS[before.status]:
        raise IllegalTransition("session", session.id, before.status, session.status)
    counted = msgspec.structs.replace(
        session, message_count=await message_count(tx, session.id), last_activity_at_ms=at_ms
    )
    if counted.status is SessionStatus.CLOSED and before is not None:
        # Closing it is nothing that happened in it.
        counted = msgspec.structs.replace(
            counted, last_activity_at_ms=before.last_activity_at_ms, closed_at_ms=at_ms
        )
    elif counted.closed_at_ms is not None:
        counted = msgspec.structs.replace(counted, closed_at_ms=None, reason=None)
    row = {
        "id": counted.id,
        "attempt_id": counted.attempt_id,
        "status": counted.status.value,
        "created_at_ms": counted.created_at_ms,
        "last_activity_at_ms": counted.last_activity_at_ms,
    }
    await tx.execute(_SET, row)
    await save_state(tx, OpKind.SESSION, counted.id, at_ms, counted)
    return counted


async def rename(tx: Transaction, session_id: str, topic: str, at_ms: int) -> Session:
    """Give a session another topic. It is nothing that happened in it. Raises NotStored."""
    session = await get(tx, session_id)
    if session.topic == topic:
        return session
    renamed = msgspec.structs.replace(session, topic=topic)
    await save_state(tx, OpKind.SESSION, session_id, at_ms, renamed)
    return renamed


_COUNT = "SELECT coalesce(max(seq), 0) AS last FROM message WHERE session_id = :session_id"


async def message_count(tx: Transaction, session_id: str) -> int:
    """Return how many messages a session has, stored in this very transaction or before."""
    row = await tx.fetch_one(_COUNT, {"session_id": session_id})
    return 0 if row is None else int(row["last"])


async def find(tx: Transaction, session_id: str) -> Session | None:
    """Return a session as it stands."""
    body = await state_of(tx, OpKind.SESSION, session_id)
    return None if body is None else msgspec.msgpack.decode(body, type=Session)


async def get(tx: Transaction, session_id: str) -> Session:
    """Return a session as it stands. Raises NotStored."""
    session = await find(tx, session_id)
    if session is None:
        raise NotStored("session", session_id)
    return session


_NEWEST_OF = """
SELECT id FROM session WHERE attempt_id = :attempt_id ORDER BY created_at_ms DESC, id DESC LIMIT 1
"""


async def newest_of(tx: Transaction, attempt_id: str) -> Session | None:
    """Return the session that an attempt goes on with; None where it never had one."""
    row = await tx.fetch_one(_NEWEST_OF, {"attempt_id": attempt_id})
    return None if row is None else await get(tx, row["id"])


async def become(tx: Transaction, attempt_id: str, status: SessionStatus, at_ms: int) -> None:
    """Have the attempt's session, if it has one, be open or idle from now on."""
    session = await newest_of(tx, attempt_id)
    if session is None or session.status is status:
        return
    if session.status is SessionStatus.CLOSED and status is SessionStatus.IDLE:
        return
    await save(tx, msgspec.structs.replace(session, status=status), at_ms)


# An attempt that has not ended has a turn to come or a request that waits.
_RESTING = """
SELECT session.id FROM session JOIN attempt ON attempt.id = session.attempt_id
WHERE session.status = :idle AND session.last_activity_at_ms <= :before_ms
    AND attempt.phase = :ended
    AND (attempt.hold_until_ms IS NULL OR attempt.hold_until_ms <= :now_ms)
ORDER BY session.last_activity_at_ms, session.id LIMIT :limit
"""


async def resting(tx: Transaction, *, before_ms: int, now_ms: int, limit: int) -> list[Session]:
    """Return idle sessions in which nothing happened since, of ended attempts that nobody holds."""
    rows = await tx.fetch_all(
        _RESTING,
        {
            "idle": SessionStatus.IDLE.value,
            "ended": AttemptPhase.ENDED.value,
            "before_ms": before_ms,
            "now_ms": now_ms,
            "limit": limit,
        },
    )
    return [await get(tx, row["id"]) for row in rows]
