"""The profiles of a project over HTTP, and with the starts that they travel with."""

import asyncio

import msgspec
import pytest

from protocol.errors import ErrorCode, OperationError
from tests.hive.api.running import RunningHive

EXECUTORS = ("acp", "command")
CAREFUL = {"agent": "claude", "mode": "plan", "environment": {"KEY": "secret:MODEL_KEY"}}


@pytest.mark.asyncio
async def test_profiles_are_set_listed_and_removed(running: RunningHive):
    """Each is shown whole, in the list and with the project."""
    await running.post("projects", {"name": "shop"})
    path = "projects/shop/profiles"
    made = await running.ask("PUT", f"{path}/careful", body=CAREFUL)
    whole = {"name": "careful", "model": None, "arguments": [], **CAREFUL}
    assert (made.status, made.json) == (200, whole)
    await running.ask("PUT", f"{path}/a", body={"agent": "codex"})
    listed = (await running.get(path)).json
    assert ([one["name"] for one in listed["items"]], listed["next"]) == (["a", "careful"], None)
    shown = (await running.get("projects/shop")).json["profiles"]
    assert shown["careful"]["environment"] == {"KEY": "secret:MODEL_KEY"}
    gone = await running.ask("DELETE", f"{path}/careful")
    assert gone.json == whole
    again = await running.ask("DELETE", f"{path}/careful")
    assert (again.status, again.error["code"]) == (404, "not_found")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"agent": "nobody"}, "profiles"),
        ({"agent": "claude", "colour": "red"}, "colour"),
        ({"model": "opus"}, "agent"),
        ({"agent": "claude", "environment": {"API_KEY": "sk-0123456789"}}, "profiles"),
    ],
)
async def test_what_is_no_profile_is_refused(running: RunningHive, body: dict, field: str):
    """The error names what is wrong, a secret above all: it would be shown to all."""
    await running.post("projects", {"name": "shop"})
    wrong = await running.ask("PUT", "projects/shop/profiles/p", body=body)
    assert (wrong.status, wrong.error["code"]) == (422, "invalid"), wrong.json
    assert field in wrong.error["message"]
    assert (await running.get("projects/shop/profiles")).json["items"] == []


@pytest.mark.asyncio
async def test_they_travel_with_the_start_of_an_agent(running: RunningHive):
    """The node gets all of them, for follow-ups too, and what was asked for beside; names alone."""
    node = await running.node("one", executors=EXECUTORS)
    node.starts()
    await running.ask("PUT", "projects/shop/profiles/careful", body=CAREFUL)
    task = await running.task()
    asked = {"node_id": "one", "executor": "acp", "profile": "careful", "model": "opus"}
    started = await running.post(f"tasks/{task['id']}/attempts", asked)
    assert started.status == 201, started.content
    sent = msgspec.msgpack.decode(node.calls[0].body)
    assert (sent["profile"], sent["model"], sent["mode"]) == ("careful", "opus", None)
    assert sent["profiles"]["careful"]["environment"] == {"KEY": "secret:MODEL_KEY"}
    await running.post(f"tasks/{task['id']}/attempts", {"node_id": "one", "command": "true"})
    assert msgspec.msgpack.decode(node.calls[1].body)["profiles"] == {}


@pytest.mark.asyncio
async def test_a_node_that_lacks_what_it_takes_is_passed_over(running: RunningHive):
    """With any node, one that has the agent is found; where none has it the node's word is told."""
    bare = await running.node("a", executors=EXECUTORS)
    able = await running.node("b", executors=EXECUTORS)

    async def missing(_call):
        raise OperationError(ErrorCode.EXECUTOR_UNAVAILABLE, "there is no claude-agent-acp")

    bare.answers["start"] = missing
    able.starts()
    task = await running.task()
    asked = {"executor": "acp", "profile": "claude"}
    started = await running.post(f"tasks/{task['id']}/attempts", asked)
    assert (started.status, started.json["node_name"]) == (201, "b")
    able.answers["start"] = missing
    # No node gets what none has by waiting.
    async with asyncio.timeout(60):
        refused = await running.post(f"tasks/{task['id']}/attempts", {**asked, "wait_s": 300})
    assert (refused.status, refused.error["code"]) == (409, "executor_unavailable")
    assert "claude-agent-acp" in refused.error["message"]
