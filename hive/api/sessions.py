"""`/api/v1/sessions`: conversations, the nodes' and those of agents that are no node's."""

from functools import partial
from typing import Annotated

import msgspec
from aiohttp import web

from hive.api import conversation_replies
from hive.api.attempts import attempt_id_of
from hive.api.context import CONTEXT, HiveContext
from hive.api.decoding import InvalidInput, body_of, query_of
from hive.api.deferring import wish_of
from hive.api.middleware import json_response, principal_of
from hive.api.operations import run_operation
from hive.api.paging import PageQuery, page_of, unpack
from hive.api.session_views import session_reply
from hive.store import attempts, sessions, turns
from hive.store.backend import Transaction
from hive.store.catalog import resolve
from hive.store.ids import new_id
from hive.store.sessions import NewSession, SessionRow
from hive.store.turns import TurnRow
from protocol.conversation import SessionStatus
from protocol.operations import OPERATIONS
from protocol.session_requests import TOPIC_CHARACTERS_MAX

#: Why a session was closed that someone took leave of.
STOPPED = "stopped"

Topic = Annotated[str, msgspec.Meta(max_length=TOPIC_CHARACTERS_MAX)]
Word = Annotated[str, msgspec.Meta(max_length=100)]
AgentSessionId = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class SessionsQuery(PageQuery, frozen=True, kw_only=True):
    """Narrows the list."""

    attempt: str | None = None
    task: str | None = None
    project: str | None = None
    node: str | None = None
    status: SessionStatus | None = None


class NewExternalSession(msgspec.Struct, frozen=True, kw_only=True):
    """Maps the session of an agent that is no node's to an attempt, or to a task alone."""

    agent_session_id: AgentSessionId
    attempt_id: str | None = None
    task_id: str | None = None
    agent: Word | None = None
    agent_version: Word | None = None
    capabilities: Annotated[list[Word], msgspec.Meta(max_length=50)] = []
    topic: Topic = ""


class EditSession(msgspec.Struct, frozen=True, kw_only=True):
    """Another topic; and of an external one, another session of its agent's beneath it."""

    topic: Topic | None = None
    agent_session_id: AgentSessionId | None = None


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life; `status`: open where a turn runs, idle where none does."""

    status: SessionStatus | None = None


async def session_of(request: web.Request) -> SessionRow:
    """Return the session that the path names. Raises NOT_FOUND."""
    context = request.app[CONTEXT]
    session_id = await context.database.read(resolve, "session", request.match_info["session"])
    return await context.database.read(sessions.get_session, session_id)


async def named_ids(context: HiveContext, **named: str | None) -> dict[str, str | None]:
    """Return filters by id, from what a query names of each noun."""
    found: dict[str, str | None] = {}
    for noun, text in named.items():
        found[f"{noun}_id"] = None if text is None else await _id_of(context, noun, text)
    return found


async def _id_of(context: HiveContext, noun: str, text: str) -> str:
    if noun == "attempt":
        return await attempt_id_of(context, text)
    return await context.database.read(resolve, noun, text)


# --- handlers -------------------------------------------------------------------------------------


async def list_(request: web.Request) -> web.Response:
    """List the sessions, newest first."""
    context = request.app[CONTEXT]
    query = query_of(request, SessionsQuery)
    named = await named_ids(
        context, attempt=query.attempt, task=query.task, project=query.project, node=query.node
    )
    before = unpack(query.cursor, tuple[int, str])

    async def read(tx: Transaction) -> list[SessionRow]:
        status = query.status and query.status.value
        return await sessions.list_sessions(
            tx, before=before, limit=query.limit + 1, status=status, **named
        )

    rows = await context.database.read(read)
    shown = partial(session_reply, context)
    page = page_of(rows, query.limit, shown, lambda row: (row.created_at_ms, row.id))
    return json_response(page)


async def create(request: web.Request) -> web.Response:
    """Map an external agent's session; the same mapping again is the same session."""
    context = request.app[CONTEXT]
    asked = await body_of(request, NewExternalSession)
    attempt_id, task_id = asked.attempt_id, asked.task_id
    if attempt_id is None and task_id is None:
        raise InvalidInput(
            "attempt_id: say which attempt or task the session belongs to",
            field="attempt_id",
            hint="Give attempt_id, or task_id where there is no attempt.",
        )
    if task_id is not None:
        task_id = await context.database.read(resolve, "task", task_id)
    if attempt_id is not None:
        attempt_id = await attempt_id_of(context, attempt_id)
        attempt = await context.database.read(attempts.get_attempt, attempt_id)
        if task_id not in {None, attempt.task_id}:
            raise InvalidInput("task_id: the attempt is of another task", field="task_id")
        task_id = attempt.task_id
    now_ms = context.clock()
    new = NewSession(
        id=new_id(now_ms),
        agent_session_id=asked.agent_session_id,
        attempt_id=attempt_id,
        task_id=task_id,
        agent=asked.agent,
        agent_version=asked.agent_version,
        capabilities=asked.capabilities,
        topic=asked.topic,
        created_by=principal_of(request).name,
    )
    row, fresh = await context.database.write(sessions.map_session, new, now_ms)
    return json_response(session_reply(context, row), status=201 if fresh else 200)


