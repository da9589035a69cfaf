"""`/api/v1/attempts`: the runs as their nodes told them, with what the hive knows beside it."""

import asyncio
from functools import partial
from typing import Annotated, Final

import msgspec
from aiohttp import web

from hive.api import replies
from hive.api.context import CONTEXT, HiveContext
from hive.api.decoding import query_of
from hive.api.middleware import json_response
from hive.api.paging import PageQuery, page_of, unpack
from hive.store import attempts
from hive.store.attempts import AttemptRow
from hive.store.backend import Transaction
from hive.store.catalog import resolve
from hive.store.executions import ExecutionRow
from hive.store.nodes import get_node
from protocol.entities import Attempt, Execution
from protocol.errors import ErrorCode, OperationError
from protocol.states import AttemptPhase, SyncState
from protocol.turn_requests import Turn

#: An attempt just started is known by its reply; its first op is at most this far behind.
FIRST_OP_S: Final = 2.0
WAIT_S_MAX: Final = 60.0
_STARTED_MAX: Final = 1000


class AttemptsQuery(PageQuery, frozen=True, kw_only=True):
    """Narrows the list; `status` is a phase or an outcome."""

    task: str | None = None
    node: str | None = None
    project: str | None = None
    status: str | None = None


class AttemptQuery(msgspec.Struct, frozen=True, kw_only=True):
    """`wait_ended_s`: answer once the attempt has ended, or after so many seconds."""

    wait_ended_s: Annotated[float, msgspec.Meta(ge=0, le=WAIT_S_MAX)] = 0.0


def _reply(context: HiveContext, row: AttemptRow) -> replies.Attempt:
    reachable = context.registry.is_online(row.node_id)
    values = {
        name: getattr(row, name)
        for name in replies.Attempt.__struct_fields__
        if hasattr(row, name) and name != "executions"
    }
    return replies.Attempt(
        **values,
        executions=[execution_reply(found) for found in row.executions],
        reachable=reachable,
        unreachable_since_ms=None if reachable else row.node_seen_at_ms,
    )


def execution_reply(row: ExecutionRow) -> replies.Execution:
    """Return an execution as the API shows it."""
    values = {
        name: getattr(row, name)
        for name in replies.Execution.__struct_fields__
        if hasattr(row, name) and name != "log"
    }
    log = row.log
    state = replies.LogState(
        entries=log.next_entry - 1,
        held_bytes=log.blob_bytes,
        closed=log.closed,
        whole=log.whole,
        entries_total=log.end_entries,
        bytes_total=log.end_bytes,
        gone=log.gone_reason,
    )
    return replies.Execution(**values, log=state)


def execution_of_entity(execution: Execution) -> replies.Execution:
    """Return an execution as its node just answered it: of its log nothing is here yet."""
    values = {
        name: getattr(execution, name)
        for name in replies.Execution.__struct_fields__
        if hasattr(execution, name) and name not in {"kind", "status"}
    }
    log = replies.LogState(entries=0, held_bytes=0, closed=False, whole=False)
    kind, status = execution.kind.value, execution.status.value
    return replies.Execution(**values, kind=kind, status=status, log=log)


# --- finding one ----------------------------------------------------------------------------------


async def attempt_id_of(context: HiveContext, text: str) -> str:
    """Return the id that `text` names; one just started counts before its first op is here.

    Raises NOT_FOUND, and INVALID where more than one attempt fits.
    """
    started = [known for known in context.started if _names(text, known)]
    if len(started) == 1:
        await await_first_op(context, started[0])
        if text == started[0]:
            return text
    waiting = [known for known in started if known in context.started]
    try:
        found = await context.database.read(resolve, "attempt", text)
    except OperationError as error:
        if error.code is not ErrorCode.NOT_FOUND or len(waiting) != 1:
            raise
        return waiting[0]
    if any(known != found for known in waiting):
        # Few digits of an id are its time: what began together begins alike.
        raise OperationError(
            ErrorCode.INVALID,
            f"{text!r} is more than one attempt",
            hint="Give more digits of its id.",
            candidates=[found, *waiting],
        )
    return found


def _names(text: str, identifier: str) -> bool:
    if text == identifier:
        return True
    plain, digits = text.replace("-", ""), identifier.replace("-", "")
    return len(plain) >= 8 and (digits.startswith(plain) or digits.endswith(plain))


async def await_first_op(context: HiveContext, attempt_id: str) -> None:
    """Wait a moment until an attempt that was just started has come by its own op."""
    with context.feed.subscribe([f"attempt:{attempt_id}"]) as subscription:
        try:
            async with asyncio.timeout(FIRST_OP_S):
                while not await context.database.read(attempts.exists, attempt_id):
                    if await subscription.take() is None:
                        return
        except TimeoutError:
            return
    context.started.pop(attempt_id, None)


