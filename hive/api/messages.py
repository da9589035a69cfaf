"""Transcripts: pages of a session both ways, and messages sent into one.

Owns where a sent message goes: into an external session, or to the node of the session's attempt as
a follow-up. Must not write a node's messages: they come from it as ops.
"""

import hashlib
from typing import Annotated, Final

import msgspec
from aiohttp import web

from hive.access import Principal
from hive.api import conversation_replies
from hive.api.attempts import await_reopened
from hive.api.context import CONTEXT, HiveContext
from hive.api.decoding import InvalidInput, body_of, query_of
from hive.api.deferring import Wish, change_or_keep, wish_of
from hive.api.middleware import json_response, principal_of
from hive.api.operations import node_errors
from hive.api.paging import Limit, PageQuery, page_of, unpack
from hive.api.sessions import named_ids, session_of
from hive.operation_proxy import Intent, Target
from hive.store import messages, operations
from hive.store.backend import Transaction
from hive.store.catalog import resolve
from hive.store.ids import new_id
from hive.store.messages import MessageRow, NewMessage, TranscriptPage
from hive.store.operations import OperationRow
from hive.store.sessions import SessionRow
from protocol.conversation import AuthorKind, MessageRole, PlanEntry, ToolCall
from protocol.errors import ErrorCode, OperationError
from protocol.operations import OPERATIONS
from protocol.states import DeferredStatus
from protocol.turn_requests import FollowUpRequest, Turn

SENT_MAX: Final = 100
SENT_BYTES_MAX: Final = 256 * 1024
PAGE_MESSAGES_DEFAULT: Final = 50
_FOLLOW_UP: Final = OPERATIONS["follow_up"]
#: What an operation stands as that has been taken, here or by its node: sent again, it is the same.
_TAKEN: Final = frozenset({operations.DONE, DeferredStatus.WAITING, DeferredStatus.DELIVERED})
#: Why messages of a page are not here.
_FETCHED: Final = "not here yet; its node is asked for it"
_AWAY: Final = "not here yet; its node is away"
_GONE: Final = "its node no longer has it"
_REVOKED: Final = "not here, and its node was revoked"

SenderId = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Place = Annotated[int, msgspec.Meta(ge=0, le=messages.END)]


class TranscriptQuery(msgspec.Struct, frozen=True, kw_only=True):
    """`before`, `after`: a message's `seq`. Without both: the newest page."""

    before: Place | None = None
    after: Place | None = None
    limit: Limit = PAGE_MESSAGES_DEFAULT


class MessagesQuery(PageQuery, frozen=True, kw_only=True):
    """Messages of several sessions; at least one of attempt, session, task, project."""

    session: str | None = None
    attempt: str | None = None
    task: str | None = None
    project: str | None = None
    role: MessageRole | None = None


class SentMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message; `id` is its sender's: the same id again is the same message."""

    id: SenderId
    role: MessageRole = MessageRole.USER
    content: str = ""
    author_kind: AuthorKind | None = None
    author: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    tool: ToolCall | None = None
    plan: Annotated[list[PlanEntry], msgspec.Meta(max_length=200)] = []
    parent_id: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class SendMessages(msgspec.Struct, frozen=True, kw_only=True):
    """1 to 100 messages, in order."""

    messages: Annotated[list[SentMessage], msgspec.Meta(min_length=1, max_length=SENT_MAX)]


# --- reading --------------------------------------------------------------------------------------


async def transcript(request: web.Request) -> web.Response:
    """Show a page of a session, oldest first."""
    context = request.app[CONTEXT]
    query = query_of(request, TranscriptQuery)
    session_id = await context.database.read(resolve, "session", request.match_info["session"])
    page = await context.database.read(
        messages.read_page, session_id, before=query.before, after=query.after, limit=query.limit
    )
    if page.missing and page.session.node_id is not None:
        # Looking at it is what asks for what is not here.
        context.backfill.missed_messages(page.session.node_id, session_id)
    return json_response(_page_reply(context, page))


def _page_reply(context: HiveContext, page: TranscriptPage) -> conversation_replies.MessagePage:
    node_id = page.session.node_id
    coming = _FETCHED if node_id and context.registry.is_online(node_id) else _AWAY
    gap = conversation_replies.MessageGap
    gaps = [gap(gap=run, reason=coming, lost=False) for run in page.missing]
    gone = _GONE if page.session.node_revoked_at_ms is None else _REVOKED
    gaps += [gap(gap=run, reason=gone, lost=True) for run in page.lost]
    return conversation_replies.MessagePage(
        items=[message_reply(item) for item in page.items],
        gaps=sorted(gaps, key=lambda one: one.gap),
        previous=page.first if page.more_before else None,
        next=page.last if page.more_after else None,
        message_count=page.session.message_count,
    )


def message_reply(row: MessageRow) -> conversation_replies.Message:
    """Return a message as the API shows it."""
    return conversation_replies.Message(
        **{name: getattr(row, name) for name in conversation_replies.Message.__struct_fields__}
    )


async def list_(request: web.Request) -> web.Response:
    """List messages of an attempt's, a task's or a project's sessions, oldest first."""
    context = request.app[CONTEXT]
    query = query_of(request, MessagesQuery)
    named = await named_ids(
        context,
        session=query.session,
        attempt=query.attempt,
        task=query.task,
        project=query.project,
    )
    if not any(named.values()):
        raise InvalidInput(
            "task: say whose messages", field="task", hint="One of session, attempt, task, project."
        )
    after = unpack(query.cursor, tuple[int, str, int])
    role = query.role and query.role.value

    async def read(tx: Transaction) -> list[tuple[int, MessageRow]]:
        return await messages.list_messages(
            tx, after=after, limit=query.limit + 1, role=role, **named
        )

    rows = await context.database.read(read)
    page = page_of(
        rows,
        query.limit,
        lambda found: message_reply(found[1]),
        lambda found: (found[0], found[1].session_id, found[1].seq),
    )
    return json_response(page)


