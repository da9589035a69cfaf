"""The machine and a real agent process: every message valid at both ends, every odd case survived.

The agent is the scripted one of the demo; the machine is made anew before each input.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node_agent.acp.machine import AgentMachine, TurnRunning
from node_agent.acp.requests import UnfitReply
from node_agent.acp.state import UNREADABLE_LINES_MAX, MachineState, Phase
from node_agent.acp.steps import (
    AgentFailed,
    AgentReady,
    McpServer,
    MessageMade,
    Opening,
    Prompt,
    Reply,
    RequestMade,
    RequestWithdrawn,
    SessionBegun,
    Steered,
    Step,
    TextGrew,
    TurnOver,
    UsageTold,
)
from protocol.conversation import TEXT_BYTES_MAX, Usage
from tests.node_agent.acp.conversation import Conversation

Start = Callable[..., Conversation]


@pytest.fixture
def start(tmp_path: Path):
    """Start an agent with options of its own; all are ended with the test."""
    started: list[Conversation] = []
    worktree = tmp_path / "worktree"
    worktree.mkdir()

    def start(*options: str, judged: bool = True, **opening) -> Conversation:
        conversation = Conversation(worktree, *options, judged=judged)
        started.append(conversation)
        conversation.begin(**opening)
        return conversation

    yield start
    for conversation in started:
        conversation.__exit__(None, None, None)


def test_a_turn_from_greeting_to_end(start: Start):
    """A prompt waits for the session; texts, thoughts, plan, tool and usage come as messages."""
    talk = start()
    assert talk.prompt("@think Hm, so.\n@plan A; B\n@say Hello there\n@plan\n@write a.txt x y\n"
                       "@usage 10 1000 0.25\n@say Done") == []  # fmt: skip
    over = talk.until(TurnOver)
    assert (over.turn_id, over.stop_reason, over.error_code) == ("turn", "end_turn", None)
    assert (talk.cwd / "a.txt").read_text() == "x y\n"
    assert [message.role for message in talk.messages()] == [
        "thinking", "plan", "assistant", "tool", "assistant"
    ]  # fmt: skip
    assert talk.contents("assistant") == ["Hello there", "Done"]
    assert talk.contents("thinking") == ["Hm, so."]
    plan = talk.messages()[1]
    assert [entry.status for entry in plan.plan] == ["completed", "in_progress"]
    tool = talk.messages()[3].tool
    assert tool is not None
    assert (tool.name, tool.kind, tool.status) == ("Write a.txt", "edit", "completed")
    assert tool.target == str(talk.cwd / "a.txt")
    assert [(diff.old_text, diff.new_text) for diff in tool.diffs] == [(None, "x y\n")]
    assert talk.of(UsageTold)[-1].usage == Usage(
        context_tokens=10, context_tokens_max=1000, cost="0.25", currency="USD"
    )
    ready = talk.of(AgentReady)[0]
    assert (ready.name, ready.version) == ("scripted-agent", "1.0")
    assert {"load", "resume", "fork", "images", "steer"} <= set(ready.capabilities)
    assert not talk.of(SessionBegun)[0].resumed


def test_a_block_is_told_live_and_then_whole(start: Start):
    """The pieces of a text, put together, are its message, under the same key."""
    talk = start()
    talk.turn("@say one two three\n@think four five\n@say six")
    for message in talk.messages():
        pieces = [grew for grew in talk.of(TextGrew) if grew.key == message.key]
        text = ""
        for grew in pieces:
            assert (grew.at, grew.role) == (len(text), message.role)
            text += grew.text
        assert text == message.content
    assert len(talk.messages()) == 3


def test_permission_is_asked_once_and_obeyed(start: Start):
    """A yes lets the tool run, a no does not; a second answer is heard by nobody."""
    talk = start()
    talk.prompt("@permit a.txt yes\n@permit b.txt no")
    first = talk.until(RequestMade)
    assert (first.kind, first.title) == ("approval", "Write a.txt")
    assert [option.kind for option in first.options] == [
        "allow_once", "allow_always", "reject_once"
    ]  # fmt: skip
    assert first.tool is not None
    assert first.tool.diffs[0].new_text == "yes\n"
    with pytest.raises(UnfitReply):
        talk.reply(first.key, option="perhaps")
    assert talk.reply(first.key, option="allow") == []
    assert talk.reply(first.key, option="reject") == []
    second = talk.until(RequestMade)
    assert second.key != first.key
    talk.reply(second.key, text="Reject")
    assert talk.until(TurnOver).stop_reason == "end_turn"
    assert (talk.cwd / "a.txt").exists()
    assert not (talk.cwd / "b.txt").exists()
    assert [message.tool.status for message in talk.messages() if message.tool] == [
        "completed", "failed"
    ]  # fmt: skip
    asking = [message for message in talk.messages() if message.role == "tool"]
    assert [message.request_key for message in asking] == [first.key, second.key]
    answers = [note["result"] for note in talk.told() if note["kind"] == "answer"]
    assert [answer["outcome"]["optionId"] for answer in answers] == ["allow", "reject"]


@pytest.mark.parametrize(
    ("asked", "reply", "said"),
    [
        ("Which colour? | red | blue", {"option": "blue"}, 'You said {"answer": "blue"}'),
        ("Which colour? | red | blue", {"text": "Red"}, 'You said {"answer": "red"}'),
        ("Which colour? | red | blue", {"form": {"answer": "x"}}, 'You said {"answer": "x"}'),
        ("Which colour?", {"text": "any you like"}, 'You said {"answer": "any you like"}'),
        ("Which colour?", {"option": "decline"}, "You declined"),
    ],
)
def test_a_question_is_answered(start: Start, asked: str, reply: dict, said: str):
    """A form of one field takes an option, a text or a form; it may be declined."""
    talk = start()
    talk.prompt(f"@question {asked}")
    request = talk.until(RequestMade)
    assert (request.kind, request.text) == ("question", "Which colour?")
    assert request.free_text is ("|" not in asked)
    assert request.form is not None
    talk.reply(request.key, **reply)
    talk.until(TurnOver)
    assert talk.contents("assistant") == [said]
    question = next(message for message in talk.messages() if message.role == "question")
    assert (question.content, question.request_key) == ("Which colour?", request.key)


def test_an_interrupt_ends_the_turn_and_withdraws_what_waits(start: Start):
    """The agent hears of it once; its open request is answered `cancelled` and withdrawn."""
    talk = start()
    talk.prompt("@permit a.txt yes\n@say never")
    request = talk.until(RequestMade)
    assert talk.interrupt() == [
        RequestWithdrawn(key=request.key, reason="the turn was interrupted")
    ]
    assert talk.interrupt() == []
    assert talk.reply(request.key, option="allow") == []
    assert talk.until(TurnOver).stop_reason == "cancelled"
    assert not (talk.cwd / "a.txt").exists()
    assert talk.turn("@say still here", "second").stop_reason == "end_turn"
    assert talk.contents("assistant") == ["still here"]


def test_a_permission_asked_after_the_interrupt_is_cancelled(start: Start):
    """Nobody is asked for what nobody wants any more."""
    talk = start()
    talk.prompt("@late")
    talk.until(TextGrew)
    talk.interrupt()
    assert talk.until(TurnOver).stop_reason == "cancelled"
    assert talk.of(RequestMade) == []
    late = [note["outcome"] for note in talk.told() if note["kind"] == "late"]
    assert late == [{"outcome": {"outcome": "cancelled"}}]


def test_an_interrupt_that_comes_too_late(start: Start):
    """A turn that ends by itself while it is interrupted has ended by itself; the next one runs."""
    talk = start()
    talk.prompt("@race")
    talk.until(TextGrew)
    talk.interrupt()
    assert talk.until(TurnOver).stop_reason == "end_turn"
    assert talk.turn("@say on", "second").stop_reason == "end_turn"


def test_an_interrupt_before_the_session_is_there(start: Start):
    """A prompt that was not sent is over at once, and never sent."""
    talk = start()
    talk.prompt("@say never", "first")
    assert talk.interrupt() == [TurnOver(turn_id="first", stop_reason="cancelled")]
    talk.turn("@say then", "second")
    assert [note["text"] for note in talk.told() if note["kind"] == "prompt"] == ["@say then"]


def test_one_turn_at_a_time(start: Start):
    """The same turn again changes nothing; another one is refused until it is over."""
    talk = start()
    talk.prompt("@await go\n@say gone", "first")
    assert talk.prompt("@await go\n@say gone", "first") == []
    with pytest.raises(TurnRunning):
        talk.prompt("@say no", "second")
    talk.until(SessionBegun)
    with pytest.raises(TurnRunning):
        talk.prompt("@say no", "second")
    (talk.cwd / "go").touch()
    talk.until(TurnOver)
    prompts = [note for note in talk.told() if note["kind"] == "prompt"]
    assert len(prompts) == 1


@pytest.mark.parametrize(
    ("cannot", "method", "resumed"),
    [
        ("none", "session/resume", True),
        ("resume", "session/load", True),
        ("resume,load", "session/new", False),
    ],
)
def test_a_session_is_taken_up_again(
    start: Start, tmp_path: Path, cannot: str, method: str, resumed: bool
):
    """By resume, else by load, whose replayed history is not ours; else anew, and said so."""
    sessions = ("--sessions", str(tmp_path / "sessions"))
    first = start(*sessions)
    first.turn("@say Remember this")
    session_id = first.of(SessionBegun)[0].agent_session_id
    first.__exit__(None, None, None)
    again = start(*sessions, "--cannot", cannot, agent_session_id=session_id)
    begun = again.until(SessionBegun)
    assert begun.resumed is resumed
    assert (begun.agent_session_id == session_id) is resumed
    assert again.messages() == []
    again.turn("@recall", "second")
    remembered = '["@say Remember this"]' if resumed else "[]"
    assert again.contents("assistant") == [f"Before this I was told: {remembered}"]
    assert method in [note.get("method") for note in again.told() if note["kind"] == "called"]


def test_a_session_that_is_gone_begins_anew(start: Start, tmp_path: Path):
    """An agent that has lost the session gets a new one by itself, and says that it is new."""
    talk = start("--sessions", str(tmp_path / "empty"), agent_session_id="lost")
    begun = talk.until(SessionBegun)
    assert not begun.resumed
    assert begun.agent_session_id != "lost"
    called = [note["method"] for note in talk.told() if note["kind"] == "called"]
    assert called[-3:] == ["session/resume", "session/load", "session/new"]
    assert talk.turn("@say hi").stop_reason == "end_turn"


def test_a_session_is_forked(start: Start, tmp_path: Path):
    """A fork is a session of its own that knows what was said in the one it came from."""
    sessions = ("--sessions", str(tmp_path / "sessions"))
    first = start(*sessions)
    first.turn("@say Remember this")
    session_id = first.of(SessionBegun)[0].agent_session_id
    fork = start(*sessions, agent_session_id=session_id, fork=True)
    begun = fork.until(SessionBegun)
    assert begun.resumed
    assert begun.agent_session_id != session_id
    fork.turn("@recall")
    assert '"@say Remember this"' in fork.contents("assistant")[0]


def test_mode_and_model_are_set_before_the_prompt(start: Start):
    """What is offered is set, by id or by name; what is not is told, and the turn goes on."""
    talk = start(mode="Plan", model="large")
    talk.turn("@say hi")
    called = [note.get("method", note["kind"]) for note in talk.told()]
    assert called.index("session/set_mode") < called.index("prompt")
    assert called.index("session/set_config_option") < called.index("prompt")
    assert talk.contents("system") == []
    other = start(model="enormous")
    other.turn("@say hi")
    assert other.contents("system") == [
        "The agent offers no model 'enormous'; it goes on with its own. It has: small, large."
    ]


def test_mcp_servers_are_handed_over(start: Start):
    """Programs and addresses reach the agent as the schema wants them."""
    servers = [
        McpServer(name="skep", command=["node-agent", "mcp"], environment={"A": "b"}),
        McpServer(name="far", url="http://localhost:1/mcp", headers={"Authorization": "x"}),
    ]
    talk = start(mcp_servers=servers)
    talk.until(SessionBegun)
    assert talk.judge is not None
    assert "session/new" in talk.judge.judged


def test_images_are_sent_where_they_are_taken(start: Start):
    """An agent that takes no images is not given any, and people are told."""
    picture = ("image/png", "iVBORw0KGgo=")
    talk = start()
    talk.turn("@say hi", images=[picture])
    assert talk.contents("system") == []
    blind = start("--cannot", "images")
    blind.turn("@say hi", images=[picture])
    assert len(blind.contents("system")) == 1


def test_steering(start: Start):
    """A text is taken into the running turn; without a turn, or by another agent, it is not."""
    talk = start()
    talk.prompt("@say I listen\n@hear")
    talk.until(TextGrew)
    talk.put(lambda machine: machine.steer("to the left", "s1"))
    assert talk.until(Steered) == Steered(key="s1", taken=True)
    talk.until(TurnOver)
    assert talk.contents("assistant")[-1].endswith("I heard: to the left")
    refused = talk.put(lambda machine: machine.steer("too late", "s2"))
    assert refused == [Steered(key="s2", taken=False, message="no turn runs")]
    other = start("--cannot", "steer")
    other.prompt("@say I work\n@silence")
    other.until(TextGrew)
    (refusal,) = other.put(lambda machine: machine.steer("hello", "s3"))
    assert isinstance(refusal, Steered)
    assert not refusal.taken


def test_what_was_being_said_when_it_was_steered():
    """It stands before what was said into it; what follows is another text."""
    machine = AgentMachine(MachineState(phase=Phase.READY, agent_session_id="s"))
    machine.state.abilities.names = ["steer"]
    machine.prompt(Prompt(turn_id="t", text="go"))
    (steer,) = machine.steer("to the left", "s1").lines
    answer = {"id": json.loads(steer)["id"], "result": {"outcome": "injected"}}
    content = {"type": "text", "text": "I go on"}
    update = {"sessionUpdate": "agent_message_chunk", "content": content}
    chunk = {"method": "session/update", "params": {"update": update}}
    facts = [
        fact for frame in (chunk, answer, chunk)
        for fact in machine.receive(json.dumps(frame).encode()).facts
    ]  # fmt: skip
    assert [type(fact) for fact in facts] == [TextGrew, MessageMade, Steered, TextGrew]
    assert isinstance(facts[0], TextGrew)
    assert isinstance(facts[3], TextGrew)
    assert facts[0].key != facts[3].key


def test_an_end_before_it_says_whether_it_was_steered(start: Start):
    """Then nobody knows: it is neither taken nor left out."""
    talk = start()
    talk.prompt("@say I work\n@silence")
    talk.until(TextGrew)
    talk.put(lambda machine: machine.steer("to the left", "s1"))
    facts = talk.put(lambda machine: machine.finish("it fell"))
    assert Steered(key="s1", taken=None, message="it fell") in facts


def test_an_agent_that_does_not_say_that_it_is_set_up():
    """It gets its prompt once it is waited for no longer; of its settings people are told."""
    machine = AgentMachine()
    machine.begin(Opening(cwd="/w", agent_session_id="s", mode="plan"))
    machine.prompt(Prompt(turn_id="t", text="go"))
    assert machine.settle() == Step()
    can = {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}}
    machine.receive(json.dumps({"id": 0, "result": can}).encode())
    assert not machine.is_setting
    modes = {"modes": {"availableModes": [{"id": "plan"}]}}
    machine.receive(json.dumps({"id": 1, "result": modes}).encode())
    assert machine.is_setting
    step = machine.settle()
    (told,) = step.facts
    assert isinstance(told, MessageMade)
    assert told.content == "The agent did not say whether it took the mode plan."
    (prompt,) = step.lines
    assert json.loads(prompt)["method"] == "session/prompt"
    assert machine.settle() == Step()
    assert machine.receive(b'{"id":2,"error":{"code":1,"message":"late"}}') == Step()


def test_login_is_asked_for(start: Start):
    """Without a login nothing can be done: the turn and the agent fail, with the agent's hint."""
    talk = start("--login")
    talk.prompt("@say hi")
    failed = talk.until(AgentFailed)
    assert failed.code == "auth_required"
    assert failed.hint == "The word: run it without --login"
    assert [(over.turn_id, over.error_code) for over in talk.of(TurnOver)] == [
        ("turn", "auth_required")
    ]


