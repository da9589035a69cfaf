"""The hive's own row: who it is, and the generation that rises at each start.

Generation = max(stored + 1, highest reported + 1, unix seconds): whatever backup a hive was
restored from, what it says now is newer than what it said before.
"""

from typing import Final

import msgspec

from hive.projections import EventDraft
from hive.store import events, links
from hive.store.backend import Transaction
from protocol import limits
from protocol.errors import ErrorCode, OperationError

_SELECT = "SELECT hive_id, generation, created_at_ms FROM hive WHERE id = 1"
_FOUND = """
UPDATE hive SET hive_id = :hive_id, created_at_ms = :now_ms WHERE id = 1 AND hive_id = ''
"""
_SET_GENERATION = """
UPDATE hive SET generation = :generation WHERE id = 1 AND generation < :generation
"""
_AGAIN: Final = "It is set up already; hive serve starts it."


class HiveRow(msgspec.Struct, frozen=True, kw_only=True):
    """Who this hive is."""

    hive_id: str
    generation: int
    created_at_ms: int


async def hive_row(tx: Transaction) -> HiveRow:
    """Return the hive's own row. Raises NOT_FOUND before `found_hive`."""
    row = await tx.fetch_one(_SELECT)
    if row is None or not row["hive_id"]:
        raise OperationError(
            ErrorCode.NOT_FOUND,
            "there is no hive here yet",
            hint="Set one up: hive init --data DIR.",
        )
    return HiveRow(
        hive_id=row["hive_id"],
        generation=row["generation"],
        created_at_ms=row["created_at_ms"],
    )


async def found_hive(tx: Transaction, hive_id: str, now_ms: int) -> HiveRow:
    """Give a new store its hive's id. Raises EXISTS where it has one."""
    if not await tx.execute(_FOUND, {"hive_id": hive_id, "now_ms": now_ms}):
        raise OperationError(ErrorCode.EXISTS, "there is a hive here already", hint=_AGAIN)
    return await hive_row(tx)


def next_generation(stored: int, reported: int, now_s: int) -> int:
    """Return the generation that follows all that was ever said."""
    return max(stored + 1, reported + 1, now_s)


async def start_generation(tx: Transaction, now_s: int) -> int:
    """Raise the generation at a start of the hive; sockets and nonces of before are forgotten."""
    row = await hive_row(tx)
    generation = next_generation(row.generation, 0, now_s)
    await tx.execute(_SET_GENERATION, {"generation": generation})
    await links.forget_sockets(tx)
    return generation


async def heard_generation(tx: Transaction, node_id: str, reported: int, now_s: int) -> int:
    """Take the generation a node last saw; return ours, raised where the node has seen a later.

    A report too far ahead of the clock is a lie or a broken clock: ignored and audited.
    """
    row = await hive_row(tx)
    if reported <= row.generation:
        return row.generation
    if reported > now_s + limits.GENERATION_AHEAD_S_MAX:
        draft = EventDraft(
            kind="generation_refused",
            what="node",
            what_id=node_id,
            why="the generation it reports is too far ahead of the clock",
            level="warning",
            audit=True,
            node_id=node_id,
            details={"reported": str(reported)},
        )
        await events.record(tx, draft, now_s * 1000)
        return row.generation
    generation = next_generation(row.generation, reported, now_s)
    await tx.execute(_SET_GENERATION, {"generation": generation})
    draft = EventDraft(
        kind="hive_regressed",
        what="hive",
        what_id=row.hive_id,
        from_state=str(row.generation),
        to_state=str(generation),
        why="a node has seen a later generation: this hive was restored from a backup",
        level="warning",
        audit=True,
        actor_kind="hive",
        node_id=node_id,
    )
    await events.record(tx, draft, now_s * 1000)
    return generation