async def show(request: web.Request) -> web.Response:
    """Show one message."""
    context = request.app[CONTEXT]
    # Its whole id: to find one by a part of it would be to read all messages there are.
    row = await context.database.read(messages.get_message, request.match_info["message"].lower())
    return json_response(message_reply(row))


# --- sending --------------------------------------------------------------------------------------


async def send(request: web.Request) -> web.Response:
    """Send messages into a session, each once by its sender's id."""
    context = request.app[CONTEXT]
    if len(await request.read()) > SENT_BYTES_MAX:
        raise OperationError(
            ErrorCode.TOO_LARGE,
            f"the messages are over {SENT_BYTES_MAX} bytes in all",
            hint="Send them in several requests.",
            bytes_max=SENT_BYTES_MAX,
        )
    wish = wish_of(request)
    asked = await body_of(request, SendMessages)
    session = await session_of(request)
    principal = principal_of(request)
    if session.external:
        # The hive itself keeps it: there is no node to wait for.
        sent = await _keep(context, session, principal, asked.messages)
    else:
        sent = await _follow_up(context, session, principal, asked.messages, wish)
    duplicates = sum(one.duplicate for one in sent)
    kept = sum(one.kept for one in sent)
    told = conversation_replies.SentMessages(
        persisted=len(sent) - duplicates, duplicates=duplicates, kept=kept, items=sent
    )
    return json_response(told, status=202 if kept else 200)


async def _keep(
    context: HiveContext, session: SessionRow, principal: Principal, sent: list[SentMessage]
) -> list[conversation_replies.SentMessage]:
    now_ms = context.clock()
    new = [_new_message(session, principal, one, now_ms) for one in sent]
    kept = await context.database.write(messages.append, session.id, new, now_ms)
    return [
        conversation_replies.SentMessage(
            id=one.sender_id, duplicate=one.duplicate, message_id=one.message_id, seq=one.seq
        )
        for one in kept
    ]


def _new_message(
    session: SessionRow, principal: Principal, sent: SentMessage, now_ms: int
) -> NewMessage:
    by_person = sent.role in {MessageRole.USER, MessageRole.ANSWER}
    kind = sent.author_kind or (AuthorKind.PERSON if by_person else AuthorKind.AGENT)
    author = sent.author
    if author is None:
        author = principal.name if kind is AuthorKind.PERSON else session.agent or principal.name
    return NewMessage(
        id=new_id(now_ms),
        sender_id=sent.id,
        role=sent.role,
        author_kind=kind,
        author=author,
        content=sent.content,
        tool=sent.tool,
        plan=sent.plan,
        parent_id=sent.parent_id,
    )


async def _follow_up(
    context: HiveContext,
    session: SessionRow,
    principal: Principal,
    sent: list[SentMessage],
    wish: Wish | None,
) -> list[conversation_replies.SentMessage]:
    """Give the session's attempt a turn for each message; the node keeps them in order."""
    for place, one in enumerate(sent):
        if not one.content.strip():
            field = f"messages[{place}].content"
            raise InvalidInput(f"{field}: it says nothing", field=field)
        if one.role is not MessageRole.USER or one.tool or one.plan:
            raise InvalidInput(
                f"messages[{place}]: a node's session takes text of role user alone",
                field=f"messages[{place}].role",
                hint="Its node writes all the others.",
            )
    return [await _say(context, session, principal, one, wish) for one in sent]


async def _say(
    context: HiveContext,
    session: SessionRow,
    principal: Principal,
    sent: SentMessage,
    wish: Wish | None,
) -> conversation_replies.SentMessage:
    """Have a node take one message as a turn, or with a wish keep it until that node is back."""
    key = message_key(session.id, sent.id)
    # The node refuses it where the attempt goes on in another session by then.
    asked = FollowUpRequest(prompt=sent.content, session=session.id)
    before = await context.database.read(operations.find_operation, key)
    intent = Intent(
        operation=_FOLLOW_UP.name,
        principal=principal,
        key=key,
        said=msgspec.msgpack.encode([session.attempt_id, asked]),
        deadline_s=_FOLLOW_UP.deadline_s,
    )
    target = Target(
        node_id=session.node_id or "",
        attempt_id=session.attempt_id or "",
        task_id=session.task_id,
        project_id=session.project_id,
    )
    duplicate = before is not None and before.status in _TAKEN
    async with node_errors(context, target.node_id, may_wait=True):
        if wish is None:
            reply = await context.proxy.change(intent, target, asked)
        else:
            kept = await change_or_keep(context, wish, intent, target, asked)
            if isinstance(kept, OperationRow):
                return conversation_replies.SentMessage(
                    id=sent.id, duplicate=duplicate, kept=True, key=key
                )
            reply = kept
    turn = msgspec.msgpack.decode(reply, type=Turn)
    await await_reopened(context, target.attempt_id, turn)
    return conversation_replies.SentMessage(
        id=sent.id, duplicate=duplicate, key=key, turn_id=turn.id
    )


def message_key(session_id: str, sender_id: str) -> str:
    """Return the idempotency key of a message to a node's session."""
    digest = hashlib.blake2b(sender_id.encode("utf-8", "surrogatepass"), digest_size=16)
    return f"message-{session_id}-{digest.hexdigest()}"
