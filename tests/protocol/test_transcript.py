"""A conversation as people read it."""

from typing import Any

from protocol.transcript import Line, gap_line, message_lines, plain


def message(**given: Any) -> dict[str, Any]:
    """A message as an API tells it."""
    return {"seq": 3, "role": "assistant", "author": "claude", "content": "", **given}


def texts(told: dict[str, Any], *, whole: bool = False) -> list[str]:
    """The texts of its lines."""
    return [line.text for line in message_lines(told, whole=whole)]


def test_who_says_what():
    """The head names number and author; the text stands below it."""
    assert texts(message(content="Done.\n\nAll of it.")) == [
        "#3 agent  claude",
        "  Done.",
        "  ",
        "  All of it.",
        "",
    ]
    assert texts(message(role="user", author="ann", content="yes"))[0] == "#3 ann"
    assert texts(message(role="user", author="", content="yes"))[0] == "#3 you"


def test_what_a_tool_did():
    """Its kind, state and target, then input, diff and output; a long one is cut, unless whole."""
    tool = {
        "name": "Edit",
        "kind": "edit",
        "status": "completed",
        "target": "a.py",
        "input": "",
        "output": "\n".join(str(n) for n in range(40)),
        "diffs": [
            {"path": "a.py", "old_text": "x", "new_text": "y"},
            {"path": "b.py", "old_text": None, "new_text": "z"},
        ],
    }
    lines = list(message_lines(message(role="tool", tool=tool, content="a.py")))
    assert lines[0] == Line("head", "#3 ✓ edit  Edit a.py")
    assert Line("removed", "  - x") in lines
    assert Line("added", "  + y") in lines
    assert Line("quiet", "  b.py (new)") in lines
    assert Line("quiet", "  [28 more lines; --whole shows them]") in lines
    assert "  39" in texts(message(role="tool", tool=tool), whole=True)
    same = {**tool, "name": "git log", "target": "git log"}
    assert texts(message(role="tool", tool=same))[0] == "#3 ✓ edit  git log"


def test_what_is_cut_and_what_is_missing_is_said():
    """A cut text names where the whole one is; missing messages have a line."""
    assert texts(message(content="a", truncated=True))[2] == (
        "  [cut; the whole text is in the execution's log]"
    )
    assert gap_line({"gap": [2, 4], "reason": "away"}).text == (
        "[messages 2 to 4 are missing: away]"
    )


def test_a_plan():
    """Each step with its state."""
    plan = [{"content": "look", "status": "completed"}, {"content": "mend", "status": "pending"}]
    assert texts(message(role="plan", plan=plan))[1:3] == ["  ✓ look", "  … mend"]


def test_nothing_said_moves_the_cursor():
    """What an agent or a tool says cannot recolour or rewrite a terminal."""
    assert plain("a\x1b[2Jb\r\x07\x9bc\td\n") == "a�[2Jb���c\td\n"
    assert texts(message(author="x\ny", content="\x1b[31mred"))[:2] == [
        "#3 agent  x y",
        "  �[31mred",
    ]
    tool = {"kind": "\x1b[8mexecute", "name": "sh", "status": "pending"}
    assert texts(message(role="tool", tool=tool))[0] == "#3 … �[8mexecute  sh"


def test_nothing_said_turns_what_is_read_around():
    """A command that is shown backwards is not the one that would run."""
    assert plain("rm \u202e/tmp\u202c \u2066x\u2069") == "rm �/tmp� �x�"
    assert plain("one\r\ntwo") == "one\ntwo"
    assert plain("שלום, ä, 語") == "שלום, ä, 語"
