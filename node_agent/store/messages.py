"""Messages: the entries of transcripts, numbered within their session, each change with its op.

A message that an agent's machine changes is found again by the key the machine has for it. Must
not see a text that is not redacted and cut.
"""

from typing import NamedTuple

import msgspec

from node_agent.stamps import new_id
from node_agent.store.journal import save as save_state
from node_agent.store.journal import state_of
from node_agent.store.transaction import Transaction
from protocol.conversation import Message
from protocol.ops import OpKind


class Place(NamedTuple):
    """Which message it is: its session, the process it came from, and the machine's key for it."""

    session_id: str
    execution_id: str
    key: str


_BY_KEY = "SELECT id FROM message WHERE execution_id = :execution_id AND key = :key"
_INSERT = """
INSERT INTO message (id, session_id, execution_id, key)
VALUES (:id, :session_id, :execution_id, :key)
"""


async def id_of(tx: Transaction, place: Place) -> str:
    """Return the id of the message at this place, given to it now where it has none."""
    row = await tx.fetch_one(_BY_KEY, {"execution_id": place.execution_id, "key": place.key})
    if row is not None:
        return str(row["id"])
    message_id = new_id()
    await tx.execute(_INSERT, {"id": message_id, **place._asdict()})
    return message_id


async def known_id(tx: Transaction, execution_id: str, key: str) -> str | None:
    """Return the id of a message that has one."""
    row = await tx.fetch_one(_BY_KEY, {"execution_id": execution_id, "key": key})
    return None if row is None else str(row["id"])


_UPSERT = """
INSERT INTO message (id, session_id) VALUES (:id, :session_id) ON CONFLICT (id) DO NOTHING
"""
_NUMBER = """
UPDATE message SET seq = (SELECT coalesce(max(seq), 0) + 1 FROM message
    WHERE session_id = :session_id)
WHERE id = :id AND seq IS NULL
"""
_SEQ = "SELECT seq FROM message WHERE id = :id"
_CHANGED = """
UPDATE message SET change = (SELECT coalesce(max(change), 0) + 1 FROM message
    WHERE session_id = :session_id)
WHERE id = :id
"""


async def save(tx: Transaction, message: Message, at_ms: int) -> Message:
    """Write a message and its op, under the next number of its session where it is new.

    Its `seq` and, of one that was there, its beginning are as stored, whatever is given.
    """
    row = {"id": message.id, "session_id": message.session_id}
    await tx.execute(_UPSERT, row)
    await tx.execute(_NUMBER, row)
    numbered = await tx.fetch_one(_SEQ, {"id": message.id})
    seq = 0 if numbered is None else int(numbered["seq"])
    before = await find(tx, message.id)
    if before is None:
        saved = msgspec.structs.replace(message, seq=seq, created_at_ms=at_ms, updated_at_ms=at_ms)
    else:
        saved = msgspec.structs.replace(
            message,
            seq=seq,
            turn_id=before.turn_id,
            created_at_ms=before.created_at_ms,
            updated_at_ms=at_ms,
        )
        if msgspec.structs.replace(saved, updated_at_ms=before.updated_at_ms) == before:
            return before
    await tx.execute(_CHANGED, row)
    await save_state(tx, OpKind.MESSAGE, saved.id, at_ms, saved)
    return saved


async def find(tx: Transaction, message_id: str) -> Message | None:
    """Return a message as it stands."""
    body = await state_of(tx, OpKind.MESSAGE, message_id)
    return None if body is None else msgspec.msgpack.decode(body, type=Message)


_OF = "SELECT id FROM message WHERE session_id = :session_id AND seq > :after ORDER BY seq LIMIT :n"


async def page(tx: Transaction, session_id: str, *, after: int = 0, limit: int) -> list[Message]:
    """Return the messages of a session behind `after`, in order."""
    rows = await tx.fetch_all(_OF, {"session_id": session_id, "after": after, "n": limit})
    found = [await find(tx, row["id"]) for row in rows]
    return [message for message in found if message is not None]
