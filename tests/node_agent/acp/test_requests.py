"""Questions as people see them, and answers as agents understand them."""

from typing import Any

import msgspec
import pytest

from node_agent.acp.requests import (
    UnfitReply,
    answer_for,
    ask_permission,
    ask_question,
    cancelled_answer,
    content_of,
)
from node_agent.acp.state import MachineState
from node_agent.acp.steps import Reply, RequestMade
from node_agent.acp.updates import apply_update
from protocol.limits import OP_BODY_BYTES_MAX

OPTIONS = [
    {"optionId": "a", "name": "Yes", "kind": "allow_once"},
    {"optionId": "b", "name": "No", "kind": "reject_once"},
    {"optionId": "c", "name": "No", "kind": "odd"},
    {"name": "without an id"},
    7,
]


def asked(state: MachineState, form: dict[str, Any]) -> RequestMade:
    """The request that a form becomes."""
    params = {"message": "What?\nSay it.", "requestedSchema": form}
    made = ask_question(state, "1", params).facts[-1]
    assert isinstance(made, RequestMade)
    return made


def answered(form: dict[str, Any], /, **reply: Any) -> dict[str, Any]:
    """What the agent is told when its form is answered so."""
    state = MachineState()
    made = asked(state, form)
    return answer_for(state.requests[made.key], Reply(**reply))


def permission() -> tuple[MachineState, RequestMade]:
    """A permission that was asked for."""
    state = MachineState()
    params = {"toolCall": {"toolCallId": "t", "title": "Do it"}, "options": OPTIONS}
    made = ask_permission(state, '"p"', params).facts[-1]
    assert isinstance(made, RequestMade)
    return state, made


def test_the_options_of_a_permission():
    """Those that can be answered with, under the agent's own ids."""
    _, made = permission()
    assert [(option.id, option.name, option.kind) for option in made.options] == [
        ("a", "Yes", "allow_once"),
        ("b", "No", "reject_once"),
        ("c", "No", ""),
    ]
    assert made.title == "Do it"


@pytest.mark.parametrize(
    ("reply", "chosen"),
    [
        ({"option": "a"}, "a"),
        ({"option": "YES"}, "a"),
        ({"text": " yes "}, "a"),
        ({"option": "no"}, None),
        ({"text": "whatever"}, None),
        ({"form": {}}, None),
        ({}, None),
    ],
)
def test_a_permission_takes_one_of_its_options(reply: dict[str, Any], chosen: str | None):
    """By its id, or by its name where that means one; nothing else is guessed to be one."""
    state, made = permission()
    request = state.requests[made.key]
    if chosen is None:
        with pytest.raises(UnfitReply):
            answer_for(request, Reply(**reply))
    else:
        outcome = {"outcome": "selected", "optionId": chosen}
        assert answer_for(request, Reply(**reply)) == {"outcome": outcome}


def test_nobody_answers():
    """Each kind of request has its own word for that."""
    state, made = permission()
    cancelled = {"outcome": {"outcome": "cancelled"}}
    assert answer_for(state.requests[made.key], Reply(cancelled=True)) == cancelled
    form = asked(state, {})
    assert cancelled_answer(state.requests[form.key]) == {"action": "cancel"}


def field(**schema: Any) -> dict[str, Any]:
    """A form of one field."""
    return {"type": "object", "properties": {"f": schema}}


@pytest.mark.parametrize(
    ("form", "reply", "content"),
    [
        (field(type="string"), {"text": "x"}, {"f": "x"}),
        (field(type="string", enum=["x", "y"]), {"text": "X"}, {"f": "x"}),
        (field(type="boolean"), {"option": "yes"}, {"f": True}),
        (field(type="boolean"), {"text": "off"}, {"f": False}),
        (field(type="integer"), {"text": "7"}, {"f": 7}),
        (field(type="number"), {"text": "7.5"}, {"f": 7.5}),
        (field(type="array", items={"anyOf": [{"const": "x"}]}), {"option": "x"}, {"f": ["x"]}),
        (field(type="integer"), {"form": {"f": 8}}, {"f": 8}),
    ],
)
def test_a_form_of_one_field(form: dict[str, Any], reply: dict[str, Any], content: dict[str, Any]):
    """An option or a text fills it, in the field's own type; a form goes as it is."""
    assert answered(form, **reply) == {"action": "accept", "content": content}


def test_own_words_go_to_the_field_for_them():
    """Where an agent has one beside the choice, as Claude does."""
    form = {
        "properties": {
            "question_0": {"type": "string", "oneOf": [{"const": "Red"}]},
            "question_0_custom": {"type": "string"},
        }
    }
    content = {"question_0_custom": "Green"}
    assert answered(form, text="Green") == {"action": "accept", "content": content}
    assert answered(form, text="red")["content"] == {"question_0": "Red"}


@pytest.mark.parametrize(
    ("form", "reply"),
    [
        (field(type="integer"), {"text": "many"}),
        (field(type="boolean"), {"text": "perhaps"}),
        (field(type="string", enum=["x"]), {"text": "z"}),
        (field(type="string", enum=["x"]), {"option": "z"}),
        ({"properties": {"f": {}, "g": {}}}, {"text": "x"}),
    ],
)
def test_an_answer_that_does_not_fit(form: dict[str, Any], reply: dict[str, Any]):
    """It is refused, so that the request stays open for one that does."""
    with pytest.raises(UnfitReply):
        answered(form, **reply)


