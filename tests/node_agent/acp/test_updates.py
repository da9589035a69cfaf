"""What real agents said, as messages; and what follows from each kind of update."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node_agent.acp.machine import AgentMachine
from node_agent.acp.state import MachineState, OpenTurn, Phase
from node_agent.acp.steps import (
    Fact,
    MessageMade,
    Opening,
    Prompt,
    Reply,
    RequestMade,
    TurnOver,
    UsageTold,
)
from node_agent.acp.updates import apply_update, close_block, turn_usage
from node_agent.sessions.shown_text import ShownText
from protocol.conversation import PlanEntry, Usage

TRANSCRIPTS = Path(__file__).parents[2] / "transcripts" / "acp"


def replayed(name: str) -> list[Fact]:
    """The facts of a recorded conversation; what it asked is answered as it was then."""

    def said() -> Iterator[bytes]:
        lines = (TRANSCRIPTS / f"claude-agent-acp-0.49.0-{name}.jsonl").read_bytes().splitlines()
        assert len(lines) > 5
        return iter(lines)

    machine = AgentMachine()
    facts: list[Fact] = []
    machine.begin(Opening(cwd="/w", mode="default"))
    machine.prompt(Prompt(turn_id="t", text="go"))
    for line in said():
        step = machine.receive(line)
        facts += step.facts
        for fact in step.facts:
            if isinstance(fact, RequestMade):
                answer = "Blue" if fact.kind == "question" else "allow"
                assert len(machine.reply(fact.key, Reply(option=answer)).lines) == 1
    return facts


def messages(facts: list[Fact]) -> list[MessageMade]:
    """The messages as they stand at last, in the order in which each came first."""
    made = {fact.key: fact for fact in facts if isinstance(fact, MessageMade)}
    return list(made.values())


def test_claude_writes_a_file_and_runs_a_command():
    """Its tools have names, targets, a diff and an output; each was asked for once."""
    facts = replayed("write")
    shown = messages(facts)
    roles = ["assistant", "tool", "tool", "thinking", "assistant"]
    assert [message.role for message in shown] == roles
    assert [message.content for message in shown if message.role == "assistant"] == [
        "I write it. ",
        "All done now. ",
    ]
    write, bash = (message.tool for message in shown if message.tool is not None)
    assert (write.name, write.kind, write.status) == ("Write", "edit", "completed")
    assert (write.target, write.locations) == ("/w/hello.txt", ["/w/hello.txt"])
    assert [(diff.path, diff.new_text) for diff in write.diffs] == [("/w/hello.txt", "hi\n")]
    assert (bash.name, bash.target) == ("Bash", "echo hello > b.txt; echo out")
    assert "out" in bash.output
    requests = [fact for fact in facts if isinstance(fact, RequestMade)]
    assert [request.title for request in requests] == [
        "Write hello.txt",
        "echo hello > b.txt; echo out",
    ]
    assert [message.request_key for message in shown if message.tool] == [
        request.key for request in requests
    ]
    over = facts[-1]
    assert isinstance(over, TurnOver)
    assert over.usage == Usage(input_tokens=20, output_tokens=40, cached_tokens=0)
    told = [fact.usage for fact in facts if isinstance(fact, UsageTold)]
    assert (told[-1].currency, told[-1].context_tokens_max) == ("USD", 1_000_000)
    assert told[-1].cost is not None
    assert "e" not in told[-1].cost


def test_claude_asks_a_question():
    """Its own tool for questions is a form, whose one field takes an option or own words."""
    facts = replayed("question")
    (request,) = (fact for fact in facts if isinstance(fact, RequestMade))
    assert request.kind == "question"
    assert [option.id for option in request.options] == ["Red", "Blue", "decline"]
    assert request.free_text
    assert "_meta" not in json.dumps(request.form)
    tool, question = (one for one in messages(facts) if one.role in {"tool", "question"})
    assert question.parent_key == tool.key
    assert (question.content, question.request_key) == ("Which colour?", request.key)
    assert tool.tool is not None
    assert (tool.tool.status, tool.tool.target) == ("completed", "Which colour?")
    assert '"Which colour?"="Blue"' in tool.tool.output


def test_claude_meets_a_limit():
    """The turn fails with the limit's code, whatever else the error is called."""
    over = replayed("limit")[-1]
    assert isinstance(over, TurnOver)
    assert (over.stop_reason, over.error_code) == ("error", "usage_limit")


def chunk(text: str, **fields: Any) -> dict[str, Any]:
    """A piece of the agent's text."""
    content = {"type": "text", "text": text}
    return {"sessionUpdate": "agent_message_chunk", "content": content, **fields}


def call(call_id: str, kind: str = "tool_call", **fields: Any) -> dict[str, Any]:
    """What is said of a tool call."""
    return {"sessionUpdate": kind, "toolCallId": call_id, **fields}


def made(state: MachineState, *updates: dict[str, Any]) -> list[MessageMade]:
    """The messages that updates lead to, with the text that is open at the end."""
    facts = [fact for update in updates for fact in apply_update(state, update)]
    facts += close_block(state)
    return [fact for fact in facts if isinstance(fact, MessageMade)]


def test_what_ends_a_block():
    """Another text and a new tool call do; news of a known one, of usage or of modes does not."""
    texts = [
        message.content
        for message in made(
            MachineState(),
            call("c"),
            chunk("a"),
            call("c", "tool_call_update", status="in_progress"),
            {"sessionUpdate": "usage_update", "used": 1, "size": 2},
            {"sessionUpdate": "current_mode_update", "currentModeId": "x"},
            chunk("b"),
            chunk("c", messageId="m2"),
            call("d"),
            chunk("e", messageId="m2"),
        )
        if message.role == "assistant"
    ]
    assert texts == ["ab", "c", "e"]


