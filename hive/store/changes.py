"""The numbered changes that live streams are made of: raised and written with each commit.

The number is a counter in the hive's row, raised in the transaction that makes the change: commit
order is number order. Only the newest are kept; a viewer who was away for longer reads anew.
"""

import json
from collections.abc import Iterable
from typing import Final

import msgspec

from hive.store.backend import Change, Transaction

#: Changes kept for viewers who come back: some minutes of a busy hive.
CHANGES_KEPT: Final = 50_000
#: How often the older ones are deleted, in changes.
_PRUNED_EVERY: Final = 1_000

_RAISE = """
UPDATE hive SET change_no = change_no + :count WHERE id = 1
RETURNING generation, change_no
"""
_INSERT = """
INSERT INTO change (change_no, generation, kind, ids)
VALUES (:change_no, :generation, :kind, :ids)
"""
_PRUNE = "DELETE FROM change WHERE change_no <= :through"
_SELECT_POSITION = "SELECT generation, change_no FROM hive WHERE id = 1"
_SELECT_ONE = """
SELECT 1 FROM change WHERE change_no = :change_no AND generation = :generation
"""
_SELECT_AFTER = """
SELECT change_no, generation, kind, ids FROM change
WHERE change_no > :after ORDER BY change_no LIMIT :limit
"""


def coalesced(changes: Iterable[Change]) -> list[Change]:
    """Return one change for each thing that changed, in the order of its last mention."""
    newest: dict[tuple[str, ...], Change] = {}
    for change in changes:
        key = (change.kind, *change.ids.values())
        newest.pop(key, None)
        newest[key] = change
    return list(newest.values())


async def number_changes(tx: Transaction, changes: list[Change]) -> list[Change]:
    """Number and write the changes of one commit; return them as they are to be published."""
    if not changes:
        return []
    row = await tx.fetch_one(_RAISE, {"count": len(changes)})
    if row is None:
        raise LookupError("the hive's own row is missing")
    generation, newest = row["generation"], row["change_no"]
    first = newest - len(changes) + 1
    numbered = [
        msgspec.structs.replace(change, generation=generation, change_no=change_no)
        for change_no, change in enumerate(changes, first)
    ]
    await tx.executemany(
        _INSERT,
        [
            {
                "change_no": change.change_no,
                "generation": generation,
                "kind": change.kind,
                "ids": json.dumps(change.ids),
            }
            for change in numbered
        ],
    )
    if newest // _PRUNED_EVERY != (first - 1) // _PRUNED_EVERY:
        await tx.execute(_PRUNE, {"through": newest - CHANGES_KEPT})
    return numbered


async def newest_change_id(tx: Transaction) -> str:
    """Return the id after which a new viewer's stream begins."""
    row = await tx.fetch_one(_SELECT_POSITION)
    return "0.0" if row is None else f"{row['generation']}.{row['change_no']}"


async def changes_after(tx: Transaction, event_id: str, limit: int) -> list[Change] | None:
    """Return changes after `event_id`; None where it is unknown: the viewer reads anew."""
    generation_text, _, number_text = event_id.partition(".")
    if not (_is_number(generation_text) and _is_number(number_text)):
        return None
    position = {"generation": int(generation_text), "change_no": int(number_text)}
    if event_id != await newest_change_id(tx) and not await tx.fetch_one(_SELECT_ONE, position):
        return None
    rows = await tx.fetch_all(_SELECT_AFTER, {"after": position["change_no"], "limit": limit})
    return [
        Change(
            kind=row["kind"],
            ids=json.loads(row["ids"]),
            generation=row["generation"],
            change_no=row["change_no"],
        )
        for row in rows
    ]


def _is_number(text: str) -> bool:
    # At most 18 digits: what a store's integer holds.
    return text.isascii() and text.isdigit() and len(text) <= 18
