"""A machine made from its state's bytes goes on exactly as the one that it was, and stays small."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from node_agent.acp.machine import AgentMachine, TurnRunning
from node_agent.acp.requests import UnfitReply
from node_agent.acp.state import FORGOTTEN_MAX, MachineState, decode_state, encode_state
from node_agent.acp.steps import MessageMade, Opening, Prompt, Reply, Step, TurnOver
from protocol.limits import OP_BODY_BYTES_MAX

WORDS = st.sampled_from(["a", "", "line\nline", "\u00e9\U0001f600", "x" * 50_000])
IDS = st.sampled_from(["c1", "c2", "c3"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)


def maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these fields, each now and then of another type."""
    odd = {name: st.one_of(value, value, value, ANYTHING) for name, value in fields.items()}
    return st.fixed_dictionaries({}, optional=odd)


CONTENT = maybe(
    type=st.sampled_from(["text", "image", "resource_link"]), text=WORDS, uri=WORDS, name=WORDS
)
PARTS = st.lists(
    maybe(
        type=st.sampled_from(["content", "diff", "terminal"]),
        content=CONTENT,
        path=WORDS,
        oldText=WORDS,
        newText=WORDS,
    ),
    max_size=3,
)
CALL = maybe(
    toolCallId=IDS,
    title=WORDS,
    kind=st.sampled_from(["edit", "read", "none"]),
    status=st.sampled_from(["pending", "in_progress", "completed", "failed"]),
    content=PARTS,
    rawInput=ANYTHING,
    rawOutput=ANYTHING,
    locations=st.lists(maybe(path=WORDS, line=st.integers()), max_size=3),
)
UPDATE = st.one_of(
    st.tuples(
        st.sampled_from(["agent_message_chunk", "agent_thought_chunk", "user_message_chunk"]),
        maybe(content=CONTENT, messageId=IDS),
    ),
    st.tuples(st.sampled_from(["tool_call", "tool_call_update"]), CALL),
    st.tuples(
        st.just("plan"),
        maybe(entries=st.lists(maybe(content=WORDS, status=WORDS, priority=WORDS), max_size=3)),
    ),
    st.tuples(
        st.just("usage_update"),
        maybe(used=st.integers(), size=st.integers(), cost=maybe(amount=st.floats())),
    ),
).map(lambda pair: {**pair[1], "sessionUpdate": pair[0]})
OPTIONS = st.lists(maybe(optionId=IDS, name=WORDS, kind=WORDS), max_size=3)
FORM = maybe(
    properties=st.dictionaries(
        IDS, maybe(type=st.sampled_from(["string", "boolean", "integer"]), enum=ANYTHING)
    )
)
MESSAGE = st.one_of(
    UPDATE.map(lambda one: {"method": "session/update", "params": {"update": one}}),
    UPDATE.map(lambda one: {"method": "session/update", "params": {"update": one}}),
    st.builds(
        lambda rpc_id, params: {"id": rpc_id, "method": "session/request_permission", **params},
        st.integers() | IDS | st.none(),
        st.fixed_dictionaries({"params": maybe(toolCall=CALL, options=OPTIONS)}),
    ),
    st.builds(
        lambda rpc_id, params: {"id": rpc_id, "method": "elicitation/create", "params": params},
        st.integers() | IDS,
        maybe(message=WORDS, mode=st.just("form"), requestedSchema=FORM),
    ),
    st.builds(
        lambda rpc_id: {"method": "$/cancel_request", "params": {"requestId": rpc_id}},
        st.integers() | IDS,
    ),
    st.builds(
        lambda rpc_id, said: {"id": rpc_id, **said},
        st.integers(0, 8),
        st.sampled_from(
            [
                {"result": {"stopReason": "end_turn"}},
                {"result": {"sessionId": "s", "protocolVersion": 1}},
                {"error": {"code": -32603, "message": "usage limit reached"}},
                {"error": {"code": -32000, "message": "log in"}},
                {"result": {}},
            ]
        ),
    ),
)
WISHES = st.one_of(
    MESSAGE.map(lambda message: ("receive", json.dumps(message).encode())),
    MESSAGE.map(lambda message: ("receive", json.dumps(message).encode())),
    st.just(("receive", b"no message")),
    st.sampled_from(["t1", "t2", "t3"]).map(lambda turn: ("prompt", turn)),
    st.tuples(st.integers(1, 9), st.sampled_from(["c1", "c2", "yes", "decline"])).map(
        lambda pair: ("reply", pair)
    ),
    st.just(("interrupt", None)),
    st.just(("steer", None)),
)


