"""The journal: ops numbered by epoch and seq, with the newest state of each entity beside them.

An op and the change it tells of are one transaction: `append` and `save` work inside the caller's.
Must not decide what may be deleted: its callers know what is safe.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from node_agent.failpoints import failpoint
from node_agent.store.contract import JournalGrew, PendingOps
from node_agent.store.database import Database
from node_agent.store.errors import NotStored
from node_agent.store.transaction import Row, Transaction
from protocol import digest as digests
from protocol import limits
from protocol.entities import Withheld
from protocol.errors import ErrorCode, LocalProtocolError
from protocol.ops import EpochState, Op, OpKind, Position, Record, encode_body

LOG: Final = logging.getLogger(__name__)
#: Why an op is withheld whose bytes changed on the disk.
CORRUPT: Final = "corrupt"
#: Kinds that tell of something that happened, not of a state: nothing is kept but the op.
_STATELESS: Final = frozenset({OpKind.NOTICE, OpKind.WITHHELD})
_PRUNE_ROWS_MAX: Final = 1_000
#: What an op weighs beside its body when a page is filled.
_OP_OVERHEAD_BYTES: Final = 64


# --- inside a unit of work ------------------------------------------------------------------------

_CURRENT_EPOCH = "SELECT epoch, last, digest FROM epoch ORDER BY birth DESC LIMIT 1"
_INSERT_OP = """
INSERT INTO op (epoch, seq, kind, entity_id, at_ms, body, digest)
VALUES (:epoch, :seq, :kind, :entity_id, :at_ms, :body, :digest)
"""
_SET_LAST = "UPDATE epoch SET last = :seq, digest = :digest WHERE epoch = :epoch"
_SET_RECORD = """
INSERT INTO record (kind, entity_id, at_ms, body, epoch, seq)
VALUES (:kind, :entity_id, :at_ms, :body, :epoch, :seq)
ON CONFLICT (kind, entity_id) DO UPDATE SET
    at_ms = excluded.at_ms, body = excluded.body, epoch = excluded.epoch, seq = excluded.seq