def test_a_named_login_is_used(start: Start):
    """Where a method is named, the agent is logged in by it and the session opens."""
    talk = start("--login", auth_method="word")
    assert talk.turn("@say hi").stop_reason == "end_turn"
    wrong = start("--login", auth_method="other")
    assert wrong.until(AgentFailed).code == "auth_required"


@pytest.mark.parametrize(
    ("line", "code", "reset_at_ms"),
    [
        ("@limit 1900000000", "usage_limit", 1_900_000_000_000),
        ("@limit", "usage_limit", None),
        ("@error -32000 Please log in", "auth_required", None),
        ("@error -32603 It broke", "agent", None),
    ],
)
def test_a_turn_that_fails_says_why(start: Start, line: str, code: str, reset_at_ms: int | None):
    """The code, the reset time where there is one; and the agent can still be spoken to."""
    talk = start()
    over = talk.turn(line)
    assert (over.stop_reason, over.error_code, over.reset_at_ms) == ("error", code, reset_at_ms)
    assert over.message
    assert talk.turn("@say on", "second").stop_reason == "end_turn"


def test_the_reason_of_an_end_is_passed_on(start: Start):
    """What the agent says of its turn's end is what is told."""
    talk = start()
    assert talk.turn("@stop max_tokens").stop_reason == "max_tokens"
    assert talk.turn("@stop refusal", "second").stop_reason == "refusal"


