"""How commands look to people."""

import asyncio
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from hive.commands import terminal
from tests.hive.api.running import RunningHive
from tests.hive.commands.programs import Commands


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


def test_a_state_and_what_is_beside_it():
    """A parked attempt says until when it waits, one whose agent is silent since when."""
    parked = {"parked_until_ms": 1_900_000_000_000, "silent_since_ms": None}
    shown = time.strftime("%Y-%m-%d %H:%M", time.localtime(1_900_000_000))
    assert str(terminal.standing("running", parked)) == f"◔ parked until {shown}"
    silent = {"parked_until_ms": None, "silent_since_ms": 1_900_000_000_000}
    assert str(terminal.standing("running", silent)) == f"● running silent since {shown}"
    assert terminal.standing("running", {}) == terminal.state("running")


@pytest.mark.asyncio
async def test_a_terminal_that_knows_ascii_alone_is_written_to(
    running: RunningHive, hive: Commands
):
    """What it cannot show is shown by number, without a traceback."""
    await running.node("one")
    hive.environment["PYTHONIOENCODING"] = "ascii"
    said = await hive.run("nodes")
    assert (said.code, said.err) == (0, "")
    assert "\\u25cf online" in said.out


@pytest.mark.asyncio
async def test_times_in_an_error_are_told_as_people_read_them(running: RunningHive, hive: Commands):
    """A person is not shown milliseconds since the epoch; a script is shown nothing else."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    await node.leave()
    said = await hive.run("attempt", "branch-status", attempt.id)
    assert "last_seen: " in said.err
    assert " ago" in said.err
    assert "_ms" not in said.err
    asked = await hive.run("attempt", "branch-status", attempt.id, "--json")
    assert asked.error["details"]["last_seen_at_ms"] > 1_700_000_000_000


def shown(*parts: object) -> str:
    """What people would see of these parts."""
    console = Console(width=200, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get()


def test_what_others_wrote_is_shown_as_it_is():
    """Brackets stay, and nothing in a title or a question recolours or rewrites the screen."""
    text = "see [docs], [/end] and \x1b[2Jgone"
    for part in (
        terminal.written(text),
        terminal.facts([("asks", text)]),
        terminal.table(text, ["asks"], [["-" * 100]]),
        terminal.table("", ["asks"], [[text]]),
    ):
        assert "see [docs], [/end] and �[2Jgone" in shown(part)


@pytest.mark.asyncio
async def test_a_template_is_shown_as_it_was_written(running: RunningHive, hive: Commands):
    """Its brackets are part of the text, closed or not; so are those of a task's preview."""
    await running.node("one")
    text = "Sort [shelves] as in [/etc/shelves]."
    await running.post("templates", {"name": "sort", "text": text})
    said = await hive.run("templates", "show", "sort")
    assert (said.code, text in said.out) == (0, True), said
    task = await running.task(description=text)
    said = await hive.run("tasks", "preview", task["id"])
    assert (said.code, text in said.out) == (0, True), said


@pytest.mark.asyncio
async def test_who_reads_no_further_is_no_failure(running: RunningHive, hive: Commands):
    """`hive nodes | head -1` is a success, whether the first lines had been read or not."""
    await running.node("one")
    reading, writing = os.pipe()
    os.close(reading)
    words = (sys.executable, "-m", "hive", "nodes")
    process = await asyncio.create_subprocess_exec(
        *words, env=hive.environment, stdout=writing, stderr=asyncio.subprocess.PIPE
    )
    os.close(writing)
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")


@pytest.mark.parametrize(("no_color", "has_colours"), [("", True), ("1", False)])
def test_who_wants_no_colours_gets_none(tmp_path: Path, no_color: str, *, has_colours: bool):
    """On a terminal an error is coloured, unless `NO_COLOR` is set."""
    screen, writing = os.openpty()
    environment = {**os.environ, "HOME": str(tmp_path), "NO_COLOR": no_color}
    for name in ("SKEP_HIVE_URL", "XDG_CONFIG_HOME", "TERM"):
        environment.pop(name, None)
    try:
        words = [sys.executable, "-m", "hive", "status"]
        done = subprocess.run(words, env=environment, stderr=writing, timeout=60, check=False)
        said = os.read(screen, 4096).decode()
    finally:
        os.close(writing)
        os.close(screen)
    assert done.returncode == 1
    assert "error" in said
    assert ("\x1b" in said) is has_colours
