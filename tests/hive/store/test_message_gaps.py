"""Runs of messages that are lost: which they are, and that others are not taken for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from hive.store import message_gaps
from hive.store.backend import Transaction
from hive.store.message_gaps import Run, parted
from tests.hive import reported
from tests.hive.reported import NODE, uid
from tests.hive.store.open_hive import OpenHive


def test_missing_runs_are_parted_by_the_gaps():
    """A run is cut where a gap begins or ends within it."""
    assert parted([(1, 2), (4, 8), (10, 10)], [(1, 5)]) == ([(1, 2), (4, 5)], [(6, 8), (10, 10)])
    assert parted([(3, 4)], []) == ([], [(3, 4)])
    assert parted([(3, 9)], [(4, 5), (7, 20)]) == ([(4, 5), (7, 9)], [(3, 3), (6, 6)])


def runs(places: set[int]) -> list[Run]:
    """Places as runs, in order."""
    found: list[Run] = []
    for place in sorted(places):
        if found and found[-1][1] == place - 1:
            found[-1] = (found[-1][0], place)
        else:
            found.append((place, place))
    return found


def places(of: list[Run]) -> set[int]:
    """The places of runs."""
    return {place for first, last in of for place in range(first, last + 1)}


_PLACES = some.sets(some.integers(1, 30), max_size=25)


@given(missing=_PLACES, lost=_PLACES)
def test_parting_neither_loses_nor_doubles_a_place(missing: set[int], lost: set[int]):
    """What is lost and what may come are all that is missing, each once and in order."""
    gone, coming = parted(runs(missing), runs(lost))
    assert (places(gone), places(coming)) == (missing & lost, missing - lost)
    for part in (gone, coming):
        told = [place for first, last in part for place in range(first, last + 1)]
        assert told == sorted(set(told))


@pytest.mark.asyncio
@pytest.mark.parametrize("through", [0, 1, 3, 4, 6, 8, 9, 20])
async def test_what_is_missing_up_to_a_place_is_lost(hive: OpenHive, through: int):
    """Before, between and behind those that are here, and nothing beyond that place."""
    node = await hive.reporting()
    held = {2, 5, 6, 9}
    await node.tells(reported.checkout(1), reported.attempt(), reported.session(message_count=12))
    await node.tells(*(reported.message(seq) for seq in held))
    for _ in range(2):
        await hive.write(message_gaps.record, NODE, uid(30), through)
        found = await hive.read(message_gaps.between, uid(30), 1, 100)
        assert found == runs(set(range(1, through + 1)) - held)
    settled = await hive.read(message_gaps.settled_through, uid(30))
    there = held | set(range(1, through + 1))
    assert settled == next(place for place in range(30) if place + 1 not in there)
    await hive.write(message_gaps.forget_of_node, NODE)
    assert await hive.read(message_gaps.between, uid(30), 1, 100) == []


@pytest.mark.asyncio
async def test_a_hole_that_opens_later_is_not_lost(hive: OpenHive):
    """What was here when its node told of all it has is not known to be lost."""
    node = await hive.reporting()
    await node.tells(reported.checkout(1), reported.attempt(), reported.session(message_count=9))
    await node.tells(*(reported.message(seq) for seq in (1, 2, 4, 5)))
    await hive.write(message_gaps.record, NODE, uid(30), 5)
    assert await hive.read(message_gaps.settled_through, uid(30)) == 5

    async def loses(tx: Transaction) -> None:
        await tx.execute("DELETE FROM message WHERE message_seq IN (2, 4)")

    await hive.write(loses)
    gaps = await hive.read(message_gaps.between, uid(30), 1, 9)
    assert parted([(2, 4), (6, 9)], gaps) == ([(3, 3)], [(2, 2), (4, 4), (6, 9)])
    assert await hive.read(message_gaps.settled_through, uid(30)) == 1