async def show(request: web.Request) -> web.Response:
    """Show one session."""
    return json_response(session_reply(request.app[CONTEXT], await session_of(request)))


async def list_turns(request: web.Request) -> web.Response:
    """List a session's turns in their order: those that have begun, then the queue."""
    context = request.app[CONTEXT]
    query = query_of(request, PageQuery)
    session = await session_of(request)
    after = unpack(query.cursor, tuple[int, int, str])

    async def read(tx: Transaction) -> list[TurnRow]:
        return await turns.list_turns(tx, session, after=after, limit=query.limit + 1)

    rows = await context.database.read(read)
    page = page_of(rows, query.limit, _turn_reply, lambda row: row.position)
    return json_response(page)


def _turn_reply(row: TurnRow) -> conversation_replies.SessionTurn:
    names = conversation_replies.SessionTurn.__struct_fields__
    return conversation_replies.SessionTurn(**{name: getattr(row, name) for name in names})


async def edit(request: web.Request) -> web.StreamResponse:
    """Give a session another topic; or say that an external one's agent began a fresh session."""
    context = request.app[CONTEXT]
    session = await session_of(request)
    if session.attempt_id is not None and not session.external:
        attempt = await context.database.read(attempts.get_attempt, session.attempt_id)
        row = {"session_id": session.id}
        return await run_operation(request, OPERATIONS["rename_session"], attempt, named=row)
    # The hive itself keeps it: there is no node to wait for.
    wish_of(request)
    asked = await body_of(request, EditSession)
    edited = await context.database.write(
        sessions.edit,
        session.id,
        topic=asked.topic,
        agent_session_id=asked.agent_session_id,
        actor=principal_of(request).name,
        now_ms=context.clock(),
    )
    return json_response(session_reply(context, edited))


async def delete(request: web.Request) -> web.Response:
    """Close an external session; its history stays."""
    context = request.app[CONTEXT]
    session = await session_of(request)
    row = await context.database.write(sessions.close, session.id, STOPPED, context.clock())
    return json_response(session_reply(context, row))


async def heartbeat(request: web.Request) -> web.Response:
    """Keep an external session alive."""
    context = request.app[CONTEXT]
    asked = await body_of(request, Heartbeat)
    if asked.status is SessionStatus.CLOSED:
        raise InvalidInput(
            "status: a heartbeat says open or idle",
            field="status",
            hint="DELETE /sessions/{id} closes it.",
        )
    session = await session_of(request)
    row = await context.database.write(sessions.beat, session.id, asked.status, context.clock())
    return json_response(session_reply(context, row))
