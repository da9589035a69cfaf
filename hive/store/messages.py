"""Messages as viewers read them, by their place in the session; and those external agents send.

A page is found by an index on the place, so the last page of a long session costs what that of a
short one does. Never ordered by a clock. A node's messages are only read here.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from hive.conversation_folds import text_of
from hive.store import message_gaps, sessions
from hive.store.backend import Change, Row, Transaction
from hive.store.sessions import SessionRow
from protocol.conversation import (
    AuthorKind,
    MessageRole,
    PlanEntry,
    ToolCall,
    topic_of,
)
from protocol.errors import ErrorCode, OperationError

_LAST: Final = """
SELECT * FROM message
WHERE session_id = :session_id AND forgotten_at_ms IS NULL AND message_seq < :before
ORDER BY message_seq DESC LIMIT :limit
"""
_AFTER: Final = """
SELECT * FROM message
WHERE session_id = :session_id AND forgotten_at_ms IS NULL AND message_seq > :after
    AND message_seq < :before
ORDER BY message_seq LIMIT :limit
"""
_SELECT: Final = "SELECT * FROM message WHERE id = :id"
#: Beyond every place there is.
END: Final = 2**62


class MessageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a transcript; `seq` is its place in the session, from 1."""

    id: str
    node_id: str | None
    session_id: str
    attempt_id: str | None
    turn_id: str | None
    execution_id: str | None
    seq: int
    role: str
    author_kind: str
    author: str
    content: str
    truncated: bool
    tool: ToolCall | None
    plan: list[PlanEntry]
    request_id: str | None
    parent_id: str | None
    created_at_ms: int
    updated_at_ms: int


class TranscriptPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a session, oldest first.

    It stands for the places from `first` to `last`; `missing`: runs of them that are not held here
    and may come; `lost`: runs that nobody is expected to bring.
    """

    session: SessionRow
    items: list[MessageRow]
    first: int
    last: int
    missing: list[tuple[int, int]]
    lost: list[tuple[int, int]]
    more_before: bool
    more_after: bool


def _message(row: Row) -> MessageRow:
    read = {"seq", "truncated", "tool", "plan"}
    values = {name: row[name] for name in MessageRow.__struct_fields__ if name not in read}
    tool = row["tool"]
    return MessageRow(
        **values,
        seq=row["message_seq"],
        truncated=bool(row["truncated"]),
        tool=None if tool is None else msgspec.json.decode(tool, type=ToolCall),
        plan=msgspec.json.decode(row["plan"], type=list[PlanEntry]),
    )


# --- reading --------------------------------------------------------------------------------------


async def get_message(tx: Transaction, message_id: str) -> MessageRow:
    """Return one message. Raises NOT_FOUND."""
    row = await tx.fetch_one(_SELECT, {"id": message_id})
    if row is None:
        raise OperationError(ErrorCode.NOT_FOUND, f"there is no message {message_id}")
    return _message(row)


async def read_page(
    tx: Transaction, session_id: str, *, before: int | None, after: int | None, limit: int
) -> TranscriptPage:
    """Return the newest messages before a place, or the oldest after one. Raises NOT_FOUND."""
    session = await sessions.get_session(tx, session_id)
    until = END if before is None else before
    place = {"session_id": session_id, "before": until, "after": after or 0}
    one_more = {**place, "limit": limit + 1}
    rows = await tx.fetch_all(_LAST if after is None else _AFTER, one_more)
    beyond = len(rows) > limit
    rows = rows[:limit] if after is not None else rows[:limit][::-1]
    # What the node says there is, where that is more: its state may come before its messages.
    newest_due = session.message_count
    items = [_message(row) for row in rows]
    first, last = 1 if after is None else after + 1, max(0, min(newest_due, until - 1))
    if items and beyond:
        # Cut at its far end: the page goes as far as its messages do.
        first, last = (items[0].seq, last) if after is None else (first, items[-1].seq)
    lost = missing_places([item.seq for item in items], first, last)
    missing: list[tuple[int, int]] = []
    # A revoked node is not asked: all that is missing is lost.
    if lost and session.node_revoked_at_ms is None:
        gaps = await message_gaps.between(tx, session_id, first, last)
        lost, missing = message_gaps.parted(lost, gaps)
    return TranscriptPage(
        session=session,
        items=items,
        first=first,
        last=last,
        missing=missing,
        lost=lost,
        more_before=first > 1,
        more_after=last < newest_due,
    )


def missing_places(held: Sequence[int], first: int, last: int) -> list[tuple[int, int]]:
    """Return the runs of places from `first` to `last` that are not among `held`, in order."""
    missing, due = [], first
    for seq in held:
        if seq > due:
            missing.append((due, seq - 1))
        due = seq + 1
    if due <= last:
        missing.append((due, last))
    return missing


#: Filters of a list over sessions, by name: the condition each adds.
_FILTERS: Final = {
    "session_id": "session.id = :session_id",
    "attempt_id": "session.attempt_id = :attempt_id",
    "task_id": sessions.OF_TASK,
    "project_id": "coalesce(attempt.project_id, task.project_id) = :project_id",
    "role": "message.role = :role",
}


async def list_messages(
    tx: Transaction,
    *,
    after: tuple[int, str, int] | None,
    limit: int,
    **filters: str | None,
) -> list[tuple[int, MessageRow]]:
    """Return messages of several sessions: session by session, oldest first, each by place.

    Each with the time its session began. `after`: that time, session and place of the last one.
    `filters`: session_id, attempt_id, task_id, project_id, role.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    conditions = ["message.forgotten_at_ms IS NULL", *(_FILTERS[name] for name in given)]
    begun_ms, session_id, seq = after or (0, "", 0)
    if after is not None:
        conditions.append(
            "session.created_at_ms >= :begun_ms AND (session.created_at_ms > :begun_ms"
            " OR session.id > :after_id OR (session.id = :after_id"
            " AND message.message_seq > :after_seq))"
        )
    rows = await tx.fetch_all(
        # In this order: left to choose, SQLite reads all messages there are to sort them.
        "SELECT message.*, session.created_at_ms AS begun_ms FROM session "  # noqa: S608  our own
        "LEFT JOIN attempt ON attempt.id = session.attempt_id "
        "LEFT JOIN task ON task.id = coalesce(session.task_id, attempt.task_id) "
        "CROSS JOIN message ON message.session_id = session.id "
        f"WHERE {' AND '.join(conditions)} "
        "ORDER BY session.created_at_ms, session.id, message.message_seq LIMIT :limit",
        {
            **given,
            "begun_ms": begun_ms,
            "after_id": session_id,
            "after_seq": seq,
            "limit": limit,
        },
    )
    return [(row["begun_ms"], _message(row)) for row in rows]


