"""Who may write for a node: its key, its holder, the number of its present link.

Every commit of a link begins with `check_link`, so that an older socket, a revoked node or a second
holder of an identity writes nothing. The verdict on a hello is `protocol.holders`.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from hive.projections import EventDraft
from hive.store import events
from hive.store.backend import Change, Row, Transaction
from protocol import digest, holders
from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.holders import Holder, Verdict
from protocol.messages import Hello
from protocol.ops import EpochState

_DECODE_HOLDER: Final = msgspec.msgpack.Decoder(Holder)

_SELECT = """
SELECT public_key, revoked_at_ms, quarantined_at_ms, quarantine_reason, holder, released_instance,
    link_no, snapshot_rank, snapshot_seq
FROM node WHERE id = :node_id
"""
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


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict to be raised once it is written down."""

    code: ErrorCode
    message: str
    hint: str = ""

    def error(self) -> RemoteProtocolError:
        return RemoteProtocolError(self.code, self.message, hint=self.hint)


_UNKNOWN: Final = Refused(
    code=ErrorCode.UNKNOWN_NODE,
    message="this hive does not know the node",
    hint="Join again: node-agent join URL TOKEN. The node keeps its data and its id.",
)
_REVOKED: Final = Refused(
    code=ErrorCode.REVOKED,
    message="the node was revoked",
    hint="If that was a mistake, make a join token and join it again.",
)
_SUPERSEDED: Final = Refused(
    code=ErrorCode.SUPERSEDED, message="another link of this node has taken its place"
)


def _quarantined(node_id: str) -> Refused:
    return Refused(
        code=ErrorCode.QUARANTINED,
        message="the node is in quarantine: two processes hold its identity, or its history forked",
        hint=f"See hive nodes show {node_id}, then hive nodes release {node_id} --instance I.",
    )


# --- checks ---------------------------------------------------------------------------------------


async def _node(tx: Transaction, node_id: str) -> Row:
    row = await tx.fetch_one(_SELECT, {"node_id": node_id})
    if row is None:
        raise _UNKNOWN.error()
    if row["revoked_at_ms"] is not None:
        raise _REVOKED.error()
    return row


async def node_key(tx: Transaction, node_id: str) -> bytes:
    """Return a node's public key. Raises UNKNOWN_NODE, REVOKED."""
    row = await _node(tx, node_id)
    return bytes(row["public_key"])


async def check_link(tx: Transaction, node_id: str, link_no: int) -> Row:
    """Raise unless `link_no` is the node's present link, and the node may write."""
    row = await _node(tx, node_id)
    if row["quarantined_at_ms"] is not None:
        raise _quarantined(node_id).error()
    if row["link_no"] != link_no:
        raise _SUPERSEDED.error()
    return row


def holder_of(row: Row) -> Holder:
    """Return the stored holder of a node's identity."""
    return _DECODE_HOLDER.decode(row["holder"])


# --- links ----------------------------------------------------------------------------------------


async def accept(
    tx: Transaction, hello: Hello, *, challenged_at: int, accepted_at: int, now_ms: int
) -> int | Refused:
    """Return the new link's number, or the refusal to raise after the commit."""
    row = await _node(tx, hello.node_id)
    holder = holder_of(row)
    verdict = holders.judge(
        holder,
        instance=hello.instance,
        connect_no=hello.connect_no,
        challenged_at=challenged_at,
    )
    if verdict is Verdict.SUPERSEDED:
        return _SUPERSEDED
    if verdict is Verdict.REFUSED:
        return _quarantined(hello.node_id)
    if verdict is Verdict.QUARANTINE:
        why = f"instances {holder.instance} and {hello.instance} both hold its key"
        await quarantine(tx, hello.node_id, hello.instance, TWO_HOLDERS, why, now_ms)
        return _quarantined(hello.node_id)
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
        return _SUPERSEDED
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
    row = await _node(tx, node_id)
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
    row = await _node(tx, node_id)
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
    # Imported here: what a need is stored by rests on this module.
    from hive.store import needs

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


def foreign(what: str, entity_id: str) -> RemoteProtocolError:
    """Return the refusal of a frame that names what belongs to another node."""
    return RemoteProtocolError(
        ErrorCode.FORBIDDEN, f"the {what} belongs to another node", named=entity_id
    )
