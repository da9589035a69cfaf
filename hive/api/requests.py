"""`/api/v1/requests`: what agents ask of people, and the answers people give.

An answer is an operation of the node that owns the request: it counts once that node says so.
"""

from aiohttp import web

from hive.api import replies, request_replies
from hive.api.context import CONTEXT, HiveContext
from hive.api.decoding import query_of
from hive.api.middleware import json_response
from hive.api.operations import run_operation
from hive.api.paging import PageQuery, pack, unpack
from hive.api.sessions import named_ids
from hive.store import attempts, requests
from hive.store.backend import Transaction
from hive.store.catalog import resolve
from hive.store.requests import RequestRow
from protocol.conversation import RequestStatus
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
    page = rows[: query.limit]
    following = pack(page[-1].opened_at_ms, page[-1].id) if len(rows) > query.limit else None
    items = [request_reply(context, row) for row in page]
    return json_response(replies.Page(items=items, next=following))


async def show(request: web.Request) -> web.Response:
    """Show one request, with its answer."""
    return json_response(request_reply(request.app[CONTEXT], await _row_of(request)))


async def answer(request: web.Request) -> web.StreamResponse:
    """Have the node that owns a request settle it with an answer."""
    context = request.app[CONTEXT]
    row = await _row_of(request)
    attempt = await context.database.read(attempts.get_attempt, row.attempt_id)
    return await run_operation(request, OPERATIONS["answer"], attempt, named={"request_id": row.id})
