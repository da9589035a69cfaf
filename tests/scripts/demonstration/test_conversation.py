"""How the demo answers an agent and shows what was said, and what git says of its worktree."""

from pathlib import Path
from typing import Any

import pytest

from scripts.demonstration.conversation import NOTES, answer_to, lines_of, seen_in
from scripts.demonstration.processes import DemoFolder
from tests.node_agent.git.repositories import Sample


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ([("a", "allow_always"), ("b", "allow_once"), ("c", "reject_once")], "b"),
        ([("red", ""), ("blue", "")], "red"),
        ([], "Do as you think best."),
    ],
)
def test_yes_is_said_this_once(options: list[tuple[str, str]], answer: str) -> None:
    """Never for always where it goes once; a question gets its first option, or words."""
    request = {"options": [{"id": id_, "kind": kind} for id_, kind in options]}
    assert answer_to(request) == answer


def test_a_tool_is_shown_with_how_it_went_and_what_it_wrote() -> None:
    """The first line says which; below stand the first lines that say something."""
    tool: dict[str, Any] = {
        "status": "completed",
        "kind": "edit",
        "name": "Write it",
        "target": "",
        "output": "",
        "diffs": [{"new_text": "one\n\ntwo\nthree\n"}],
    }
    shown = list(lines_of({"role": "tool", "content": "", "tool": tool}))
    assert shown == [("tool", "✓ edit: Write it"), ("", "+ one"), ("", "+ two")]


def test_git_says_whether_the_notes_are_there(tmp_path: Path) -> None:
    """Also where the repository ignores them; committed, they are no change any more."""
    sample = Sample.make(tmp_path / "project")
    sample.commit("ignore", {".gitignore": f"{NOTES}\n"})
    folder = DemoFolder(tmp_path / "demo")
    assert seen_in(folder, sample.path).notes == ""
    (sample.path / NOTES).write_text("noted\n")
    assert seen_in(folder, sample.path).notes == f"!! {NOTES}"
    sample.git("add", "--force", NOTES)
    sample.git("commit", "-q", "-m", "notes")
    after = seen_in(folder, sample.path)
    assert (after.notes, after.head) == ("", sample.head)
