"""`/api/v1/executions` and their logs: from what the hive holds, else straight from the node."""

import asyncio
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web

from hive.api import replies
from hive.api.attempts import attempt_id_of, execution_reply
from hive.api.context import CONTEXT, HiveContext
from hive.api.decoding import query_of
from hive.api.middleware import json_response, principal_of
from hive.api.operations import node_errors, read_stream
from hive.api.paging import PageQuery
from hive.log_reading import HeldPage, read_page
from hive.operation_proxy import Target
from hive.store import attempts, executions
from hive.store.backend import Transaction
from hive.store.catalog import project_policy, resolve
from hive.store.executions import ExecutionRow
from protocol.errors import OperationError
from protocol.log_entries import Entry, EntryGap
from protocol.operations import OPERATIONS
from protocol.states import SyncPolicy, SyncState
from protocol.work_requests import LogRequest

LOG_ENTRIES_MAX: Final = 5000
LOG_ENTRIES_DEFAULT: Final = 1000
#: Below the deadline of the relay, which has to answer in time.
_WAIT_MS_MAX: Final = 25_000
_LOG_BYTES_MAX: Final = 64 * 1024 * 1024
_GREP_CHARACTERS_MAX: Final = 1000


class ExecutionsQuery(PageQuery, frozen=True, kw_only=True):
    """The executions of one attempt."""

    attempt: str


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries. `grep`: lines that contain this text. `wait_ms`: wait so long for a new one.

    `source=node` reads straight from the node, also what the hive holds.
    """

    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=LOG_ENTRIES_MAX)] = LOG_ENTRIES_DEFAULT
    grep: Annotated[str, msgspec.Meta(max_length=_GREP_CHARACTERS_MAX)] | None = None
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=_WAIT_MS_MAX)] = 0
    source: Literal["hive", "node", "any"] = "any"


class _Where(msgspec.Struct, frozen=True, kw_only=True):
    """What decides where a log is read."""

    execution: ExecutionRow
    node_id: str
    project_id: str | None
    sync_state: str
    policy: SyncPolicy


class _NodePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page as a node answers it."""

    entries: list[Entry]
    gaps: list[EntryGap] = []
    next: int = 0
    closed: bool = False
    more: bool = False


async def list_(request: web.Request) -> web.Response:
    """List the executions of an attempt, in order."""
    context = request.app[CONTEXT]
    query = query_of(request, ExecutionsQuery)
    attempt_id = await attempt_id_of(context, query.attempt)
    rows = await context.database.read(executions.of_attempt, attempt_id)
    return json_response(replies.Page(items=[execution_reply(row) for row in rows]))


async def show(request: web.Request) -> web.Response:
    """Show one execution."""
    context = request.app[CONTEXT]
    execution_id = await context.database.read(
        resolve, "execution", request.match_info["execution"]
    )
    row = await context.database.read(executions.get_execution, execution_id)
    return json_response(execution_reply(row))


async def log(request: web.Request) -> web.Response:
    """Answer a page of an execution's log."""
    context = request.app[CONTEXT]
    query = query_of(request, LogQuery)
    execution_id = await context.database.read(
        resolve, "execution", request.match_info["execution"]
    )
    where = await context.database.read(_where, execution_id)
    if where.sync_state != SyncState.COMPLETE:
        context.backfill.opened(where.execution.attempt_id)
    if query.source == "node" or where.policy is SyncPolicy.METADATA:
        return json_response(await _from_node(request, where, query))
    page = await _held(context, where, query)
    at_node = query.source == "any" and _lacks(page, where)
    if at_node and not _moves_on(page, query):
        at_node = False
        try:
            return json_response(await _from_node(request, where, query))
        except OperationError:
            # What is here is better than nothing; the attempt's sync_state tells the rest.
            pass
    return json_response(_reply(page, at_node=at_node))


async def _where(tx: Transaction, execution_id: str) -> _Where:
    execution = await executions.get_execution(tx, execution_id)
    attempt = await attempts.get_attempt(tx, execution.attempt_id)
    return _Where(
        execution=execution,
        node_id=execution.node_id,
        project_id=attempt.project_id,
        sync_state=attempt.sync_state,
        policy=await project_policy(tx, attempt.project_id),
    )


def _moves_on(held: HeldPage, query: LogQuery) -> bool:
    """Whether the page shows something, and all of it whole: the next begins behind it."""
    page = held.page
    shown = page.entries or page.gaps or page.next > query.after
    return bool(shown) and not any(entry.n > page.next for entry in page.entries)


def _lacks(held: HeldPage, where: _Where) -> bool:
    """Whether the node may know more than the hive of what follows this page."""
    if held.page.more:
        return False
    if held.head is not None and held.head.whole:
        return False
    # Under the policy `full` a running log comes by itself; a lazy one does not.
    closed = held.head is not None and held.head.closed
    return where.policy is SyncPolicy.LAZY or closed or where.execution.ended_at_ms is not None


async def _held(context: HiveContext, where: _Where, query: LogQuery) -> HeldPage:
    """Return a page of what is held; with `wait_ms`, once there is a whole line to show."""
    execution_id = where.execution.id
    page = await read_page(context.database, execution_id, query.after, query.limit, query.grep)
    if not query.wait_ms or _is_news(page, query) or where.policy is not SyncPolicy.FULL:
        return page
    with context.feed.subscribe([f"attempt:{where.execution.attempt_id}"]) as subscription:
        try:
            async with asyncio.timeout(query.wait_ms / 1000):
                while True:
                    page = await read_page(
                        context.database, execution_id, query.after, query.limit, query.grep
                    )
                    if _is_news(page, query) or await subscription.take() is None:
                        return page
        except TimeoutError:
            return page


def _is_news(held: HeldPage, query: LogQuery) -> bool:
    # A line still being written is no news to who has waited for its end.
    page = held.page
    whole_line = any(not entry.open for entry in page.entries)
    closed = held.head is not None and held.head.whole
    return bool(page.gaps) or whole_line or closed or page.next > query.after


async def _from_node(request: web.Request, where: _Where, query: LogQuery) -> replies.LogPage:
    operation = OPERATIONS["log"]
    target = Target(
        node_id=where.node_id,
        attempt_id=where.execution.attempt_id,
        project_id=where.project_id,
    )
    asked = LogRequest(
        execution_id=where.execution.id,
        after=query.after,
        limit=query.limit,
        grep=query.grep,
        wait_ms=query.wait_ms,
    )
    context = request.app[CONTEXT]
    async with node_errors(context, where.node_id):
        stream = await context.proxy.open_stream(principal_of(request), operation, target, asked)
        content = await read_stream(stream, _LOG_BYTES_MAX)
    page = msgspec.json.decode(content, type=_NodePage)
    return replies.LogPage(
        entries=page.entries,
        gaps=page.gaps,
        next=page.next,
        more=page.more,
        closed=page.closed,
        source="node",
    )


def _reply(held: HeldPage, *, at_node: bool) -> replies.LogPage:
    return replies.LogPage(
        entries=held.page.entries,
        gaps=held.page.gaps,
        next=held.page.next,
        # Else a reader would take the end of what is here for the end of what there is.
        more=held.page.more or at_node,
        closed=held.head is not None and held.head.whole,
    )
