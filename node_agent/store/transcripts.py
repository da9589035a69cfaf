"""Sessions and messages as they are looked for: pages of both, and a session by part of its id.

Only reads: `sessions` and `messages` write. A message is found by its number, never by a clock.
"""

from typing import Final

from node_agent.store import messages, sessions
from node_agent.store.errors import NotStored
from node_agent.store.transaction import Transaction
from protocol.conversation import Message, Session
from protocol.errors import ErrorCode, SkepError

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
