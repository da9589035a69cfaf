"""How a command speaks to people: words of others stand as they are, and do nothing."""

import os
import subprocess
import sys
import time
from pathlib import Path

from rich.text import Text

from node_agent.commands.invocation import plain, standing


def test_words_of_others_do_nothing_to_a_terminal():
    """Brackets are no markup, and what moves the cursor or changes colours is not sent on."""
    shown = Text.from_markup(plain("[/b] rm -rf /\x1b[2K\rls [red]x[/red]"))
    assert shown.plain == "[/b] rm -rf /�[2K�ls [red]x[/red]"
    assert plain(None) == ""
    assert plain(7) == "7"


def test_who_reads_no_further_is_no_failure(tmp_path: Path):
    """`node-agent agents | head -1` is a success, whether the first lines had been read or not."""
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "node_agent", "agents", "--data", str(tmp_path)]
    try:
        done = subprocess.run(
            words, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_state_and_what_is_beside_it():
    """A parked attempt says until when it waits, one whose agent is silent since when."""
    at_ms = 1_900_000_000_000
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))
    parked = {"parked_until_ms": at_ms, "silent_since_ms": None}
    assert standing("running", parked) == f"[yellow]parked[/] until {shown}"
    silent = {"parked_until_ms": None, "silent_since_ms": at_ms}
    expected = f"[cyan]running[/] [yellow]silent since {shown}[/]"
    assert standing("running", silent) == expected
    assert standing("ended", {}) == "ended"
