"""How a command speaks to people: words of others stand as they are, and do nothing."""

import os
import subprocess
import sys
from pathlib import Path

from rich.text import Text

from node_agent.commands.invocation import plain


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
