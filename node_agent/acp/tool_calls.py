"""Tool calls as the agent tells them: fields that change one by one, told on whole and bounded.

Knows what the fields of the agent protocol mean, and what some agents add to them; decides nothing.
"""

from typing import Any, Final, NamedTuple

import msgspec

from node_agent.acp.wire import mapping_in, mappings_in, text_in
from protocol.conversation import FileDiff, ToolCall, cut_text

# Together below what an op may hold, with room for the message or the request around it.
_ID_BYTES_MAX: Final = 256
NAME_BYTES_MAX: Final = 256
TARGET_BYTES_MAX: Final = 1024
INPUT_BYTES_MAX: Final = 6 * 1024
OUTPUT_BYTES_MAX: Final = 12 * 1024
_DIFFS_BYTES_MAX: Final = 16 * 1024
_LOCATIONS_MAX: Final = 16
PATH_BYTES_MAX: Final = 256
#: Of a tool's input or output that is no text: beyond this it is cut before it is made text.
_ENCODED_BYTES_MAX: Final = 64 * 1024

KINDS: Final = frozenset(
    [
        "read",
        "edit",
        "delete",
        "move",
        "search",
        "execute",
        "think",
        "fetch",
        "switch_mode",
        "other",
    ]
)
STATUSES: Final = frozenset({"pending", "in_progress", "completed", "failed", "cancelled"})
#: What comes after these is no news of the call itself.
SETTLED: Final = frozenset({"completed", "failed", "cancelled"})

_TARGET_NAMES: Final = (
    "command", "cmd", "file_path", "filePath", "abs_path", "path", "notebook_path", "url",
    "pattern", "query", "description",
)  # fmt: skip
_OUTPUT_NAMES: Final = ("formatted_output", "aggregated_output", "output", "stdout", "content")


def call_id_of(fields: dict[str, Any]) -> str:
    """Return the id of the tool call that an update is about, empty where it names none."""
    return cut_text(text_in(fields, "toolCallId"), _ID_BYTES_MAX)[0]


def parent_id_of(fields: dict[str, Any]) -> str | None:
    """Return the id of the tool call within which this happens, where the agent says so."""
    parent = text_in(mapping_in(mapping_in(fields, "_meta"), "claudeCode"), "parentToolUseId")
    return cut_text(parent, _ID_BYTES_MAX)[0] or None


class Change(NamedTuple):
    """A tool call as an update leaves it.

    `cut`: some of what was said is not in it. `unseen`: some of what it is or acts on is not, so
    that nobody who sees it can judge it.
    """

    call: ToolCall
    cut: bool
    unseen: bool


def changed_call(call: ToolCall, fields: dict[str, Any], *, aimed: bool = False) -> Change:
    """Return the tool call with what an update says of it.

    `aimed`: its input has named what it acts on, which a title does not say better.
    """
    changes: dict[str, Any] = {}
    cut = unseen = name_cut = target_cut = False
    if (kind := text_in(fields, "kind")) in KINDS:
        changes["kind"] = kind
    if (status := text_in(fields, "status")) in STATUSES:
        changes["status"] = status
    title = text_in(fields, "title")
    named = text_in(mapping_in(mapping_in(fields, "_meta"), "claudeCode"), "toolName")
    if named or title:
        name = named or (title if not call.name else call.name)
        changes["name"], name_cut = cut_text(name, NAME_BYTES_MAX)
    if (given := fields.get("rawInput")) is not None:
        changes["input"], cut = _as_text(given, INPUT_BYTES_MAX)
    if isinstance(fields.get("locations"), list):
        changes["locations"], unseen = _locations(fields)
    target = target_in(fields) or ("" if aimed else title or _first_place(fields, call))
    if target:
        changes["target"], target_cut = cut_text(target, TARGET_BYTES_MAX)
    results = _results(fields)
    if results.output is not None:
        changes["output"] = results.output
    if results.diffs is not None:
        changes["diffs"] = results.diffs
    unseen = unseen or name_cut or target_cut or results.unseen
    changed = msgspec.structs.replace(call, **changes)
    return Change(changed, cut or results.cut or unseen, unseen)


def size_of(call: ToolCall) -> int:
    """Return about how many bytes a tool call holds."""
    diffs = sum(len(diff.old_text or "") + len(diff.new_text) + 300 for diff in call.diffs)
    return len(call.input) + len(call.output) + diffs + 1024


def target_in(fields: dict[str, Any]) -> str:
    """Return what a call's input says it acts on: a command, a path, an address."""
    given = mapping_in(fields, "rawInput")
    for name in _TARGET_NAMES:
        value = given.get(name)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            return " ".join(value)
    return ""


