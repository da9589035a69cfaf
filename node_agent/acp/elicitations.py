"""What an agent asks beside leave for its tools: a form to fill, or an address to open.

An address is shown, whole, to whoever answers; it is opened by people alone, on machines of theirs.
Must not fetch it: that something is behind it, and what, is the agent's word.
"""

from typing import Any, Final
from urllib.parse import urlsplit

from node_agent.acp.requests import DECLINE, OPENED, Asked, ask_question
from node_agent.acp.state import AnswerForm, MachineState, OpenRequest
from node_agent.acp.steps import Fact, MessageMade, RequestMade
from node_agent.acp.updates import close_block, told
from node_agent.acp.wire import text_in
from protocol.conversation import RequestKind, RequestOption, cut_text

_URL_CHARACTERS_MAX: Final = 4096
_MESSAGE_BYTES_MAX: Final = 4 * 1024
_HOST_CHARACTERS_MAX: Final = 253


def ask_elicitation(state: MachineState, rpc_id: str, params: dict[str, Any]) -> Asked:
    """Take in an `elicitation/create`."""
    mode = text_in(params, "mode") or "form"
    if mode == "form":
        return ask_question(state, rpc_id, params)
    if mode == "url":
        return _ask_to_open(state, rpc_id, params)
    return Asked(refusal=f"only forms and addresses are answered here, not {mode[:60]!r}")


def _ask_to_open(state: MachineState, rpc_id: str, params: dict[str, Any]) -> Asked:
    url = text_in(params, "url")
    host = _host_of(url)
    if host is None:
        return Asked(refusal="an address is http(s), in plain ASCII, without a user's name")
    words, truncated = cut_text(text_in(params, "message"), _MESSAGE_BYTES_MAX)
    # Ours first: what follows is the agent's, and may say anything.
    text = f"The agent asks you to open this address, at {host}:\n{url}\n\n{words}".strip()
    facts = close_block(state)
    key = state.take_key("r")
    options = [
        RequestOption(id=OPENED, name="I opened it"),
        RequestOption(id=DECLINE, name="Decline", kind="reject_once"),
    ]
    state.requests[key] = OpenRequest(
        rpc_id=rpc_id,
        answer=AnswerForm.ADDRESS,
        options=[(option.id, option.name) for option in options],
        elicitation_id=text_in(params, "elicitationId")[:200] or None,
    )
    message = MessageMade(
        key=state.take_key("q"),
        role="question",
        content=text,
        truncated=truncated,
        request_key=key,
    )
    made = RequestMade(
        key=key, kind=RequestKind.QUESTION, title=f"Open {host}", text=text, options=options
    )
    return Asked(facts=[*facts, message, made])


def completed(state: MachineState, params: dict[str, Any]) -> list[Fact]:
    """Take in an `elicitation/complete`: told, and no answer: that is still a person's to give."""
    named = text_in(params, "elicitationId")[:200]
    if not named or all(one.elicitation_id != named for one in state.requests.values()):
        return []
    return told(state, "The agent says that what it asked you to open is done.")


def _host_of(url: str) -> str | None:
    """Return the host of an address that people can be shown; None where it could mislead them."""
    plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
    if not plain or not 0 < len(url) <= _URL_CHARACTERS_MAX:
        return None
    try:
        parts = urlsplit(url)
        host, named = parts.hostname, parts.username is not None or parts.password is not None
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or named or not host:
        return None
    return host if len(host) <= _HOST_CHARACTERS_MAX else None
