"""The registry of nodes: enrolled, heard of, drained, revoked, and told of their projects."""

import pytest

from hive.store import nodes
from protocol.errors import ErrorCode, OperationError, RemoteProtocolError
from protocol.messages import Heartbeat, OutboxState, ProjectLink
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS, OTHER, uid
from tests.hive.store.open_hive import OpenHive

BY = {"actor": "ann", "now_ms": NOW_MS}


@pytest.mark.asyncio
async def test_nodes_are_listed_by_name(hive: OpenHive):
    """Pages continue after the last one; the revoked are shown to those who ask."""
    for number, name in ((91, "delta"), (92, "alpha")):
        await hive.enrol(uid(number), name)
    first = await hive.read(nodes.list_nodes, limit=2)
    rest = await hive.read(nodes.list_nodes, after=(first[-1].name, first[-1].id))
    names = [node.name for node in (*first, *rest)]
    assert names == ["alpha", f"alpha-{uid(92)[-8:]}", "beta", "delta"]
    assert await hive.write(nodes.revoke_node, OTHER, **BY)
    assert not await hive.write(nodes.revoke_node, OTHER, **BY)
    assert "beta" not in [node.name for node in await hive.read(nodes.list_nodes)]
    assert "beta" in [node.name for node in await hive.read(nodes.list_nodes, revoked=True)]
    with pytest.raises(OperationError) as caught:
        await hive.read(nodes.get_node, uid(99))
    assert caught.value.code is ErrorCode.NOT_FOUND


@pytest.mark.asyncio
async def test_a_node_that_joins_again_is_called_as_it_says(hive: OpenHive):
    """Another name counts, as long as no other node has it; with none it keeps its own."""
    node_id = uid(91)
    for said, called in (
        ("delta", "delta"),
        ("", "delta"),
        ("gamma", "gamma"),
        ("gamma", "gamma"),
        ("beta", f"beta-{node_id[-8:]}"),
    ):
        await hive.enrol(node_id, said)
        assert (await hive.read(nodes.get_node, node_id)).name == called


@pytest.mark.asyncio
async def test_a_heartbeat_is_remembered(hive: OpenHive):
    """When and how a node was last heard of; viewers hear only of what changed."""
    alpha = await hive.reporting()
    await hive.heard()
    hive.now_ms = NOW_MS + 20_000
    beat = Heartbeat(
        n=1, activity="busy", slots_total=4, slots_busy=1, outbox=OutboxState(ops=3, bytes=99)
    )
    await hive.store.beat(NODE, alpha.link_no, beat)
    node = await hive.read(nodes.get_node, NODE)
    assert (node.activity, node.slots, node.slots_busy) == ("busy", 4, 1)
    assert (node.last_seen_at_ms, node.outbox["ops"]) == (NOW_MS + 20_000, 3)
    assert [change.kind for change in await hive.heard()] == ["node.changed"]
    await hive.store.beat(NODE, alpha.link_no, beat)
    assert await hive.heard() == []
    with pytest.raises(RemoteProtocolError):
        await hive.store.beat(NODE, alpha.link_no + 1, beat)
    await hive.write(nodes.seen, NODE, NOW_MS + 30_000)
    assert (await hive.read(nodes.get_node, NODE)).last_seen_at_ms == NOW_MS + 30_000


@pytest.mark.asyncio
async def test_a_node_is_drained_and_labelled(hive: OpenHive):
    """What the hive decides of a node is written down with who decided; twice is once."""
    for _ in range(2):
        assert (await hive.write(nodes.drain_node, NODE, draining=True, **BY)).draining
    assert not (await hive.write(nodes.drain_node, NODE, draining=False, **BY)).draining
    labelled = await hive.write(nodes.label_node, NODE, ["gpu", "lab"], **BY)
    assert labelled.labels == ["gpu", "lab"]
    rows = await hive.rows("SELECT kind, actor FROM event WHERE actor_kind = 'user' ORDER BY no")
    assert [tuple(row) for row in rows] == [
        ("node_draining", "ann"),
        ("node_undrained", "ann"),
        ("node_labelled", "ann"),
    ]


@pytest.mark.asyncio
async def test_a_node_is_told_of_its_projects(hive: OpenHive):
    """Each standing checkout with its project and policy, or its problem."""
    alpha = await hive.reporting()
    await alpha.tells(
        reported.checkout(1),
        reported.checkout(2, identity="example.org/evil/shop"),
        reported.checkout(3, name="gone", identity="x/gone", removed=True),
    )
    [project] = await hive.rows("SELECT id FROM project WHERE name = 'shop'")
    links = await hive.read(nodes.project_links, NODE)
    assert links == [
        ProjectLink(checkout_id=uid(1), project_id=project["id"], project_name="shop"),
        ProjectLink(checkout_id=uid(2), problem="project_mismatch"),
    ]
    assert await hive.read(nodes.project_links, OTHER) == []


@pytest.mark.asyncio
async def test_a_quarantine_names_its_contenders(hive: OpenHive):
    """A person sees which processes claim the identity, and why it is refused."""
    await hive.reporting(instance=1, at=1)
    await hive.reporting(instance=2, at=2)
    with pytest.raises(RemoteProtocolError):
        await hive.reporting(instance=1, at=3)
    node = await hive.read(nodes.get_node, NODE)
    assert (node.contenders, node.quarantine_reason) == ([1, 2], "two_holders")
    assert node.quarantined_at_ms == NOW_MS
