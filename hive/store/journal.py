"""The nodes' journals as the hive holds them: ops, marks, digests, snapshots, skips.

The mark of an epoch is the last contiguous op committed; exactly mark + 1 is applied, and what it
tells of is written in the same transaction. What cannot be applied is kept aside, and the mark
moves on all the same.
"""

from collections.abc import Sequence
from typing import Final

from hive.projections import OWNED, EventDraft, Source
from hive.store import events, facts, needs
from hive.store.backend import JournalState, Row, Transaction
from hive.store.link_checks import Refused, check_link
from hive.store.linking import LinkContext
from hive.store.links import FORK, holder_of, quarantine
from protocol import digest as digests
from protocol import limits
from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.messages import EpochMark, Fork, Skip, Snapshot
from protocol.ops import EpochState, Op, Record

_SELECT_EPOCH = """
SELECT rank, mark, digest, fork_seq FROM epoch WHERE node_id = :node_id AND epoch = :epoch
"""
_MOVE_MARK = """
UPDATE epoch SET mark = :mark, digest = :digest WHERE node_id = :node_id AND epoch = :epoch
"""
_SET_FORK = "UPDATE epoch SET fork_seq = :seq WHERE node_id = :node_id AND epoch = :epoch"
_SELECT_NEWEST_EPOCHS = (
    "SELECT epoch FROM epoch WHERE node_id = :node_id ORDER BY rank DESC LIMIT :limit"
)
_SELECT_RANK_MAX = "SELECT max(rank) AS rank FROM epoch WHERE node_id = :node_id"
_INSERT_OP = """
INSERT INTO op (node_id, epoch, seq, kind, entity_id, at_ms, body, digest)
VALUES (:node_id, :epoch, :seq, :kind, :entity_id, :at_ms, :body, :digest)
"""
_SELECT_DIGEST = """
SELECT digest FROM op WHERE node_id = :node_id AND epoch = :epoch AND seq = :seq
"""
_SELECT_DIGESTS = """
SELECT seq, digest FROM op WHERE node_id = :node_id AND epoch = :epoch
ORDER BY seq DESC LIMIT :limit
"""
_SELECT_NEWEST = """
SELECT newest_epoch, newest_seq, released_instance, holder, snapshot_broken FROM node
WHERE id = :node_id
"""
_MOVE_NEWEST = """
UPDATE node SET newest_epoch = :epoch, newest_rank = :rank, newest_seq = :seq,
    last_activity_at_ms = :now_ms
WHERE id = :node_id
    AND (newest_rank < :rank OR (newest_rank = :rank AND newest_seq <= :seq))
"""
_SNAPSHOT_BROKEN = "UPDATE node SET snapshot_broken = :broken WHERE id = :node_id"
_SNAPSHOT_WHOLE = """
UPDATE node SET snapshot_rank = :rank, snapshot_seq = :seq
WHERE id = :node_id
    AND (snapshot_rank < :rank OR (snapshot_rank = :rank AND snapshot_seq < :seq))
"""
#: Rows of this node that the snapshot does not name, older than the snapshot. By table.
_FORGET: Final = {
    kind: f"""
UPDATE {kind.value} SET forgotten_at_ms = :now_ms
WHERE node_id = :node_id AND (rank < :rank OR (rank = :rank AND seq < :seq))
    AND (snapshot_id IS NULL OR snapshot_id <> :snapshot_id) AND forgotten_at_ms IS NULL
RETURNING id
"""  # noqa: S608  the names of our own tables
    for kind in OWNED
}


async def _epoch(tx: Transaction, node_id: str, epoch: int) -> Row:
    row = await tx.fetch_one(_SELECT_EPOCH, {"node_id": node_id, "epoch": epoch})
    if row is None:
        raise RemoteProtocolError(
            ErrorCode.BAD_FRAME, "an epoch that no hello of this node named", epoch=epoch
        )
    return row


# --- marks ----------------------------------------------------------------------------------------