"""


async def append(
    tx: Transaction, kind: OpKind | str, entity_id: str, at_ms: int, body: bytes
) -> Position:
    """Number an op in the current epoch and write it, with the state it tells of."""
    if len(body) > limits.OP_BODY_BYTES_MAX:
        raise LocalProtocolError(
            ErrorCode.TOO_LARGE,
            f"the body of an op {kind} has {len(body)} bytes",
            hint="Its writer cuts long text and points to the execution's log.",
            entity_id=entity_id,
        )
    current = await tx.fetch_one(_CURRENT_EPOCH)
    if current is None:
        raise LocalProtocolError(ErrorCode.INTERNAL, "no epoch was opened")
    epoch, seq = current["epoch"], current["last"] + 1
    op = Op(str(kind), entity_id, at_ms, body)
    running = digests.after(current["digest"], epoch, seq, op)
    row = {"epoch": epoch, "seq": seq, "digest": running, **_columns(op)}
    await tx.execute(_INSERT_OP, row)
    await tx.execute(_SET_LAST, {"epoch": epoch, "seq": seq, "digest": running})
    if kind not in _STATELESS:
        await tx.execute(_SET_RECORD, {"epoch": epoch, "seq": seq, **_columns(op)})
    tx.announce(JournalGrew(epoch, seq))
    failpoint("node.journal.appended")
    return Position(epoch, seq)


async def save(
    tx: Transaction, kind: OpKind, entity_id: str, at_ms: int, entity: msgspec.Struct
) -> Position:
    """Append the state op of an entity."""
    return await append(tx, kind, entity_id, at_ms, encode_body(entity))


_RECORD_OF = "SELECT body FROM record WHERE kind = :kind AND entity_id = :entity_id"


async def state_of(tx: Transaction, kind: OpKind, entity_id: str) -> bytes | None:
    """Return the newest state of an entity, as it was encoded."""
    row = await tx.fetch_one(_RECORD_OF, {"kind": str(kind), "entity_id": entity_id})
    return None if row is None else row["body"]


_STATES_OF = "SELECT body FROM record WHERE kind = :kind ORDER BY entity_id"


async def states_of(tx: Transaction, kind: OpKind) -> list[bytes]:
    """Return the newest states of all entities of a kind of which there are few."""
    return [row["body"] for row in await tx.fetch_all(_STATES_OF, {"kind": str(kind)})]


_DROP_RECORD = "DELETE FROM record WHERE kind = :kind AND entity_id = :entity_id"


async def forget(tx: Transaction, kind: OpKind, entity_id: str) -> None:
    """Delete the state of an entity that is kept for a time only. Its ops stay until pruned."""
    await tx.execute(_DROP_RECORD, {"kind": str(kind), "entity_id": entity_id})


def _columns(op: Op) -> dict[str, object]:
    return {"kind": op.kind, "entity_id": op.entity_id, "at_ms": op.at_ms, "body": op.body}


def _op(row: Row) -> Op:
    return Op(row["kind"], row["entity_id"], row["at_ms"], row["body"])


def _record(row: Row) -> Record:
    return Record(
        row["kind"], row["entity_id"], row["at_ms"], row["body"], row["epoch"], row["seq"]
    )


# --- the store ------------------------------------------------------------------------------------


class SqliteJournal:
    """The journal in the node's state database. A `JournalStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open_epoch(self, instance: int) -> None:
        await self._database.write(_open_epoch, instance)

    async def epochs(self) -> list[EpochState]:
        return await self._database.read(_epochs)

    async def digest_at(self, epoch: int, seq: int) -> bytes | None:
        return await self._database.read(_digest_at, epoch, seq)

    async def ops_after(self, epoch: int, seq: int, *, ops_max: int, bytes_max: int) -> list[Op]:
        while True:
            try:
                return await self._database.read(_ops_after, epoch, seq, ops_max, bytes_max)
            except _Damaged as damaged:
                LOG.warning("op %d of epoch %d is damaged on the disk", damaged.seq, epoch)
                await self.withhold(epoch, damaged.seq, CORRUPT)

    async def withhold(self, epoch: int, seq: int, reason: str, *, told_again: bool = True) -> None:
        """Put `withheld` in the place of an op that cannot be sent."""
        await self._database.write(withhold, epoch, seq, reason, told_again=told_again)

    async def snapshot(self) -> tuple[Position, list[Record]]:
        return await self._database.read(_snapshot)

    async def records(self, kind: str, ids: Sequence[str]) -> list[Record]:
        return await self._database.read(_records, kind, ids)

    async def prune(self, epoch: int, through: int) -> int:
        pruned = 0
        while deleted := await self._database.write(_prune, epoch, through):
            pruned += deleted
        return pruned

    async def refork(self, epoch: int, agreed_seq: int, new_epoch: int) -> None:
        await self._database.write(_refork, epoch, agreed_seq, new_epoch)

    async def pending(self, marks: Mapping[int, int]) -> PendingOps:
        return await self._database.read(_pending, marks)

    async def saw_marks(self, marks: Mapping[int, int]) -> None:
        await self._database.write(_saw_marks, marks)

    async def older_than(self, epoch: int, at_ms: int) -> int:
        """Return the last op of the run of ops, from the first kept on, that are older."""
        return await self._database.read(_older_than, epoch, at_ms)

    async def marks_seen(self) -> dict[int, int]:
        return await self._database.read(_marks_seen)

    def listen(self, listener: Callable[[JournalGrew], None]) -> Callable[[], None]:
        def heard(events: Sequence[object]) -> None:
            for event in events:
                if isinstance(event, JournalGrew):
                    listener(event)

        return self._database.listen(heard)


_NEXT_BIRTH = "SELECT coalesce(max(birth), 0) + 1 AS birth FROM epoch"
_INSERT_EPOCH = """
INSERT INTO epoch (epoch, birth, first_kept, last, digest, pruned_digest)
VALUES (:epoch, :birth, 1, 0, :empty, :empty)
"""
# A hello names so many: those of processes that had nothing to tell go first, then those whose ops
# are all deleted. One with ops stays, however often the node agent was started since.
_DROP_OLD_EPOCHS = """
DELETE FROM epoch WHERE birth IN (
    SELECT birth FROM epoch WHERE first_kept > last AND birth < :newest
    ORDER BY last > 0, birth LIMIT max(0, (SELECT count(*) FROM epoch) - :kept)
)
"""