def test_a_crash_within_a_tool_call(start: Start):
    """Turn and tool call are over, the message before it is kept; nothing more is expected."""
    talk = start()
    talk.prompt("@say Before\n@crash")
    over = talk.until(TurnOver)
    assert (over.stop_reason, over.error_code) == ("error", "agent")
    assert talk.contents("assistant") == ["Before"]
    assert [message.tool.status for message in talk.messages() if message.tool] == ["cancelled"]
    assert talk.hear() == []
    (again,) = talk.prompt("@say no", "second")
    assert isinstance(again, TurnOver)
    assert again.error_code == "agent"


def test_lines_that_are_no_messages(start: Start):
    """They are left to the log: what a tool prints beside the protocol ends no turn."""
    talk = start(judged=False)
    talk.turn(f"@garbage {2 * UNREADABLE_LINES_MAX}\n@raw\n@say fine")
    assert talk.contents("assistant") == ["fine"]
    assert talk.of(AgentFailed) == []


def test_a_program_that_is_no_agent():
    """Nothing but other lines, before a single word of the protocol, ends it."""
    machine = AgentMachine()
    machine.begin(Opening(cwd="/w"))
    machine.prompt(Prompt(turn_id="turn", text="hello"))
    for _ in range(UNREADABLE_LINES_MAX - 1):
        assert machine.receive(b"usage: frobnicate [OPTION]").facts == []
    over, failed = machine.receive(b"usage: frobnicate [OPTION]").facts
    message = "what it prints is not the Agent Client Protocol"
    assert failed == AgentFailed(code="protocol", message=message)
    assert over == TurnOver(
        turn_id="turn", stop_reason="error", error_code="protocol", message=message
    )


