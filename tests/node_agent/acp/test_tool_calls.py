"""Tool calls, put together from what agents say of them."""

from typing import Any

import pytest

from node_agent.acp.tool_calls import call_id_of, changed_call, content_text, parent_id_of
from protocol.conversation import FileDiff, ToolCall


def text(said: str) -> dict[str, Any]:
    """A part of a tool call's content."""
    return {"type": "content", "content": {"type": "text", "text": said}}


def test_fields_that_are_not_said_stay():
    """An update changes what it names, and nothing else."""
    first, _, _ = changed_call(
        ToolCall(id="c"), {"title": "Read a", "kind": "read", "content": [text("x")]}
    )
    done, _, _ = changed_call(first, {"status": "completed"})
    assert (done.name, done.kind, done.output, done.status) == ("Read a", "read", "x", "completed")
    odd = changed_call(
        done, {"status": "exploded", "kind": "magic", "title": 5, "content": {}}
    ).call
    assert odd == done


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        ({"rawInput": {"command": "make test"}, "title": "Terminal"}, "make test"),
        ({"rawInput": {"command": ["bash", "-c", "ls"]}}, "bash -c ls"),
        ({"rawInput": {"file_path": "/a"}, "title": "Edit"}, "/a"),
        ({"rawInput": {}, "title": "Look around"}, "Look around"),
        ({"locations": [{"path": "/a"}]}, "/a"),
        ({}, ""),
    ],
)
def test_what_a_call_acts_on(fields: dict[str, Any], target: str):
    """Its input says it best, then its title, then where it happens."""
    assert changed_call(ToolCall(id="c"), fields)[0].target == target


def test_a_title_does_not_hide_what_the_input_named():
    """Once the input has said what it acts on, a later title is only a title."""
    call, _, _ = changed_call(ToolCall(id="c"), {"rawInput": {"path": "/a"}, "title": "Edit"})
    assert changed_call(call, {"title": "Edit a"}, aimed=True)[0].target == "/a"
    assert changed_call(call, {"title": "Edit a"})[0].target == "Edit a"


@pytest.mark.parametrize(
    ("raw", "output"),
    [
        ("plain", "plain"),
        ({"formatted_output": "shown", "exit_code": 0}, "shown"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        ({"code": 3}, '{"code":3}'),
        (7, "7"),
    ],
)
def test_an_output_that_is_no_content(raw: object, output: str):
    """It is shown as text where it holds one, else as what it is."""
    assert changed_call(ToolCall(id="c"), {"rawOutput": raw})[0].output == output


def test_content_comes_before_the_raw_output():
    """The agent's own rendering is what is shown; diffs beside it are kept."""
    diff = {"type": "diff", "path": "/a", "oldText": "x", "newText": "y"}
    call, cut, _ = changed_call(
        ToolCall(id="c"), {"content": [text("shown"), diff, {"type": "terminal"}], "rawOutput": "r"}
    )
    assert (call.output, cut) == ("shown", False)
    assert call.diffs == [FileDiff(path="/a", old_text="x", new_text="y")]


def test_what_is_too_large_is_cut_and_said_so():
    """Input, output and diffs each keep their beginning."""
    large = "x" * 100_000
    diff = {"type": "diff", "path": "/a", "oldText": None, "newText": large}
    call, cut, _ = changed_call(
        ToolCall(id="c"), {"rawInput": large, "content": [text(large), diff, diff]}
    )
    assert cut
    assert 0 < len(call.input) < 10_000
    assert 0 < len(call.output) < 20_000
    assert [one.truncated for one in call.diffs] == [True]
    assert len(call.diffs[0].new_text) < 20_000


def test_places_and_lines():
    """A line is told with its path where it is one."""
    places = [{"path": "/a", "line": 3}, {"path": "/b", "line": None}, {"line": 4}, 5]
    assert changed_call(ToolCall(id="c"), {"locations": places})[0].locations == ["/a:3", "/b"]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ({"type": "text", "text": "a"}, "a"),
        ({"type": "resource_link", "name": "n", "uri": "file:///n"}, "[n](file:///n)"),
        ({"type": "resource", "resource": {"text": "inside", "uri": "u"}}, "inside"),
        ({"type": "resource", "resource": {"uri": "u"}}, "[u]"),
        ({"type": "image", "mimeType": "image/png", "data": "xx"}, "[image: image/png]"),
        ({"type": "hologram"}, ""),
        ({}, ""),
    ],
)
def test_content_that_is_no_text_is_named(content: dict[str, Any], shown: str):
    """What cannot be shown as text is said to be there."""
    assert content_text(content) == shown


def test_ids():
    """A call without an id is none; its parent is where Claude says it."""
    assert call_id_of({"toolCallId": 7}) == ""
    assert call_id_of({"toolCallId": "c"}) == "c"
    assert parent_id_of({"_meta": {"claudeCode": {"parentToolUseId": "p"}}}) == "p"
    assert parent_id_of({"_meta": {"claudeCode": {"parentToolUseId": None}}}) is None


LONG = "/" + "x" * 300
FILLS = {"type": "diff", "path": "/a", "newText": "x" * 17_000}


@pytest.mark.parametrize(
    ("fields", "unseen"),
    [
        ({"rawInput": {"command": "ls " + "x" * 2000}}, True),
        ({"title": "ls " + "x" * 2000}, True),
        ({"locations": [{"path": LONG}]}, True),
        ({"locations": [{"path": f"/{number}"} for number in range(17)]}, True),
        ({"content": [{"type": "diff", "path": LONG, "newText": ""}]}, True),
        ({"content": [FILLS, {"type": "diff", "path": "/b", "newText": ""}]}, True),
        ({"content": [FILLS], "rawOutput": "x" * 20_000}, False),
        ({"rawInput": {"command": "ls", "more": "x" * 20_000}}, False),
    ],
)
def test_it_is_told_where_not_all_is_seen(fields: dict[str, Any], unseen: bool):
    """Of what it is and acts on; of what it says and writes a part is enough to know it by."""
    changed = changed_call(ToolCall(id="c"), fields)
    assert changed.unseen is unseen
    assert changed.cut
