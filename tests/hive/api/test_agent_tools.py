"""Tools of agents at the hive: an attempt reaches its own project, with its node's word alone."""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocol import limits
from protocol.attempt_tokens import AttemptToken, mint_attempt_token
from tests.hive.api.running import FakeNode, Reply, RunningHive, running_hive


class Agent:
    """The agent of an attempt: its node signs for it."""

    def __init__(self, node: FakeNode, attempt_id: str) -> None:
        self.node = node
        self.attempt_id = attempt_id

    def token(self, **changed: Any) -> str:
        """A token of the attempt, as its node signs it."""
        now_s = int(time.time())
        token = AttemptToken(
            jti="j",
            node_id=self.node.id,
            attempt_id=self.attempt_id,
            hive_id=self.node.running.hive.context.hive_id,
            issued_at_s=now_s,
            expires_at_s=now_s + limits.ATTEMPT_TOKEN_TTL_S,
        )
        return mint_attempt_token(msgspec.structs.replace(token, **changed), key=self.node.key)

    async def call(self, tool: str, **arguments: Any) -> Reply:
        return await self.node.running.post(f"agent-tools/{tool}", arguments, token=self.token())


async def running_agent(running: RunningHive, node: FakeNode) -> tuple[Agent, dict[str, Any]]:
    """An attempt of a task of the shop that runs on a node, and the task."""
    task = await running.task("Sort", variables={"TONE": "dry"})
    attempt = await node.has_attempt(task_id=task["id"], task_title="Sort")
    return Agent(node, attempt.id), task


@pytest.mark.asyncio
async def test_an_agent_works_in_its_own_project(running: RunningHive):
    """Tasks below its own, its variables, its project's nodes; who did it is on record."""
    node = await running.node()
    agent, task = await running_agent(running, node)
    made = (await agent.call("create_task", title="A part", description="In $TONE words")).json
    assert (made["parent_id"], made["project_id"]) == (task["id"], task["project_id"])
    await agent.call("set_variable", name="WHO", value="Ada")
    held = (await agent.call("get_variables", task=made["id"])).json["items"]
    assert [(one["name"], one["from_kind"]) for one in held] == [
        ("TONE", "parent"),
        ("WHO", "parent"),
    ]
    own = (await agent.call("get_task")).json
    assert own["task"]["id"] == task["id"]
    assert [one["id"] for one in own["attempts"]] == [agent.attempt_id]
    titles = [one["title"] for one in (await agent.call("list_tasks")).json["items"]]
    assert titles == ["A part", "Sort"]
    [shown] = (await agent.call("list_nodes")).json["items"]
    assert (shown["name"], shown["can_run"]) == ("one", True)
    events = (await running.get("events")).json["items"]
    actors = {one["actor"] for one in events if one["what_id"] == made["id"]}
    assert actors == {f"attempt {agent.attempt_id[-8:]}"}


@pytest.mark.asyncio
async def test_another_project_is_not_an_agents(running: RunningHive):
    """Neither to see nor to change, by any tool."""
    node = await running.node()
    agent, _ = await running_agent(running, node)
    await running.post("projects", {"name": "other"})
    theirs = (await running.post("tasks", {"project": "other", "title": "Theirs"})).json["id"]
    for tool, arguments in (
        ("get_task", {"task": theirs}),
        ("start_attempt", {"task": theirs, "command": "true"}),
        ("set_variable", {"task": theirs, "name": "A", "value": ""}),
        ("get_variables", {"task": theirs}),
    ):
        assert (await agent.call(tool, **arguments)).status == 404, tool
    for tool in ("create_task", "list_tasks", "list_nodes"):
        arguments = {"title": "x"} if tool == "create_task" else {}
        told = [await agent.call(tool, project=name, **arguments) for name in ("other", "none")]
        assert [one.status for one in told] == [404, 404], tool
        # Whether there is such a project is none of its business.
        assert told[0].error["message"].replace("other", "none") == told[1].error["message"]


@pytest.mark.asyncio
async def test_a_part_of_an_id_names_an_agents_own_tasks_alone(running: RunningHive):
    """Tasks made together begin alike: those of other projects are not even candidates."""
    node = await running.node()
    agent, task = await running_agent(running, node)
    await running.post("projects", {"name": "other"})
    await running.post("tasks", {"project": "other", "title": "Theirs"})
    await running.post("tasks", {"project": "other", "title": "Theirs too"})
    shown = await agent.call("get_task", task=task["id"][:8])
    assert shown.json["task"]["id"] == task["id"]