def test_what_nobody_knows(start: Start):
    """Unknown updates and notifications pass; an unknown request is refused as such."""
    talk = start(judged=False)
    assert talk.turn("@unknown").stop_reason == "end_turn"
    assert talk.contents("assistant") == ["It was refused with -32601"]


OURS = '{"jsonrpc":"2.0","method":"session/update","params":'
ODD_LINES = {
    "an answer to nothing": '{"jsonrpc":"2.0","id":77,"result":{"stopReason":"end_turn"}}',
    "an answer given before": '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":1}}',
    "an answer to no id": '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}',
    "an id that is a text": '{"jsonrpc":"2.0","id":"2","result":{"stopReason":"end_turn"}}',
    "an id that is half a number": '{"jsonrpc":"2.0","id":2.5,"result":[1,2]}',
    "a list of parameters": OURS + "[1,2]}",
    "an update that is none": OURS + '{"update":"x"}}',
    "another session": OURS + '{"sessionId":"x","update":{"sessionUpdate":"agent_message_chunk",'
    '"content":{"type":"text","text":"not ours"}}}}',
    "an echo": OURS + '{"update":{"sessionUpdate":"user_message_chunk",'
    '"content":{"type":"text","text":"an echo"}}}}',
    "a tool call without an id": OURS + '{"update":{"sessionUpdate":"tool_call_update",'
    '"content":[1,null,{"type":"diff"}],"locations":{}}}}',
    "a list": '[{"jsonrpc":"2.0"}]',
    "a number": "42",
    "nothing": "null",
    "a text": '"text"',
    "an empty object": "{}",
    "too deep": "[" * 5000,
    "a method that is a number": '{"jsonrpc":"2.0","id":1,"method":5}',
}