async def _open_epoch(tx: Transaction, instance: int) -> None:
    birth = await tx.fetch_one(_NEXT_BIRTH)
    number = 1 if birth is None else birth["birth"]
    await tx.execute(_INSERT_EPOCH, {"epoch": instance, "birth": number, "empty": digests.EMPTY})
    kept = {"newest": number, "kept": limits.HELLO_EPOCHS_MAX}
    await tx.execute(_DROP_OLD_EPOCHS, kept)


_EPOCHS = """
SELECT epoch, first_kept, last, digest FROM epoch ORDER BY birth DESC LIMIT :newest
"""


async def _epochs(tx: Transaction) -> list[EpochState]:
    rows = await tx.fetch_all(_EPOCHS, {"newest": limits.HELLO_EPOCHS_MAX})
    return [
        EpochState(row["epoch"], row["first_kept"], row["last"], row["digest"])
        for row in reversed(rows)
    ]


_EPOCH = "SELECT first_kept, last, digest, pruned_digest FROM epoch WHERE epoch = :epoch"
_OP = "SELECT kind, entity_id, at_ms, body FROM op WHERE epoch = :epoch AND seq = :seq"
_OP_DIGEST = "SELECT digest FROM op WHERE epoch = :epoch AND seq = :seq"


async def _digest_at(tx: Transaction, epoch: int, seq: int) -> bytes | None:
    if seq == 0:
        return digests.EMPTY
    held = await tx.fetch_one(_EPOCH, {"epoch": epoch})
    if held is not None and seq == held["first_kept"] - 1:
        pruned: bytes = held["pruned_digest"]
        return pruned
    row = await tx.fetch_one(_OP_DIGEST, {"epoch": epoch, "seq": seq})
    return None if row is None else row["digest"]


# Nothing where the next op is pruned: a later one would be read as if it were the next.
_OPS_AFTER = """
SELECT seq, kind, entity_id, at_ms, body, digest FROM op
WHERE epoch = :epoch AND seq > :seq ORDER BY seq LIMIT :ops_max
"""


class _Damaged(Exception):  # noqa: N818  not an error of the caller's: the store mends it
    """An op is not what its digest says. Attribute: `seq`."""

    def __init__(self, seq: int) -> None:
        super().__init__(seq)
        self.seq = seq


async def _ops_after(
    tx: Transaction, epoch: int, seq: int, ops_max: int, bytes_max: int
) -> list[Op]:
    held = await tx.fetch_one(_EPOCH, {"epoch": epoch})
    if held is None or seq + 1 < held["first_kept"]:
        return []
    left = bytes_max

    def full(row: Row) -> bool:
        nonlocal left
        left -= len(row["body"]) + _OP_OVERHEAD_BYTES
        return left < 0

    rows = await tx.fetch_up_to(_OPS_AFTER, {"epoch": epoch, "seq": seq, "ops_max": ops_max}, full)
    # The one that overflowed waits for the next page, unless it is alone on this one.
    page = rows[:-1] if left < 0 and len(rows) > 1 else rows
    running = await _digest_at(tx, epoch, seq)
    ops: list[Op] = []
    for row in page:
        op = _op(row)
        expected = running and digests.after(running, epoch, row["seq"], op)
        if row["seq"] != seq + len(ops) + 1 or (expected and expected != row["digest"]):
            if ops:
                break
            raise _Damaged(seq + 1)
        running = row["digest"]
        ops.append(op)
    return ops


_REPLACE_OP = """
INSERT INTO op (epoch, seq, kind, entity_id, at_ms, body, digest)
VALUES (:epoch, :seq, :kind, :entity_id, :at_ms, :body, :digest)
ON CONFLICT (epoch, seq) DO UPDATE SET kind = excluded.kind, body = excluded.body
"""
_FROM_OP = """
SELECT seq, kind, entity_id, at_ms, body FROM op WHERE epoch = :epoch AND seq >= :seq ORDER BY seq
"""
_SET_OP_DIGEST = "UPDATE op SET digest = :digest WHERE epoch = :epoch AND seq = :seq"
_STATES_AT = "SELECT kind, entity_id, at_ms, body FROM record WHERE epoch = :epoch AND seq = :seq"


