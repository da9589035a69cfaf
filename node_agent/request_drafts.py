"""A question as an agent makes it, and what of it has room in a request.

Pure. Owns how large the parts of a request may be; must not open one, nor say who answers it.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from protocol.conversation import (
    AgentRequest,
    FileDiff,
    RequestKind,
    RequestOption,
    ToolCall,
    cut_text,
)

#: What a request may weigh, part by part, so that its op stays below its bound with an answer.
TITLE_BYTES_MAX: Final = 512
TEXT_BYTES_MAX: Final = 10 * 1024
FORM_BYTES_MAX: Final = 8 * 1024
OPTIONS_BYTES_MAX: Final = 6 * 1024
ANSWER_BYTES_MAX: Final = 16 * 1024
_INPUT_BYTES_MAX: Final = 5 * 1024
_OUTPUT_BYTES_MAX: Final = 1024
_DIFFS_BYTES_MAX: Final = 8 * 1024
_LOCATIONS_MAX: Final = 16
_LOCATION_BYTES_MAX: Final = 256


class Draft(NamedTuple):
    """A request as an agent makes it. `key` is what the agent's machine calls it.

    While it is not settled and passed on, the same key of the same execution is the same request.
    `unseen`: `tool` does not show all of what it acts on.
    """

    execution_id: str
    key: str
    attempt_id: str
    kind: RequestKind
    title: str
    session_id: str | None = None
    turn_id: str | None = None
    message_id: str | None = None
    text: str = ""
    options: Sequence[RequestOption] = ()
    form: dict[str, Any] | None = None
    free_text: bool = False
    tool: ToolCall | None = None
    unseen: bool = False


def request_of(draft: Draft, request_id: str, at_ms: int, deadline_ms: int | None) -> AgentRequest:
    """Return the request that a draft becomes, cut to what its op has room for."""
    return AgentRequest(
        id=request_id,
        session_id=draft.session_id,
        attempt_id=draft.attempt_id,
        turn_id=draft.turn_id,
        execution_id=draft.execution_id,
        message_id=draft.message_id,
        kind=draft.kind,
        title=cut_text(draft.title, TITLE_BYTES_MAX)[0],
        text=cut_text(draft.text, TEXT_BYTES_MAX)[0],
        options=list(draft.options),
        form=draft.form,
        free_text=draft.free_text,
        tool=None if draft.tool is None else _cut_tool(draft.tool),
        deadline_ms=deadline_ms,
        opened_at_ms=at_ms,
    )


def too_large(draft: Draft) -> str | None:
    """Return why nobody could answer this whole: options and forms are not cut."""
    for name, part, bytes_max in (
        ("options", list(draft.options), OPTIONS_BYTES_MAX),
        ("form", draft.form, FORM_BYTES_MAX),
    ):
        nbytes = len(msgspec.msgpack.encode(part))
        if nbytes > bytes_max:
            return f"the request's {name} has {nbytes} bytes; at most {bytes_max} can be shown"
    return None


def _cut_tool(tool: ToolCall) -> ToolCall:
    """Return a tool call without what is too long: its message has more of it."""
    left = _DIFFS_BYTES_MAX
    diffs: list[FileDiff] = []
    for diff in tool.diffs[:_LOCATIONS_MAX]:
        old, old_cut = cut_text(diff.old_text or "", left // 2)
        new, new_cut = cut_text(diff.new_text, left // 2)
        path, _ = cut_text(diff.path, _LOCATION_BYTES_MAX)
        left = max(0, left - len(old.encode()) - len(new.encode()))
        diffs.append(
            FileDiff(
                path=path,
                old_text=None if diff.old_text is None else old,
                new_text=new,
                truncated=diff.truncated or old_cut or new_cut,
            )
        )
    return msgspec.structs.replace(
        tool,
        name=cut_text(tool.name, TITLE_BYTES_MAX)[0],
        target=cut_text(tool.target, 2 * 1024)[0],
        input=cut_text(tool.input, _INPUT_BYTES_MAX)[0],
        output=cut_text(tool.output, _OUTPUT_BYTES_MAX)[0],
        diffs=diffs,
        locations=[
            cut_text(one, _LOCATION_BYTES_MAX)[0] for one in tool.locations[:_LOCATIONS_MAX]
        ],
    )
