"""What an agent asks of people, as requests; and people's answers, as the agent understands them.

Invents no answer: what a person said goes to the agent as it was meant, or is refused as unfit.
"""

from typing import Any, Final

import msgspec

from node_agent.acp.state import AnswerForm, MachineState, OpenRequest
from node_agent.acp.steps import Fact, MessageMade, Reply, RequestMade
from node_agent.acp.tool_calls import call_id_of
from node_agent.acp.updates import change_call, close_block
from node_agent.acp.wire import mapping_in, mappings_in, text_in
from protocol.conversation import RequestKind, RequestOption, cut_text

#: The option of every form: the question is not answered, and the agent goes on without.
DECLINE: Final = "decline"
#: The option of an address: a person has opened it.
OPENED: Final = "opened"
TITLE_BYTES_MAX: Final = 512
TEXT_BYTES_MAX: Final = 8 * 1024
_OPTIONS_BYTES_MAX: Final = 12 * 1024
_FORM_BYTES_MAX: Final = 32 * 1024
_OPTION_KINDS: Final = frozenset({"allow_once", "allow_always", "reject_once", "reject_always"})
_NUMBER_MAX: Final = 2**63
_NO: Final = frozenset({"no", "false", "off", "0", "n"})
_YES: Final = frozenset({"yes", "true", "on", "1", "y"})


class UnfitReply(ValueError):  # noqa: N818  named as what it is
    """The reply is no answer to this request; the request is as open as it was."""


class Asked(msgspec.Struct, frozen=True):
    """A request that was taken in: the facts, or why it was refused."""

    facts: list[Fact] = []
    refusal: str | None = None


def ask_permission(state: MachineState, rpc_id: str, params: dict[str, Any]) -> Asked:
    """Take in a `session/request_permission`."""
    options = [
        RequestOption(
            id=text_in(one, "optionId"),
            name=cut_text(text_in(one, "name") or text_in(one, "optionId"), TITLE_BYTES_MAX)[0],
            kind=kind if (kind := text_in(one, "kind")) in _OPTION_KINDS else "",
        )
        for one in mappings_in(params, "options")
        if text_in(one, "optionId")
    ]
    if not options:
        return Asked(refusal="a request for permission needs options")
    if len({option.id for option in options}) < len(options):
        # By the id alone the agent could not tell a yes from a no.
        return Asked(refusal="two options have the same id")
    if len(msgspec.msgpack.encode(options)) > _OPTIONS_BYTES_MAX:
        return Asked(refusal="the options are too long")
    call_fields = mapping_in(params, "toolCall")
    call_id = call_id_of(call_fields)
    key = state.take_key("r")
    facts = change_call(state, call_fields, request_key=key)
    facts += close_block(state)
    known = state.calls.get(call_id)
    call = None if known is None else known.call
    title = text_in(call_fields, "title") or ("" if call is None else call.target or call.name)
    state.requests[key] = OpenRequest(
        rpc_id=rpc_id,
        answer=AnswerForm.PERMISSION,
        options=[(option.id, option.name) for option in options],
        call_id=call_id or None,
    )
    made = RequestMade(
        key=key,
        kind=RequestKind.APPROVAL,
        title=cut_text(title or "Permission", TITLE_BYTES_MAX)[0],
        options=options,
        tool=call,
        # What was told of it in a turn before may be another's, where the agent counts anew.
        unseen=known is None or known.unseen or known.turn_no != state.turn_no,
    )
    return Asked(facts=[*facts, made])


def ask_question(state: MachineState, rpc_id: str, params: dict[str, Any]) -> Asked:
    """Take in a form to fill, as the JSON Schema of an object."""
    form = _without_meta(mapping_in(params, "requestedSchema"))
    if len(msgspec.msgpack.encode(form)) > _FORM_BYTES_MAX:
        return Asked(refusal="the form is too long")
    text, truncated = cut_text(text_in(params, "message"), TEXT_BYTES_MAX)
    options, request = _simple_answers(rpc_id, form)
    if len(msgspec.msgpack.encode(options)) > _OPTIONS_BYTES_MAX:
        options = options[-1:]
    facts = close_block(state)
    key = state.take_key("r")
    state.requests[key] = request
    asking = state.calls.get(call_id_of(params))
    title = text_in(form, "title") or next(iter(text.strip().splitlines()), "")
    message = MessageMade(
        key=state.take_key("q"),
        role="question",
        content=text,
        truncated=truncated,
        parent_key=None if asking is None else asking.key,
        request_key=key,
    )
    made = RequestMade(
        key=key,
        kind=RequestKind.QUESTION,
        title=cut_text(title or "Question", TITLE_BYTES_MAX)[0],
        text=text,
        options=options,
        form=form or None,
        free_text=request.text_field is not None,
    )
    return Asked(facts=[*facts, message, made])