@pytest.mark.parametrize("line", ODD_LINES.values(), ids=ODD_LINES)
def test_an_odd_line_changes_nothing(start: Start, line: str):
    """Answers to nothing, answers given twice, and half-known messages: the turn goes on."""
    talk = start(judged=False)
    talk.turn(f"@raw {line}\n@say fine")
    assert talk.contents("assistant") == ["fine"]
    assert talk.of(AgentFailed) == []


@pytest.mark.parametrize("rpc_id", ["7", "-1", '"seven"', "null", "1e3", str(2**70)])
def test_any_request_id_is_answered_as_it_came(start: Start, rpc_id: str):
    """The agent's ids are its own: text, number, none, or larger than ours."""
    talk = start(judged=False)
    asked = (
        f'{{"jsonrpc":"2.0","id":{rpc_id},"method":"session/request_permission","params":'
        '{"toolCall":{"toolCallId":"x"},"options":[{"optionId":"o","name":"O"}]}}'
    )
    talk.prompt(f"@raw {asked}\n@raw {asked}\n@say asked twice\n@await go")
    request = talk.until(RequestMade)
    talk.until(TextGrew)
    lines: list[str] = []

    def reply(machine: AgentMachine) -> Step:
        step = machine.reply(request.key, Reply(option="o"))
        lines.extend(line.decode() for line in step.lines)
        return step

    talk.put(reply)
    assert lines == [
        (
            f'{{"jsonrpc":"2.0","id":{rpc_id},"result":'
            '{"outcome":{"outcome":"selected","optionId":"o"}}}'
        )
    ]
    (talk.cwd / "go").touch()
    talk.until(TurnOver)
    assert len(talk.of(RequestMade)) == 1