async def await_reopened(context: HiveContext, attempt_id: str, turn: Turn) -> None:
    """Wait a moment until the attempt that goes on with this turn is no longer shown as ended."""
    with context.feed.subscribe([f"attempt:{attempt_id}"]) as subscription:
        try:
            async with asyncio.timeout(FIRST_OP_S):
                while True:
                    row = await context.database.read(attempts.get_attempt, attempt_id)
                    ended = row.phase == AttemptPhase.ENDED
                    if not ended or (row.ended_at_ms or 0) >= turn.created_at_ms:
                        return
                    if await subscription.take() is None:
                        return
        except TimeoutError:
            return


def remember_started(context: HiveContext, attempt: Attempt, node_id: str) -> None:
    """Keep an attempt's reply until its op is here."""
    while len(context.started) >= _STARTED_MAX:
        del context.started[next(iter(context.started))]
    context.started[attempt.id] = (node_id, attempt)


async def shown_attempt(context: HiveContext, attempt_id: str) -> replies.Attempt:
    """Return an attempt as the API shows it. Raises NOT_FOUND."""
    try:
        return _reply(context, await context.database.read(attempts.get_attempt, attempt_id))
    except OperationError as error:
        started = context.started.get(attempt_id)
        if error.code is not ErrorCode.NOT_FOUND or started is None:
            raise
    return await attempt_of_entity(context, started[1], started[0])


async def shown_attempts(
    context: HiveContext, *, task_id: str, limit: int
) -> list[replies.Attempt]:
    """Return the newest attempts of a task as the API shows them."""

    async def read(tx: Transaction) -> list[AttemptRow]:
        return await attempts.list_attempts(tx, limit=limit, task_id=task_id)

    return [_reply(context, row) for row in await context.database.read(read)]


async def attempt_of_entity(
    context: HiveContext, attempt: Attempt, node_id: str
) -> replies.Attempt:
    """Return an attempt as its node just answered it, in the shape of all others.

    A node's answer is newer than its ops here; what the hive holds of it besides, it shows.
    """
    node = await context.database.read(get_node, node_id)
    reachable = context.registry.is_online(node_id)
    answered = replies.Attempt(
        **{
            name: getattr(attempt, name)
            for name in replies.Attempt.__struct_fields__
            if hasattr(attempt, name) and name not in {"executions", "phase", "outcome"}
        },
        phase=attempt.phase.value,
        outcome=None if attempt.outcome is None else attempt.outcome.value,
        node_id=node_id,
        node_name=node.name,
        executions=[],
        sync_state=SyncState.PARTIAL.value,
        synced_through_ms=None,
        reachable=reachable,
        unreachable_since_ms=None if reachable else node.last_seen_at_ms,
        superseded=False,
        forgotten_at_ms=None,
    )
    if not await context.database.read(attempts.exists, attempt.id):
        return answered
    held = _reply(context, await context.database.read(attempts.get_attempt, attempt.id))
    return msgspec.structs.replace(
        answered,
        project_id=held.project_id,
        executions=held.executions,
        sessions=held.sessions,
        sync_state=held.sync_state,
        synced_through_ms=held.synced_through_ms,
        superseded=held.superseded,
        forgotten_at_ms=held.forgotten_at_ms,
    )


# --- handlers -------------------------------------------------------------------------------------


async def list_(request: web.Request) -> web.Response:
    """List the attempts, newest first."""
    context = request.app[CONTEXT]
    query = query_of(request, AttemptsQuery)
    named: dict[str, str | None] = {
        "task": query.task,
        "node": query.node,
        "project": query.project,
    }
    for noun, text in named.items():
        if text is not None:
            named[noun] = await context.database.read(resolve, noun, text)
    before = unpack(query.cursor, tuple[int, str])

    async def read(tx: Transaction) -> list[AttemptRow]:
        return await attempts.list_attempts(
            tx,
            before=before,
            limit=query.limit + 1,
            status=query.status,
            task_id=named["task"],
            node_id=named["node"],
            project_id=named["project"],
        )

    rows = await context.database.read(read)
    shown = partial(_reply, context)
    page = page_of(rows, query.limit, shown, lambda row: (row.created_at_ms, row.id))
    return json_response(page)


async def show(request: web.Request) -> web.Response:
    """Show one attempt; with `wait_ended_s`, once it has ended."""
    context = request.app[CONTEXT]
    query = query_of(request, AttemptQuery)
    attempt_id = await attempt_id_of(context, request.match_info["attempt"])
    if query.wait_ended_s:
        await _await_end(context, attempt_id, query.wait_ended_s)
    return json_response(await shown_attempt(context, attempt_id))


async def _await_end(context: HiveContext, attempt_id: str, wait_s: float) -> None:
    with context.feed.subscribe([f"attempt:{attempt_id}"]) as subscription:
        try:
            async with asyncio.timeout(wait_s):
                while (await shown_attempt(context, attempt_id)).phase != AttemptPhase.ENDED:
                    if await subscription.take() is None:
                        return
        except TimeoutError:
            return


async def backfill(request: web.Request) -> web.Response:
    """Ask the node for what the hive lacks of an attempt; it comes by itself."""
    context = request.app[CONTEXT]
    attempt_id = await attempt_id_of(context, request.match_info["attempt"])
    await context.backfill.fetch(attempt_id)
    return json_response(await shown_attempt(context, attempt_id), status=202)