def put(machine: AgentMachine, wish: tuple[str, Any]) -> Step | str:
    """Give a machine one input; a refusal is told by its name."""
    kind, what = wish
    try:
        match kind:
            case "receive":
                return machine.receive(what)
            case "prompt":
                return machine.prompt(Prompt(turn_id=what, text="do it"))
            case "reply":
                return machine.reply(f"r{what[0]}", Reply(option=what[1]))
            case "interrupt":
                return machine.interrupt()
            case _:
                return machine.steer("left", "k")
    except (TurnRunning, UnfitReply) as refused:
        return repr(refused)


def opened() -> AgentMachine:
    """A machine whose session is there."""
    machine = AgentMachine()
    machine.begin(Opening(cwd="/w"))
    initialized = {"protocolVersion": 1, "_meta": {"steering": {"supported": True}}}
    machine.receive(json.dumps({"id": 0, "result": initialized}).encode())
    machine.receive(b'{"id":1,"result":{"sessionId":"s"}}')
    return machine


@given(st.booleans(), st.lists(WISHES, max_size=30))
def test_nothing_follows_otherwise_after_a_restart(ready: bool, wishes: list[tuple[str, Any]]):
    """Encoding and decoding between any two inputs changes neither facts nor lines."""
    lasting = opened() if ready else AgentMachine()
    if not ready:
        lasting.begin(Opening(cwd="/w", agent_session_id="s", model="m"))
    encoded = encode_state(lasting.state)
    keys: dict[str, str] = {}
    ended: list[str] = []
    for wish in wishes:
        restarted = AgentMachine(decode_state(encoded))
        step = put(lasting, wish)
        assert put(restarted, wish) == step
        encoded = encode_state(restarted.state)
        assert encoded == encode_state(lasting.state)
        if isinstance(step, str):
            continue
        for fact in step.facts:
            assert len(encode_fact(fact)) < OP_BODY_BYTES_MAX
            if isinstance(fact, MessageMade):
                assert keys.setdefault(fact.key, fact.role) == fact.role
            if isinstance(fact, TurnOver):
                ended.append(fact.turn_id)
        assert not any(b"\n" in line for line in step.lines)
    assert len(encoded) < 600_000
    last = restart(encoded).finish()
    ended += [fact.turn_id for fact in last.facts if isinstance(fact, TurnOver)]
    begun = [what for kind, what in wishes if kind == "prompt"]
    assert set(ended) <= set(begun)


def encode_fact(fact: object) -> bytes:
    """A fact as large as it is in an op, about."""
    import msgspec

    return msgspec.msgpack.encode(fact)


def restart(encoded: bytes) -> AgentMachine:
    """The machine of a state."""
    return AgentMachine(decode_state(encoded))


def test_the_state_stays_small_whatever_comes():
    """A thousand tool calls with large outputs, and texts without end, do not add up."""
    machine = opened()
    machine.prompt(Prompt(turn_id="t", text="go"))
    for number in range(1000):
        for status in ("in_progress", "completed"):
            update = {
                "sessionUpdate": "tool_call_update",
                "toolCallId": f"c{number}",
                "status": status,
                "rawOutput": "x" * 20_000,
            }
            message = {"method": "session/update", "params": {"update": update}}
            machine.receive(json.dumps(message).encode())
    assert len(encode_state(machine.state)) < 400_000
    assert len(machine.state.forgotten) == FORGOTTEN_MAX
    late = {"sessionUpdate": "tool_call_update", "toolCallId": "c900", "title": "late"}
    message = {"method": "session/update", "params": {"update": late}}
    assert machine.receive(json.dumps(message).encode()).facts == []


def test_a_fresh_state_is_nothing_yet():
    """It decodes to what it was, and a machine of it begins."""
    state = decode_state(encode_state(MachineState()))
    assert state == MachineState()
    assert len(AgentMachine(state).begin(Opening(cwd="/w")).lines) == 1
