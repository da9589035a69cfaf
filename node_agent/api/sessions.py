"""Sessions over the local API: lists, one session, pages of its transcript and of its turns."""

import asyncio
from typing import Any, Final, NamedTuple

import msgspec

from node_agent.api.attempts import WAIT_MS_MAX, cursor_of
from node_agent.api.exchange import ApiReply, ApiRequest, reply_json
from node_agent.local_node import JOURNAL, LocalNode
from node_agent.store import attempts, sessions, transcripts
from node_agent.store.transaction import Transaction
from protocol.conversation import Message, Session, SessionStatus, TurnState

PAGE_MAX: Final = 200
_PAGE_DEFAULT: Final = 50


class _Page(NamedTuple):
    """Messages of a session, how many it has, and the number of the newest change told here."""

    session: Session
    found: list[Message]
    total: int
    changes: int


async def list_sessions(node: LocalNode, asked: ApiRequest) -> ApiReply:
    """Answer this node's newest sessions, newest first; of one attempt, with `attempt`."""
    attempt_id = asked.query.get("attempt")
    if attempt_id is not None:
        attempt_id = await node.database.read(attempts.resolve, attempt_id)
    limit = max(1, asked.number("limit", _PAGE_DEFAULT, at_most=PAGE_MAX))
    found = await node.database.read(
        _newest,
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
    session = await node.database.read(_counted, asked.path["session_id"])
    return reply_json(_session_json(session))


async def list_turns(node: LocalNode, asked: ApiRequest) -> ApiReply:
    """Answer a session's turns in their order: those that have begun, then the queue."""
    limit = max(1, asked.number("limit", _PAGE_DEFAULT, at_most=PAGE_MAX))
    after = cursor_of(asked.query.get("cursor"))
    place = None if after is None else (after[0], _number(after[1]))
    found = await node.database.read(_turns, asked.path["session_id"], after=place, limit=limit + 1)
    page = found[:limit]
    following = None
    if len(found) > limit:
        number = transcripts.NOT_BEGUN if page[-1].no is None else page[-1].no
        following = f"{number}.{page[-1].place}"
    items = [msgspec.to_builtins(turn) for turn in page]
    return reply_json({"items": items, "next": following})


async def show_messages(node: LocalNode, asked: ApiRequest) -> ApiReply:
    """Answer a page of a transcript, oldest first: the newest, or before or after a number.

    With `changed_after` those that are new or have changed since that change, in the order in
    which they did; with `wait_ms` once there are any, or the session is closed.
    """
    limit = max(1, asked.number("limit", _PAGE_DEFAULT, at_most=PAGE_MAX))
    if "changed_after" in asked.query:
        since = asked.number("changed_after", 0, at_most=transcripts.END)
        return reply_json(await _await_change(node, asked, since, limit))
    before = asked.number("before", transcripts.END, at_most=transcripts.END)
    after = None
    if "after" in asked.query:
        after = asked.number("after", 0, at_most=transcripts.END)
    page = await node.database.read(
        _page, asked.path["session_id"], before=before, after=after, limit=limit
    )
    return reply_json(_page_json(page, after))


def _page_json(page: _Page, after: int | None) -> dict[str, Any]:
    first = page.found[0].seq if page.found else 1
    last = page.found[-1].seq if page.found else after or 0
    return {
        "items": [msgspec.to_builtins(message) for message in page.found],
        # All of a session is at its node.
        "gaps": [],
        "previous": first if first > 1 else None,
        "next": last if last < page.total else None,
        "message_count": page.total,
        "changes": page.changes,
        "status": page.session.status.value,
    }


async def _await_change(
    node: LocalNode, asked: ApiRequest, since: int, limit: int
) -> dict[str, Any]:
    wait_s = asked.number("wait_ms", 0, at_most=WAIT_MS_MAX) / 1000
    named = asked.path["session_id"]
    with node.changes.watch(JOURNAL) as changed:
        try:
            async with asyncio.timeout(wait_s or None):
                while True:
                    changed.clear()
                    page = await node.database.read(_changed, named, since=since, limit=limit)
                    if page.found or not wait_s or page.session.status is SessionStatus.CLOSED:
                        break
                    await changed.wait()
        except TimeoutError:
            page = await node.database.read(_changed, named, since=since, limit=limit)
    return {**_page_json(page, None), "previous": None, "next": None}


async def _page(tx: Transaction, text: str, *, before: int, after: int | None, limit: int) -> _Page:
    session = await _named(tx, text)
    found = await transcripts.page(tx, session.id, before=before, after=after, limit=limit)
    changes = await transcripts.changes_of(tx, session.id)
    # The session counts them when something happens to it; what is there may be more.
    return _Page(session, found, await sessions.message_count(tx, session.id), changes)


async def _changed(tx: Transaction, text: str, *, since: int, limit: int) -> _Page:
    session = await _named(tx, text)
    found = await transcripts.changed(tx, session.id, after=since, limit=limit)
    last = found[-1][0] if found else since
    count = await sessions.message_count(tx, session.id)
    return _Page(session, [message for _, message in found], count, last)


async def _turns(
    tx: Transaction, text: str, *, after: tuple[int, int] | None, limit: int
) -> list[TurnState]:
    session = await _named(tx, text)
    return await transcripts.turns_of(tx, session, after=after, limit=limit)


async def _newest(tx: Transaction, /, **asked: Any) -> list[Session]:
    return [await _with_count(tx, one) for one in await transcripts.newest(tx, **asked)]


async def _counted(tx: Transaction, text: str) -> Session:
    return await _with_count(tx, await _named(tx, text))


async def _with_count(tx: Transaction, session: Session) -> Session:
    """Return a session with the messages it has now: its own state counts them now and then."""
    count = await sessions.message_count(tx, session.id)
    return msgspec.structs.replace(session, message_count=count)


async def _named(tx: Transaction, text: str) -> Session:
    return await sessions.get(tx, await transcripts.resolve_session(tx, text))


def _session_json(session: Session) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(session)
    return shown


def _number(text: str) -> int:
    """Return the second half of a cursor of turns; of what is none, the end."""
    return int(text) if text.isdecimal() and len(text) < 18 else transcripts.END
