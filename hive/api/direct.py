"""Ways to an attempt's node that leave the hive out: where it listens, and the word to show there.

Owns what a caller is given for that. Must not carry anything itself: `operations` is the relay.
"""

from typing import Any

import msgspec
from aiohttp import web

from hive.access import role_lacking
from hive.api import replies
from hive.api.attempts import attempt_id_of, shown_attempt
from hive.api.context import CONTEXT, url_of
from hive.api.decoding import InvalidInput, body_of, convert, idempotency_key
from hive.api.middleware import json_response, principal_of
from hive.operation_proxy import Intent, Target, new_key
from hive.store import attempts
from hive.store.catalog import resolve
from hive.store.nodes import get_node
from protocol.errors import ErrorCode, OperationError
from protocol.operations import OPERATIONS


class DirectCall(msgspec.Struct, frozen=True, kw_only=True):
    """One changing call that is to be sent straight to the node: an operation and its request."""

    operation: str
    request: dict[str, Any] = {}


async def connection_info(request: web.Request) -> web.Response:
    """Tell where an attempt's streams are to be had, and give the token to read them straight."""
    context = request.app[CONTEXT]
    attempt_id = await attempt_id_of(context, request.match_info["attempt"])
    return json_response(await _connection(request, attempt_id))


async def task_connection_info(request: web.Request) -> web.Response:
    """Tell the same of a task's newest attempt."""
    context = request.app[CONTEXT]
    task_id = await context.database.read(resolve, "task", request.match_info["task"])
    newest = await context.database.read(attempts.newest_attempt, task_id)
    if newest is None:
        raise OperationError(
            ErrorCode.NOT_FOUND, "the task has no attempt yet", hint="hive tasks run starts one."
        )
    return json_response(await _connection(request, newest.id))


async def _connection(request: web.Request, attempt_id: str) -> replies.StreamConnection:
    context = request.app[CONTEXT]
    shown = await shown_attempt(context, attempt_id)
    node = await context.database.read(get_node, shown.node_id)
    target = Target(node_id=shown.node_id, attempt_id=attempt_id, project_id=shown.project_id)
    word = context.direct.to_read(principal_of(request), target)
    return replies.StreamConnection(
        attempt_id=attempt_id,
        node_id=shown.node_id,
        direct_urls=node.direct_urls,
        relay_url=f"{url_of(request)}/api/v1/attempts/{attempt_id}",
        token=word.token,
        expires_at_ms=word.expires_at_ms,
        reachable=shown.reachable,
    )


async def direct_call(request: web.Request) -> web.Response:
    """Give the capability for one changing call, its key recorded as if it had left by the relay.

    What becomes of it the node reports; until then it reads as sent.
    """
    context = request.app[CONTEXT]
    principal = principal_of(request)
    attempt_id = await attempt_id_of(context, request.match_info["attempt"])
    row = await context.database.read(attempts.get_attempt, attempt_id)
    asked = await body_of(request, DirectCall)
    operation = OPERATIONS.get(asked.operation)
    if operation is None or not operation.changing or operation.path.startswith("tasks/"):
        raise InvalidInput(
            f"operation: {asked.operation[:100]!r} changes no attempt", field="operation"
        )
    if principal.role < operation.role:
        raise role_lacking(operation.name, operation.role.name.lower(), principal)
    wanted = convert(asked.request, operation.request)
    node = await context.database.read(get_node, row.node_id)
    target = Target(
        node_id=row.node_id, attempt_id=row.id, task_id=row.task_id, project_id=row.project_id
    )
    key = idempotency_key(request) or new_key()
    intent = Intent(
        operation=operation.name,
        principal=principal,
        key=key,
        said=msgspec.msgpack.encode([row.id, wanted]),
        expected_head=request.headers.get("Expected-Head"),
        deadline_s=operation.deadline_s,
    )
    await context.proxy.record(intent, target)
    word = context.direct.to_change(principal, operation, target, wanted)
    return json_response(
        replies.DirectCall(
            attempt_id=row.id,
            node_id=row.node_id,
            direct_urls=node.direct_urls,
            token=word.token,
            expires_at_ms=word.expires_at_ms,
            idempotency_key=key,
        ),
        status=201,
    )
