"""Who may write for a node: its key, its holder, the number of its present link.

What a link may write once it is there is `link_checks`. The verdict on a hello is
`protocol.holders`.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from hive.projections import EventDraft
from hive.store import events, needs
from hive.store.backend import Change, Row, Transaction
from hive.store.link_checks import SUPERSEDED, Refused, node_row, quarantined
from protocol import digest, holders
from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.holders import Holder, Verdict
from protocol.messages import Hello
from protocol.ops import EpochState

_DECODE_HOLDER: Final = msgspec.msgpack.Decoder(Holder)

_TAKE_LINK = """
UPDATE node SET link_no = :link_no + 1, holder = :holder, linked_at_ms = :now_ms,
    last_seen_at_ms = :now_ms, version = :version
WHERE id = :node_id AND link_no = :link_no
"""
_QUARANTINE = """
UPDATE node SET holder = :holder, quarantined_at_ms = :now_ms, quarantine_reason = :reason
WHERE id = :node_id
"""
_RELEASE = """
UPDATE node SET holder = :holder, quarantined_at_ms = NULL, quarantine_reason = NULL,
    released_instance = :instance, link_no = link_no + 1, snapshot_broken = 1
WHERE id = :node_id
"""
_SET_HOLDER = "UPDATE node SET holder = :holder WHERE id = :node_id"
_SELECT_HOLDERS = "SELECT id, holder FROM node"
_SELECT_RANK_MAX = "SELECT max(rank) AS rank FROM epoch WHERE node_id = :node_id"
_INSERT_EPOCH = """
INSERT INTO epoch (node_id, epoch, rank, mark, digest, fork_seq, first_seen_ms)
VALUES (:node_id, :epoch, :rank, 0, :digest, NULL, :now_ms)
ON CONFLICT (node_id, epoch) DO NOTHING
"""
_SELECT_EPOCHS = "SELECT epoch FROM epoch WHERE node_id = :node_id"

TWO_HOLDERS: Final = "two_holders"
FORK: Final = "fork"


def holder_of(row: Row) -> Holder:
    """Return the stored holder of a node's identity."""
    return _DECODE_HOLDER.decode(row["holder"])


# --- links ----------------------------------------------------------------------------------------


async def accept(
    tx: Transaction, hello: Hello, *, challenged_at: int, accepted_at: int, now_ms: int
) -> int | Refused:
    """Return the new link's number, or the refusal to raise after the commit."""
    row = await node_row(tx, hello.node_id)
    holder = holder_of(row)
    verdict = holders.judge(
        holder,
        instance=hello.instance,
        connect_no=hello.connect_no,
        challenged_at=challenged_at,
    )
    if verdict is Verdict.SUPERSEDED:
        return SUPERSEDED
    if verdict is Verdict.REFUSED:
        return quarantined(hello.node_id)
    if verdict is Verdict.QUARANTINE:
        why = f"instances {holder.instance} and {hello.instance} both hold its key"
        await quarantine(tx, hello.node_id, hello.instance, TWO_HOLDERS, why, now_ms)
        return quarantined(hello.node_id, closes_present_link=True)
    holder = holders.granted(
        holder,
        instance=hello.instance,
        connect_no=hello.connect_no,
        accepted_at=accepted_at,
    )
    taken = await tx.execute(
        _TAKE_LINK,
        {
            "node_id": hello.node_id,
            "link_no": row["link_no"],
            "holder": msgspec.msgpack.encode(holder),
            "version": hello.version,
            "now_ms": now_ms,
        },
    )
    if taken != 1:
        return SUPERSEDED
    await _rank_epochs(tx, hello.node_id, hello.epochs, now_ms)
    tx.note(Change(kind="node.changed", ids={"node": hello.node_id}))
    return int(row["link_no"]) + 1


