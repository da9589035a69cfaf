"""The operations of `protocol.operations` over the local API: same functions, same keys."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec

from node_agent.api.attempts import attempt_answer
from node_agent.api.exchange import ApiReply, ApiRequest, from_query, reply_json
from node_agent.local_node import LocalNode
from node_agent.operations.asking import LOCAL_ACTOR, Asking, Streamed
from node_agent.store import attempts as stored
from node_agent.store import requests, sessions, transcripts
from protocol.attempt_requests import AttemptReply, ExecutionReply
from protocol.operation_values import Request
from protocol.operations import Operation
from protocol.tokens import body_hash

Handler = Callable[[LocalNode, ApiRequest], Awaitable[ApiReply]]


def handler_of(operation: Operation) -> Handler:
    """Return the handler of an operation's route."""

    async def handle(node: LocalNode, asked: ApiRequest) -> ApiReply:
        asked = await with_whole_ids(node, asked)
        request = request_of(operation, asked)
        asking = Asking(
            operation=operation,
            attempt_id=asked.path.get("attempt_id", ""),
            request=request,
            body_hash=body_hash(msgspec.msgpack.encode(request)),
            actor=LOCAL_ACTOR,
            key=asked.key,
            expected_head=asked.expected_head,
        )
        answer = await node.dispatcher.perform(asking)
        if isinstance(answer, Streamed):
            return ApiReply(
                pieces=answer.pieces,
                media_type=answer.head.media_type,
                headers=answer.head.headers,
            )
        return await whole_answer(node, operation, answer)

    return handle


async def with_whole_ids(node: LocalNode, asked: ApiRequest) -> ApiRequest:
    """Return what is asked with the ids that its path means; a request names its attempt.

    Raises NotStored.
    """
    path = dict(asked.path)
    if "attempt_id" in path:
        path["attempt_id"] = await node.database.read(stored.resolve, path["attempt_id"])
    if "request_id" in path:
        path["request_id"] = await node.database.read(requests.resolve, path["request_id"])
        request = await node.database.read(requests.get, path["request_id"])
        path["attempt_id"] = request.attempt_id
    if "session_id" in path:
        session_id = await node.database.read(transcripts.resolve_session, path["session_id"])
        path["session_id"] = session_id
        path["attempt_id"] = (await node.database.read(sessions.get, session_id)).attempt_id
    return replace(asked, path=path)


async def whole_answer(node: LocalNode, operation: Operation, answer: bytes) -> ApiReply:
    """Return an operation's reply, of msgpack, as the API shows it."""
    reply = msgspec.msgpack.decode(answer, type=operation.reply)
    if isinstance(reply, AttemptReply):
        # As it stands by now, with its executions.
        return reply_json(await attempt_answer(node, reply.attempt.id))
    if isinstance(reply, ExecutionReply):
        return reply_json(reply.execution)
    return reply_json(reply)


def request_of(operation: Operation, asked: ApiRequest) -> Request:
    """Return the request: fields of the path, and of the body or the query."""
    fields = {field.encode_name for field in msgspec.structs.fields(operation.request)}
    named: dict[str, Any] = {name: text for name, text in asked.path.items() if name in fields}
    if operation.method in {"GET", "DELETE"}:
        return from_query(operation.request, {**asked.query, **named})
    return asked.decode(operation.request, **named)