def _without_meta(value: Any, depth: int = 0) -> Any:
    """Return a schema without what agents add for their own clients."""
    if depth > 16:
        return None
    if isinstance(value, dict):
        kept = {name: one for name, one in value.items() if name != "_meta"}
        return {name: _without_meta(one, depth + 1) for name, one in kept.items()}
    if isinstance(value, list):
        return [_without_meta(one, depth + 1) for one in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 10**300 else None
    return value


def _simple_answers(rpc_id: str, form: dict[str, Any]) -> tuple[list[RequestOption], OpenRequest]:
    """Return the options of a form that one field answers, and how an answer becomes that field.

    Claude puts each question's own words into a second field beside it, named `..._custom`.
    """
    fields = {
        name: one for name, one in mapping_in(form, "properties").items() if isinstance(one, dict)
    }
    main = [name for name in fields if not name.endswith("_custom")] or list(fields)
    decline = RequestOption(id=DECLINE, name="Decline", kind="reject_once")
    if len(main) != 1:
        return [decline], OpenRequest(
            rpc_id=rpc_id, answer=AnswerForm.ELICITATION, options=[(DECLINE, "Decline")]
        )
    field = fields[main[0]]
    choices = _choices(field)
    field_type = text_in(field, "type") or "string"
    custom = f"{main[0]}_custom"
    text_field = custom if custom in fields else (main[0] if not choices else None)
    options = [RequestOption(id=value, name=name) for value, name in choices] + [decline]
    return options, OpenRequest(
        rpc_id=rpc_id,
        answer=AnswerForm.ELICITATION,
        options=[(option.id, option.name) for option in options],
        field=main[0],
        field_type=field_type,
        text_field=text_field,
    )


def _choices(field: dict[str, Any]) -> list[tuple[str, str]]:
    if text_in(field, "type") == "boolean":
        return [("yes", "Yes"), ("no", "No")]
    holder = mapping_in(field, "items") if text_in(field, "type") == "array" else field
    titled = mappings_in(holder, "oneOf") or mappings_in(holder, "anyOf")
    choices = [
        (text_in(one, "const"), cut_text(text_in(one, "title"), TITLE_BYTES_MAX)[0])
        for one in titled
    ]
    plain = holder.get("enum")
    if not choices and isinstance(plain, list):
        choices = [(one, one) for one in plain if isinstance(one, str)]
    return [(value, name or value) for value, name in choices if value and value != DECLINE]


def answer_for(request: OpenRequest, reply: Reply) -> dict[str, Any]:
    """Return what the agent is told. Raises UnfitReply."""
    if reply.cancelled:
        return cancelled_answer(request)
    chosen = _chosen(request, reply)
    if request.answer is AnswerForm.PERMISSION:
        if chosen is None:
            raise UnfitReply("a request for permission is answered by one of its options")
        return {"outcome": {"outcome": "selected", "optionId": chosen}}
    if request.answer is AnswerForm.ADDRESS:
        if chosen is None:
            raise UnfitReply(f"the answer is one of: {OPENED}, {DECLINE}")
        return {"action": "accept" if chosen == OPENED else "decline"}
    if reply.form is not None:
        return {"action": "accept", "content": reply.form}
    if chosen == DECLINE:
        return {"action": "decline"}
    if chosen is not None and request.field is not None:
        return {"action": "accept", "content": {request.field: _typed(request, chosen)}}
    if reply.text is not None and request.text_field is not None:
        own = request.text_field == request.field
        value = _typed(request, reply.text) if own else reply.text
        return {"action": "accept", "content": {request.text_field: value}}
    if reply.text is not None and request.field is not None and request.field_type == "boolean":
        return {"action": "accept", "content": {request.field: _typed(request, reply.text)}}
    if request.field is not None:
        ids = ", ".join(option_id for option_id, _ in request.options)
        raise UnfitReply(f"the answer is one of: {ids}")
    raise UnfitReply("this form has more than one field: it is answered by a form")


def content_of(form: dict[str, Any], text: str) -> dict[str, Any] | None:
    """Return the form as a text fills it; None: the text declines it. Raises UnfitReply."""
    _, request = _simple_answers("", form)
    content = answer_for(request, Reply(text=text)).get("content")
    return content if isinstance(content, dict) else None


def _chosen(request: OpenRequest, reply: Reply) -> str | None:
    """Return the option that is meant: by its id, or by the words that people are shown for it."""
    said = reply.option if reply.option is not None else reply.text
    if said is None:
        return None
    ids = [option_id for option_id, _ in request.options]
    if said in ids:
        return said
    meant = [
        option_id
        for option_id, name in request.options
        if said.strip().casefold() in {option_id.casefold(), name.casefold()}
    ]
    if len(meant) == 1:
        return meant[0]
    if reply.option is not None:
        raise UnfitReply(f"no such option; there are: {', '.join(ids)}")
    return None


def _typed(request: OpenRequest, said: str) -> Any:
    match request.field_type:
        case "array":
            return [said]
        case "boolean":
            word = said.strip().casefold()
            if word not in _YES | _NO:
                raise UnfitReply("the answer is yes or no")
            return word in _YES
        case "integer" | "number" as kind:
            try:
                number = int(said) if kind == "integer" else float(said)
            except ValueError:
                raise UnfitReply("the answer is a number") from None
            # JSON has no word for more than that, nor for what is no number.
            if not abs(number) <= _NUMBER_MAX:
                raise UnfitReply("the answer is a number that is not so large")
            return number
        case _:
            return said


def cancelled_answer(request: OpenRequest) -> dict[str, Any]:
    """Return what the agent is told where nobody answers any more."""
    if request.answer is AnswerForm.PERMISSION:
        return {"outcome": {"outcome": "cancelled"}}
    return {"action": "cancel"}
