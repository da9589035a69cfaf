"""Projects over HTTP."""

import msgspec
import pytest

from tests.hive.api.running import RunningHive


@pytest.mark.asyncio
async def test_a_project_is_made_changed_put_away_and_deleted(running: RunningHive):
    """The whole life of a project, each step as the list shows it."""
    made = await running.post("projects", {"name": "shop", "repo_url": "https://git.example/shop"})
    assert made.status == 201
    assert made.json["checkouts"] == []
    again = await running.post("projects", {"name": "shop"})
    assert (again.status, again.error["code"]) == (409, "exists")
    changed = await running.ask(
        "PATCH", "projects/shop", body={"name": "store", "sync_policy": "lazy"}
    )
    assert (changed.json["name"], changed.json["sync_policy"]) == ("store", "lazy")
    assert changed.json["repo_url"] == "https://git.example/shop"
    await running.ask("PATCH", "projects/store", body={"archived": True})
    assert (await running.get("projects")).json["items"] == []
    assert len((await running.get("projects", archived="1")).json["items"]) == 1
    deleted = await running.ask("DELETE", "projects/store")
    assert deleted.json == {"id": made.json["id"]}
    assert (await running.get("projects/store")).status == 404


@pytest.mark.asyncio
async def test_two_who_edit_do_not_overwrite_each_other(running: RunningHive):
    """With the version one read, an edit in between is told."""
    made = (await running.post("projects", {"name": "shop"})).json
    await running.ask("PATCH", "projects/shop", body={"review": "off", "version": made["version"]})
    late = await running.ask(
        "PATCH", "projects/shop", body={"review": "on", "version": made["version"]}
    )
    assert (late.status, late.error["code"]) == (409, "conflict")


@pytest.mark.asyncio
async def test_a_projects_nodes_are_those_with_a_checkout(running: RunningHive):
    """A node without a checkout is not among them."""
    node = await running.node("one")
    await running.node("two", checkout=False)
    listed = (await running.get("projects/shop/nodes")).json["items"]
    assert [item["id"] for item in listed] == [node.id]


@pytest.mark.asyncio
async def test_a_limit_of_silence_is_the_projects_own(running: RunningHive):
    """It is kept, checked, and goes to the node with the next start; without one nothing does."""
    node = await running.node("one")
    for _ in range(2):
        node.starts()
    task = await running.task()
    begin = {"node_id": "one", "command": "true"}
    assert (await running.post(f"tasks/{task['id']}/attempts", begin)).status == 201
    policies = {"silence_stop_s": 900}
    changed = await running.ask("PATCH", "projects/shop", body={"policies": policies})
    assert changed.json["policies"] == policies
    for wrong in (0, "900", True):
        refused = await running.ask(
            "PATCH", "projects/shop", body={"policies": {"silence_stop_s": wrong}}
        )
        field = refused.error["details"]["field"]
        assert (refused.status, field) == (422, "policies.silence_stop_s")
    another = await running.task()
    assert (await running.post(f"tasks/{another['id']}/attempts", begin)).status == 201
    limits = [msgspec.msgpack.decode(call.body).get("silence_stop_s") for call in node.calls]
    assert limits == [None, 900.0]


@pytest.mark.asyncio
async def test_rules_for_requests_are_the_projects_own(running: RunningHive):
    """They are kept, checked word by word, and go to the node with the next start."""
    node = await running.node("one")
    node.starts()
    rules = {"allow": ["read"], "deny": ["execute:*:git push*"]}
    changed = await running.ask("PATCH", "projects/shop", body={"policies": {"requests": rules}})
    assert changed.json["policies"] == {"requests": rules}
    for policies, field in (
        ({"others": {}}, "policies.others"),
        ({"requests": {"alow": []}}, "policies.requests.alow"),
        ({"requests": {"allow": [":x"]}}, "policies.requests.allow"),
    ):
        wrong = await running.ask("PATCH", "projects/shop", body={"policies": policies})
        assert (wrong.status, wrong.error["details"]["field"]) == (422, field)
    task = await running.task()
    started = await running.post(
        f"tasks/{task['id']}/attempts", {"node_id": "one", "command": "true"}
    )
    assert started.status == 201
    assert msgspec.msgpack.decode(node.calls[0].body)["request_rules"] == rules
