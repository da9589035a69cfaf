"""Whether an answer is one that its request takes. Pure."""

from typing import Any

import msgspec

from node_agent.acp.requests import UnfitReply, content_of
from node_agent.request_drafts import ANSWER_BYTES_MAX
from node_agent.sessions.request_forms import check_form
from protocol.conversation import AgentRequest, Answer
from protocol.errors import ErrorCode, OperationError


class NoAnswer(OperationError):  # noqa: N818  named as what is wrong
    """This is no answer to this request; `field` names what is wrong with it."""

    def __init__(self, request: AgentRequest, field: str, message: str) -> None:
        super().__init__(
            ErrorCode.INVALID,
            f"{field}: {message}",
            hint=f"It takes {takes(request)}.",
            field=field,
            options=[{"id": one.id, "name": one.name} for one in request.options],
        )


def takes(request: AgentRequest) -> str:
    """Return in words what a request takes as its answer."""
    ways = []
    if request.options:
        ways.append("an option: " + ", ".join(one.id for one in request.options))
    if request.form is not None:
        ways.append("a filled form")
    if request.free_text:
        ways.append("a text")
    return " or ".join(ways) or "no answer"


def check_answer(request: AgentRequest, given: Answer) -> None:
    """Raise NoAnswer where the request does not take this answer."""
    parts = {"option": given.option, "text": given.text, "form": given.form}
    named = [name for name, value in parts.items() if value is not None]
    if len(named) != 1:
        raise NoAnswer(request, named[1] if named else "option", "give exactly one answer")
    if given.option is not None:
        if given.option not in {one.id for one in request.options}:
            raise NoAnswer(request, "option", f"there is none called {given.option[:80]!r}")
    elif given.text is not None:
        if not request.free_text:
            raise NoAnswer(request, "text", "this is not answered in one's own words")
        if not given.text.strip():
            raise NoAnswer(request, "text", "it is empty")
        if len(given.text.encode("utf-8", "replace")) > ANSWER_BYTES_MAX:
            raise NoAnswer(request, "text", f"it has more than {ANSWER_BYTES_MAX} bytes")
        if request.form is not None:
            _check_text_for_form(request, request.form, given.text)
    else:
        form = given.form or {}
        if request.form is None:
            raise NoAnswer(request, "form", "there is no form to fill")
        try:
            size_bytes = len(msgspec.msgpack.encode(form))
        except OverflowError as error:
            raise NoAnswer(request, "form", "a number in it is too large") from error
        if size_bytes > ANSWER_BYTES_MAX:
            raise NoAnswer(request, "form", f"it has more than {ANSWER_BYTES_MAX} bytes")
        check_form(request.form, form)


def _check_text_for_form(request: AgentRequest, form: dict[str, Any], text: str) -> None:
    """Raise where a text is none that the form's one field takes: its agent would not get it."""
    try:
        content = content_of(form, text)
    except UnfitReply as unfit:
        raise NoAnswer(request, "text", str(unfit)) from unfit
    # What stands beside that field is the agent's to do without.
    check_form({**form, "required": []}, content or {})
