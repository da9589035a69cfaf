"""Addresses that agents ask people to open: shown whole, answered by people, refused where odd."""

import json
from typing import Any

import pytest

from node_agent.acp.elicitations import ask_elicitation
from node_agent.acp.machine import AgentMachine
from node_agent.acp.opening import initialize_params
from node_agent.acp.requests import UnfitReply, answer_for
from node_agent.acp.state import MachineState
from node_agent.acp.steps import MessageMade, Opening, Reply, RequestMade
from protocol.limits import OP_BODY_BYTES_MAX

URL = "https://forge.example/login?state=4f2a"


def asked(**fields: Any) -> tuple[MachineState, RequestMade]:
    """An address that was asked to be opened."""
    state = MachineState()
    params = {"mode": "url", "url": URL, "message": "Log in, please.", "elicitationId": "e1"}
    made = ask_elicitation(state, '"p"', {**params, **fields}).facts[-1]
    assert isinstance(made, RequestMade)
    return state, made


def call(machine: AgentMachine, rpc_id: str, **params: Any) -> Any:
    """What a machine does with an `elicitation/create` of these params."""
    asks = {"jsonrpc": "2.0", "id": rpc_id, "method": "elicitation/create", "params": params}
    return machine.receive(json.dumps(asks).encode())


def test_agents_are_told_that_it_can_be_asked_for() -> None:
    """An agent asks in the ways only that its client names."""
    capabilities = initialize_params(Opening(cwd="/w"))["clientCapabilities"]
    assert capabilities["elicitation"] == {"form": {}, "url": {}}


def test_an_address_is_shown_whole_before_the_agents_own_words() -> None:
    """Who answers sees where it leads, whatever the agent says of it."""
    _, made = asked(message="This is https://good.example, believe me.")
    assert made.title == "Open forge.example"
    first, second, *_ = made.text.splitlines()
    assert (first.endswith("at forge.example:"), second) == (True, URL)
    assert made.text.endswith("believe me.")
    assert [option.id for option in made.options] == ["opened", "decline"]


@pytest.mark.parametrize(
    ("reply", "action"),
    [({"option": "opened"}, "accept"), ({"text": "Decline"}, "decline"), ({}, None)],
)
def test_it_is_answered_by_a_person(reply: dict[str, str], action: str | None) -> None:
    """Opened or declined goes to the agent as it was said; other words are no answer."""
    state, made = asked()
    request = state.requests[made.key]
    assert answer_for(request, Reply(cancelled=True)) == {"action": "cancel"}
    if action is not None:
        assert answer_for(request, Reply(**reply)) == {"action": action}
        return
    for unfit in (Reply(text="perhaps"), Reply(form={"a": 1})):
        with pytest.raises(UnfitReply):
            answer_for(request, unfit)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://",
        "https://good.example@evil.example/",
        "https://gооd.example/",  # noqa: RUF001  Cyrillic letters: that is the point
        "https://good.example/\u202egpj.exe",
        "https://good.example/ evil",
        "https:\\\\evil.example/",
        "https://[bad/",
        f"https://good.example/{'a' * 5000}",
    ],
)
def test_an_address_that_could_mislead_is_refused_and_told(url: str) -> None:
    """The agent gets an error, people see in the transcript that it asked."""
    machine = AgentMachine()
    step = call(machine, "q", mode="url", url=url, message="Open it", elicitationId="e")
    (line,) = [json.loads(one) for one in step.lines]
    assert (line["id"], line["error"]["code"]) == ("q", -32602)
    (told,) = step.facts
    assert isinstance(told, MessageMade)
    assert told.role == "system"
    assert "was refused" in told.content
    assert machine.state.requests == {}


def test_a_way_to_ask_that_nobody_knows_is_refused_and_told() -> None:
    """A mode of a later protocol is no form."""
    step = call(AgentMachine(), "q", mode="telepathy", message="Think of a number")
    assert json.loads(step.lines[0])["error"]["code"] == -32602
    assert "telepathy" in step.facts[0].content


def test_what_the_agent_says_is_done_is_told_and_answers_nothing() -> None:
    """A completed address is a word of the agent's: the request stays a person's to answer."""
    machine = AgentMachine()
    call(machine, "q", mode="url", url=URL, message="Log in", elicitationId="e1")
    for named, facts in (("other", 0), ("", 0), ("e1", 1)):
        done = {"method": "elicitation/complete", "params": {"elicitationId": named}}
        step = machine.receive(json.dumps({"jsonrpc": "2.0", **done}).encode())
        assert (len(step.facts), step.lines) == (facts, [])
    (key,) = machine.state.requests
    (line,) = machine.reply(key, Reply(option="opened")).lines
    assert json.loads(line)["result"] == {"action": "accept"}


def test_the_longest_fits_into_an_op() -> None:
    """Whatever an agent writes, the request can be told."""
    _, made = asked(url=f"https://good.example/{'a' * 4000}", message="long " * 100_000)
    assert len(made.text.encode()) < OP_BODY_BYTES_MAX // 4
