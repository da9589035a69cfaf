"""Skep's tools through real MCP clients: beside an agent on its node, and from outside."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from protocol.agent_tools import AGENT_TOOLS, AnsweredBy
from protocol.errors import ErrorCode, SkepError
from tests.end_to_end.installation import Installation, make_repository
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.waiting import until


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory):
    """A hive, a node, and a task whose attempt runs on."""
    made = Installation(tmp_path_factory.mktemp("tools"))
    try:
        made.found()
        made.add_node(repository=make_repository(made.folder / "shop"))
        yield made
    finally:
        made.close()


@contextlib.asynccontextmanager
async def beside_agent(node: NodeProgram, attempt: str) -> AsyncIterator[ClientSession]:
    """The tool server that an attempt's agent is given, as its client."""
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "node_agent", "mcp", "--data", str(node.data_dir), "--attempt", attempt],
        env=node.full_environment(),
    )
    async with (
        stdio_client(server) as (read, write),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        yield session


async def call(session: ClientSession, tool: str, **arguments: Any) -> Any:
    """Call a tool that has to work."""
    result = await session.call_tool(tool, arguments)
    said = json.loads(result.content[0].text)
    assert not result.is_error, said
    assert result.structured_content == said
    return said


def running(installation: Installation) -> tuple[dict[str, Any], str]:
    """A task of the shop, and an attempt of it that runs."""
    hive = installation.hive
    task = hive.json("tasks", "create", "--project", "shop", "--title", "Sort the shelves")
    attempt = hive.json("tasks", "run", task["id"], "--node", "node1", "--command", "sleep 600")
    until(
        lambda: installation.nodes[0].attempt(attempt["id"])["executions"],
        "the program runs",
        holds=lambda found: bool(found and found[0]["process"]),
    )
    return task, attempt["id"]


def test_an_agent_uses_every_tool(installation: Installation) -> None:
    """Listed and called as a client does; what each did is at the hive."""
    task, attempt = running(installation)
    node, hive = installation.nodes[0], installation.hive

    async def story() -> None:
        async with beside_agent(node, attempt) as session:
            listed = await session.list_tools()
            assert {tool.name for tool in listed.tools} == set(AGENT_TOOLS)
            assert all(tool.description and tool.input_schema for tool in listed.tools)
            await call(session, "report_progress", text="Half of it", percent=50)
            part = await call(session, "create_task", title="Paint $COLOUR", draft=True)
            await call(session, "set_variable", name="COLOUR", value="red", task=part["id"])
            held = await call(session, "get_variables", task=part["id"])
            assert [one["value"] for one in held["items"]] == ["red"]
            assert hive.json("tasks", "preview", part["id"])["title"] == "Paint red"
            own = await call(session, "get_task")
            assert (own["task"]["id"], own["attempts"][0]["id"]) == (task["id"], attempt)
            found = await call(session, "list_tasks", status="draft")
            assert [one["id"] for one in found["items"]] == [part["id"]]
            [shown] = (await call(session, "list_nodes"))["items"]
            assert shown["name"] == "node1"
            begun = await call(
                session, "start_attempt", task=part["id"], command="echo done", node="node1"
            )
            assert hive.wait_ended(begun["id"])["outcome"] == "succeeded"
            refused = await session.call_tool("get_task", {"task": "01a00000"})
            assert refused.is_error
            assert json.loads(refused.content[0].text)["error"]["code"] == "not_found"

    asyncio.run(story())
    hive.json("attempt", "stop", attempt)


def test_a_question_is_answered_over_restarts(installation: Installation) -> None:
    """Asked once, whatever is restarted; the agent that waits is told what the person said."""
    _, attempt = running(installation)
    node, hive = installation.nodes[0], installation.hive

    async def story() -> None:
        async with beside_agent(node, attempt) as session:
            asking = asyncio.create_task(
                call(session, "ask_human", question="Which colour?", options=["red", "blue"])
            )

            def open_now() -> Any:
                return hive.json("requests", "--open")["items"]

            [request] = await asyncio.to_thread(
                until, open_now, "the hive has the question", holds=bool
            )
            assert request["title"] == "Which colour?"
            await asyncio.to_thread(node.kill)
            node.process = None
            await asyncio.to_thread(node.start)
            await asyncio.to_thread(hive.wait_node, "node1")
            await asyncio.to_thread(hive.json, "requests", "answer", request["id"], "blue")
            answer = await asyncio.wait_for(asking, 60)
            assert (answer["answer"], answer["request_id"]) == ("blue", request["id"])
            assert hive.json("requests", "--open")["items"] == []

    asyncio.run(story())
    hive.json("attempt", "stop", attempt)


def test_an_answer_may_hold_a_secret(installation: Installation) -> None:
    """The agent gets it whole, the hive without it; another attempt's question is not shown."""
    _, attempt = running(installation)
    _, other = running(installation)
    node, hive = installation.nodes[0], installation.hive
    node.call("secrets", "set", "door", stdin="open-sesame-4711")

    async def story() -> None:
        async with beside_agent(node, attempt) as session:
            asking = asyncio.create_task(call(session, "ask_human", question="The word?"))
            [request] = await asyncio.to_thread(
                until, lambda: hive.json("requests", "--open")["items"], "it is open", holds=bool
            )
            path = f"attempts/{other}/agent-tools/ask_human/{request['id']}"
            with pytest.raises(SkepError) as caught:
                await asyncio.to_thread(node.client.get, path)
            assert caught.value.code is ErrorCode.NOT_FOUND
            words = "It is open-sesame-4711"
            await asyncio.to_thread(hive.json, "requests", "answer", request["id"], words)
            assert (await asyncio.wait_for(asking, 60))["answer"] == words
            shown = await asyncio.to_thread(hive.json, "requests", "show", request["id"])
            assert "open-sesame" not in json.dumps(shown)

    asyncio.run(story())
    for one in (attempt, other):
        hive.json("attempt", "stop", one)


def test_a_long_answer_of_the_hive_comes_whole(installation: Installation) -> None:
    """However many pieces it comes in."""
    _, attempt = running(installation)
    node, hive = installation.nodes[0], installation.hive

    async def story() -> None:
        async with beside_agent(node, attempt) as session:
            for number in range(12):
                text = f"{number} " + "x" * 32_000
                await call(session, "create_task", title=f"Long {number}", description=text)
            found = await call(session, "list_tasks", limit=100)
            long = [one for one in found["items"] if one["title"].startswith("Long ")]
            assert [len(one["description"]) > 32_000 for one in long] == [True] * 12

    asyncio.run(story())
    hive.json("attempt", "stop", attempt)


def test_a_question_of_a_program_that_ended_is_withdrawn(installation: Installation) -> None:
    """Nobody is asked for an answer that has no reader any more."""
    _, attempt = running(installation)
    node, hive = installation.nodes[0], installation.hive

    async def story() -> None:
        async with beside_agent(node, attempt) as session:
            asking = asyncio.create_task(call(session, "ask_human", question="Still there?"))
            [request] = await asyncio.to_thread(
                until, lambda: hive.json("requests", "--open")["items"], "it is open", holds=bool
            )
            await asyncio.to_thread(hive.json, "attempt", "stop", attempt)
            answer = await asyncio.wait_for(asking, 60)
            assert (answer["status"], answer["request_id"]) == ("cancelled", request["id"])
            # Nor is one asked then: the tool says so at once, for no agent is coming back.
            again = session.call_tool("ask_human", {"question": "And now?"})
            refused = await asyncio.wait_for(again, 60)
            assert json.loads(refused.content[0].text)["error"]["code"] == "conflict"

    asyncio.run(story())


def test_tools_are_used_from_outside(installation: Installation) -> None:
    """With a person's token over HTTP: those that the hive answers, as the person's role allows."""
    hive = installation.hive
    made = hive.json("tokens", "create", "--name", "watcher", "--role", "viewer")

    async def tools(token: str) -> tuple[set[str], Any]:
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(headers=headers) as client,
            streamable_http_client(f"{hive.url}/mcp", http_client=client) as (read, write, *_),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            listed = {tool.name for tool in (await session.list_tools()).tools}
            if "create_task" in listed:
                await call(session, "create_task", project="shop", title="From outside")
            return listed, await call(session, "list_tasks", project="shop")

    at_hive = {name for name, tool in AGENT_TOOLS.items() if tool.answered_by is AnsweredBy.HIVE}
    listed, found = asyncio.run(tools(hive.environment["SKEP_TOKEN"]))
    assert listed == at_hive
    assert "From outside" in [one["title"] for one in found["items"]]
    listed, _ = asyncio.run(tools(made["token"]))
    assert listed == {"get_task", "list_tasks", "get_variables", "list_nodes"}
