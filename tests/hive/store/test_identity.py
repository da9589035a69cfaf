"""The hive's id is given once; its generation only rises."""

import pytest

from hive.store import identity, links
from hive.store.identity import next_generation
from protocol import limits
from protocol.errors import ErrorCode, OperationError
from tests.hive.reported import NODE
from tests.hive.store.open_hive import OpenHive


@pytest.mark.asyncio
async def test_a_hive_is_founded_once(hive: OpenHive):
    """Before it is founded there is none; a second founding is refused and changes nothing."""
    with pytest.raises(OperationError) as caught:
        await hive.read(identity.hive_row)
    assert caught.value.code is ErrorCode.NOT_FOUND
    row = await hive.write(identity.found_hive, "hive-1", 5)
    assert (row.hive_id, row.created_at_ms) == ("hive-1", 5)
    with pytest.raises(OperationError) as caught:
        await hive.write(identity.found_hive, "hive-2", 6)
    assert caught.value.code is ErrorCode.EXISTS
    assert (await hive.read(identity.hive_row)).hive_id == "hive-1"


@pytest.mark.parametrize(
    ("stored", "reported", "now_s", "expected"),
    [(5, 0, 3, 6), (5, 9, 3, 10), (5, 9, 100, 100), (0, 0, 0, 1)],
)
def test_the_next_generation_is_above_all(stored: int, reported: int, now_s: int, expected: int):
    """It is above what is stored and what was reported, and at least the clock."""
    assert next_generation(stored, reported, now_s) == expected


@pytest.mark.asyncio
async def test_each_start_raises_the_generation(hive: OpenHive):
    """Also where the clock stands still or went back; sockets of before are forgotten."""
    await hive.write(identity.found_hive, "hive-1", 5)
    await hive.reporting(at=50)
    first = await hive.write(identity.start_generation, 1000)
    second = await hive.write(identity.start_generation, 10)
    assert (first, second) == (1000, 1001)
    row = await hive.row("node", NODE)
    assert links.holder_of(row).accepted_at == 0
    assert links.holder_of(row).instance == 1


@pytest.mark.asyncio
async def test_a_node_that_has_seen_more_raises_it(hive: OpenHive):
    """A hive restored from a backup goes above what its nodes have seen, and says so."""
    await hive.write(identity.found_hive, "hive-1", 5)
    await hive.write(identity.start_generation, 1000)
    assert await hive.write(identity.heard_generation, NODE, 900, 1000) == 1000
    assert await hive.write(identity.heard_generation, NODE, 1500, 1000) == 1501
    assert (await hive.read(identity.hive_row)).generation == 1501
    assert (await hive.happened())[-1] == "hive_regressed"


@pytest.mark.asyncio
async def test_a_generation_from_the_far_future_is_ignored(hive: OpenHive):
    """A lie or a broken clock is audited and changes nothing."""
    await hive.write(identity.found_hive, "hive-1", 5)
    await hive.write(identity.start_generation, 1000)
    far = 1000 + limits.GENERATION_AHEAD_S_MAX + 1
    assert await hive.write(identity.heard_generation, NODE, far, 1000) == 1000
    assert (await hive.happened())[-1] == "generation_refused"
