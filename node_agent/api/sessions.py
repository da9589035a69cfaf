"""Sessions and messages over the local API: lists, one session, pages of a transcript."""

from typing import Any, Final

import msgspec

from node_agent.api.attempts import cursor_of
from node_agent.api.exchange import ApiReply, ApiRequest, reply_json
from node_agent.local_node import LocalNode
from node_agent.store import attempts, sessions, transcripts
from node_agent.store.transaction import Transaction
from protocol.conversation import Message, Session

PAGE_MAX: Final = 200
_PAGE_DEFAULT: Final = 50


async def list_sessions(node: LocalNode, asked: ApiRequest) -> ApiReply:
    """Answer this node's newest sessions, newest first; of one attempt, with `attempt`."""
    attempt_id = asked.query.get("attempt")
    if attempt_id is not None:
        attempt_id = await node.database.read(attempts.resolve, attempt_id)
    limit = max(1, asked.number("limit", _PAGE_DEFAULT, at_most=PAGE_MAX))
    found = await node.database.read(
        transcripts.newest,
        attempt_id=attempt_id,
        before=cursor_of(asked.query.get("cursor")),
        limit=limit + 1,
    )
    page = found[:limit]
    more = len(found) > limit
    following = f"{page[-1].created_at_ms}.{page[-1].id}" if more else None
    return reply_json({"items": [_session_json(one) for one in page], "next": following})


async def show_session(node: LocalNode, asked: ApiRequest) -> ApiReply:
    """Answer one session."""
    session = await node.database.read(_named, asked.path["session_id"])
    return reply_json(_session_json(session))


async def show_messages(node: LocalNode, asked: ApiRequest) -> ApiReply:
    """Answer a page of a transcript, oldest first: the newest, or before or after a number."""
    limit = max(1, asked.number("limit", _PAGE_DEFAULT, at_most=PAGE_MAX))
    before = asked.number("before", transcripts.END, at_most=transcripts.END)
    after = None
    if "after" in asked.query:
        after = asked.number("after", 0, at_most=transcripts.END)
    session, found = await node.database.read(
        _page, asked.path["session_id"], before=before, after=after, limit=limit
    )
    first = found[0].seq if found else 1
    last = found[-1].seq if found else after or 0
    return reply_json(
        {
            "items": [msgspec.to_builtins(message) for message in found],
            # All of a session is at its node.
            "gaps": [],
            "previous": first if first > 1 else None,
            "next": last if last < session.message_count else None,
            "message_count": session.message_count,
        }
    )


async def _page(
    tx: Transaction, text: str, *, before: int, after: int | None, limit: int
) -> tuple[Session, list[Message]]:
    session = await _named(tx, text)
    found = await transcripts.page(tx, session.id, before=before, after=after, limit=limit)
    return session, found


async def _named(tx: Transaction, text: str) -> Session:
    return await sessions.get(tx, await transcripts.resolve_session(tx, text))


def _session_json(session: Session) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(session)
    return shown
