"""How commands look to people."""

import io

import pytest
from rich.console import Console

from hive.commands import terminal


@pytest.mark.parametrize(("width", "has_branch"), [(80, False), (120, True)])
def test_a_narrow_screen_gets_fewer_columns(
    monkeypatch: pytest.MonkeyPatch, width: int, has_branch: bool
):
    """What can be done without is left out, so that nothing that matters is cut off."""
    monkeypatch.setattr(terminal.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    made = terminal.table(
        "",
        ["id", "task", "branch?", "held here"],
        [
            [
                "b0d00f96",
                "A title that goes on " * 4,
                "skep/a-title-that-goes-on-b0d00f96",
                "complete",
            ]
        ],
    )
    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        console.print(made)
    drawn = captured.get()
    assert all(len(line) <= width for line in drawn.splitlines())
    assert ("branch" in drawn) is has_branch
    assert "complete" in drawn
