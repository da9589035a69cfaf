"""An attempt that prints, with the copies that its program keeps of what it printed.

Owns the comparison: what the hive holds against what the program wrote, byte for byte.
"""

import shlex
import sys
from pathlib import Path
from typing import Any

from tests.end_to_end.hive_program import HiveProgram
from tests.end_to_end.installation import Installation
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.waiting import until

PROGRAM = Path(__file__).with_name("printer.py")
STDOUT, STDERR = 1, 2


class PrintingAttempt:
    """One attempt of the printer on a node."""

    def __init__(self, folder: Path, *, exit_code: int = 37) -> None:
        self.folder = folder
        self.exit_code = exit_code
        self.id = ""
        folder.mkdir(parents=True)

    def command(self, lines_max: int, burst: int = 2000) -> str:
        """The command line to run."""
        words = [PROGRAM, self.folder, lines_max, self.exit_code, burst]
        return shlex.join([sys.executable, "-I", *map(str, words)])

    def begin(
        self,
        installation: Installation,
        node: NodeProgram,
        project: str = "project",
        *,
        lines_max: int = 100_000_000,
        burst: int = 2000,
    ) -> str:
        """Run it on a node, started from the hive."""
        self.id = installation.run(project, self.command(lines_max, burst), node)
        return self.id

    def begin_locally(
        self, node: NodeProgram, project: str = "project", *, lines_max: int, burst: int = 2000
    ) -> str:
        """Run it on a node, started there."""
        wanted = ["--project", project, "--title", "Print", "--command"]
        self.id = node.json("start", *wanted, self.command(lines_max, burst))["id"]
        return self.id

    def end(self) -> None:
        """Have the program end by itself."""
        (self.folder / "stop").touch()

    @property
    def printed(self) -> bytes:
        """What it printed to standard output so far."""
        return (self.folder / "stdout").read_bytes()

    @property
    def complained(self) -> bytes:
        """What it printed to standard error so far."""
        return (self.folder / "stderr").read_bytes()

    @property
    def pids(self) -> list[int]:
        """The process of each of its starts."""
        return [int(line) for line in (self.folder / "pids").read_text().split()]

    def wait_started(self) -> int:
        """Wait until the program runs; return its pid."""
        path = self.folder / "pids"
        until(lambda: path.exists() and self.pids, "the program has started")
        return self.pids[0]

    def wait_rising(self, hive: HiveProgram, beyond: int) -> int:
        """Wait until the hive holds more than `beyond` entries; return how many."""
        return until(
            lambda: hive.entries(self.id),
            f"the hive holds more than {beyond} entries",
            holds=lambda entries: entries > beyond,
        )

    def check_whole(self, hive: HiveProgram, *, within_s: float = 60.0) -> dict[str, Any]:
        """Wait for the end, and compare all of it: bytes, counts, pid, exit code, outcome."""
        shown = hive.wait_ended(self.id, within_s=within_s)
        # A start that was cut short before there was a process is tried again, beside it.
        *unstarted, execution = shown["executions"]
        assert [one["log"]["entries"] for one in unstarted] == [0] * len(unstarted)
        assert {one["status"] for one in unstarted} <= {"lost"}, unstarted
        assert hive.stream(execution["id"], STDOUT) == self.printed
        assert hive.stream(execution["id"], STDERR) == self.complained
        lines = self.printed.count(b"\n") + self.complained.count(b"\n")
        assert execution["log"]["entries"] == execution["log"]["entries_total"] == lines
        assert execution["log"]["closed"]
        assert len(self.pids) == 1, "the program was started again"
        assert execution["exit_code"] == self.exit_code
        assert execution["status"] == ("failed" if self.exit_code else "succeeded")
        assert shown["outcome"] == ("failed" if self.exit_code else "succeeded")
        return shown