async def marks(tx: Transaction, node_id: str, epochs: Sequence[int]) -> list[EpochMark]:
    """Return the marks of `epochs`; 0 for those not seen."""
    found = []
    for epoch in epochs:
        row = await tx.fetch_one(_SELECT_EPOCH, {"node_id": node_id, "epoch": epoch})
        if row is None:
            found.append(EpochMark(epoch, 0, digests.EMPTY))
        else:
            found.append(EpochMark(epoch, row["mark"], row["digest"]))
    return found


async def newest_epochs(tx: Transaction, node_id: str, limit: int) -> list[int]:
    """Return the epochs of a node that the hive saw last, the newest first."""
    rows = await tx.fetch_all(_SELECT_NEWEST_EPOCHS, {"node_id": node_id, "limit": limit})
    return [row["epoch"] for row in rows]


async def journal_state(
    tx: Transaction, node_id: str, link_no: int, epochs: Sequence[EpochState], now_ms: int
) -> JournalState | Refused:
    """Return what the hive holds of a node's journal, or the refusal of a forked one."""
    await check_link(tx, node_id, link_no)
    node = await tx.fetch_one(_SELECT_NEWEST, {"node_id": node_id})
    if node is None:
        raise LookupError(node_id)
    forked = [state.epoch for state in epochs if await _forks(tx, node_id, state)]
    released = holder_of(node).instance == node["released_instance"]
    if forked and not released:
        return await _refuse_fork(tx, node_id, forked[0], now_ms)
    if (
        epochs
        and epochs[-1].epoch not in forked
        # What a rival told by a snapshot has no digest to compare: who was let on begins anew.
        and (released or await _is_overtaken(tx, node_id, epochs[-1], node))
    ):
        forked.append(epochs[-1].epoch)
    newest = None
    if node["newest_epoch"] is not None:
        newest = (node["newest_epoch"], node["newest_seq"])
    wanted = bool(node["snapshot_broken"])
    if epochs and newest is not None and not _holds(epochs, *newest):
        # Until it has told all it owns, whatever else it may tell before.
        await tx.execute(_SNAPSHOT_BROKEN, {"node_id": node_id, "broken": 1})
        wanted = True
    return JournalState(
        marks=await marks(tx, node_id, [state.epoch for state in epochs]),
        newest=newest,
        forks=[await _fork(tx, node_id, epoch) for epoch in forked],
        snapshot_wanted=wanted,
    )


def _holds(epochs: Sequence[EpochState], epoch: int, seq: int) -> bool:
    return any(state.epoch == epoch and state.last >= seq for state in epochs)


async def _forks(tx: Transaction, node_id: str, state: EpochState) -> bool:
    """Whether the node's epoch and ours part ways; forget an earlier fork that was settled."""
    place = {"node_id": node_id, "epoch": state.epoch}
    row = await tx.fetch_one(_SELECT_EPOCH, place)
    if row is None:
        return False
    if row["mark"] < state.last:
        # What it has beyond our mark says nothing; the node compares at our mark and tells.
        return row["fork_seq"] is not None
    if state.last > 0:
        ours = await digest_at(tx, node_id, state.epoch, state.last)
        if ours is not None and ours != state.digest:
            await tx.execute(_SET_FORK, {**place, "seq": state.last})
            return True
    if row["fork_seq"] is not None:
        await tx.execute(_SET_FORK, {**place, "seq": None})
    return False


async def digest_at(tx: Transaction, node_id: str, epoch: int, seq: int) -> bytes | None:
    """Return our digest after op `seq`; None where it is not kept."""
    row = await _epoch(tx, node_id, epoch)
    if row["mark"] == seq:
        return bytes(row["digest"])
    kept = await tx.fetch_one(_SELECT_DIGEST, {"node_id": node_id, "epoch": epoch, "seq": seq})
    return None if kept is None else bytes(kept["digest"])


async def _is_overtaken(tx: Transaction, node_id: str, present: EpochState, node: Row) -> bool:
    # Another holder of the identity wrote after this epoch began, or more in it than this one
    # knows, be it by a snapshot (a copy of the running process): nothing it says under these
    # numbers could stand beside that one's word, so it goes on in a new epoch.
    row = await _epoch(tx, node_id, present.epoch)
    newest = await tx.fetch_one(_SELECT_RANK_MAX, {"node_id": node_id})
    outranked = newest is not None and row["rank"] < newest["rank"]
    told = node["newest_seq"] if node["newest_epoch"] == present.epoch else 0
    return bool(outranked or max(row["mark"], told) > present.last)