def _first_place(fields: dict[str, Any], call: ToolCall) -> str:
    places = mappings_in(fields, "locations")
    return text_in(places[0], "path") if places and not call.target else ""


def _locations(fields: dict[str, Any]) -> tuple[list[str], bool]:
    """Return the places a call names, and whether some of that was cut."""
    given = mappings_in(fields, "locations")
    places, cut = [], len(given) > _LOCATIONS_MAX
    for place in given[:_LOCATIONS_MAX]:
        path, path_cut = cut_text(text_in(place, "path"), PATH_BYTES_MAX)
        line, cut = place.get("line"), cut or path_cut
        numbered = isinstance(line, int) and not isinstance(line, bool) and 0 <= line < 2**31
        if path:
            places.append(f"{path}:{line}" if numbered else path)
    return places, cut


class _Results(NamedTuple):
    """What a call put out and what it did to files; None: not said this time."""

    output: str | None
    diffs: list[FileDiff] | None
    cut: bool
    unseen: bool


def _results(fields: dict[str, Any]) -> _Results:
    texts: list[str] = []
    diffs: list[FileDiff] = []
    left, cut, unseen = _DIFFS_BYTES_MAX, False, False
    for part in mappings_in(fields, "content"):
        if text_in(part, "type") == "diff":
            unseen = unseen or len(text_in(part, "path").encode()) > PATH_BYTES_MAX
            diff, used = _diff(part, left)
            left -= used
            cut = cut or diff is None or diff.truncated
            unseen = unseen or diff is None
            diffs += [] if diff is None else [diff]
        elif shown := content_text(mapping_in(part, "content")):
            texts.append(shown)
    said = isinstance(fields.get("content"), list)
    if texts:
        output, output_cut = cut_text("\n".join(texts), OUTPUT_BYTES_MAX)
        return _Results(output, diffs, cut or output_cut, unseen)
    told = diffs if said else None
    raw = fields.get("rawOutput")
    if raw is None:
        return _Results("" if said and not diffs else None, told, cut, unseen)
    output, output_cut = _raw_output(raw)
    return _Results(output, told, cut or output_cut, unseen)


def _raw_output(raw: Any) -> tuple[str, bool]:
    if isinstance(raw, dict):
        for name in _OUTPUT_NAMES:
            if isinstance(raw.get(name), str):
                return cut_text(raw[name], OUTPUT_BYTES_MAX)
    if isinstance(raw, list) and all(isinstance(one, dict) for one in raw):
        texts = [text_in(one, "text") for one in raw if text_in(one, "text")]
        if texts:
            return cut_text("\n".join(texts), OUTPUT_BYTES_MAX)
    return _as_text(raw, OUTPUT_BYTES_MAX)


def _diff(part: dict[str, Any], left: int) -> tuple[FileDiff | None, int]:
    path = cut_text(text_in(part, "path"), PATH_BYTES_MAX)[0]
    left -= len(path.encode()) + 64
    if left <= 0:
        return None, 0
    before = part.get("oldText")
    old, old_cut = cut_text(before, left) if isinstance(before, str) else (None, False)
    old_size = len((old or "").encode())
    new, new_cut = cut_text(text_in(part, "newText"), left - old_size)
    used = len(path.encode()) + 64 + old_size + len(new.encode())
    return FileDiff(path=path, old_text=old, new_text=new, truncated=old_cut or new_cut), used


def _as_text(value: Any, bytes_max: int) -> tuple[str, bool]:
    if isinstance(value, str):
        return cut_text(value, bytes_max)
    try:
        encoded = msgspec.json.encode(value)
    except RecursionError:
        # It is nested so deeply that it could only just be read.
        return "", True
    shown = encoded[:_ENCODED_BYTES_MAX].decode("utf-8", "ignore")
    text, cut = cut_text(shown, bytes_max)
    return text, cut or len(encoded) > _ENCODED_BYTES_MAX


def content_text(content: dict[str, Any]) -> str:
    """Return a content block as text: what is no text is named, not shown."""
    match text_in(content, "type"):
        case "text":
            return text_in(content, "text")
        case "resource_link":
            name, uri = text_in(content, "name"), text_in(content, "uri")
            return f"[{name or uri}]({uri})"
        case "resource":
            resource = mapping_in(content, "resource")
            return text_in(resource, "text") or f"[{text_in(resource, 'uri')}]"
        case "image" | "audio" as kind:
            return f"[{kind}: {text_in(content, 'mimeType')}]"
        case _:
            return ""