def test_every_form_can_be_declined():
    """The agent goes on without an answer; it is told so, not given one."""
    two = {"properties": {"f": {}, "g": {}}}
    for form in ({}, two, field(type="string")):
        assert answered(form, option="decline") == {"action": "decline"}


def test_what_cannot_be_asked_is_refused():
    """The agent is told so at once, and nobody is asked."""
    state = MachineState()
    params = {"requestedSchema": {"properties": {"f": {"description": "x" * 100_000}}}}
    refused = ask_question(state, "1", params)
    assert refused.refusal
    assert (refused.facts, state.requests) == ([], {})


def test_options_that_cannot_be_shown_are_refused():
    """None at all, or more than fits: the agent is told so."""
    for options in ([], [{"optionId": "x" * 20_000, "name": "x"}]):
        state = MachineState()
        assert ask_permission(state, "1", {"options": options}).refusal
        assert state.requests == {}


def test_a_large_permission_fits_an_op():
    """However large the tool's input, diff and texts are."""
    import msgspec

    large = "\u00e9" * 100_000
    params = {
        "toolCall": {
            "toolCallId": large,
            "title": large,
            "rawInput": {"command": large},
            "rawOutput": large,
            "locations": [{"path": large}] * 100,
            "content": [{"type": "diff", "path": large, "oldText": large, "newText": large}] * 9,
        },
        "options": [{"optionId": str(number), "name": large} for number in range(15)],
    }
    state = MachineState()
    facts = ask_permission(state, "1", params).facts
    assert facts
    for fact in facts:
        assert len(msgspec.msgpack.encode(fact)) < OP_BODY_BYTES_MAX - 2048


def test_options_that_cannot_be_told_apart_are_refused():
    """The agent hears an id alone: a no under the id of a yes would be one."""
    options = [
        {"optionId": "go", "name": "Yes", "kind": "allow_once"},
        {"optionId": "go", "name": "No", "kind": "reject_once"},
    ]
    params = {"toolCall": {"toolCallId": "t", "title": "Do it"}, "options": options}
    state = MachineState()
    assert ask_permission(state, "1", params).refusal is not None
    assert state.requests == {}


def test_a_permission_says_where_not_all_of_it_is_seen():
    """Also where an earlier word of the tool call was cut: no rule may allow what nobody saw."""
    state = MachineState()
    options = OPTIONS[:2]
    long = {"toolCallId": "t", "rawInput": {"command": "git status " + "x" * 2000 + "; rm -rf /"}}
    for number, call in enumerate((long, {"toolCallId": "t"})):
        params = {"toolCall": call, "options": options}
        made = ask_permission(state, str(number), params).facts[-1]
        assert isinstance(made, RequestMade)
        assert made.unseen
    _, whole = permission()
    assert not whole.unseen


def test_numbers_without_bound_in_a_form():
    """What no op has room for is left out; the question is asked."""
    form = {"properties": {"n": {"type": "integer", "maximum": 10**400, "minimum": -(2**70)}}}
    made = asked(MachineState(), form)
    assert made.form is not None
    assert made.form["properties"]["n"]["maximum"] is None
    assert len(msgspec.msgpack.encode(made)) < OP_BODY_BYTES_MAX


@pytest.mark.parametrize(
    ("form", "text", "content"),
    [
        ({"properties": {"n": {"type": "integer"}}}, "7", {"n": 7}),
        ({"properties": {"n": {"type": "string"}}}, "Decline", None),
        ({"properties": {"n": {"type": "boolean"}}}, "no", {"n": False}),
    ],
)
def test_a_text_as_its_form_has_it(form: dict[str, Any], text: str, content: object):
    """Known before it is taken, so that a person learns of what would not fit."""
    assert content_of(form, text) == content
    with pytest.raises(UnfitReply):
        content_of({"properties": {"n": {"type": "integer"}}}, "seven")


def asked_for(state: MachineState, call: dict[str, Any]) -> RequestMade:
    """The request for permission of a call."""
    params = {"toolCall": {"toolCallId": "c1", **call}, "options": OPTIONS}
    made = ask_permission(state, '"p"', params).facts[-1]
    assert isinstance(made, RequestMade)
    return made


def test_a_permission_for_a_call_whose_id_was_used_before():
    """It shows what is asked for now, and nothing of the call that is over."""
    state = MachineState()
    update = {"sessionUpdate": "tool_call", "toolCallId": "c1", "status": "completed"}
    apply_update(state, {**update, "title": "List", "rawInput": {"command": "ls"}})
    made = asked_for(state, {"title": "rm -rf /"})
    assert made.tool is not None
    assert (made.tool.name, made.tool.target, made.tool.input) == ("rm -rf /", "rm -rf /", "")
    assert made.tool.status == "pending"


def test_a_permission_for_a_call_of_a_turn_before():
    """A person judges it: what was told of the call then may be another's by now."""
    state = MachineState()
    update = {"sessionUpdate": "tool_call", "toolCallId": "c1", "status": "pending"}
    apply_update(state, {**update, "title": "List", "rawInput": {"command": "ls"}})
    assert not asked_for(state, {}).unseen
    state.begin_turn("t2")
    assert asked_for(state, {}).unseen


def test_a_permission_for_a_call_that_was_forgotten():
    """What is asked for is shown all the same."""
    made = asked_for(MachineState(forgotten=["c1"]), {"rawInput": {"command": "ls"}})
    assert made.tool is not None
    assert made.tool.target == "ls"