# --- external sessions ----------------------------------------------------------------------------


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message as an external agent sends it; `sender_id` is what it calls it."""

    id: str
    sender_id: str
    role: MessageRole
    author_kind: AuthorKind
    author: str
    content: str
    truncated: bool = False
    tool: ToolCall | None = None
    plan: list[PlanEntry] = []
    parent_id: str | None = None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one message that was sent."""

    sender_id: str
    message_id: str
    seq: int
    duplicate: bool


_SENT_BEFORE = "SELECT * FROM message WHERE session_id = :session_id AND sender_id = :sender_id"
_INSERT = """
INSERT INTO message (id, node_id, session_id, attempt_id, turn_id, execution_id, message_seq, role,
    author_kind, author, content, truncated, tool, plan, request_id, parent_id,
    created_at_ms, updated_at_ms, sender_id, rank, seq, at_ms, snapshot_id, forgotten_at_ms)
VALUES (:id, NULL, :session_id, :attempt_id, NULL, NULL, :message_seq, :role, :author_kind,
    :author, :content, :truncated, :tool, :plan, NULL, :parent_id, :now_ms, :now_ms,
    :sender_id, 0, 0, :now_ms, NULL, NULL)
"""
_COUNT = """
UPDATE session SET message_count = message_count + :count, last_activity_at_ms = :now_ms,
    heartbeat_at_ms = :now_ms, topic = CASE WHEN topic = '' THEN :topic ELSE topic END
WHERE id = :id AND node_id IS NULL AND status <> 'closed'
"""


async def append(
    tx: Transaction, session_id: str, sent: Sequence[NewMessage], now_ms: int
) -> list[Kept]:
    """Keep what is new of these, each once by its sender's id; return what became of each.

    All or none: raises CONFLICT where one id was another message, or the session is closed.
    """
    session = await sessions.external_row(tx, session_id)
    seq = session["messages_held"] or 0
    kept = []
    topic = ""
    for message in sent:
        before = await tx.fetch_one(
            _SENT_BEFORE, {"session_id": session_id, "sender_id": message.sender_id}
        )
        if before is not None:
            _check_same(before, message)
            kept.append(_kept(message, before["id"], before["message_seq"], duplicate=True))
            continue
        seq += 1
        await tx.execute(_INSERT, _columns(message, session, seq, now_ms))
        kept.append(_kept(message, message.id, seq, duplicate=False))
        if not topic and message.role is MessageRole.USER:
            topic = topic_of(message.content)
        ids = {"message": message.id, **sessions.ids_of(session)}
        tx.note(Change(kind="message.new", ids=ids))
    count = sum(not one.duplicate for one in kept)
    if count:
        values = {"id": session_id, "count": count, "topic": topic, "now_ms": now_ms}
        if not await tx.execute(_COUNT, values):
            raise sessions.closed_already(session_id)
        tx.note(Change(kind="session.changed", ids=sessions.ids_of(session)))
    return kept


def _check_same(before: Row, message: NewMessage) -> None:
    said = (message.role.value, message.content, _tool_of(message), _plan_of(message))
    if said != (before["role"], before["content"], before["tool"], before["plan"]):
        raise OperationError(
            ErrorCode.CONFLICT,
            f"the id {message.sender_id!r} was another message of this session",
            hint="Each message has an id of its own; the same id again is the same message.",
            sender_id=message.sender_id,
            message_id=before["id"],
        )


def _tool_of(message: NewMessage) -> str | None:
    return None if message.tool is None else text_of(msgspec.to_builtins(message.tool))


def _plan_of(message: NewMessage) -> str:
    return text_of(msgspec.to_builtins(message.plan))


def _kept(message: NewMessage, message_id: str, seq: int, *, duplicate: bool) -> Kept:
    return Kept(sender_id=message.sender_id, message_id=message_id, seq=seq, duplicate=duplicate)


def _columns(message: NewMessage, session: Row, seq: int, now_ms: int) -> dict[str, Any]:
    return {
        "id": message.id,
        "session_id": session["id"],
        "attempt_id": session["attempt_id"],
        "message_seq": seq,
        "role": message.role.value,
        "author_kind": message.author_kind.value,
        "author": message.author,
        "content": message.content,
        "truncated": int(message.truncated),
        "tool": _tool_of(message),
        "plan": _plan_of(message),
        "parent_id": message.parent_id,
        "sender_id": message.sender_id,
        "now_ms": now_ms,
    }