@pytest.mark.asyncio
async def test_an_attempt_of_no_project_reaches_its_own_task_alone(tmp_path: Path):
    """What else belongs to no project is of other nodes, and none of its agent's business."""
    async with running_hive(tmp_path, nodes_may_create_projects=False) as running:
        node, other = await running.node(), await running.node("two")
        attempt, theirs = await node.has_attempt(), await other.has_attempt(2)
        agent = Agent(node, attempt.id)
        own = (await agent.call("get_task")).json
        assert (own["task"]["id"], own["task"]["project_id"]) == (attempt.task_id, None)
        for tool, arguments in (
            ("get_task", {}),
            ("get_variables", {}),
            ("set_variable", {"name": "A", "value": ""}),
            ("start_attempt", {"command": "true"}),
        ):
            refused = await agent.call(tool, task=theirs.task_id, **arguments)
            assert refused.status == 404, tool
        assert (await agent.call("create_task", title="x")).status == 409


@pytest.mark.asyncio
async def test_tasks_of_agents_stand_no_deeper_than_those_of_people(running: RunningHive):
    """Agents that make tasks for agents that make tasks come to an end."""
    node = await running.node()
    deepest = await running.task("0")
    while True:
        body = {"project": "shop", "title": "x", "parent_id": deepest["id"]}
        made = await running.post("tasks", body)
        if made.status == 422:
            break
        deepest = made.json
    attempt = await node.has_attempt(task_id=deepest["id"], task_title="x")
    refused = await Agent(node, attempt.id).call("create_task", title="One more")
    assert (refused.status, refused.error["details"]["field"]) == (422, "parent_id")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "sent", [b"{", b'"\\ud800"', b"[" * 100_000, b"\xff", b'{"a": "\\ud800"}', b"[]"]
)
async def test_what_is_no_object_is_refused(running: RunningHive, sent: bytes):
    """Broken JSON is the caller's mistake, not the hive's."""
    refused = await running.ask(
        "POST",
        "agent-tools/list_tasks",
        data=sent,
        headers={"Content-Type": "application/json"},
    )
    assert (refused.status, refused.error["code"]) == (422, "invalid")


@pytest.mark.asyncio
async def test_a_token_of_an_attempt_opens_nothing_else(running: RunningHive):
    """No other route, not once the attempt has ended, not of another node's attempt."""
    node = await running.node()
    other = await running.node("two")
    agent, _ = await running_agent(running, node)
    for path in ("tasks", "me", "nodes", "events", f"attempts/{agent.attempt_id}"):
        assert (await running.get(path, token=agent.token())).status == 403, path
    thief = Agent(other, agent.attempt_id)
    assert (await thief.call("get_task")).status == 401
    forged = Agent(node, agent.attempt_id)
    forged.node = other
    named = forged.token(node_id=node.id)
    assert (await running.post("agent-tools/get_task", {}, token=named)).status == 401
    elsewhere = agent.token(hive_id="h-2")
    assert (await running.post("agent-tools/get_task", {}, token=elsewhere)).status == 401
    await node.ends(node.attempt(), [])
    late = agent.token(jti="late")
    assert (await running.post("agent-tools/get_task", {}, token=late)).status == 401


@pytest.mark.asyncio
async def test_a_person_uses_tools_with_their_own_role(running: RunningHive):
    """A viewer reads; outside an attempt the project and the task are to be named."""
    await running.node()
    viewer = await running.token_of("viewer")
    task = await running.task()
    named = await running.post("agent-tools/list_tasks", {"project": "shop"}, token=viewer)
    assert [one["id"] for one in named.json["items"]] == [task["id"]]
    refused = await running.post(
        "agent-tools/create_task", {"project": "shop", "title": "x"}, token=viewer
    )
    assert refused.status == 403
    for tool, arguments, field in (
        ("list_tasks", {}, "project"),
        ("get_task", {}, "task"),
        ("get_task", {"what": 1}, "what"),
        ("set_variable", {"name": "9", "value": "", "task": task["id"]}, "name"),
    ):
        bad = await running.post(f"agent-tools/{tool}", arguments)
        assert (bad.status, bad.error["details"]["field"]) == (422, field), tool
    for tool in ("ask_human", "report_progress", "none"):
        assert (await running.post(f"agent-tools/{tool}", {})).status == 404, tool