async def withhold(
    tx: Transaction, epoch: int, seq: int, reason: str, *, told_again: bool = True
) -> None:
    """Put `withheld` in the place of an op that cannot be sent, and chain what follows anew.

    With `told_again`, the state it told of is told under a new number, where it is still the
    newest.
    """
    key = {"epoch": epoch, "seq": seq}
    row = await tx.fetch_one(_OP, key)
    body = encode_body(Withheld(reason=reason, kind=row["kind"] if row else ""))
    withheld = Op(
        OpKind.WITHHELD.value,
        row["entity_id"] if row else "",
        row["at_ms"] if row else 0,
        body,
    )
    await tx.execute(_REPLACE_OP, {**key, "digest": digests.EMPTY, **_columns(withheld)})
    running = await _digest_at(tx, epoch, seq - 1) or digests.EMPTY
    for following in await tx.fetch_all(_FROM_OP, key):
        running = digests.after(running, epoch, following["seq"], _op(following))
        place = {"epoch": epoch, "seq": following["seq"]}
        await tx.execute(_SET_OP_DIGEST, {**place, "digest": running})
        await tx.execute(_SET_LAST, {**place, "digest": running})
    for state in await tx.fetch_all(_STATES_AT, key) if told_again else ():
        await append(tx, state["kind"], state["entity_id"], state["at_ms"], state["body"])
    failpoint("node.journal.withheld")


_ALL_RECORDS = """
SELECT kind, entity_id, at_ms, body, epoch, seq FROM record ORDER BY kind, entity_id
"""


async def _snapshot(tx: Transaction) -> tuple[Position, list[Record]]:
    current = await tx.fetch_one(_CURRENT_EPOCH)
    if current is None:
        raise LocalProtocolError(ErrorCode.INTERNAL, "no epoch was opened")
    rows = await tx.fetch_all(_ALL_RECORDS)
    return Position(current["epoch"], current["last"]), [_record(row) for row in rows]


_RECORD = """
SELECT kind, entity_id, at_ms, body, epoch, seq FROM record
WHERE kind = :kind AND entity_id = :entity_id
"""


async def _records(tx: Transaction, kind: str, ids: Sequence[str]) -> list[Record]:
    found = []
    for entity_id in ids:
        row = await tx.fetch_one(_RECORD, {"kind": kind, "entity_id": entity_id})
        if row is not None:
            found.append(_record(row))
    return found


_DELETE_OPS = "DELETE FROM op WHERE epoch = :epoch AND seq <= :through"
_SET_PRUNED = """
UPDATE epoch SET first_kept = :through + 1, pruned_digest = :digest WHERE epoch = :epoch
"""


async def _prune(tx: Transaction, epoch: int, through: int) -> int:
    held = await tx.fetch_one(_EPOCH, {"epoch": epoch})
    if held is None:
        return 0
    # In pieces, so that no commit takes long while state changes wait behind it.
    through = min(through, held["last"], held["first_kept"] + _PRUNE_ROWS_MAX - 1)
    if through < held["first_kept"]:
        return 0
    running = await _digest_at(tx, epoch, through)
    deleted = await tx.execute(_DELETE_OPS, {"epoch": epoch, "through": through})
    await tx.execute(_SET_PRUNED, {"epoch": epoch, "through": through, "digest": running})
    failpoint("node.journal.pruned")
    return deleted


_FIRST_NEWER = "SELECT min(seq) AS seq FROM op WHERE epoch = :epoch AND at_ms >= :at_ms"


async def _older_than(tx: Transaction, epoch: int, at_ms: int) -> int:
    newer = await tx.fetch_one(_FIRST_NEWER, {"epoch": epoch, "at_ms": at_ms})
    if newer is not None and newer["seq"] is not None:
        return int(newer["seq"]) - 1
    held = await tx.fetch_one(_EPOCH, {"epoch": epoch})
    return 0 if held is None else int(held["last"])


