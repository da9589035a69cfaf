"""Sessions as viewers read them, and those of external agents, which the hive keeps itself.

A node's session is only read here: `conversation_facts` writes it. An external one (no node) is
opened, kept alive, given another topic and closed here, each change guarded by its present state.
"""

import json
from typing import Final

import msgspec

from hive import projections
from hive.conversation_folds import text_of
from hive.store import events
from hive.store.backend import Change, Row, Transaction
from protocol.conversation import SessionStatus, Usage
from protocol.errors import ErrorCode, OperationError

_COLUMNS: Final = """
SELECT session.*, coalesce(session.task_id, attempt.task_id) AS of_task, attempt.task_title,
    coalesce(attempt.project_id, task.project_id) AS project_id, node.name AS node_name,
    node.last_seen_at_ms AS node_seen_at_ms, node.revoked_at_ms AS node_revoked_at_ms, (
        SELECT max(message_seq) FROM message
        WHERE message.session_id = session.id AND message.forgotten_at_ms IS NULL
    ) AS messages_held
FROM session
LEFT JOIN attempt ON attempt.id = session.attempt_id
LEFT JOIN task ON task.id = coalesce(session.task_id, attempt.task_id)
LEFT JOIN node ON node.id = session.node_id
"""
_SELECT = f"{_COLUMNS} WHERE session.id = :id"
_SELECT_MAPPED = f"""
{_COLUMNS} WHERE session.agent_session_id = :agent_session_id AND session.node_id IS NULL
"""
_OF_ATTEMPT = "SELECT id FROM session WHERE attempt_id = :attempt_id ORDER BY created_at_ms, id"
#: The sessions of a task, found by indexes: `coalesce` as above would read all there are.
OF_TASK: Final = """
session.id IN (SELECT id FROM session WHERE task_id = :task_id UNION ALL
    SELECT session.id FROM attempt JOIN session ON session.attempt_id = attempt.id
    WHERE attempt.task_id = :task_id)
"""
#: Filters of a list, by name: the condition each adds.
_FILTERS: Final = {
    "attempt_id": "session.attempt_id = :attempt_id",
    "task_id": OF_TASK,
    "project_id": "coalesce(attempt.project_id, task.project_id) = :project_id",
    "node_id": "session.node_id = :node_id",
    # One that its node no longer knows is neither open nor idle, whatever was last said of it.
    "status": """session.status = :status
        AND (session.status = 'closed' OR session.forgotten_at_ms IS NULL)""",
}


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation with an agent. Without a node it is an external agent's."""

    id: str
    node_id: str | None
    node_name: str | None
    node_seen_at_ms: int | None
    node_revoked_at_ms: int | None
    attempt_id: str | None
    task_id: str | None
    task_title: str | None
    project_id: str | None
    agent_session_id: str | None
    agent_session_at_ms: int | None
    executor: str
    profile: str | None
    agent: str | None
    agent_version: str | None
    capabilities: list[str]
    topic: str
    status: str
    reason: str | None
    message_count: int
    turn_count: int
    usage: Usage | None
    forked_from: str | None
    created_at_ms: int
    last_activity_at_ms: int
    closed_at_ms: int | None
    parked_until_ms: int | None
    heartbeat_at_ms: int | None
    created_by: str
    forgotten_at_ms: int | None

    @property
    def external(self) -> bool:
        """Whether its agent is no node's."""
        return self.node_id is None


def _session(row: Row) -> SessionRow:
    read = {"task_id", "capabilities", "usage", "message_count"}
    values = {name: row[name] for name in SessionRow.__struct_fields__ if name not in read}
    usage = row["usage"]
    return SessionRow(
        **values,
        task_id=row["of_task"],
        # A node's session counts them when something happens to it; what is here may be more.
        message_count=max(row["message_count"], row["messages_held"] or 0),
        capabilities=json.loads(row["capabilities"]),
        usage=None if usage is None else msgspec.json.decode(usage, type=Usage),
    )


# --- reading --------------------------------------------------------------------------------------


async def get_session(tx: Transaction, session_id: str) -> SessionRow:
    """Return one session. Raises NOT_FOUND."""
    row = await tx.fetch_one(_SELECT, {"id": session_id})
    if row is None:
        raise OperationError(ErrorCode.NOT_FOUND, f"there is no session {session_id}")
    return _session(row)


async def sessions_of(tx: Transaction, attempt_id: str) -> list[str]:
    """Return the ids of an attempt's sessions, oldest first."""
    return [row["id"] for row in await tx.fetch_all(_OF_ATTEMPT, {"attempt_id": attempt_id})]


