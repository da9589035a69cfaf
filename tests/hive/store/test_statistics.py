"""Totals of what the hive holds."""

import pytest

from hive.store import statistics
from protocol.ops import Op
from tests.hive.reported import NOW_MS, uid
from tests.hive.store.open_hive import OpenHive


@pytest.mark.asyncio
async def test_ops_kept_aside_are_counted(hive: OpenHive):
    """What can never be applied, and what is of a kind that this release does not know."""
    alpha = await hive.reporting()
    await alpha.tells(Op("sparkle", uid(1), NOW_MS, b""), Op("attempt", uid(1), NOW_MS, b""))
    found = await hive.read(statistics.totals)
    assert (found.attempts, found.ops, found.ops_aside) == (0, 2, 2)