def test_a_message_of_several_megabytes(start: Start):
    """It is cut to what an op holds, says so, and the state stays small."""
    talk = start()
    assert talk.turn("@huge 5000000\n@say after").stop_reason == "end_turn"
    (message,) = [one for one in talk.messages() if one.role == "assistant"]
    assert message.truncated
    assert len(message.content.encode()) <= TEXT_BYTES_MAX
    assert sum(len(grew.text) for grew in talk.of(TextGrew)) <= TEXT_BYTES_MAX


def test_half_a_character_is_no_end(start: Start):
    """A surrogate cut from its pair costs that character, not the message."""
    talk = start(judged=False)
    chunk = (
        '{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":'
        '"agent_message_chunk","content":{"type":"text","text":"a\\ud83d"}}}}'
    )
    talk.turn(f"@raw {chunk}\n@say b")
    assert talk.contents("assistant") == ["a\N{REPLACEMENT CHARACTER}b"]


def test_another_version_of_the_protocol(start: Start):
    """It is not guessed at: the agent is given up, with what to do."""
    talk = start("--protocol-version", "2", judged=False)
    failed = talk.until(AgentFailed)
    assert failed.code == "protocol"
    assert "version 2" in failed.message


def test_an_agent_that_withdraws_its_request(start: Start):
    """What the agent cancels is answered as cancelled, and withdrawn from people."""
    talk = start(judged=False)
    asked = (
        '{"jsonrpc":"2.0","id":"p","method":"session/request_permission","params":'
        '{"toolCall":{"toolCallId":"x"},"options":[{"optionId":"o","name":"O"}]}}'
    )
    cancel = '{"jsonrpc":"2.0","method":"$/cancel_request","params":{"requestId":"p"}}'
    talk.prompt(f"@raw {asked}\n@raw {cancel}\n@say on")
    request = talk.until(RequestMade)
    assert talk.until(RequestWithdrawn).key == request.key
    talk.until(TurnOver)


