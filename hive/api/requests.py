"""`/api/v1/requests`: what agents ask of people, and the answers people give.

An answer is an operation of the node that owns the request: it counts once that node says so.
"""

import asyncio
from functools import partial
from http import HTTPStatus

import msgspec
from aiohttp import web

from hive.api import request_replies
from hive.api.attempts import FIRST_OP_S
from hive.api.context import CONTEXT, HiveContext
from hive.api.decoding import idempotency_key, query_of
from hive.api.middleware import json_response
from hive.api.operations import run_operation
from hive.api.paging import PageQuery, page_of, unpack
from hive.api.sessions import named_ids
from hive.store import attempts, operations, requests
from hive.store.backend import Transaction
from hive.store.catalog import resolve
from hive.store.requests import RequestRow
from protocol.conversation import RequestStatus
from protocol.errors import ErrorCode, OperationError
from protocol.operations import OPERATIONS


class RequestsQuery(PageQuery, frozen=True, kw_only=True):
    """Narrows the list."""

    status: RequestStatus | None = None
    attempt: str | None = None
    task: str | None = None
    project: str | None = None
    node: str | None = None


def request_reply(context: HiveContext, row: RequestRow) -> request_replies.Request:
    """Return what an agent asks as the API shows it."""
    values = {
        name: getattr(row, name)
        for name in request_replies.Request.__struct_fields__
        if hasattr(row, name) and name != "sent"
    }
    sent = [
        request_replies.SentAnswer(
            key=one.key,
            by=one.by,
            at_ms=one.at_ms,
            expires_at_ms=one.expires_at_ms,
            held=one.held,
            option=one.answer.option,
            text=one.answer.text,
            form=one.answer.form,
        )
        for one in row.sent
    ]
    reachable = context.registry.is_online(row.node_id)
    return request_replies.Request(**values, sent=sent, reachable=reachable)


async def _row_of(request: web.Request) -> RequestRow:
    context = request.app[CONTEXT]
    found = await context.database.read(resolve, "request", request.match_info["request"])
    return await context.database.read(requests.get_request, found)


async def list_(request: web.Request) -> web.Response:
    """List what agents ask, newest first."""
    context = request.app[CONTEXT]
    query = query_of(request, RequestsQuery)
    named = await named_ids(
        context, attempt=query.attempt, task=query.task, project=query.project, node=query.node
    )
    before = unpack(query.cursor, tuple[int, str])

    async def read(tx: Transaction) -> list[RequestRow]:
        status = query.status and query.status.value
        return await requests.list_requests(
            tx, before=before, limit=query.limit + 1, status=status, **named
        )

    rows = await context.database.read(read)
    shown = partial(request_reply, context)
    page = page_of(rows, query.limit, shown, lambda row: (row.opened_at_ms, row.id))
    return json_response(page)


async def show(request: web.Request) -> web.Response:
    """Show one request, with its answer."""
    return json_response(request_reply(request.app[CONTEXT], await _row_of(request)))


async def answer(request: web.Request) -> web.StreamResponse:
    """Have the node that owns a request settle it with an answer."""
    context = request.app[CONTEXT]
    row = await _row_of(request)
    attempt = await context.database.read(attempts.get_attempt, row.attempt_id)
    if not context.registry.is_online(row.node_id):
        await _check_open(context, row, idempotency_key(request))
    response = await run_operation(
        request, OPERATIONS["answer"], attempt, named={"request_id": row.id}
    )
    if response.status == HTTPStatus.OK:
        await _await_settled(context, row)
    return response


async def _check_open(context: HiveContext, row: RequestRow, key: str | None) -> None:
    """Refuse what its node, which is away, would refuse: what it has settled stays settled."""
    if key is not None and await context.database.read(operations.find_operation, key) is not None:
        # It may be the very answer that settled it.
        return
    if row.forgotten_at_ms is not None:
        raise OperationError(
            ErrorCode.GONE,
            "its node does not know the request any more",
            hint="It went on from an older disk; hive requests --open shows what is asked now.",
            request_id=row.id,
        )
    if row.status == RequestStatus.OPEN:
        return
    if row.answer is not None:
        by = row.answer.by or "someone"
        code, message = ErrorCode.ALREADY_ANSWERED, f"{by} has answered this"
    elif row.status == RequestStatus.EXPIRED:
        code, message = ErrorCode.EXPIRED, "nobody answered this in time"
    else:
        code, message = ErrorCode.CANCELLED, f"the agent no longer asks: {row.reason or row.status}"
    raise OperationError(
        code,
        message,
        hint=f"hive requests show {row.id} tells the rest.",
        request_id=row.id,
        status=row.status,
        settled_at_ms=row.settled_at_ms,
        **({} if row.answer is None else {"answer": msgspec.to_builtins(row.answer)}),
    )


async def _await_settled(context: HiveContext, row: RequestRow) -> None:
    """Wait a moment for the op: whoever answered is not shown right after that it is open."""
    with context.feed.subscribe([f"attempt:{row.attempt_id}"]) as subscription:
        try:
            async with asyncio.timeout(FIRST_OP_S):
                while True:
                    shown = await context.database.read(requests.get_request, row.id)
                    if shown.status != RequestStatus.OPEN or await subscription.take() is None:
                        return
        except TimeoutError:
            return
