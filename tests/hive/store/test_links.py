"""Letting one holder on: only one that was seen, only out of a quarantine."""

import pytest

from hive.store import links
from protocol.errors import ErrorCode, RemoteProtocolError
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS
from tests.hive.store.open_hive import OpenHive

BY = {"actor": "ann", "now_ms": NOW_MS}


@pytest.mark.asyncio
async def test_only_who_was_seen_is_released(hive: OpenHive):
    """A node that is not in quarantine is refused, and so is an instance that nobody saw."""
    await hive.reporting(instance=1, at=1)
    with pytest.raises(RemoteProtocolError) as caught:
        await hive.write(links.release, NODE, 1, **BY)
    assert caught.value.code is ErrorCode.CONFLICT
    await hive.reporting(instance=2, at=2)
    with pytest.raises(RemoteProtocolError):
        await hive.reporting(instance=1, at=3)
    with pytest.raises(RemoteProtocolError) as caught:
        await hive.write(links.release, NODE, 77, **BY)
    assert caught.value.code is ErrorCode.NOT_FOUND
    assert caught.value.details["contenders"] == ["1", "2"]
    await hive.write(links.release, NODE, 2, **BY)
    assert (await hive.happened())[-2:] == ["node_quarantined", "node_released"]


@pytest.mark.asyncio
async def test_a_quarantine_is_audited_with_both(hive: OpenHive):
    """The audit log says who the two are."""
    await hive.reporting(instance=1, at=1)
    await hive.reporting(instance=2, at=2)
    with pytest.raises(RemoteProtocolError):
        await hive.reporting(instance=1, at=3)
    [row] = await hive.rows("SELECT * FROM event WHERE kind = 'node_quarantined'")
    assert row["audit"] == 1
    assert "1" in row["why"]
    assert "2" in row["why"]


@pytest.mark.asyncio
async def test_a_start_of_the_hive_forgets_its_sockets(hive: OpenHive):
    """After a start the counter that orders nonces begins anew; nobody is refused for it."""
    await hive.reporting(at=500)
    await hive.write(links.forget_sockets)
    row = await hive.row("node", NODE)
    assert links.holder_of(row).accepted_at == 0
    again = await hive.store.accept_link(
        reported.hello(connect_no=2), challenged_at=1, accepted_at=1
    )
    assert again == 2