async def list_sessions(
    tx: Transaction, *, before: tuple[int, str] | None = None, limit: int, **filters: str | None
) -> list[SessionRow]:
    """Return sessions, newest first; `before` is creation time and id of the last one before.

    `filters`: attempt_id, task_id, project_id, node_id, status.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    conditions = [_FILTERS[name] for name in given]
    if before is not None:
        conditions.append(
            "(session.created_at_ms < :created_at_ms"
            " OR (session.created_at_ms = :created_at_ms AND session.id < :id))"
        )
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    created_at_ms, session_id = before or (0, "")
    rows = await tx.fetch_all(
        f"{_COLUMNS} {where} ORDER BY session.created_at_ms DESC, session.id DESC LIMIT :limit",
        {**given, "created_at_ms": created_at_ms, "id": session_id, "limit": limit},
    )
    return [_session(row) for row in rows]


_SELECT_OWN = """
SELECT session.attempt_id, attempt.project_id, attempt.task_id FROM session
LEFT JOIN attempt ON attempt.id = session.attempt_id
WHERE session.id = :id AND session.node_id = :node_id
"""


async def live_ids_of(tx: Transaction, node_id: str, session_id: str) -> dict[str, str] | None:
    """Return the ids that what this node says live in a session is told with.

    None where it is not a session of that node's.
    """
    row = await tx.fetch_one(_SELECT_OWN, {"id": session_id, "node_id": node_id})
    if row is None:
        return None
    named = {
        "session": session_id,
        "attempt": row["attempt_id"],
        "project": row["project_id"],
        "task": row["task_id"],
        "node": node_id,
    }
    return {word: value for word, value in named.items() if value is not None}


# --- external sessions ----------------------------------------------------------------------------

_INSERT = """
INSERT INTO session (id, node_id, attempt_id, task_id, agent_session_id, agent_session_at_ms,
    executor, profile, agent, agent_version, capabilities, topic, status, reason, message_count,
    turn_count, usage, forked_from, created_at_ms, last_activity_at_ms, closed_at_ms,
    heartbeat_at_ms, created_by, rank, seq, at_ms, snapshot_id, forgotten_at_ms)
VALUES (:id, NULL, :attempt_id, :task_id, :agent_session_id, :now_ms, 'external', NULL, :agent,
    :agent_version, :capabilities, :topic, :status, NULL, 0, 0, NULL, NULL, :now_ms, :now_ms, NULL,
    :now_ms, :created_by, 0, 0, :now_ms, NULL, NULL)
"""
_RESUME = """
UPDATE session SET status = 'idle', reason = NULL, closed_at_ms = NULL, heartbeat_at_ms = :now_ms
WHERE id = :id AND node_id IS NULL AND status = 'closed'
"""
_BEAT = """
UPDATE session SET heartbeat_at_ms = :now_ms, status = coalesce(:status, status)
WHERE id = :id AND node_id IS NULL AND status <> 'closed'
"""
_EDIT = """
UPDATE session SET topic = coalesce(:topic, topic),
    agent_session_at_ms = CASE WHEN :agent_session_id IS NULL
        OR agent_session_id = :agent_session_id THEN agent_session_at_ms ELSE :now_ms END,
    agent_session_id = coalesce(:agent_session_id, agent_session_id)
WHERE id = :id AND node_id IS NULL
"""
_CLOSE = """
UPDATE session SET status = 'closed', reason = :reason, closed_at_ms = :now_ms
WHERE id = :id AND node_id IS NULL AND status <> 'closed'
"""
#: A session whose attempt is held stays open: someone may yet want to go on with it.
_SELECT_SILENT = """
SELECT session.id FROM session
LEFT JOIN attempt ON attempt.id = session.attempt_id
WHERE session.status IN ('open', 'idle') AND session.node_id IS NULL
    AND coalesce(session.heartbeat_at_ms, 0) <= :silent_ms
    AND session.last_activity_at_ms <= :silent_ms
    AND coalesce(attempt.hold_until_ms, 0) <= :now_ms
ORDER BY session.id LIMIT :limit
"""


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """An external agent's session, as it is to be mapped."""

    id: str
    agent_session_id: str
    attempt_id: str | None
    task_id: str | None
    agent: str | None
    agent_version: str | None
    capabilities: list[str]
    topic: str
    created_by: str


async def map_session(tx: Transaction, new: NewSession, now_ms: int) -> tuple[SessionRow, bool]:
    """Map an agent's session to attempt and task; return it, and whether it is new.

    The same mapping again is the same session, resumed where it was closed. Raises CONFLICT where
    the agent's session is mapped to something else.
    """
    row = await tx.fetch_one(_SELECT_MAPPED, {"agent_session_id": new.agent_session_id})
    if row is None:
        values = msgspec.structs.asdict(new)
        values["capabilities"] = text_of(new.capabilities)
        await tx.execute(_INSERT, {**values, "status": SessionStatus.IDLE.value, "now_ms": now_ms})
        return await _told(tx, new.id, None, "session.created", now_ms), True
    present = _session(row)
    if (present.attempt_id, present.task_id) != (new.attempt_id, new.task_id):
        raise OperationError(
            ErrorCode.CONFLICT,
            "this agent session is mapped to another attempt or task",
            hint=f"It is the session {present.id}.",
            session_id=present.id,
            attempt_id=present.attempt_id,
            task_id=present.task_id,
        )
    if await tx.execute(_RESUME, {"id": present.id, "now_ms": now_ms}):
        return await _told(tx, present.id, row, "session.changed", now_ms), False
    return present, False


