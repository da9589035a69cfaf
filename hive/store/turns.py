"""Turns as viewers read them: those of a session, and those that are queued for it. Read only."""

from typing import Final

import msgspec

from hive.store import sessions
from hive.store.backend import Row, Transaction
from hive.store.sessions import SessionRow
from protocol.conversation import Usage

#: Beyond every number there is: those that have not begun come last.
_NEVER: Final = 2**62
#: A turn belongs to a session once its agent was given the prompt. Before, it waits for the session
#: that its attempt goes on with: the newest.
_SELECT: Final = """
SELECT turn.*, coalesce(turn_no, :never) AS order_no FROM turn
WHERE forgotten_at_ms IS NULL
    AND (session_id = :session_id OR (session_id IS NULL AND attempt_id = :goes_on))
    AND (coalesce(turn_no, :never) > :after_no OR (coalesce(turn_no, :never) = :after_no
        AND (place > :after_place OR (place = :after_place AND id > :after_id))))
ORDER BY order_no, place, id LIMIT :limit
"""


class TurnRow(msgspec.Struct, frozen=True, kw_only=True):
    """One go of an agent. `no` counts those that have begun; `place` orders those that have not."""

    id: str
    node_id: str
    attempt_id: str
    session_id: str | None
    execution_id: str | None
    no: int | None
    place: int
    status: str
    prompt: str
    truncated: bool
    author: str
    stop_reason: str | None
    head_before: str | None
    head_after: str | None
    usage: Usage | None
    created_at_ms: int
    begun_at_ms: int | None
    ended_at_ms: int | None

    @property
    def position(self) -> tuple[int, int, str]:
        """Where it stands in its session's list."""
        return (_NEVER if self.no is None else self.no, self.place, self.id)


def _turn(row: Row) -> TurnRow:
    read = {"no", "truncated", "usage"}
    values = {name: row[name] for name in TurnRow.__struct_fields__ if name not in read}
    usage = row["usage"]
    return TurnRow(
        **values,
        no=row["turn_no"],
        truncated=bool(row["truncated"]),
        usage=None if usage is None else msgspec.json.decode(usage, type=Usage),
    )


async def list_turns(
    tx: Transaction, session: SessionRow, *, after: tuple[int, int, str] | None, limit: int
) -> list[TurnRow]:
    """Return a session's turns as they were begun, then the queued ones in their order.

    `after`: the position of the last one before.
    """
    goes_on = ""
    if session.attempt_id is not None and not session.external:
        newest = (await sessions.sessions_of(tx, session.attempt_id))[-1:]
        goes_on = session.attempt_id if newest == [session.id] else ""
    after_no, after_place, after_id = after or (-1, -1, "")
    rows = await tx.fetch_all(
        _SELECT,
        {
            "never": _NEVER,
            "session_id": session.id,
            "goes_on": goes_on,
            "after_no": after_no,
            "after_place": after_place,
            "after_id": after_id,
            "limit": limit,
        },
    )
    return [_turn(row) for row in rows]
