"""Operations on attempts over HTTP: made from the protocol's table.

Owns how a request becomes an operation's Struct and its reply JSON. Must not know any operation by
name, but for what its reply is to the API.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from hive.api import request_replies
from hive.api.attempts import (
    attempt_id_of,
    attempt_of_entity,
    await_reopened,
    execution_of_entity,
)
from hive.api.context import CONTEXT, HiveContext
from hive.api.decoding import InvalidInput, body_of, convert, idempotency_key
from hive.api.deferring import change_or_keep, wish_of
from hive.api.middleware import Handler, json_response, principal_of
from hive.api.outcomes import shown_operation
from hive.api.session_views import session_of_entity
from hive.node_registry import NodeStream
from hive.operation_proxy import Intent, Target, new_key
from hive.store import attempts
from hive.store.attempts import AttemptRow
from hive.store.catalog import resolve
from hive.store.nodes import get_node
from hive.store.operations import OperationRow
from protocol.attempt_requests import AttemptReply, ExecutionReply
from protocol.conversation import AgentRequest, Session
from protocol.errors import ErrorCode, OperationError
from protocol.operation_values import Request, StreamHead
from protocol.operations import Operation
from protocol.turn_requests import Turn

R = TypeVar("R", bound=web.StreamResponse)

#: Names every attempt-level request may carry beside the operation's own.
_BESIDES: Final = frozenset({"attempt", "when", "expires_in_s", "deadline_s"})
#: Its attempt goes on: whoever waits for an end next must not be shown the one before.
_FOLLOW_UP: Final = "follow_up"
_MAY_WAIT: Final = (
    "It goes on working by itself. Ask again when it is back, or now with `when=online`"
    " (--when online): then it is done once the node is back."
)
ATTEMPT_HEADER: Final = "Skep-Attempt-Id"
#: What a node may say of a stream in headers.
_HEADER_PREFIX: Final = "skep-"


def attempt_handler(operation: Operation) -> Handler:
    """Return the handler of an operation below one attempt."""

    async def handle(request: web.Request) -> web.StreamResponse:
        context = request.app[CONTEXT]
        attempt_id = await attempt_id_of(context, request.match_info["attempt"])
        row = await context.database.read(attempts.get_attempt, attempt_id)
        return await run_operation(request, operation, row)

    return handle


def task_handler(operation: Operation) -> Handler:
    """Return the handler of an operation for callers that know a task only.

    What only reads takes the newest attempt and names it; what changes has to name the attempt it
    saw.
    """

    async def handle(request: web.Request) -> web.StreamResponse:
        context = request.app[CONTEXT]
        task_id = await context.database.read(resolve, "task", request.match_info["task"])
        named = request.query.get("attempt")
        newest = await context.database.read(attempts.newest_attempt, task_id)
        if newest is None:
            raise OperationError(
                ErrorCode.NOT_FOUND,
                "the task has no attempt yet",
                hint="hive tasks run starts one.",
            )
        if named is not None:
            attempt_id = await attempt_id_of(context, named)
            newest = await context.database.read(attempts.get_attempt, attempt_id)
            if newest.task_id != task_id:
                raise InvalidInput("attempt: it is of another task", field="attempt")
        elif operation.changing:
            raise OperationError(
                ErrorCode.ATTEMPT_REQUIRED,
                "say which attempt of the task is meant",
                hint=f"Its newest one: ?attempt={newest.id}",
                attempt_id=newest.id,
                phase=newest.phase,
                outcome=newest.outcome,
            )
        return await run_operation(request, operation, newest)

    return handle


# --- running --------------------------------------------------------------------------------------


async def run_operation(
    request: web.Request,
    operation: Operation,
    row: AttemptRow,
    *,
    named: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Carry an operation on an attempt out, or keep it for later, and answer with its reply.

    `named`: fields of its request that the path names, by their whole ids.
    """
    context = request.app[CONTEXT]
    asked = await _asked(request, operation, request.match_info if named is None else named)
    target = Target(
        node_id=row.node_id,
        attempt_id=row.id,
        task_id=row.task_id,
        project_id=row.project_id,
    )
    if operation.streamed:
        return await stream_reply(request, operation, target, asked)
    if not operation.changing:
        async with node_errors(context, row.node_id):
            reply = await context.proxy.read(principal_of(request), operation, target, asked)
        said = msgspec.to_builtins(msgspec.msgpack.decode(reply, type=operation.reply))
        return _with_attempt(json_response({**said, "attempt_id": row.id}), row.id)
    wish = wish_of(request)
    key = idempotency_key(request) or new_key()
    intent = Intent(
        operation=operation.name,
        principal=principal_of(request),
        key=key,
        said=msgspec.msgpack.encode([row.id, asked]),
        expected_head=request.headers.get("Expected-Head"),
        deadline_s=deadline_of(request, operation.deadline_s),
    )
    async with node_errors(context, row.node_id, may_wait=True):
        if wish is None:
            reply = await context.proxy.change(intent, target, asked)
        else:
            kept = await change_or_keep(context, wish, intent, target, asked)
            if isinstance(kept, OperationRow):
                response = json_response(await shown_operation(context, kept), status=202)
                response.headers["Idempotency-Key"] = key
                return _with_attempt(response, row.id)
            reply = kept
    if operation.name == _FOLLOW_UP:
        await await_reopened(context, row.id, msgspec.msgpack.decode(reply, type=Turn))
    response = json_response(await reply_json(context, operation, reply, row.node_id))
    response.headers["Idempotency-Key"] = key
    return _with_attempt(response, row.id)


