"""Nodes over HTTP: joining, listing, draining, revoking."""

import pytest

from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.messages import Links, Safe
from tests.hive.api.running import FakeNode, RunningHive


@pytest.mark.asyncio
async def test_a_node_joins_connects_and_is_listed(running: RunningHive):
    """A node that joined and connected is online, with its slots, executors and checkout."""
    node = await running.node("one")
    listed = (await running.get("nodes")).json
    assert listed["next"] is None
    (shown,) = listed["items"]
    assert shown["id"] == node.id
    assert (shown["name"], shown["status"], shown["activity"]) == ("one", "online", "idle")
    assert shown["slots"] == {"total": 2, "busy": 0}
    assert shown["executors"] == ["command"]
    projects = (await running.get("projects")).json["items"]
    assert [(p["name"], p["checkouts"][0]["node_id"]) for p in projects] == [("shop", node.id)]


@pytest.mark.asyncio
async def test_a_connected_node_is_told_its_projects_and_what_is_safe(running: RunningHive):
    """Links and safe marks go out with the connection; links again when they change."""
    node = await running.node("one")
    assert any(isinstance(message, Safe) for message in node.told)
    await running.ask("PATCH", "projects/shop", body={"sync_policy": "lazy"})
    for _ in range(100):
        links = [message.links for message in node.told if isinstance(message, Links)]
        if links and links[-1] and links[-1][0].sync_policy == "lazy":
            break
        await running.get("status")
    assert [(link.project_name, link.sync_policy) for link in links[-1]] == [("shop", "lazy")]


@pytest.mark.asyncio
async def test_a_node_that_went_away_is_offline_with_its_last_sign(running: RunningHive):
    """Offline is told with when the node was last heard of; its facts stay."""
    node = await running.node("one")
    await node.leave()
    shown = (await running.get("nodes/one")).json
    assert shown["status"] == "offline"
    assert shown["last_seen_at_ms"] > 1_700_000_000_000
    assert shown["executors"] == ["command"]


@pytest.mark.asyncio
async def test_a_node_is_found_by_name_id_or_part_of_it(running: RunningHive):
    """People type names and the last digits of ids; what fits nothing is a 404."""
    node = await running.node("one")
    for text in ("one", node.id, node.id[:8], node.id.replace("-", "")[-8:]):
        assert (await running.get(f"nodes/{text}")).json["id"] == node.id
    assert (await running.get("nodes/other")).error["code"] == "not_found"


@pytest.mark.asyncio
async def test_the_list_is_paged_by_an_opaque_cursor(running: RunningHive):
    """Pages meet without gap or repeat, in order of name; a made-up cursor is refused."""
    for name in ("c", "a", "b"):
        await running.node(name)
    first = (await running.get("nodes", limit=2)).json
    assert [node["name"] for node in first["items"]] == ["a", "b"]
    second = (await running.get("nodes", limit=2, cursor=first["next"])).json
    assert [node["name"] for node in second["items"]] == ["c"]
    assert second["next"] is None
    refused = await running.get("nodes", cursor="bm9wZQ")
    assert (refused.status, refused.error["details"]["field"]) == (422, "cursor")
    for limit in (0, 201, "many"):
        refused = await running.get("nodes", limit=limit)
        assert (refused.status, refused.error["details"]["field"]) == (422, "limit")


@pytest.mark.asyncio
async def test_draining_is_set_and_taken_back(running: RunningHive):
    """A draining node shows it, and says no to new work until it is taken back."""
    await running.node("one")
    shown = await running.ask("PATCH", "nodes/one", body={"draining": True})
    assert shown.json["status"] == "draining"
    shown = await running.ask("PATCH", "nodes/one", body={"draining": False, "labels": ["gpu"]})
    assert (shown.json["status"], shown.json["labels"]) == ("online", ["gpu"])
    refused = await running.ask("PATCH", "nodes/one", body={"drain": True})
    assert (refused.status, refused.error["details"]["field"]) == (422, "drain")


@pytest.mark.asyncio
async def test_revoking_closes_the_link_at_once(running: RunningHive):
    """A revoked node's socket closes, it is shut out, and it leaves the list."""
    node = await running.node("one")
    shown = (await running.post("nodes/one/revoke")).json
    assert shown["status"] == "revoked"
    assert node.closed is ErrorCode.REVOKED
    assert (await running.get("nodes")).json["items"] == []
    assert (await running.get("nodes", revoked="1")).json["items"][0]["id"] == node.id


@pytest.mark.asyncio
async def test_release_needs_a_quarantine(running: RunningHive):
    """There is nothing to release of a node in good standing."""
    await running.node("one")
    refused = await running.post("nodes/one/release", {"instance": 7})
    assert (refused.status, refused.error["code"]) == (409, "conflict")


@pytest.mark.asyncio
async def test_two_holders_are_shown_and_one_is_let_on(running: RunningHive):
    """A quarantined node names the processes that claim it, as text; one of them is released."""
    node = await running.node("one")
    twin = FakeNode(running, "one")
    twin.key, twin.public, twin.id, twin.epoch = node.key, node.public, node.id, 2**62 + 1
    await twin.connect()
    node.connect_no += 1
    with pytest.raises(RemoteProtocolError) as caught:
        await node.connect()
    assert caught.value.code is ErrorCode.QUARANTINED
    shown = (await running.get("nodes/one")).json
    assert shown["status"] == "quarantined"
    assert str(2**62 + 1) in shown["instances"]
    released = await running.post("nodes/one/release", {"instance": 2**62 + 1})
    assert released.json["status"] in {"online", "offline"}
