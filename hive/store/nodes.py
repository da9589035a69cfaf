"""The registry of nodes: who was enrolled, what each says of itself, when it was last heard of.

A node's name and labels are the hive's; what it reports of itself stands beside them. Links and
quarantines are `links`, enrolment is `credentials`.
"""

import json
from typing import Any, Final

import msgspec

from hive.projections import EventDraft
from hive.store import events, links
from hive.store.backend import Change, Row, Transaction
from hive.store.link_checks import check_link
from protocol.errors import ErrorCode, OperationError
from protocol.holders import Holder
from protocol.messages import Heartbeat, ProjectLink

#: What a node with no heartbeat yet is doing.
IDLE: Final = "idle"

_INSERT = """
INSERT INTO node (id, name, public_key, kind, labels, draining, joined_at_ms, revoked_at_ms,
    quarantined_at_ms, quarantine_reason, holder, released_instance, link_no, linked_at_ms,
    last_seen_at_ms, last_activity_at_ms, activity, slots, slots_busy, outbox, executors, agents,
    os, arch, version, cores, memory_bytes, direct_urls, newest_epoch, newest_rank, newest_seq,
    snapshot_rank, snapshot_seq, snapshot_broken, rank, seq)
VALUES (:id, :name, :public_key, 'static', :labels, 0, :now_ms, NULL, NULL, NULL, :holder, NULL,
    0, NULL, NULL, NULL, 'idle', 0, 0, '{}', '[]', '[]', '', '', '', 0, 0, '[]', NULL, 0, 0, 0, 0,
    0, 0, 0)
"""
_REJOIN = """
UPDATE node SET revoked_at_ms = NULL, joined_at_ms = :now_ms, link_no = link_no + 1, name = :name
WHERE id = :id
"""
_SELECT = "SELECT * FROM node WHERE id = :id"
_SELECT_NAME_TAKEN = """
SELECT 1 FROM node WHERE name = :name AND id <> :id AND revoked_at_ms IS NULL
"""
_BEAT = """
UPDATE node SET last_seen_at_ms = :now_ms, activity = :activity, slots_busy = :slots_busy,
    slots = CASE WHEN :slots_total > 0 THEN :slots_total ELSE slots END, outbox = :outbox
WHERE id = :id
"""
_SELECT_BEAT = "SELECT activity, slots_busy, slots FROM node WHERE id = :id"
_SEEN = "UPDATE node SET last_seen_at_ms = :now_ms WHERE id = :id"
_REVOKE = """
UPDATE node SET revoked_at_ms = :now_ms, link_no = link_no + 1
WHERE id = :id AND revoked_at_ms IS NULL
"""
_DRAIN = "UPDATE node SET draining = :draining WHERE id = :id"
_LABEL = "UPDATE node SET labels = :labels WHERE id = :id"
_SELECT_PAGE = """
SELECT * FROM node WHERE (name > :name OR (name = :name AND id > :id))
    AND (:revoked = 1 OR revoked_at_ms IS NULL)
ORDER BY name, id LIMIT :limit
"""
_SELECT_CHECKOUTS = """
SELECT checkout.id, checkout.project_id, checkout.problem, project.name, project.sync_policy
FROM checkout
LEFT JOIN project ON project.id = checkout.project_id AND project.deleted_at_ms IS NULL
WHERE checkout.node_id = :node_id AND checkout.removed = 0 AND checkout.forgotten_at_ms IS NULL
ORDER BY checkout.id
"""


class NodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the registry has it. Whether it is connected, `NodeRegistry` knows."""

    id: str
    name: str
    public_key: bytes
    kind: str
    labels: list[str]
    draining: bool
    joined_at_ms: int
    revoked_at_ms: int | None
    quarantined_at_ms: int | None
    quarantine_reason: str | None
    contenders: list[int]
    link_no: int
    linked_at_ms: int | None
    last_seen_at_ms: int | None
    last_activity_at_ms: int | None
    activity: str
    slots: int
    slots_busy: int
    outbox: dict[str, Any]
    executors: list[str]
    agents: list[str]
    os: str
    arch: str
    version: str
    cores: int
    memory_bytes: int
    direct_urls: list[str]


def _node(row: Row) -> NodeRow:
    values = {name: row[name] for name in NodeRow.__struct_fields__ if name != "contenders"}
    for name in ("labels", "executors", "agents", "outbox", "direct_urls"):
        values[name] = json.loads(values[name])
    values["draining"] = bool(values["draining"])
    values["public_key"] = bytes(values["public_key"])
    return NodeRow(**values, contenders=sorted(links.holder_of(row).contenders))


# --- reading --------------------------------------------------------------------------------------


async def get_node(tx: Transaction, node_id: str) -> NodeRow:
    """Return one node. Raises NOT_FOUND."""
    row = await tx.fetch_one(_SELECT, {"id": node_id})
    if row is None:
        raise OperationError(ErrorCode.NOT_FOUND, f"there is no node {node_id}")
    return _node(row)


async def list_nodes(
    tx: Transaction,
    *,
    after: tuple[str, str] | None = None,
    limit: int = 50,
    revoked: bool = False,
) -> list[NodeRow]:
    """Return nodes by name; `after` is name and id of the last one of the page before."""
    name, node_id = after or ("", "")
    rows = await tx.fetch_all(
        _SELECT_PAGE,
        {"name": name, "id": node_id, "limit": limit, "revoked": int(revoked)},
    )
    return [_node(row) for row in rows]


async def project_links(tx: Transaction, node_id: str) -> list[ProjectLink]:
    """Return what the hive made of each of a node's checkouts, as it is told to the node."""
    rows = await tx.fetch_all(_SELECT_CHECKOUTS, {"node_id": node_id})
    return [
        ProjectLink(
            checkout_id=row["id"],
            project_id=row["project_id"],
            project_name=row["name"] or "",
            sync_policy=row["sync_policy"] or "full",
            problem=row["problem"],
        )
        for row in rows
    ]