def test_everything_the_scripted_agent_says_is_valid(start: Start, tmp_path: Path):
    """Each kind of message of both ends was seen by the schema's own judge."""
    sessions = ("--sessions", str(tmp_path / "sessions"))
    talk = start(*sessions, "--login", auth_method="word", mode="plan", model="large")
    talk.prompt("Please look around")
    talk.reply(talk.until(RequestMade).key, option="allow")
    talk.until(TurnOver)
    assert "Asked of the scripted agent" in (talk.cwd / "SKEP-NOTES.md").read_text()
    talk.prompt('@form {"type":"object","properties":{"n":{"type":"integer"}}}\n@silence', "2")
    talk.reply(talk.until(RequestMade).key, text="4")
    talk.until(TextGrew)
    talk.interrupt()
    talk.until(TurnOver)
    talk.turn("@error -32603 no", "3")
    talk.prompt("@open https://forge.example/login Log in", "4")
    talk.reply(talk.until(RequestMade).key, option="opened")
    talk.until(TurnOver)
    session_id = talk.of(SessionBegun)[0].agent_session_id
    judged: set[str] = set()
    for options, opening in [((), {}), (("--cannot", "resume"), {}), ((), {"fork": True})]:
        other = start(*sessions, *options, agent_session_id=session_id, **opening)
        other.until(SessionBegun)
        assert other.judge is not None
        judged |= other.judge.judged
    assert talk.judge is not None
    judged |= talk.judge.judged
    methods = [
        "initialize", "authenticate", "session/new", "session/load", "session/resume",
        "session/fork", "session/set_mode", "session/set_config_option", "session/prompt",
        "session/request_permission", "elicitation/create",
    ]  # fmt: skip
    answered = {f"{method} answered" for method in methods}
    notices = {"session/cancel", "session/update", "elicitation/complete"}
    assert judged == {*methods, *answered, *notices, "error"}


def test_finish_is_heard_once(start: Start):
    """The end of a process that was at rest makes no turn of it."""
    talk = start()
    talk.turn("@say hi")
    assert talk.put(lambda machine: machine.finish()) == []
    assert talk.put(lambda machine: machine.finish()) == []
    (over,) = talk.prompt("@say more", "second")
    assert isinstance(over, TurnOver)
    assert isinstance(talk.messages()[0], MessageMade)


