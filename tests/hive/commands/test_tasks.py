"""From an empty hive to a finished attempt, by the command line alone."""

import pytest

from protocol.attempt_requests import AttemptReply
from tests.hive.api.running import RunningHive
from tests.hive.commands.programs import Commands


@pytest.mark.asyncio
async def test_the_whole_way(running: RunningHive, hive: Commands):
    """Join, make a task, run it, show it, stop it, look the command up: each prints its JSON."""
    joined = await hive.json("nodes", "join-token", "--label", "laptop", "--ttl", "30m")
    assert joined["command"].startswith("node-agent join http://127.0.0.1:")
    node = await running.node("one")
    node.starts()
    task = await hive.json("tasks", "create", "--project", "shop", "--title", "Sort")
    assert [t["id"] for t in (await hive.json("tasks"))["items"]] == [task["id"]]
    (place,) = (await hive.json("tasks", "nodes", task["id"][-8:]))["items"]
    assert place["can_run"]
    attempt = await hive.json(
        "tasks",
        "run",
        task["id"],
        "--node",
        "one",
        "--command",
        "make test",
        "--idempotency-key",
        "k",
    )
    assert (attempt["node_id"], attempt["start_key"]) == (node.id, "k")
    assert (await hive.json("operations", "show", "k"))["attempt_id"] == attempt["id"]
    shown = await hive.json("attempts", "show", attempt["id"])
    assert shown["task_title"] == "Sort"
    listed = await hive.json("attempts", "--task", task["id"], "--node", "one")
    assert [item["id"] for item in listed["items"]] == [attempt["id"]]

    async def stop(_call):
        return AttemptReply(attempt=node.attempt(101, task_id=task["id"]))

    node.answers["stop"] = stop
    stopped = await hive.json("attempt", "stop", attempt["id"], "--grace-s", "1")
    assert stopped["id"] == attempt["id"]
    assert (await hive.json("status"))["nodes"] == {"online": 1, "offline": 0}


@pytest.mark.asyncio
async def test_errors_are_the_hives_own(running: RunningHive, hive: Commands):
    """What the hive refuses comes through with code, details and exit code 1."""
    task_words = ["tasks", "create", "--project", "nowhere", "--title", "Sort"]
    assert (await hive.run(*task_words, "--json")).error["code"] == "not_found"
    node = await running.node("one")
    task = await running.task()
    await node.leave()
    said = await hive.run(
        "tasks", "run", task["id"], "--node", "one", "--command", "true", "--json"
    )
    assert said.error["code"] == "node_offline"
    assert said.error["details"]["last_seen_at_ms"] > 0
    people = await hive.run("tasks", "run", task["id"], "--node", "one", "--command", "true")
    assert people.code == 1
    assert "node_offline" in people.err
    assert "hint" in people.err


@pytest.mark.asyncio
async def test_people_see_tables(running: RunningHive, hive: Commands):
    """Without `--json` each list is a table, and an empty one says what to do."""
    assert "join-token" in (await hive.run("nodes")).out
    node = await running.node("one")
    attempt = await node.has_attempt()
    await node.runs(attempt)
    nodes = (await hive.run("nodes")).out
    assert "one" in nodes
    assert "online" in nodes
    shown = (await hive.run("attempts", "show", attempt.id)).out
    assert "make test" in shown
    assert "complete" in shown
    for words in (["projects"], ["tasks"], ["attempts"], ["events"], ["tokens"], ["operations"]):
        assert (await hive.run(*words)).code == 0, words


@pytest.mark.asyncio
async def test_projects_tokens_and_nodes_are_managed(running: RunningHive, hive: Commands):
    """Each managing command does what it says."""
    await hive.json(
        "projects", "create", "--name", "shop", "--repo-url", "https://git.example/shop"
    )
    edited = await hive.json("projects", "edit", "shop", "--sync-policy", "lazy")
    assert edited["sync_policy"] == "lazy"
    assert (await hive.json("projects", "archive", "shop"))["archived"]
    assert not (await hive.json("projects", "archive", "shop", "--undo"))["archived"]
    assert (await hive.json("projects", "delete", "shop"))["id"] == edited["id"]
    await running.node("one")
    assert (await hive.json("nodes", "drain", "one"))["status"] == "draining"
    assert (await hive.json("nodes", "drain", "one", "--off"))["status"] == "online"
    assert (await hive.json("nodes", "revoke", "one"))["status"] == "revoked"
    made = await hive.json("tokens", "create", "--name", "ci", "--role", "viewer", "--ttl", "30d")
    assert made["expires_at_ms"] > made["created_at_ms"]
    assert (await hive.json("tokens", "revoke", "ci"))["revoked_at_ms"]


@pytest.mark.asyncio
async def test_signing_in_keeps_address_and_token(running: RunningHive, hive: Commands):
    """After `hive login` nothing has to be set; a wrong token is not kept."""
    del hive.environment["SKEP_HIVE_URL"], hive.environment["SKEP_TOKEN"]
    assert (await hive.run("login", running.url, "--json", stdin=b"wrong\n")).error["code"] == (
        "unauthenticated"
    )
    assert (await hive.run("nodes")).code == 1
    said = await hive.run("login", running.url, "--json", stdin=f"{running.token}\n".encode())
    assert said.json == {"hive_url": running.url, "name": "admin", "role": "admin"}
    assert (await hive.json("nodes"))["items"] == []
    plain = await hive.run("login", "http://10.0.0.9:8700", "--json", stdin=b"x\n")
    assert "plain http" in plain.error["message"]
