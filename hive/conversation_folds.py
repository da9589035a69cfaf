"""What a node says of its sessions, turns, messages and requests, as row values. Pure.

Must not read or write rows, nor conclude anything: see `projections`.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec

from protocol import conversation
from protocol.ops import OpKind

Values = dict[str, Any]
#: Far more than are ever said. Pages are told by what is missing up to the last place: a node that
#: counts astray must not have viewers reckon with numbers without end.
PLACE_MAX: Final = 10**9


def text_of(value: object) -> str:
    """Return a list or a small record as it stands inside a row."""
    return json.dumps(value, separators=(",", ":"))


def of_session(body: conversation.Session) -> Values:
    """A session, as row values."""
    return {
        "attempt_id": body.attempt_id,
        "agent_session_id": body.agent_session_id,
        "agent_session_at_ms": body.agent_session_at_ms,
        "executor": body.executor,
        "profile": body.profile,
        "agent": body.agent,
        "agent_version": body.agent_version,
        "capabilities": text_of(body.capabilities),
        "topic": body.topic,
        "status": body.status.value,
        "reason": body.reason,
        "message_count": min(max(body.message_count, 0), PLACE_MAX),
        "turn_count": body.turn_count,
        "usage": None if body.usage is None else text_of(msgspec.to_builtins(body.usage)),
        "forked_from": body.forked_from,
        "created_at_ms": body.created_at_ms,
        "last_activity_at_ms": body.last_activity_at_ms,
        "closed_at_ms": body.closed_at_ms,
        "parked_until_ms": body.parked_until_ms,
    }


def of_turn(body: conversation.TurnState) -> Values:
    """A turn, as row values."""
    return {
        "attempt_id": body.attempt_id,
        "session_id": body.session_id,
        "execution_id": body.execution_id,
        "turn_no": body.no,
        "place": body.place,
        "status": body.status.value,
        "prompt": body.prompt,
        "truncated": int(body.truncated),
        "author": body.author,
        "stop_reason": body.stop_reason,
        "head_before": body.head_before,
        "head_after": body.head_after,
        "usage": None if body.usage is None else text_of(msgspec.to_builtins(body.usage)),
        "created_at_ms": body.created_at_ms,
        "begun_at_ms": body.begun_at_ms,
        "ended_at_ms": body.ended_at_ms,
    }


def of_message(body: conversation.Message) -> Values:
    """A message, as row values. Raises ValueError where its place is none."""
    if not 1 <= body.seq <= PLACE_MAX:
        raise ValueError(f"a message has no place {body.seq}")
    return {
        "session_id": body.session_id,
        "attempt_id": body.attempt_id,
        "turn_id": body.turn_id,
        "execution_id": body.execution_id,
        "message_seq": body.seq,
        "role": body.role.value,
        "author_kind": body.author_kind.value,
        "author": body.author,
        "content": body.content,
        "truncated": int(body.truncated),
        "tool": None if body.tool is None else text_of(msgspec.to_builtins(body.tool)),
        "plan": text_of(msgspec.to_builtins(body.plan)),
        "request_id": body.request_id,
        "parent_id": body.parent_id,
        "created_at_ms": body.created_at_ms,
        "updated_at_ms": body.updated_at_ms,
    }


def of_request(body: conversation.AgentRequest) -> Values:
    """A request, as row values."""
    return {
        "attempt_id": body.attempt_id,
        "session_id": body.session_id,
        "turn_id": body.turn_id,
        "execution_id": body.execution_id,
        "message_id": body.message_id,
        "kind": body.kind.value,
        "title": body.title,
        "text": body.text,
        "options": text_of(msgspec.to_builtins(body.options)),
        "form": None if body.form is None else text_of(body.form),
        "free_text": int(body.free_text),
        "tool": None if body.tool is None else text_of(msgspec.to_builtins(body.tool)),
        "status": body.status.value,
        "reason": body.reason,
        "answer": None if body.answer is None else text_of(msgspec.to_builtins(body.answer)),
        "deadline_ms": body.deadline_ms,
        "reminded_at_ms": body.reminded_at_ms,
        "opened_at_ms": body.opened_at_ms,
        "settled_at_ms": body.settled_at_ms,
    }


FOLDS: Final[dict[OpKind, Callable[[Any], Values]]] = {
    OpKind.SESSION: of_session,
    OpKind.TURN: of_turn,
    OpKind.MESSAGE: of_message,
    OpKind.REQUEST: of_request,
}