# --- changing -------------------------------------------------------------------------------------


async def enrol(
    tx: Transaction,
    *,
    node_id: str,
    name: str,
    public_key: bytes,
    labels: list[str],
    now_ms: int,
) -> NodeRow:
    """Write a node down, or take one back that joins again with the same key.

    One that names itself anew is called so from then on.
    """
    if await tx.fetch_one(_SELECT, {"id": node_id}) is None:
        await tx.execute(
            _INSERT,
            {
                "id": node_id,
                "name": await _free_name(tx, node_id, name),
                "public_key": public_key,
                "labels": json.dumps(labels),
                "holder": msgspec.msgpack.encode(Holder()),
                "now_ms": now_ms,
            },
        )
        kind = "node_joined"
    else:
        before = (await get_node(tx, node_id)).name
        free = await _free_name(tx, node_id, name) if name else before
        await tx.execute(_REJOIN, {"id": node_id, "name": free, "now_ms": now_ms})
        kind = "node_joined_again"
    await _record(tx, kind, node_id, actor_kind="node", actor=node_id, now_ms=now_ms)
    return await get_node(tx, node_id)


async def _free_name(tx: Transaction, node_id: str, name: str) -> str:
    wanted = name or f"node-{node_id[-8:]}"
    taken = await tx.fetch_one(_SELECT_NAME_TAKEN, {"name": wanted, "id": node_id})
    return wanted if taken is None else f"{wanted}-{node_id[-8:]}"


async def beat(
    tx: Transaction, node_id: str, link_no: int, heartbeat: Heartbeat, now_ms: int
) -> None:
    """Remember when and how the node was last heard of."""
    await check_link(tx, node_id, link_no)
    before = await tx.fetch_one(_SELECT_BEAT, {"id": node_id})
    await tx.execute(
        _BEAT,
        {
            "id": node_id,
            "activity": heartbeat.activity,
            "slots_busy": heartbeat.slots_busy,
            "slots_total": heartbeat.slots_total,
            "outbox": json.dumps(msgspec.to_builtins(heartbeat.outbox)),
            "now_ms": now_ms,
        },
    )
    if before is None or (before["activity"], before["slots_busy"]) != (
        heartbeat.activity,
        heartbeat.slots_busy,
    ):
        tx.note(Change(kind="node.changed", ids={"node": node_id}))


async def seen(tx: Transaction, node_id: str, now_ms: int) -> None:
    """Remember that a node was heard of now, as when its link closes."""
    await tx.execute(_SEEN, {"id": node_id, "now_ms": now_ms})


async def revoke_node(tx: Transaction, node_id: str, *, actor: str, now_ms: int) -> bool:
    """Let a node never write again; False where it was revoked before. Raises NOT_FOUND.

    Call it through `credentials.Revocations`, which writes it down outside the database first.
    """
    await get_node(tx, node_id)
    if not await tx.execute(_REVOKE, {"id": node_id, "now_ms": now_ms}):
        return False
    await _record(tx, "node_revoked", node_id, actor_kind="user", actor=actor, now_ms=now_ms)
    return True


async def drain_node(
    tx: Transaction, node_id: str, *, draining: bool, actor: str, now_ms: int
) -> NodeRow:
    """Give a node no new work, or give it work again. Raises NOT_FOUND."""
    before = await get_node(tx, node_id)
    if before.draining != draining:
        await tx.execute(_DRAIN, {"id": node_id, "draining": int(draining)})
        kind = "node_draining" if draining else "node_undrained"
        await _record(tx, kind, node_id, actor_kind="user", actor=actor, now_ms=now_ms)
    return await get_node(tx, node_id)


async def label_node(
    tx: Transaction, node_id: str, labels: list[str], *, actor: str, now_ms: int
) -> NodeRow:
    """Set a node's labels. Raises NOT_FOUND."""
    await get_node(tx, node_id)
    await tx.execute(_LABEL, {"id": node_id, "labels": json.dumps(labels)})
    await _record(tx, "node_labelled", node_id, actor_kind="user", actor=actor, now_ms=now_ms)
    return await get_node(tx, node_id)


async def _record(
    tx: Transaction, kind: str, node_id: str, *, actor_kind: str, actor: str, now_ms: int
) -> None:
    draft = EventDraft(
        kind=kind,
        what="node",
        what_id=node_id,
        audit=True,
        actor_kind=actor_kind,
        actor=actor,
        node_id=node_id,
    )
    await events.record(tx, draft, now_ms)
    tx.note(Change(kind="node.changed", ids={"node": node_id}))
