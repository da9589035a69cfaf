"""`/api/v1/nodes`: the machines, as they report themselves and as the hive sees them."""

from functools import partial
from typing import Annotated

import msgspec
from aiohttp import web

from hive.api import replies
from hive.api.context import CONTEXT, HiveContext, now_ms
from hive.api.decoding import InvalidInput, body_of, query_of
from hive.api.middleware import json_response, principal_of
from hive.api.paging import PageQuery, page_of, unpack
from hive.store import links
from hive.store.catalog import resolve
from hive.store.nodes import NodeRow, drain_node, get_node, label_node, list_nodes
from protocol.errors import ErrorCode
from protocol.one_line import is_one_line

_LABELS_MAX = 50


class NodesQuery(PageQuery, frozen=True, kw_only=True):
    """`revoked` lists also those shut out."""

    revoked: bool = False


class EditNode(msgspec.Struct, frozen=True, kw_only=True):
    """What the hive decides of a node."""

    draining: bool | None = None
    labels: list[str] | None = None


class ReleaseNode(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the processes that claim a node's identity is let on."""

    instance: Annotated[int, msgspec.Meta(ge=0)]


def status_of(row: NodeRow, *, online: bool) -> str:
    """Return the one word for how a node stands; what needs a person goes first."""
    if row.revoked_at_ms is not None:
        return "revoked"
    if row.quarantined_at_ms is not None:
        return "quarantined"
    if not online:
        return "offline"
    return "draining" if row.draining else "online"


def slots_of(context: HiveContext, row: NodeRow) -> replies.Slots:
    """Return a node's slots: as it says now, else as it said last."""
    live = context.registry.state(row.id)
    if live is not None and live.slots_total:
        return replies.Slots(total=live.slots_total, busy=live.slots_busy)
    return replies.Slots(total=row.slots, busy=row.slots_busy)


def node_reply(context: HiveContext, row: NodeRow) -> replies.Node:
    """Return a node as the API shows it."""
    live = context.registry.state(row.id)
    outbox = msgspec.convert(row.outbox, replies.Outbox)
    if live is not None:
        outbox = msgspec.convert(live.outbox, replies.Outbox, from_attributes=True)
    # A number of 63 bits does not survive a page's JavaScript: as text.
    instances = [str(one) for one in row.contenders] if row.quarantined_at_ms else []
    return replies.Node(
        id=row.id,
        name=row.name,
        status=status_of(row, online=live is not None),
        reason=row.quarantine_reason if row.quarantined_at_ms else None,
        online=live is not None,
        slots=slots_of(context, row),
        executors=row.executors,
        agents=row.agents,
        version=row.version,
        activity=live.activity if live is not None else row.activity,
        last_seen_at_ms=live.last_frame_ms if live is not None else row.last_seen_at_ms,
        last_activity_at_ms=row.last_activity_at_ms,
        labels=row.labels,
        os=row.os,
        arch=row.arch,
        cores=row.cores,
        memory_bytes=row.memory_bytes,
        direct_urls=row.direct_urls,
        joined_at_ms=row.joined_at_ms,
        online_since_ms=live.since_ms if live is not None else None,
        round_trip_ms=live.round_trip_ms if live is not None else None,
        outbox=outbox,
        instances=instances,
    )


async def list_(request: web.Request) -> web.Response:
    """List the nodes, by name."""
    context = request.app[CONTEXT]
    query = query_of(request, NodesQuery)
    after = unpack(query.cursor, tuple[str, str]) or ("", "")
    rows = await context.database.read(
        list_nodes, after=after, limit=query.limit + 1, revoked=query.revoked
    )
    shown = partial(node_reply, context)
    page = page_of(rows, query.limit, shown, lambda row: (row.name, row.id))
    return json_response(page)


async def _node_id(request: web.Request) -> str:
    context = request.app[CONTEXT]
    return await context.database.read(resolve, "node", request.match_info["node"])


async def show(request: web.Request) -> web.Response:
    """Show one node."""
    context = request.app[CONTEXT]
    row = await context.database.read(get_node, await _node_id(request))
    return json_response(node_reply(context, row))


async def edit(request: web.Request) -> web.Response:
    """Drain a node, or set its labels."""
    context, actor = request.app[CONTEXT], principal_of(request).name
    node_id = await _node_id(request)
    asked = await body_of(request, EditNode)
    if asked.labels is not None and not all(
        len(label) <= 100 and is_one_line(label) for label in asked.labels[: _LABELS_MAX + 1]
    ):
        raise InvalidInput("labels: each has 1 to 100 printable characters", field="labels")
    if asked.labels is not None and len(asked.labels) > _LABELS_MAX:
        raise InvalidInput(f"labels: at most {_LABELS_MAX} are kept", field="labels")
    row = await context.database.read(get_node, node_id)
    if asked.draining is not None:
        row = await context.database.write(
            drain_node, node_id, draining=asked.draining, actor=actor, now_ms=now_ms()
        )
    if asked.labels is not None:
        row = await context.database.write(
            label_node, node_id, asked.labels, actor=actor, now_ms=now_ms()
        )
    return json_response(node_reply(context, row))


async def revoke(request: web.Request) -> web.Response:
    """Shut a node out; its socket closes with it."""
    context = request.app[CONTEXT]
    node_id = await _node_id(request)
    await context.revocations.revoke_node(
        context.database, node_id, actor=principal_of(request).name, now_ms=now_ms()
    )
    await context.registry.disconnect(node_id, ErrorCode.REVOKED)
    row = await context.database.read(get_node, node_id)
    return json_response(node_reply(context, row))


async def release(request: web.Request) -> web.Response:
    """Let one holder of a quarantined identity on."""
    context = request.app[CONTEXT]
    node_id = await _node_id(request)
    asked = await body_of(request, ReleaseNode)
    await context.database.write(
        links.release, node_id, asked.instance, actor=principal_of(request).name, now_ms=now_ms()
    )
    row = await context.database.read(get_node, node_id)
    return json_response(node_reply(context, row))
