"""Answers against their requests: exactly one, and one that the request takes."""

from typing import Any

import pytest

from node_agent.sessions.request_answers import NoAnswer, check_answer, takes
from protocol.conversation import AgentRequest, Answer, RequestKind, RequestOption
from protocol.errors import OperationError

FORM = {"type": "object", "properties": {"n": {"type": "integer"}}}
SHARE = {"properties": {"n": {"type": "number"}}}
RATIO = {"type": "object", "properties": {"ratio": {"type": "number"}}}
SHORT = {"properties": {"n": {"type": "string", "maxLength": 5}}}
OWN = {"properties": {"q": {"enum": ["a", "b"]}, "q_custom": {"type": "string"}}, "required": ["q"]}


def request(**fields: Any) -> AgentRequest:
    """A request with two options, unless told otherwise."""
    options = [RequestOption(id="a", name="Left"), RequestOption(id="b", name="Right")]
    wanted = {"options": options, "kind": RequestKind.QUESTION, "title": "Which?"}
    return AgentRequest(id="r", attempt_id="t", **(wanted | fields))


@pytest.mark.parametrize(
    ("asked", "given", "field"),
    [
        (request(), Answer(), "option"),
        (request(free_text=True), Answer(option="a", text="x"), "text"),
        (request(), Answer(option="c"), "option"),
        (request(), Answer(option="Left"), "option"),
        (request(), Answer(text="left"), "text"),
        (request(free_text=True), Answer(text=" \n"), "text"),
        (request(free_text=True), Answer(text="ä" * 9000), "text"),
        (request(), Answer(form={}), "form"),
        (request(form=FORM), Answer(form={"n": "x"}), "form.n"),
        (request(form=FORM, free_text=True), Answer(text="about five"), "text"),
        (request(form=FORM), Answer(form={"n": 10**30}), "form"),
        (request(form=FORM, free_text=True), Answer(text="9" * 30), "text"),
        (request(form=SHARE, free_text=True), Answer(text="nan"), "text"),
        (request(form=SHARE, free_text=True), Answer(text="inf"), "text"),
        (request(form=SHORT, free_text=True), Answer(text="abcdef"), "form.n"),
        (request(form=RATIO, free_text=True), Answer(text="nan"), "text"),
        (request(form=FORM, free_text=True), Answer(text="9" * 40), "text"),
        (request(form={}), Answer(form={"a": "x" * 20_000}), "form"),
    ],
)
def test_no_answer_names_the_field(asked: AgentRequest, given: Answer, field: str):
    """What is wrong, where, and what would do."""
    with pytest.raises(OperationError) as wrong:
        check_answer(asked, given)
    assert wrong.value.details["field"] == field
    if isinstance(wrong.value, NoAnswer):
        assert takes(asked) in wrong.value.hint
        assert wrong.value.details["options"][0] == {"id": "a", "name": "Left"}


def test_answers_that_are_taken():
    """An option by its id, a text where one's own words will do, a form that fits."""
    check_answer(request(), Answer(option="b"))
    check_answer(request(free_text=True), Answer(text="neither"))
    check_answer(request(form=FORM), Answer(form={"n": 3}))
    check_answer(request(form=FORM, free_text=True), Answer(text=" 5 "))
    check_answer(request(form=OWN, free_text=True), Answer(text="neither of them"))
    assert takes(request(options=[])) == "no answer"