async def _asked(request: web.Request, operation: Operation, named: Mapping[str, str]) -> Request:
    """Return the operation's Struct, of the path, the query or the body."""
    names = {field.encode_name for field in msgspec.structs.fields(operation.request)}
    of_path = {name: value for name, value in named.items() if name in names}
    if operation.method in {"GET", "DELETE"}:
        given: dict[str, Any] = {}
        for name, value in request.query.items():
            if name in given:
                raise InvalidInput(f"{name} is given twice", field=name)
            if name not in _BESIDES:
                given[name] = value
        return convert({**given, **of_path}, operation.request, strict=False)
    return await body_of(request, operation.request, of_path)


def deadline_of(request: web.Request, default_s: float) -> float:
    """Return the deadline a caller asked for, within bounds."""
    text = request.query.get("deadline_s")
    if text is None:
        return default_s
    try:
        asked_s = float(text)
    except ValueError:
        asked_s = 0.0
    longest_s = request.app[CONTEXT].config.call_s_max
    if not 0 < asked_s <= longest_s:
        raise InvalidInput(
            f"deadline_s: it is more than 0 and at most {longest_s:g}", field="deadline_s"
        )
    return asked_s


async def reply_json(context: HiveContext, operation: Operation, reply: bytes, node_id: str) -> Any:
    """Return a unary reply as the API shows it; an attempt has one shape wherever it comes from."""
    decoded = msgspec.msgpack.decode(reply, type=operation.reply)
    if isinstance(decoded, AttemptReply):
        return await attempt_of_entity(context, decoded.attempt, node_id)
    if isinstance(decoded, ExecutionReply):
        return execution_of_entity(decoded.execution)
    if isinstance(decoded, AgentRequest):
        return await request_of_entity(context, decoded, node_id)
    if isinstance(decoded, Session):
        return await session_of_entity(context, decoded)
    return decoded


async def request_of_entity(
    context: HiveContext, request: AgentRequest, node_id: str
) -> request_replies.Request:
    """Return what an agent asks as its node just answered it, in the shape of all others."""
    node = await context.database.read(get_node, node_id)
    attempt = await context.database.read(attempts.get_attempt, request.attempt_id)
    values = {
        name: getattr(request, name)
        for name in request_replies.Request.__struct_fields__
        if hasattr(request, name) and name not in {"kind", "status"}
    }
    return request_replies.Request(
        **values,
        kind=request.kind.value,
        status=request.status.value,
        node_id=node_id,
        node_name=node.name,
        reachable=context.registry.is_online(node_id),
        task_id=attempt.task_id,
        task_title=attempt.task_title,
        project_id=attempt.project_id,
    )


@contextlib.asynccontextmanager
async def node_errors(
    context: HiveContext, node_id: str, *, may_wait: bool = False
) -> AsyncIterator[None]:
    """Add to `node_offline` when the node was last heard of, which it is, and what can be done."""
    try:
        yield
    except OperationError as error:
        if error.code is not ErrorCode.NODE_OFFLINE:
            raise
        node = await context.database.read(get_node, node_id)
        # What is known of a call that left before is more than that.
        left = "key" in error.details
        hint = error.hint or "It goes on working by itself; try again when it is back."
        away = OperationError(
            ErrorCode.NODE_OFFLINE,
            error.message if left else f"the node {node.name} is not connected",
            hint=_MAY_WAIT if may_wait and not left else hint,
        )
        away.details = {
            **error.details,
            "node_id": node.id,
            "node_name": node.name,
            "last_seen_at_ms": node.last_seen_at_ms,
        }
        raise away from error


# --- streams --------------------------------------------------------------------------------------


async def stream_reply(
    request: web.Request, operation: Operation, target: Target, asked: Request
) -> web.StreamResponse:
    """Pass a streamed reply on as it comes, byte for byte; the viewer's pace is the node's."""
    context = request.app[CONTEXT]
    async with node_errors(context, target.node_id):
        stream = await context.proxy.open_stream(principal_of(request), operation, target, asked)
    try:
        response = web.StreamResponse(headers=_headers(stream.head))
        _with_attempt(response, target.attempt_id)
        # The first piece tells whether it goes well: until then an error has its own status.
        pieces = aiter(stream)
        first = await anext(pieces, b"")
        await response.prepare(request)
        await response.write(first)
        await _pass_on(request, response, pieces)
        return response
    finally:
        await stream.aclose()


async def _pass_on(
    request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes]
) -> None:
    try:
        async for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    except OperationError:
        # Half a reply must not pass for a whole one: the connection breaks where the stream did.
        if request.transport is not None:
            request.transport.abort()


def _headers(head: StreamHead) -> dict[str, str]:
    told = {
        name: value
        for name, value in head.headers.items()
        if name.lower().startswith(_HEADER_PREFIX) and value.isprintable()
    }
    media_type = head.media_type
    if not media_type.isprintable() or "/" not in media_type:
        media_type = "application/octet-stream"
    headers = {**told, "Content-Type": media_type, "Cache-Control": "no-store"}
    if not media_type.startswith("application/json"):
        # A file of someone's worktree is shown by no browser as a page of ours.
        headers["Content-Disposition"] = "attachment"
        headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return headers


async def read_stream(stream: NodeStream, bytes_max: int) -> bytes:
    """Return a streamed reply as a whole, bounded."""
    content = bytearray()
    try:
        async for piece in stream:
            content += piece
            if len(content) > bytes_max:
                raise OperationError(
                    ErrorCode.TOO_LARGE,
                    f"the node's reply is over {bytes_max} bytes",
                    hint="Ask for less at a time.",
                )
    finally:
        await stream.aclose()
    return bytes(content)


def _with_attempt(response: R, attempt_id: str) -> R:
    response.headers[ATTEMPT_HEADER] = attempt_id
    return response
