"""Words of agents and people as they may leave the node: without secrets, and bounded. Pure.

What is cut here stands whole in the execution's log. Must not know what a text is part of beyond
its shape.
"""

import codecs
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from node_agent.acp import requests, tool_calls, updates
from node_agent.acp.steps import RequestMade
from node_agent.redaction import Redactor
from protocol.conversation import (
    TEXT_BYTES_MAX,
    FileDiff,
    PlanEntry,
    RequestOption,
    ToolCall,
    cut_text,
)

#: Of the texts of one tool call together; with what is around them the op stays within its bound.
_TOOL_BYTES_MAX: Final = 44 * 1024
_NAME_BYTES_MAX: Final = 1024
_TARGET_BYTES_MAX: Final = 4 * 1024
_WORD_BYTES_MAX: Final = 64
_DIFFS_MAX: Final = 16
_LOCATIONS_MAX: Final = 16
_PLAN_ENTRY_BYTES_MAX: Final = 512
#: No form that people fill is deeper.
_FORM_DEPTH_MAX: Final = 32


class ShownText:
    """What to hide, applied to texts of every shape."""

    def __init__(self, hidden: Iterable[bytes] = ()) -> None:
        self._redactor = Redactor(hidden)

    def text(
        self, text: str, bytes_max: int = TEXT_BYTES_MAX, *, cut_at: int = TEXT_BYTES_MAX
    ) -> tuple[str, bool]:
        """Return a text without its secrets, as much of it as fits, and whether it was cut.

        `cut_at`: where it was cut before, if it is as long as that. A secret may begin there.
        """
        encoded = text.encode("utf-8", "replace")
        one = self._redactor.another()
        shown = one.feed(encoded)
        # The cut leaves a character whole, and so up to three bytes of room.
        if len(encoded) <= cut_at - 4:
            shown += one.flush()
        return cut_text(shown.decode("utf-8", "replace"), bytes_max)

    def plan(self, plan: Iterable[PlanEntry]) -> list[PlanEntry]:
        """Return a plan's first steps."""
        return [
            PlanEntry(
                content=self.text(
                    entry.content, _PLAN_ENTRY_BYTES_MAX, cut_at=updates.PLAN_ENTRY_BYTES_MAX
                )[0],
                status=cut_text(entry.status, _WORD_BYTES_MAX)[0],
                priority=cut_text(entry.priority, _WORD_BYTES_MAX)[0],
            )
            for entry in list(plan)[: updates.PLAN_ENTRIES_MAX]
        ]

    def tool(self, tool: ToolCall, bytes_max: int = _TOOL_BYTES_MAX) -> tuple[ToolCall, bool]:
        """Return a tool call whose texts fit together, and whether some was cut.

        What the tool said last is what people look for: the output comes before the input.
        """
        left = _Left(self, bytes_max)
        name = left.take(tool.name, _NAME_BYTES_MAX, tool_calls.NAME_BYTES_MAX)
        target = left.take(tool.target, _TARGET_BYTES_MAX, tool_calls.TARGET_BYTES_MAX)
        output = left.take(tool.output, bytes_max // 2, tool_calls.OUTPUT_BYTES_MAX)
        diffs = [left.diff(diff) for diff in tool.diffs[:_DIFFS_MAX]]
        shown = ToolCall(
            id=cut_text(tool.id, _NAME_BYTES_MAX)[0],
            name=name,
            kind=cut_text(tool.kind, _WORD_BYTES_MAX)[0],
            status=cut_text(tool.status, _WORD_BYTES_MAX)[0],
            target=target,
            input=left.take(tool.input, bytes_max // 2, tool_calls.INPUT_BYTES_MAX),
            output=output,
            diffs=diffs,
            locations=[
                left.take(location, _NAME_BYTES_MAX, tool_calls.PATH_BYTES_MAX)
                for location in tool.locations[:_LOCATIONS_MAX]
            ],
        )
        fewer = len(tool.diffs) > _DIFFS_MAX or len(tool.locations) > _LOCATIONS_MAX
        return shown, left.cut or fewer

    def request(self, asked: RequestMade) -> RequestMade:
        """Return what an agent asks, as people are shown it; the ids of options stay as they are.

        Nothing is cut of what has to be whole to be answered: options and form. What a secret
        stands in is not all seen by whoever judges it: the secret may hold another command.
        """
        tool = None if asked.tool is None else self.tool(asked.tool)[0]
        hidden = asked.tool is not None and tool is not None and _acts(tool) != _acts(asked.tool)
        return msgspec.structs.replace(
            asked,
            title=self.text(asked.title, cut_at=requests.TITLE_BYTES_MAX)[0],
            text=self.text(asked.text, cut_at=requests.TEXT_BYTES_MAX)[0],
            options=[
                RequestOption(
                    id=one.id,
                    name=self.text(one.name, cut_at=requests.TITLE_BYTES_MAX)[0],
                    kind=one.kind,
                )
                for one in asked.options
            ],
            form=self.form(asked.form),
            tool=tool,
            unseen=asked.unseen or hidden,
        )

    def form(self, form: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return a form without secrets, as far down as people fill forms."""
        return None if form is None else self._values(form)

    def live(self) -> "LiveText":
        """Return a text that is shown as it grows."""
        return LiveText(self._redactor.another())

    def _values(self, form: dict[str, Any], depth: int = _FORM_DEPTH_MAX) -> dict[str, Any]:
        return {str(name): self._value(value, depth - 1) for name, value in form.items()}

    def _value(self, value: Any, depth: int) -> Any:
        if depth <= 0:
            return None
        match value:
            case str():
                return self.text(value)[0]
            case int() if not -(2**63) <= value < 2**64:
                # No op has room for it.
                return None
            case dict():
                return self._values(value, depth)
            case list():
                return [self._value(one, depth - 1) for one in value]
        return value


def _acts(tool: ToolCall) -> list[object]:
    """Return what of a tool call says what it does, and to what."""
    paths = [diff.path for diff in tool.diffs]
    return [tool.name, tool.kind, tool.target, tool.input, tool.locations, paths]


class _Left:
    """What of a bound is left for further texts."""

    def __init__(self, shown: ShownText, bytes_max: int) -> None:
        self._shown = shown
        self._left_bytes = bytes_max
        self.cut = False

    def take(self, text: str, bytes_max: int, cut_at: int) -> str:
        taken, cut = self._shown.text(text, min(bytes_max, self._left_bytes), cut_at=cut_at)
        self._left_bytes -= len(taken.encode())
        self.cut = self.cut or cut
        return taken

    def diff(self, diff: FileDiff) -> FileDiff:
        path = self.take(diff.path, _NAME_BYTES_MAX, tool_calls.PATH_BYTES_MAX)
        share_bytes = max(0, self._left_bytes) // 2
        # Where a diff's texts were cut depends on what was before them.
        cut_at = 0 if diff.truncated else TEXT_BYTES_MAX
        new, new_cut = self._shown.text(diff.new_text, share_bytes, cut_at=cut_at)
        old, old_cut = None, False
        if diff.old_text is not None:
            old, old_cut = self._shown.text(diff.old_text, share_bytes, cut_at=cut_at)
        self._left_bytes -= len(new.encode()) + len((old or "").encode())
        cut = diff.truncated or new_cut or old_cut
        self.cut = self.cut or cut
        return FileDiff(path=path, old_text=old, new_text=new, truncated=cut)


class LiveText:
    """A text that grows, shown as far as it is known to hold no secret."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._known_characters = 0
        self._whole = True
        self._shown_characters = 0

    def grow(self, at: int, text: str) -> tuple[int, str]:
        """Return what may be shown once a piece is there, and where in what is shown it begins.

        Nothing where the text's beginning was not seen: its piece may be the end of a secret.
        """
        if at != self._known_characters:
            self._whole = False
        self._known_characters = at + len(text)
        if not self._whole:
            return self._shown_characters, ""
        begins = self._shown_characters
        decided = self._redactor.feed(text.encode("utf-8", "replace"))
        shown = self._decoder.decode(decided)
        self._shown_characters += len(shown)
        return begins, shown
