"""Writes what nodes report of conversations: sessions, turns, messages and requests.

Two live messages never share a place in a session: the newer position has it, the other one is
forgotten. What is said under another node's session, or an external one, is refused.
"""

from typing import Any

from hive import projections
from hive.projections import Fact, Source
from hive.store import events, fact_rows, foreign_rows
from hive.store.backend import Change, Row, Transaction
from hive.store.link_checks import foreign
from hive.store.linking import LinkContext
from protocol import conversation
from protocol.conversation import SessionStatus
from protocol.ops import OpKind

_SELECT_ATTEMPT = "SELECT node_id, project_id, task_id FROM attempt WHERE id = :id"
_SELECT_SESSION = "SELECT node_id FROM session WHERE id = :id"
_SELECT_RIVAL = """
SELECT id, node_id, rank, seq FROM message
WHERE session_id = :session_id AND message_seq = :message_seq AND id <> :id
    AND forgotten_at_ms IS NULL
"""
_FORGET = "UPDATE message SET forgotten_at_ms = :now_ms WHERE id = :id"


async def apply_session(
    tx: Transaction, context: LinkContext, source: Source, at_ms: int, fact: Fact
) -> None:
    """Write a session as its node has it, and tell of its begin and its end."""
    before, newer = await fact_rows.present(tx, OpKind.SESSION, source, fact.entity_id)
    body = fact.body
    if not newer or not isinstance(body, conversation.Session):
        return
    attempt = await _attempt_of(tx, source, body.attempt_id)
    if before is None:
        await foreign_rows.drop_of_session(tx, context, body.id, source.node_id)
    after = await fact_rows.upsert(tx, context, source, at_ms, fact)
    for draft in projections.session_events(
        before, after, project_id=attempt.get("project"), task_id=attempt.get("task")
    ):
        if not (source.whole_state and draft.from_state is None):
            # A snapshot tells of what is; that it was new happened before.
            await events.record(tx, draft, context.now_ms)
    kind = session_change(before, body.status)
    tx.note(Change(kind=kind, ids={"session": body.id, **attempt, "node": source.node_id}))


def session_change(before: Row | None, status: SessionStatus) -> str:
    """Return the live event of a session whose row was `before` and is now of this status."""
    if before is None:
        return "session.created"
    closed = status is SessionStatus.CLOSED
    return "session.stopped" if closed and before["status"] != status else "session.changed"


async def apply_turn(
    tx: Transaction, context: LinkContext, source: Source, at_ms: int, fact: Fact
) -> None:
    """Write a turn as its node has it."""
    _, newer = await fact_rows.present(tx, OpKind.TURN, source, fact.entity_id)
    body = fact.body
    if not newer or not isinstance(body, conversation.TurnState):
        return
    attempt = await _attempt_of(tx, source, body.attempt_id)
    ids = {**attempt, "node": source.node_id}
    if body.session_id is not None:
        await _check_session(tx, source, body.session_id)
        ids["session"] = body.session_id
    await fact_rows.upsert(tx, context, source, at_ms, fact)
    tx.note(Change(kind="session.changed", ids=ids))


async def apply_message(
    tx: Transaction, context: LinkContext, source: Source, at_ms: int, fact: Fact
) -> None:
    """Write a message as its node has it, at its place in the session."""
    before, newer = await fact_rows.present(tx, OpKind.MESSAGE, source, fact.entity_id)
    body = fact.body
    if not newer or not isinstance(body, conversation.Message):
        return
    attempt = await _attempt_of(tx, source, body.attempt_id)
    await _check_session(tx, source, body.session_id)
    place = {"id": body.id, "session_id": body.session_id, "message_seq": body.seq}
    rival = await tx.fetch_one(_SELECT_RIVAL, place)
    forgotten = fact_rows.forgotten_at_ms(context, source)
    if rival is not None:
        if rival["node_id"] != source.node_id:
            raise foreign("session", body.session_id)
        if forgotten is None and source.is_newer(rival["rank"], rival["seq"]):
            # A node whose disk was restored numbers its messages on from there.
            await tx.execute(_FORGET, {"id": rival["id"], "now_ms": context.now_ms})
        else:
            forgotten = context.now_ms
    await fact_rows.upsert(tx, context, source, at_ms, fact, forgotten_at_ms=forgotten)
    ids = {"message": body.id, "session": body.session_id, **attempt, "node": source.node_id}
    kind = "message.new" if before is None else "message.changed"
    tx.note(Change(kind=kind, ids=ids))


async def apply_request(
    tx: Transaction, context: LinkContext, source: Source, at_ms: int, fact: Fact
) -> None:
    """Write what an agent asks as its node has it, and tell of its begin and its end."""
    before, newer = await fact_rows.present(tx, OpKind.REQUEST, source, fact.entity_id)
    body = fact.body
    if not newer or not isinstance(body, conversation.AgentRequest):
        return
    attempt = await _attempt_of(tx, source, body.attempt_id)
    ids = {"request": body.id, **attempt, "node": source.node_id}
    if body.session_id is not None:
        await _check_session(tx, source, body.session_id)
        ids["session"] = body.session_id
    after = await fact_rows.upsert(tx, context, source, at_ms, fact)
    for draft in projections.request_events(
        before, after, project_id=attempt.get("project"), task_id=attempt.get("task")
    ):
        if not (source.whole_state and draft.from_state is None):
            # A snapshot tells of what is; that it was new happened before.
            await events.record(tx, draft, context.now_ms)
    tx.note(Change(kind=f"request.{projections.request_kind(before, after)}", ids=ids))


async def _attempt_of(tx: Transaction, source: Source, attempt_id: str) -> dict[str, str]:
    """Return the ids that what belongs to an attempt is told with. Raises FORBIDDEN."""
    row = await tx.fetch_one(_SELECT_ATTEMPT, {"id": attempt_id})
    if row is None:
        return {"attempt": attempt_id}
    if row["node_id"] != source.node_id:
        raise foreign("attempt", attempt_id)
    ids: dict[str, Any] = {
        "attempt": attempt_id,
        "project": row["project_id"],
        "task": row["task_id"],
    }
    return {word: value for word, value in ids.items() if value is not None}


async def _check_session(tx: Transaction, source: Source, session_id: str) -> None:
    session = await tx.fetch_one(_SELECT_SESSION, {"id": session_id})
    if session is not None and session["node_id"] != source.node_id:
        raise foreign("session", session_id)