def spoken(*messages: dict[str, Any], **opening: Any) -> tuple[AgentMachine, Step]:
    """A machine that was told these, and its last step."""
    machine = AgentMachine()
    step = machine.begin(Opening(cwd="/w", **opening))
    for message in messages:
        step = machine.receive(json.dumps(message).encode())
    return machine, step


CAN_LOAD = {"id": 0, "result": {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}}}


def chunk(text: str) -> dict[str, Any]:
    """A piece of a text of the agent."""
    content = {"type": "text", "text": text}
    update = {"sessionUpdate": "agent_message_chunk", "content": content}
    return {"method": "session/update", "params": {"update": update}}


@pytest.mark.parametrize("answer", [{"result": {}}, {"error": {"code": -32601, "message": "?"}}])
def test_history_that_is_replayed_behind_its_answer(answer: dict[str, Any]):
    """It is no message of ours, and the prompt waits until it is over, whatever the agent knows."""
    machine, step = spoken(
        CAN_LOAD, chunk("said before"), {"id": 1, "result": {}}, agent_session_id="s"
    )
    (ping,) = (json.loads(line) for line in step.lines)
    assert machine.prompt(Prompt(turn_id="turn", text="go on")).lines == []
    assert machine.receive(json.dumps(chunk("said before, too")).encode()).facts == []
    step = machine.receive(json.dumps({"id": ping["id"], **answer}).encode())
    assert [json.loads(line)["method"] for line in step.lines] == ["session/prompt"]
    step = machine.receive(json.dumps(chunk("new")).encode())
    assert [fact.text for fact in step.facts if isinstance(fact, TextGrew)] == ["new"]


def test_a_setting_ends_what_is_replayed_too():
    """Its answer comes behind the history, as any other; nothing more is asked."""
    modes = {"currentModeId": "a", "availableModes": [{"id": "plan", "name": "Plan"}]}
    machine, step = spoken(
        CAN_LOAD, {"id": 1, "result": {"modes": modes}}, agent_session_id="s", mode="plan"
    )
    assert [json.loads(line)["method"] for line in step.lines] == ["session/set_mode"]
    assert machine.receive(json.dumps(chunk("said before")).encode()).facts == []


def test_a_session_id_that_cannot_be_kept():
    """It would go with each state of the session, and no op has room for it."""
    opened = {"id": 1, "result": {"sessionId": "s" * 100_000}}
    _, step = spoken({"id": 0, "result": {"protocolVersion": 1}}, opened)
    assert [type(fact) for fact in step.facts] == [AgentFailed]


def test_a_word_of_the_nodes_own():
    """It ends the text before it."""
    machine, _ = spoken(
        {"id": 0, "result": {"protocolVersion": 1}}, {"id": 1, "result": {"sessionId": "s"}}
    )
    machine.receive(json.dumps(chunk("half")).encode())
    half, missing = machine.tell("7 bytes are missing").facts
    assert isinstance(half, MessageMade)
    assert isinstance(missing, MessageMade)
    assert (half.content, missing.role, missing.content) == (
        "half", "system", "7 bytes are missing"
    )  # fmt: skip


def test_an_id_that_is_no_number_of_any_machine():
    """It is as good as any other, and what the agent withdraws by another is not this."""
    machine, _ = spoken(
        {"id": 0, "result": {"protocolVersion": 1}}, {"id": 1, "result": {"sessionId": "s"}}
    )
    options = [{"optionId": "a", "name": "A", "kind": "allow_once"}]
    params = json.dumps({"toolCall": {"toolCallId": "t"}, "options": options})
    asked = f'{{"id":1e999,"method":"session/request_permission","params":{params}}}'
    machine.receive(asked.encode())
    assert len(machine.state.requests) == 1
    withdrawn = '{"method":"$/cancel_request","params":{"requestId":5}}'
    assert machine.receive(withdrawn.encode()) == Step()
