"""A conversation as lines for people: who says what, what tools did, what is missing. Pure.

Both command lines show it, from messages as either API tells them. Must not know colours: each line
has a style, which whoever prints it may ignore.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

#: Lines of a tool's output, a diff or a thought that are shown unless all is asked for.
_LINES_SHOWN_MAX: Final = 12
_MARKS: Final = {
    "pending": "…",
    "in_progress": "…",
    "completed": "✓",
    "failed": "✕",
    "cancelled": "−",  # noqa: RUF001  a minus is the shape meant
}
#: Characters that turn the direction of the text after them, and so what it seems to say.
_TURNING: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_NAMES: Final = {
    "user": "you",
    "assistant": "agent",
    "thinking": "thinks",
    "tool": "tool",
    "plan": "plan",
    "system": "node",
    "question": "asks",
    "answer": "answer",
}


class Line(NamedTuple):
    """A line and what it is: head, text, quiet, added, removed, failed."""

    style: str
    text: str


def message_lines(message: Mapping[str, Any], *, whole: bool = False) -> Iterator[Line]:
    """Yield a message's lines: its head, what it says, and what its tool did."""
    yield Line("head", _head(message))
    tool = message.get("tool")
    if tool is not None:
        yield from _tool_lines(tool, whole=whole)
    for entry in message.get("plan") or ():
        yield Line("text", f"  {_MARKS.get(entry['status'], '·')} {plain(entry['content'])}")
    style = "quiet" if message["role"] == "thinking" else "text"
    shown = _LINES_SHOWN_MAX if style == "quiet" and not whole else None
    if tool is None or not _is_said_by(tool, message["content"]):
        yield from _block(message["content"], style, shown)
    if message.get("truncated"):
        yield Line("quiet", "  [cut; the whole text is in the execution's log]")
    yield Line("text", "")


def gap_line(gap: Mapping[str, Any]) -> Line:
    """Return the line that stands for messages that are not here."""
    first, last = gap["gap"]
    return Line("failed", f"[messages {first} to {last} are missing: {gap['reason']}]")


def plain(text: str) -> str:
    """Return text as a terminal may have it: nothing in it moves the cursor or changes colours.

    Nor the order of what is read: whoever allows a command has to see the command that runs.
    """
    return "".join(
        character if character in "\n\t" or _is_shown(character) else "�"
        for character in text.replace("\r\n", "\n")
    )


def _is_shown(character: str) -> bool:
    number = ord(character)
    return number >= 0x20 and not 0x7F <= number < 0xA0 and character not in _TURNING


def _head(message: Mapping[str, Any]) -> str:
    role = str(message["role"])
    name = _NAMES.get(role, role)
    author = plain(str(message.get("author") or ""))
    if role == "tool":
        tool = message.get("tool") or {}
        name = f"{_MARKS.get(tool.get('status', ''), '·')} {plain(tool.get('kind', 'tool'))}"
        # Many agents call a tool by what it is used on.
        named = dict.fromkeys(filter(None, (tool.get("name"), tool.get("target"))))
        author = plain(" ".join(named))
    elif role == "user":
        name, author = author or name, ""
    return f"#{message['seq']} {name}{f'  {author}' if author else ''}".replace("\n", " ")


def _is_said_by(tool: Mapping[str, Any], content: str) -> bool:
    return not content.strip() or content in {tool.get("output"), tool.get("target"), tool["name"]}


def _tool_lines(tool: Mapping[str, Any], *, whole: bool) -> Iterator[Line]:
    limit = None if whole else _LINES_SHOWN_MAX
    failed = tool.get("status") == "failed"
    yield from _block(str(tool.get("input") or ""), "quiet", limit)
    for diff in tool.get("diffs") or ():
        yield Line(
            "quiet", f"  {plain(diff['path'])}{' (new)' if diff['old_text'] is None else ''}"
        )
        yield from _block(diff["old_text"] or "", "removed", limit, mark="- ")
        yield from _block(diff["new_text"], "added", limit, mark="+ ")
    yield from _block(str(tool.get("output") or ""), "failed" if failed else "quiet", limit)


def _block(text: str, style: str, limit: int | None, mark: str = "") -> Iterator[Line]:
    lines = plain(text).strip("\n").split("\n") if text.strip() else []
    shown = lines if limit is None or len(lines) <= limit + 1 else lines[:limit]
    for line in shown:
        yield Line(style, f"  {mark}{line}")
    if len(shown) < len(lines):
        yield Line("quiet", f"  [{len(lines) - len(shown)} more lines; --whole shows them]")
