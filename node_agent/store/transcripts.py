"""Sessions, their messages and turns as they are looked for: pages, and a session by its digits.

Only reads: `sessions` and `messages` write. A message is found by its number, never by a clock.
"""

from typing import Final

import msgspec

from node_agent.store import messages, sessions
from node_agent.store.errors import NotStored
from node_agent.store.journal import state_of
from node_agent.store.transaction import Transaction
from protocol.conversation import Message, Session, TurnState
from protocol.errors import ErrorCode, SkepError
from protocol.ops import OpKind

#: So many digits of an id name it.
_DIGITS_MIN: Final = 8
_CANDIDATES_MAX: Final = 2
_HINT: Final = "node-agent sessions lists those of this node."
_NEWEST = """
SELECT id FROM session
WHERE (:attempt_id IS NULL OR attempt_id = :attempt_id)
    AND (created_at_ms < :before_ms OR (created_at_ms = :before_ms AND id < :before_id))
ORDER BY created_at_ms DESC, id DESC LIMIT :limit
"""
_BY_PART = """
SELECT id FROM session
WHERE id = :text OR replace(id, '-', '') LIKE :first OR replace(id, '-', '') LIKE :last
ORDER BY id LIMIT :limit
"""
_PLACES = """
SELECT id, seq FROM message WHERE session_id = :session_id AND seq > :after AND seq < :before
ORDER BY seq LIMIT :limit
"""
_PLACES_BEFORE = """
SELECT id, seq FROM message WHERE session_id = :session_id AND seq < :before
ORDER BY seq DESC LIMIT :limit
"""
#: Beyond every number there is.
END: Final = 2**62
#: The number of a turn that has not begun: beyond all that have.
NOT_BEGUN: Final = 10**17


async def newest(
    tx: Transaction, *, attempt_id: str | None, before: tuple[int, str] | None, limit: int
) -> list[Session]:
    """Return sessions, newest first; `before`: when the last one before began, and its id."""
    before_ms, before_id = before or (END, "")
    rows = await tx.fetch_all(
        _NEWEST,
        {
            "attempt_id": attempt_id,
            "before_ms": before_ms,
            "before_id": before_id,
            "limit": limit,
        },
    )
    return [await sessions.get(tx, row["id"]) for row in rows]


async def resolve_session(tx: Transaction, text: str) -> str:
    """Return the id of the session a person means: its id, or 8 or more first or last digits.

    Raises NotStored, or INVALID where several fit.
    """
    digits = text.strip().lower().replace("-", "")
    if len(digits) < _DIGITS_MIN or not set(digits) <= set("0123456789abcdef"):
        raise NotStored("session", text, hint=_HINT)
    rows = await tx.fetch_all(
        _BY_PART,
        {
            "text": text.strip().lower(),
            "first": f"{digits}%",
            "last": f"%{digits}",
            "limit": _CANDIDATES_MAX,
        },
    )
    if not rows:
        raise NotStored("session", text, hint=_HINT)
    if len(rows) > 1:
        raise SkepError(
            ErrorCode.INVALID, f"several sessions fit {text!r}", hint="Give more of the id."
        )
    return str(rows[0]["id"])


_TURNS = """
SELECT id FROM turn
WHERE (session_id = :session_id OR (session_id IS NULL AND attempt_id = :goes_on))
    AND (coalesce(no, :never) > :after_no
        OR (coalesce(no, :never) = :after_no AND place > :after_place))
ORDER BY coalesce(no, :never), place LIMIT :limit
"""


async def turns_of(
    tx: Transaction, session: Session, *, after: tuple[int, int] | None, limit: int
) -> list[TurnState]:
    """Return a session's turns as they were begun, then those queued for it in their order.

    `after`: number (or NOT_BEGUN) and place of the last one before.
    """
    newest = await sessions.newest_of(tx, session.attempt_id)
    # A turn that no agent was given yet waits for the session that its attempt goes on with.
    goes_on = session.attempt_id if newest is not None and newest.id == session.id else ""
    after_no, after_place = after or (-1, -1)
    rows = await tx.fetch_all(
        _TURNS,
        {
            "session_id": session.id,
            "goes_on": goes_on,
            "never": NOT_BEGUN,
            "after_no": after_no,
            "after_place": after_place,
            "limit": limit,
        },
    )
    bodies = [await state_of(tx, OpKind.TURN, row["id"]) for row in rows]
    return [msgspec.msgpack.decode(body, type=TurnState) for body in bodies if body is not None]


_CHANGED = """
SELECT id, change FROM message WHERE session_id = :session_id AND change > :after
ORDER BY change LIMIT :limit
"""
_CHANGES = "SELECT coalesce(max(change), 0) AS last FROM message WHERE session_id = :session_id"


async def changes_of(tx: Transaction, session_id: str) -> int:
    """Return how many changes the messages of a session have had."""
    row = await tx.fetch_one(_CHANGES, {"session_id": session_id})
    return 0 if row is None else int(row["last"])


async def changed(
    tx: Transaction, session_id: str, *, after: int, limit: int
) -> list[tuple[int, Message]]:
    """Return messages that are new or have changed since change `after`, in that order."""
    place = {"session_id": session_id, "after": after, "limit": limit}
    rows = await tx.fetch_all(_CHANGED, place)
    found = [(int(row["change"]), await messages.find(tx, row["id"])) for row in rows]
    return [(change, message) for change, message in found if message is not None]


async def places_after(
    tx: Transaction, session_id: str, *, after: int, before: int = END, limit: int
) -> list[tuple[int, str]]:
    """Return numbers and ids of a session's messages behind `after`, in order."""
    place = {"session_id": session_id, "after": after, "before": before, "limit": limit}
    return [(int(row["seq"]), str(row["id"])) for row in await tx.fetch_all(_PLACES, place)]


async def page(
    tx: Transaction, session_id: str, *, before: int = END, after: int | None, limit: int
) -> list[Message]:
    """Return the newest messages before a number, or the oldest after one; in order."""
    if after is None:
        place = {"session_id": session_id, "before": before, "limit": limit}
        rows = await tx.fetch_all(_PLACES_BEFORE, place)
        ids = [str(row["id"]) for row in reversed(rows)]
    else:
        places = await places_after(tx, session_id, after=after, before=before, limit=limit)
        ids = [message_id for _, message_id in places]
    found = [await messages.find(tx, message_id) for message_id in ids]
    return [message for message in found if message is not None]