def test_a_call_id_that_is_used_again():
    """After the call is over it names another call, with a message of its own."""
    first, done, second = made(
        MachineState(),
        call("c", title="One"),
        call("c", "tool_call_update", status="completed"),
        call("c", title="Two"),
    )
    assert first.key == done.key != second.key
    assert second.tool is not None
    assert (second.tool.name, second.tool.status) == ("Two", "pending")


def test_what_a_sub_agent_does_is_known_by_its_parent():
    """Claude names the tool call within which something happens."""
    meta = {"_meta": {"claudeCode": {"parentToolUseId": "task"}}}
    task, inner, text = made(
        MachineState(), call("task"), call("inner", **meta), chunk("hi", **meta)
    )
    assert (task.parent_key, inner.parent_key, text.parent_key) == (None, task.key, task.key)


def test_a_plan_is_one_message_of_its_turn():
    """It changes under its key until the next turn; odd words in it become plain ones."""
    state = MachineState(turn=OpenTurn("t1"))
    plan = {"sessionUpdate": "plan", "entries": [{"content": "A", "status": "odd"}, 7]}
    first, again = made(state, plan, {**plan, "entries": []})
    assert first.key == again.key
    assert first.plan == [PlanEntry(content="A", status="pending", priority="medium")]
    state.begin_turn("t2")
    assert made(state, plan)[0].key != first.key


@pytest.mark.parametrize(
    ("amount", "cost"),
    [(0.00001, "0.00001"), (3, "3"), (-1, None), ("1", None), (True, None), (float("inf"), None)],
)
def test_a_cost_is_a_plain_decimal(amount: object, cost: str | None):
    """Never 1e-05, and never what is no amount."""
    update = {"sessionUpdate": "usage_update", "used": 1, "cost": {"amount": amount}}
    (told,) = apply_update(MachineState(), update)
    assert isinstance(told, UsageTold)
    assert told.usage.cost == cost


def test_counts_that_are_none():
    """What is no count is not said."""
    usage = {"inputTokens": 5.0, "outputTokens": -1, "thoughtTokens": "9", "cachedReadTokens": True}
    assert turn_usage({"usage": usage}) == Usage(input_tokens=5)
    assert turn_usage({"usage": 3}) is None


@pytest.mark.parametrize("session_id", [{}, [], ["s"], 7, True, "other"])
def test_an_update_of_no_session_of_ours(session_id: Any):
    """Whatever stands for its id, it is passed over."""
    machine = AgentMachine(MachineState(phase=Phase.READY, agent_session_id="s"))
    params = {"sessionId": session_id, "update": chunk("not ours")}
    line = json.dumps({"method": "session/update", "params": params}).encode()
    assert machine.receive(line).facts == []


@pytest.mark.parametrize("field", ["rawInput", "rawOutput"])
@pytest.mark.parametrize("depth", range(900, 1010, 3))
def test_what_can_only_just_be_read(field: str, depth: int):
    """However deeply a tool's input or output is nested, nothing is raised."""
    machine = AgentMachine(MachineState(phase=Phase.READY, agent_session_id="s"))
    line = json.dumps({"method": "session/update", "params": {"update": call("c", **{field: 1})}})
    deep = "[" * depth + "]" * depth
    machine.receive(line.replace(f'"{field}": 1', f'"{field}": {deep}').encode())
    (made,) = machine.receive(line.encode()).facts
    assert isinstance(made, MessageMade)
    assert made.tool is not None


def tools(facts: list[Fact]) -> list[tuple[str, str]]:
    """Each tool call that was told, by target and status, as it stands at last."""
    found = [one.tool for one in messages(facts) if one.tool is not None]
    return [(tool.target, tool.status) for tool in found]


def test_a_call_told_of_before_it_begins():
    """It is one call, whatever comes first."""
    state = MachineState()
    facts = apply_update(state, call("c", "tool_call_update", status="completed"))
    facts += apply_update(state, call("c", title="ls", status="pending"))
    facts += apply_update(state, call("c", "tool_call_update", status="completed"))
    assert tools(facts) == [("ls", "completed")]


def test_a_call_of_another_turn_with_the_same_id():
    """It is another call, though nobody heard the end of the first: of that nothing will come."""
    state = MachineState()
    first = apply_update(state, call("c1", title="ls", status="in_progress"))
    state.begin_turn("t2")
    second = apply_update(state, call("c1", title="rm x", status="in_progress"))
    second += apply_update(state, call("c1", "tool_call_update", status="completed"))
    assert tools(first + second) == [("ls", "cancelled"), ("rm x", "completed")]


@pytest.mark.parametrize(
    ("entries", "shown", "truncated"),
    [(["A"] * 64, 64, False), (["A"] * 65, 64, True), (["A", "x" * 1000], 2, True)],
)
def test_a_plan_that_does_not_fit(entries: list[str], shown: int, truncated: bool):
    """It says so, whether steps are missing or the end of one; what is shown has room in an op."""
    state = MachineState()
    plan = {"sessionUpdate": "plan", "entries": [{"content": one} for one in entries]}
    (one,) = made(state, plan)
    assert (len(ShownText().plan(one.plan)), one.truncated) == (shown, truncated)


def test_a_plan_that_comes_late():
    """It is that of the turn before it, again and again; the next turn has one of its own."""
    state = MachineState(turn=OpenTurn(id="t"))
    plan = {"sessionUpdate": "plan", "entries": [{"content": "A"}]}
    facts = apply_update(state, plan)
    state.turn = None
    for number in range(1000):
        plan = {"sessionUpdate": "plan", "entries": [{"content": f"B{number}"}]}
        facts += apply_update(state, plan)
    assert [one.plan for one in messages(facts)] == [[PlanEntry(content="B999")]]