async def _rank_epochs(
    tx: Transaction, node_id: str, epochs: Sequence[EpochState], now_ms: int
) -> None:
    """Give epochs not seen before their ranks, above all that were seen, in the hello's order."""
    rows = await tx.fetch_all(_SELECT_EPOCHS, {"node_id": node_id})
    seen = {row["epoch"] for row in rows}
    newest = await tx.fetch_one(_SELECT_RANK_MAX, {"node_id": node_id})
    rank = (newest["rank"] if newest is not None else None) or 0
    for state in epochs:
        if state.epoch in seen:
            continue
        seen.add(state.epoch)
        rank += 1
        await tx.execute(
            _INSERT_EPOCH,
            {
                "node_id": node_id,
                "epoch": state.epoch,
                "rank": rank,
                "digest": digest.EMPTY,
                "now_ms": now_ms,
            },
        )


# --- quarantine -----------------------------------------------------------------------------------


async def quarantine(
    tx: Transaction, node_id: str, instance: int | None, reason: str, why: str, now_ms: int
) -> None:
    """Let nobody write for this node until a person chooses."""
    row = await node_row(tx, node_id)
    holder = holder_of(row)
    seen = instance if instance is not None else holder.instance
    if seen is not None:
        holder = holders.quarantined(holder, instance=seen)
    else:
        holder = msgspec.structs.replace(holder, quarantined=True)
    await tx.execute(
        _QUARANTINE,
        {
            "node_id": node_id,
            "holder": msgspec.msgpack.encode(holder),
            "now_ms": now_ms,
            "reason": reason,
        },
    )
    draft = EventDraft(
        kind="node_quarantined",
        what="node",
        what_id=node_id,
        to_state="quarantined",
        why=why,
        level="error",
        audit=True,
        actor_kind="hive",
        node_id=node_id,
        details={"reason": reason, "contenders": [str(one) for one in sorted(holder.contenders)]},
    )
    await events.record(tx, draft, now_ms)
    tx.note(Change(kind="node.changed", ids={"node": node_id}))


async def release(tx: Transaction, node_id: str, instance: int, *, actor: str, now_ms: int) -> None:
    """Let one holder of a quarantined identity on; its rivals have to join anew.

    It calls anew too: a link that is still open may be of a rival under the same instance, and the
    hello of the one let on is answered with where to begin. What is shown is of both until it has
    told all it owns.
    """
    row = await node_row(tx, node_id)
    holder = holder_of(row)
    if not holder.quarantined:
        raise RemoteProtocolError(
            ErrorCode.CONFLICT, "the node is not in quarantine", hint="There is nothing to release."
        )
    known = holder.contenders | holder.replaced | {holder.instance}
    if instance not in known:
        raise RemoteProtocolError(
            ErrorCode.NOT_FOUND,
            f"no process {instance} was seen with this node's identity",
            hint="hive nodes show names them as contenders.",
            contenders=[str(one) for one in sorted(holder.contenders)],
        )
    holder = holders.released(holder, instance=instance)
    await tx.execute(
        _RELEASE,
        {
            "node_id": node_id,
            "holder": msgspec.msgpack.encode(holder),
            "instance": instance,
        },
    )
    await needs.forget_missed(tx, node_id)
    draft = EventDraft(
        kind="node_released",
        what="node",
        what_id=node_id,
        from_state="quarantined",
        to_state="active",
        audit=True,
        actor_kind="user",
        actor=actor,
        node_id=node_id,
        details={"instance": str(instance)},
    )
    await events.record(tx, draft, now_ms)
    tx.note(Change(kind="node.changed", ids={"node": node_id}))


async def forget_sockets(tx: Transaction) -> None:
    """After a start of the hive: no socket and no nonce of before is alive."""
    for row in await tx.fetch_all(_SELECT_HOLDERS):
        holder = holders.restarted(holder_of(row))
        await tx.execute(
            _SET_HOLDER, {"node_id": row["id"], "holder": msgspec.msgpack.encode(holder)}
        )


async def audit_refusal(tx: Transaction, node_id: str, why: str, what_id: str, now_ms: int) -> None:
    """Write down that a node reached for what is not its own."""
    draft = EventDraft(
        kind="refused",
        what="node",
        what_id=node_id,
        why=why,
        level="error",
        audit=True,
        node_id=node_id,
        details={"named": what_id},
    )
    await events.record(tx, draft, now_ms)