async def beat(
    tx: Transaction, session_id: str, status: SessionStatus | None, now_ms: int
) -> SessionRow:
    """Keep an external session alive; `status`: what its agent does. Raises CONFLICT if closed."""
    before = await external_row(tx, session_id)
    values = {"id": session_id, "status": status and status.value, "now_ms": now_ms}
    if not await tx.execute(_BEAT, values):
        raise closed_already(session_id)
    if status is None or status.value == before["status"]:
        # Nothing that viewers see: a sign of life alone wakes nobody.
        return await get_session(tx, session_id)
    return await _told(tx, session_id, before, "session.changed", now_ms)


async def edit(
    tx: Transaction,
    session_id: str,
    *,
    topic: str | None,
    agent_session_id: str | None,
    actor: str,
    now_ms: int,
) -> SessionRow:
    """Give an external session another topic, or another session of its agent's beneath it."""
    before = await external_row(tx, session_id)
    if agent_session_id is not None:
        taken = await tx.fetch_one(_SELECT_MAPPED, {"agent_session_id": agent_session_id})
        if taken is not None and taken["id"] != session_id:
            raise OperationError(
                ErrorCode.CONFLICT,
                "this agent session is another session's",
                hint=f"It is the session {taken['id']}.",
                session_id=taken["id"],
            )
    await tx.execute(
        _EDIT,
        {
            "id": session_id,
            "topic": topic,
            "agent_session_id": agent_session_id,
            "now_ms": now_ms,
        },
    )
    return await _told(tx, session_id, before, "session.changed", now_ms, actor=actor)


async def close(tx: Transaction, session_id: str, reason: str, now_ms: int) -> SessionRow:
    """Close an external session; its history stays. Closed already, it stays as it was."""
    before = await external_row(tx, session_id)
    if not await tx.execute(_CLOSE, {"id": session_id, "reason": reason, "now_ms": now_ms}):
        return await get_session(tx, session_id)
    return await _told(tx, session_id, before, "session.stopped", now_ms)


async def close_silent(
    tx: Transaction, *, silent_ms: int, reason: str, limit: int, now_ms: int
) -> int:
    """Close external sessions that nothing was heard of since `silent_ms`; return how many."""
    rows = await tx.fetch_all(
        _SELECT_SILENT, {"silent_ms": silent_ms, "now_ms": now_ms, "limit": limit}
    )
    for row in rows:
        await close(tx, row["id"], reason, now_ms)
    return len(rows)


async def external_row(tx: Transaction, session_id: str) -> Row:
    """Return an external session's row. Raises NOT_FOUND, and CONFLICT for a node's session."""
    row = await tx.fetch_one(_SELECT, {"id": session_id})
    if row is None:
        raise OperationError(ErrorCode.NOT_FOUND, f"there is no session {session_id}")
    if row["node_id"] is not None:
        raise OperationError(
            ErrorCode.CONFLICT,
            "the session is a node's, which alone keeps it",
            hint="Act on its attempt: hive attempt stop, follow-up, interrupt.",
            session_id=session_id,
            attempt_id=row["attempt_id"],
            node_id=row["node_id"],
        )
    return row


def closed_already(session_id: str) -> OperationError:
    """Return the refusal of what a closed session cannot take."""
    return OperationError(
        ErrorCode.CONFLICT,
        "the session is closed",
        hint="POST /sessions with the same agent_session_id, attempt and task takes it up again.",
        session_id=session_id,
    )


async def _told(
    tx: Transaction,
    session_id: str,
    before: Row | None,
    kind: str,
    now_ms: int,
    *,
    actor: str = "",
) -> SessionRow:
    """Tell viewers that a session changed, and the feed what happened to it; return it."""
    after = await tx.fetch_one(_SELECT, {"id": session_id})
    if after is None:
        raise LookupError(session_id)
    for draft in projections.session_events(
        before, after, project_id=after["project_id"], task_id=after["of_task"]
    ):
        kept_by = "user" if actor else "hive"
        # At a node's session the operation is the auditors' record; here nothing else is.
        audit = draft.audit or (bool(actor) and draft.kind == "session_renamed")
        told = msgspec.structs.replace(draft, actor_kind=kept_by, actor=actor, audit=audit)
        await events.record(tx, told, now_ms)
    tx.note(Change(kind=kind, ids=ids_of(after)))
    return _session(after)


def ids_of(row: Row) -> dict[str, str]:
    """Return the ids that a change of an external session is told with."""
    named = {
        "session": row["id"],
        "attempt": row["attempt_id"],
        "project": row["project_id"],
        "task": row["of_task"],
    }
    return {word: value for word, value in named.items() if value is not None}