async def _fork(tx: Transaction, node_id: str, epoch: int) -> Fork:
    rows = await tx.fetch_all(
        _SELECT_DIGESTS,
        {"node_id": node_id, "epoch": epoch, "limit": limits.FORK_DIGESTS_MAX},
    )
    named = [(row["seq"], bytes(row["digest"])) for row in rows]
    if not named:
        row = await _epoch(tx, node_id, epoch)
        named = [(row["mark"], bytes(row["digest"]))] if row["mark"] else []
    return Fork(epoch, sorted(named))


async def _refuse_fork(tx: Transaction, node_id: str, epoch: int, now_ms: int) -> Refused:
    why = f"its history of epoch {epoch} differs from what the hive holds"
    await quarantine(tx, node_id, None, FORK, why, now_ms)
    return Refused(
        code=ErrorCode.QUARANTINED,
        message="this node's history differs from what the hive holds",
        hint=f"See hive nodes show {node_id}, then hive nodes release {node_id} --instance I.",
    )


async def fork_seen(
    tx: Transaction, node_id: str, epoch: int, seq: int, digest: bytes, now_ms: int
) -> bool | Refused:
    """Take a node's word on its digest; True where that makes a fork and a quarantine.

    Returns a refusal to raise where a person released this instance already.
    """
    if await digest_at(tx, node_id, epoch, seq) == digest:
        return False
    await tx.execute(_SET_FORK, {"node_id": node_id, "epoch": epoch, "seq": seq})
    node = await tx.fetch_one(_SELECT_NEWEST, {"node_id": node_id})
    if node is None:
        raise LookupError(node_id)
    if (
        node["released_instance"] is not None
        and holder_of(node).instance == node["released_instance"]
    ):
        # The next hello is answered with our digests, and the node goes on from there.
        return Refused(code=ErrorCode.HOLE, message="the history differs; call anew to settle it")
    await _refuse_fork(tx, node_id, epoch, now_ms)
    return True


# --- ops ------------------------------------------------------------------------------------------


async def commit_ops(
    tx: Transaction,
    context: LinkContext,
    node_id: str,
    link_no: int,
    epoch: int,
    first_seq: int,
    ops: Sequence[Op],
) -> int:
    """Commit what is new of `ops`; return the mark after. Raises HOLE, FORBIDDEN."""
    node = await check_link(tx, node_id, link_no)
    row = await _epoch(tx, node_id, epoch)
    mark: int = row["mark"]
    if first_seq + len(ops) - 1 <= mark:
        return mark
    if first_seq > mark + 1:
        raise RemoteProtocolError(
            ErrorCode.HOLE, f"op {first_seq} where {mark + 1} was due", epoch=epoch
        )
    new = ops[mark + 1 - first_seq :]
    running = digests.running(row["digest"], epoch, mark + 1, new)
    await tx.executemany(
        _INSERT_OP,
        [
            {
                "node_id": node_id,
                "epoch": epoch,
                "seq": seq,
                "kind": op.kind,
                "entity_id": op.entity_id,
                "at_ms": op.at_ms,
                "body": op.body,
                "digest": digest,
            }
            for seq, (op, digest) in enumerate(zip(new, running, strict=True), mark + 1)
        ],
    )
    rank, whole = row["rank"], (node["snapshot_rank"], node["snapshot_seq"])
    for seq, op in enumerate(new, mark + 1):
        older = (rank, seq) < whole
        source = Source(node_id=node_id, epoch=epoch, rank=rank, seq=seq, before_snapshot=older)
        await facts.apply(tx, context, source, op)
    mark += len(new)
    await tx.execute(
        _MOVE_MARK, {"node_id": node_id, "epoch": epoch, "mark": mark, "digest": running[-1]}
    )
    await _move_newest(tx, context, node_id, epoch, rank, mark)
    return mark


