"""How the node stands, and what of it the hive has not got, over the local API."""

from typing import Any

import msgspec

from node_agent.api.exchange import ApiReply, ApiRequest, reply_json
from node_agent.local_node import LocalNode
from node_agent.store import attempts as stored
from node_agent.store import checkouts
from protocol.errors import ErrorCode, OperationError
from protocol.states import AttemptPhase

#: Logs named one by one in the outbox; the rest is in its counts.
_LOGS_NAMED_MAX = 100


async def show_status(node: LocalNode, _: ApiRequest) -> ApiReply:
    """Answer how the node stands."""
    link = node.link()
    busy = await node.database.read(stored.busy_slots)
    record = node.record()
    return reply_json(
        {
            "node_id": record.node_id,
            "name": node.name,
            "running": node.running,
            "hive": None if link is None else msgspec.to_builtins(link),
            "outbox": await outbox_counts(node),
            "slots": {"total": node.slots, "busy": busy},
            "activity": await activity(node),
            "note": (
                "Agents run as the same user as the node agent and could read its key;"
                " the hive's admin can revoke the node."
            ),
        }
    )


async def show_outbox(node: LocalNode, _: ApiRequest) -> ApiReply:
    """Answer what is unsent, piece by piece, and why."""
    counts = await outbox_counts(node)
    without = await _unstreamed(node)
    items = []
    marks = await node.hive_marks()
    for epoch in await node.journal.epochs():
        waiting = epoch.last - max(marks.get(epoch.epoch, 0), epoch.first_kept - 1)
        if waiting > 0:
            items.append({"what": "ops", "id": str(epoch.epoch), "count": waiting})
    for log in (await node.chunks.logs_to_name(without))[:_LOGS_NAMED_MAX]:
        stored_log = await node.chunks.log(log.execution_id)
        unsent = log.next_chunk - max(1, stored_log.acked_chunk if stored_log else 1)
        if unsent > 0:
            items.append({"what": "log chunks", "id": log.execution_id, "count": unsent})
    return reply_json({**counts, "reason": _reason(node, counts), "items": items})


async def enrolment_changed(node: LocalNode, _: ApiRequest) -> ApiReply:
    """Have the running agent look at `node.json` anew."""
    if node.enrolment_changed is None:
        raise OperationError(ErrorCode.NOT_AVAILABLE, "no agent runs here")
    await node.enrolment_changed()
    return reply_json({})


async def outbox_counts(node: LocalNode) -> dict[str, Any]:
    """Return what the hive has not made safe: ops, chunks, their bytes, the oldest's time.

    Logs that the sync policy of their project leaves here are not on their way, and not counted.
    """
    ops = await node.journal.pending(await node.hive_marks())
    chunks = await node.chunks.outbox(await _unstreamed(node))
    oldest = [at_ms for at_ms in (ops.oldest_ms, chunks.oldest_ms) if at_ms]
    return {
        "ops": ops.ops,
        "chunks": chunks.chunks,
        "bytes": ops.bytes + chunks.bytes,
        "oldest_ms": min(oldest, default=None),
    }


async def _unstreamed(node: LocalNode) -> frozenset[str]:
    if node.link() is None:
        # What a hive of before wanted binds nobody.
        return frozenset()
    return await node.database.read(checkouts.unstreamed)


async def activity(node: LocalNode) -> str:
    """Return idle, busy, or waiting where all that runs waits for a person."""
    running = await node.database.read(stored.unended)
    if not running:
        return "idle"
    waiting = all(one.phase is AttemptPhase.AWAITING_INPUT for one in running)
    return "waiting" if waiting else "busy"


def _reason(node: LocalNode, counts: dict[str, Any]) -> str:
    if not counts["ops"] and not counts["chunks"]:
        return ""
    link = node.link()
    if link is None:
        return "no hive is joined; what is here is kept for one"
    if not node.running:
        return "the node agent is not running"
    if not link.connected:
        return link.problem or "the hive is not connected"
    return "on its way"