_OPS_ABOVE = """
SELECT seq, kind, entity_id, at_ms, body FROM op WHERE epoch = :epoch AND seq > :seq ORDER BY seq
"""
_DELETE_OPS_ABOVE = "DELETE FROM op WHERE epoch = :epoch AND seq > :seq"
# Pruned here and lost there: the new epoch begins with a hole, which makes the node tell its state
# by a snapshot, and the hive show the gap.
_BEGIN_WITH_HOLE = """
UPDATE epoch SET first_kept = :lost + 1, last = :lost, digest = :digest, pruned_digest = :digest
WHERE epoch = :epoch
"""
_CUT_EPOCH = """
UPDATE epoch SET last = :seq, digest = :digest, first_kept = min(first_kept, :seq + 1)
WHERE epoch = :epoch
"""


async def _refork(tx: Transaction, epoch: int, agreed_seq: int, new_epoch: int) -> None:
    agreed = await _digest_at(tx, epoch, agreed_seq)
    if agreed is None:
        raise NotStored("digest", f"{epoch}:{agreed_seq}")
    held = await tx.fetch_one(_EPOCH, {"epoch": epoch})
    if held is None:
        raise NotStored("epoch", str(epoch))
    lost = held["first_kept"] - 1 - agreed_seq
    moved = await tx.fetch_all(_OPS_ABOVE, {"epoch": epoch, "seq": agreed_seq})
    told = {(row["kind"], row["entity_id"]) for row in moved}
    newest = [
        row
        for kind, entity_id in sorted(told)
        if (row := await tx.fetch_one(_RECORD, {"kind": kind, "entity_id": entity_id})) is not None
        and row["epoch"] != epoch
    ]
    await tx.execute(_DELETE_OPS_ABOVE, {"epoch": epoch, "seq": agreed_seq})
    await tx.execute(_CUT_EPOCH, {"epoch": epoch, "seq": agreed_seq, "digest": agreed})
    await _open_epoch(tx, new_epoch)
    if lost > 0:
        hole = {"epoch": new_epoch, "lost": lost, "digest": held["pruned_digest"]}
        await tx.execute(_BEGIN_WITH_HOLE, hole)
    # Old states first and the newest of the same entities behind them: whoever applies them in
    # order, or keeps the highest position only, ends with the newest.
    for row in (*moved, *newest):
        await append(tx, row["kind"], row["entity_id"], row["at_ms"], row["body"])
    failpoint("node.journal.reforked")


_PENDING = """
SELECT count(*) AS ops, coalesce(sum(length(body)), 0) AS bytes, min(at_ms) AS oldest_ms
FROM op WHERE epoch = :epoch AND seq > :mark
"""
_EPOCHS_WITH_OPS = "SELECT epoch, last FROM epoch WHERE first_kept <= last"


async def _pending(tx: Transaction, marks: Mapping[int, int]) -> PendingOps:
    ops, nbytes, oldest = 0, 0, []
    for held in await tx.fetch_all(_EPOCHS_WITH_OPS):
        mark = marks.get(held["epoch"], 0)
        if mark >= held["last"]:
            continue
        row = await tx.fetch_one(_PENDING, {"epoch": held["epoch"], "mark": mark})
        if row is not None and row["ops"]:
            ops += row["ops"]
            nbytes += row["bytes"]
            oldest.append(row["oldest_ms"])
    return PendingOps(ops, nbytes, min(oldest, default=None))


_SET_MARK = "UPDATE epoch SET mark_seen = :mark WHERE epoch = :epoch"
_MARKS = "SELECT epoch, mark_seen FROM epoch WHERE mark_seen > 0"


async def _saw_marks(tx: Transaction, marks: Mapping[int, int]) -> None:
    await tx.executemany(
        _SET_MARK, [{"epoch": epoch, "mark": mark} for epoch, mark in marks.items()]
    )


async def _marks_seen(tx: Transaction) -> dict[int, int]:
    return {row["epoch"]: row["mark_seen"] for row in await tx.fetch_all(_MARKS)}