async def _move_newest(
    tx: Transaction, context: LinkContext, node_id: str, epoch: int, rank: int, seq: int
) -> None:
    await tx.execute(
        _MOVE_NEWEST,
        {
            "node_id": node_id,
            "epoch": epoch,
            "rank": rank,
            "seq": seq,
            "now_ms": context.now_ms,
        },
    )


# --- snapshots, skips, records --------------------------------------------------------------------


async def commit_snapshot(
    tx: Transaction, context: LinkContext, node_id: str, link_no: int, page: Snapshot
) -> None:
    """Commit one page; with the last one, what the snapshot does not name is forgotten."""
    await check_link(tx, node_id, link_no)
    rank: int = (await _epoch(tx, node_id, page.epoch))["rank"]
    source = Source(
        node_id=node_id,
        epoch=page.epoch,
        rank=rank,
        seq=page.seq,
        snapshot_id=page.snapshot_id,
        whole_state=True,
    )
    for record in page.records:
        op = Op(record.kind, record.entity_id, record.at_ms, record.body)
        await facts.apply(tx, context, source, op)
    await tx.execute(_SNAPSHOT_BROKEN, {"node_id": node_id, "broken": int(not page.last)})
    # Also behind a part: what it set stands above all this epoch says under lower numbers.
    await _move_newest(tx, context, node_id, page.epoch, rank, page.seq)
    if not page.last:
        return
    await tx.execute(_SNAPSHOT_WHOLE, {"node_id": node_id, "rank": rank, "seq": page.seq})
    for kind, statement in _FORGET.items():
        forgotten = await tx.fetch_all(
            statement,
            {
                "node_id": node_id,
                "rank": rank,
                "seq": page.seq,
                "snapshot_id": page.snapshot_id,
                "now_ms": context.now_ms,
            },
        )
        for row in forgotten:
            await facts.note_changed(tx, kind, row["id"], node_id)
    await needs.forget_messages_missed(tx, node_id)


async def commit_skip(
    tx: Transaction, context: LinkContext, node_id: str, link_no: int, skip: Skip
) -> int:
    """Record that ops up to `through` are gone; return the mark after, never lower."""
    await check_link(tx, node_id, link_no)
    row = await _epoch(tx, node_id, skip.epoch)
    mark: int = row["mark"]
    if skip.through <= mark:
        return mark
    await tx.execute(
        _MOVE_MARK,
        {
            "node_id": node_id,
            "epoch": skip.epoch,
            "mark": skip.through,
            "digest": skip.digest,
        },
    )
    draft = EventDraft(
        kind="journal_gap",
        what="node",
        what_id=node_id,
        why="the node no longer has these changes; a snapshot of its state stands for them",
        level="warning",
        node_id=node_id,
        details={"epoch": str(skip.epoch), "from": mark + 1, "through": skip.through},
    )
    await events.record(tx, draft, context.now_ms)
    await _move_newest(tx, context, node_id, skip.epoch, row["rank"], skip.through)
    return skip.through


async def commit_records(
    tx: Transaction,
    context: LinkContext,
    node_id: str,
    link_no: int,
    request_id: str,
    records: Sequence[Record],
) -> None:
    """Commit state that answers a need, each record under its own position.

    What it tells beyond the mark no digest stands for, as with a snapshot: so it counts as seen.
    """
    await check_link(tx, node_id, link_no)
    ranks: dict[int, int] = {}
    for record in records:
        if record.epoch not in ranks:
            known = await tx.fetch_one(_SELECT_EPOCH, {"node_id": node_id, "epoch": record.epoch})
            # Of an epoch that is not known: the lowest position fills in and never overwrites.
            ranks[record.epoch] = 0 if known is None else known["rank"]
        source = Source(
            node_id=node_id,
            epoch=record.epoch,
            rank=ranks[record.epoch],
            seq=record.seq,
            whole_state=True,
        )
        op = Op(record.kind, record.entity_id, record.at_ms, record.body)
        await facts.apply(tx, context, source, op)
    await needs.records_came(tx, node_id, request_id, records)
    rank, seq, epoch = max(
        ((ranks[record.epoch], record.seq, record.epoch) for record in records), default=(0, 0, 0)
    )
    if rank:
        await _move_newest(tx, context, node_id, epoch, rank, seq)
