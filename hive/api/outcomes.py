"""`/api/v1/operations`: what became of changing requests, and those that wait for their node.

Owns how a record reads, and what its reader can do about it. Must not carry anything out.
"""

from functools import partial
from typing import Final, Literal

import msgspec
from aiohttp import web

from hive.api import replies
from hive.api.attempts import attempt_id_of
from hive.api.context import CONTEXT, HiveContext, now_ms
from hive.api.decoding import query_of
from hive.api.middleware import json_response, principal_of
from hive.api.paging import PageQuery, page_of, unpack
from hive.operation_records import error_of
from hive.store import deferred, operations
from hive.store.backend import Transaction
from hive.store.catalog import resolve
from hive.store.deferred import DeferredRow
from hive.store.nodes import NodeRow, get_node
from hive.store.operations import OperationRow, ReportRow
from protocol.errors import ErrorCode, OperationError
from protocol.operations import OPERATIONS
from protocol.states import DeferredStatus

#: As the hive has it, as `DeferredStatus` where it waited, and `started` as its node says.
Status = Literal[
    "sent", "started", "waiting", "delivered", "done", "failed", "unknown", "expired", "cancelled"
]
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


class OperationsQuery(PageQuery, frozen=True, kw_only=True):
    """Narrows the list. `status` is `waiting` for what waits for its node, `unknown`, ..."""

    attempt: str | None = None
    node: str | None = None
    status: Status | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one changing request."""

    row: OperationRow
    kept: DeferredRow | None
    report: ReportRow | None
    node: NodeRow | None


async def _find(tx: Transaction, row: OperationRow) -> Found:
    return Found(
        row=row,
        kept=await deferred.find_deferred(tx, row.key),
        report=await operations.find_report(tx, row.key),
        node=None if row.node_id is None else await get_node(tx, row.node_id),
    )


async def _find_page(
    tx: Transaction,
    before: tuple[int, str] | None,
    limit: int,
    named: dict[str, str | None],
) -> list[Found]:
    rows = await operations.list_operations(tx, before=before, limit=limit, **named)
    return [await _find(tx, row) for row in rows]


async def list_(request: web.Request) -> web.Response:
    """List changing requests, newest first; those that nodes carried out locally too."""
    context = request.app[CONTEXT]
    query = query_of(request, OperationsQuery)
    named: dict[str, str | None] = {"status": query.status}
    if query.attempt is not None:
        named["attempt_id"] = await attempt_id_of(context, query.attempt)
    if query.node is not None:
        named["node_id"] = await context.database.read(resolve, "node", query.node)
    before = unpack(query.cursor, tuple[int, str])
    found = await context.database.read(_find_page, before, query.limit + 1, named)
    shown = partial(_reply, context)
    page = page_of(found, query.limit, shown, lambda one: (one.row.sent_at_ms, one.row.key))
    return json_response(page)


async def show(request: web.Request) -> web.Response:
    """Tell what became of a changing request, by its key."""
    context = request.app[CONTEXT]
    row = await context.database.read(operations.get_operation, request.match_info["key"])
    return json_response(await shown_operation(context, row))


async def cancel(request: web.Request) -> web.Response:
    """Take back an operation that waits for its node."""
    context, key, actor = await _decided(request)
    row = await context.database.write(deferred.cancel, key, actor=actor, now_ms=now_ms())
    return json_response(await shown_operation(context, row))


async def confirm(request: web.Request) -> web.Response:
    """Have an operation leave that is held since the hive was restored."""
    context, key, actor = await _decided(request)
    row = await context.database.write(deferred.confirm, key, actor=actor, now_ms=now_ms())
    context.deferred.look(row.node_id)
    return json_response(await shown_operation(context, row))


async def _decided(request: web.Request) -> tuple[HiveContext, str, str]:
    """Return the hive, the key and who decides. Raises FORBIDDEN where they may not."""
    context, principal = request.app[CONTEXT], principal_of(request)
    row = await context.database.read(operations.get_operation, request.match_info["key"])
    operation = OPERATIONS.get(row.operation)
    if operation is not None and principal.role < operation.role:
        raise OperationError(
            ErrorCode.FORBIDDEN,
            f"{row.operation} needs the role {operation.role.name.lower()}",
            hint="Whoever may ask for an operation may also take it back or confirm it.",
        )
    return context, row.key, principal.name


# --- how it reads ---------------------------------------------------------------------------------


async def shown_operation(context: HiveContext, row: OperationRow) -> replies.Operation:
    """Return a changing request as the API shows it."""
    return _reply(context, await context.database.read(_find, row))


def _reply(context: HiveContext, found: Found) -> replies.Operation:
    row, kept, report, node = found.row, found.kept, found.report, found.node
    error = error_of(row)
    if error is None and report is not None and row.status == report.status:
        error = operations.error_told(report.error_code)
    online = row.node_id is not None and context.registry.is_online(row.node_id)
    return replies.Operation(
        key=row.key,
        operation=row.operation,
        status=row.status,
        attempt_id=row.attempt_id,
        task_id=row.task_id,
        node_id=row.node_id,
        actor=row.actor,
        head_before=row.head_before,
        head_after=row.head_after,
        created_at_ms=row.sent_at_ms,
        settled_at_ms=row.ended_at_ms,
        error=error,
        reply=None if row.reply is None else msgspec.msgpack.decode(row.reply),
        hint=_hint(found, online=online),
        node_name=None if node is None else node.name,
        node_online=online,
        node_last_seen_at_ms=None if node is None else node.last_seen_at_ms,
        kept=None if kept is None else _kept(kept),
        report=None if report is None else _report(report),
    )


def _kept(kept: DeferredRow) -> replies.KeptOperation:
    return replies.KeptOperation(
        expires_at_ms=kept.expires_at_ms,
        held=kept.held,
        expected_head=kept.expected_head,
        expected_execution_id=kept.expected_execution or None,
        phase=kept.phase,
        delivered_at_ms=kept.first_delivered_at_ms,
        deliveries=kept.deliveries,
    )


def _report(report: ReportRow) -> replies.NodeReport:
    return replies.NodeReport(
        status=report.status,
        error_code=report.error_code,
        actor=report.actor,
        head_before=report.head_before,
        head_after=report.head_after,
        started_at_ms=report.started_at_ms,
        ended_at_ms=report.ended_at_ms,
    )


def _hint(found: Found, *, online: bool) -> str:
    """What the reader can expect, or do."""
    row, kept, now = found.row, found.kept, now_ms()
    name = "its node" if found.node is None else found.node.name
    if kept is not None and row.status in {DeferredStatus.WAITING, DeferredStatus.DELIVERED}:
        if kept.held:
            return (
                "The hive was put back from a copy since this was asked. Look whether it is still"
                f" meant, then: hive operations confirm {row.key}; or: hive operations cancel"
                f" {row.key}."
            )
        if row.status == DeferredStatus.DELIVERED:
            return f"It was sent to {name}. Its answer is asked for until it is known."
        left = span(kept.expires_at_ms - now)
        if online:
            return f"{name} is there and takes nothing now; it is asked again, for {left} more."
        seen = None if found.node is None else found.node.last_seen_at_ms
        last = "" if seen is None else f", last seen {span(now - seen)} ago"
        return (
            f"{name} is away{last}. It is carried out once that is back, within {left}, if the"
            " attempt has begun no other run by then."
            f" To take it back: hive operations cancel {row.key}."
        )
    if row.status == operations.UNKNOWN:
        about = f"hive attempts show {row.attempt_id}" if row.attempt_id else "hive attempts"
        head = f" The branch was to be at {row.head_before} before." if row.head_before else ""
        there = "" if online else f" {name} is away; what it did it tells when it is back."
        return (
            f"It was sent, and nobody knows what came of it.{there}{head} Look at the attempt"
            f" ({about}); the same request with the same key is safe."
        )
    return ""


def span(milliseconds: int) -> str:
    """Return a span of time as people say it, in its two largest units."""
    left_s = max(0, milliseconds // 1000)
    parts: list[str] = []
    for unit, unit_s in _UNITS:
        count, left_s = divmod(left_s, unit_s)
        if count or (parts and unit != "s"):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
