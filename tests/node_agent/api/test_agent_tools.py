"""Tools of agents over the local API: for the attempt whose program asks, and no other."""

from typing import Any, cast

import pytest

from node_agent.hive_tools import HiveTools
from node_agent.local_node import LocalNode
from node_agent.store import messages, requests, sessions
from protocol.conversation import Session
from tests.node_agent.api.conftest import Ask
from tests.node_agent.operations.conftest import EXECUTION, StoredNode

OTHER = "01920000-0000-7000-8000-0000cafef00d"


@pytest.mark.asyncio
async def test_an_agent_uses_its_own_tools_alone(ask: Ask, stored: StoredNode) -> None:
    """It asks for its own attempt, and hears the answer; in another's name it asks nothing."""
    tools = f"attempts/{stored.attempt.id}/agent-tools"
    question: dict[str, Any] = {
        "key": "call-1",
        "execution_id": EXECUTION,
        "arguments": {"question": "Which?"},
    }
    status, refused = await ask("POST", f"{tools}/ask_human", question, from_attempt=OTHER)
    assert (status, refused["error"]["code"]) == (403, "forbidden")
    status, asked = await ask(
        "POST", f"{tools}/ask_human", question, from_attempt=stored.attempt.id
    )
    assert status == 200
    where = f"{tools}/ask_human/{asked['request_id']}"
    assert (await ask("GET", where, from_attempt=OTHER))[0] == 403
    # Its own question is answered by a person, not by itself.
    answer = f"requests/{asked['request_id']}/answer"
    own = {"text": "left"}
    assert (await ask("POST", answer, own, key="k", from_attempt=stored.attempt.id))[0] == 403
    assert (await ask("GET", where, from_attempt=stored.attempt.id))[1] == {"status": "open"}
    assert (await ask("POST", answer, {"text": "right"}, key="k2"))[0] == 200
    status, heard = await ask("GET", where, from_attempt=stored.attempt.id)
    assert (status, heard["answer"]) == (200, "right")


@pytest.mark.asyncio
async def test_secrets_of_its_start_are_not_told(ask: Ask, stored: StoredNode) -> None:
    """What an attempt was started with is hidden in what its agent asks and tells by tools."""
    secret, database = "open-sesame-4711", stored.stores.database
    await stored.started_with({"API_KEY": secret})
    session = Session(id="s1", attempt_id=stored.attempt.id, executor="acp", topic="t")
    await database.write(sessions.save, session, 5)
    tools = f"attempts/{stored.attempt.id}/agent-tools"
    question = {"key": "call-1", "arguments": {"question": f"Is it {secret}?"}}
    by_it = {"from_attempt": stored.attempt.id}
    status, asked = await ask("POST", f"{tools}/ask_human", question, **by_it)
    assert status == 200
    kept = await database.read(requests.get, asked["request_id"])
    assert (kept.title, kept.text) == ("Is it ***?", "Is it ***?")
    progress = {"key": "call-2", "arguments": {"text": f"Tried {secret}."}}
    told = await ask("POST", f"{tools}/report_progress", progress, **by_it)
    assert told == (200, {"told": True})
    said = (await database.read(messages.page, "s1", limit=10))[-1]
    assert said.content == "Tried ***."


@pytest.mark.asyncio
async def test_secrets_are_not_told_to_the_hive(
    ask: Ask, node: LocalNode, stored: StoredNode
) -> None:
    """A tool that the hive answers gets the agent's words without them, as deep as they stand."""

    class Recorded:
        async def call(self, attempt_id: str, tool: str, arguments: dict[str, Any]) -> object:
            return {"attempt_id": attempt_id, "tool": tool, "arguments": arguments}

    secret = "open-sesame-4711"
    await stored.started_with({"API_KEY": secret})
    node.hive_tools = cast("HiveTools", Recorded())
    arguments = {
        "title": f"Use {secret}",
        "description": f"It is {secret}.",
        "variables": {"A": secret},
    }
    status, told = await ask(
        "POST",
        f"attempts/{stored.attempt.id}/agent-tools/create_task",
        {"key": "call-1", "arguments": arguments},
        from_attempt=stored.attempt.id,
    )
    assert status == 200, told
    assert told["arguments"] == {
        "title": "Use ***",
        "description": "It is ***.",
        "variables": {"A": "***"},
    }
