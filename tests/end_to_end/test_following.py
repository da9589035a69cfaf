"""`hive attempts logs -f`: every line while it runs, each once, in order, whatever restarts."""

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

from tests.end_to_end.installation import Installation
from tests.end_to_end.printing import PrintingAttempt
from tests.end_to_end.waiting import until


class Following:
    """`hive attempts logs -f --json` as a process, read as it prints."""

    def __init__(self, installation: Installation, attempt_id: str, *more: str) -> None:
        self.lines: list[dict[str, Any]] = []
        self._process = installation.hive.popen(
            "attempts", "logs", attempt_id, "-f", "--json", *more, stdout=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self.lines.append(json.loads(line))

    def wait(self) -> int:
        """Wait until it ends by itself; return its exit status."""
        status = self._process.wait(60)
        self._reader.join(10)
        self._process.stdout.close()
        return status

    def texts(self, stream: str) -> list[str]:
        """What came of one stream."""
        return [line["text"] for line in self.lines if line["stream"] == stream]


def entry_number(line: dict[str, Any]) -> int:
    """The number of an entry."""
    return int(line["n"])


def test_lines_come_while_it_runs(
    installation: Installation, repository: Path, tmp_path: Path
) -> None:
    """Followers from the start, from the middle, and after a restart of the hive see it all."""
    hive, node = installation.hive, installation.add_node(repository=repository)
    attempt = PrintingAttempt(tmp_path / "printed", exit_code=0)
    attempt.begin(installation, node, burst=8)
    first = Following(installation, attempt.id)
    until(lambda: len(first.lines) > 20, "lines come while it runs")
    assert hive.attempt(attempt.id)["phase"] == "running"
    late = Following(installation, attempt.id, "--after", "20")
    until(lambda: late.lines, "lines come to who looks later")
    hive.kill()
    hive.start()
    node.hurry()
    seen = len(first.lines)
    until(lambda: len(first.lines) > seen + 20, "lines come after the hive's restart")
    attempt.end()
    assert first.wait() == 0
    assert late.wait() == 0
    attempt.check_whole(hive)
    # A line that was unfinished when it was read is shown once it is whole: behind later ones.
    first.lines.sort(key=entry_number)
    late.lines.sort(key=entry_number)
    assert [line["n"] for line in first.lines] == list(range(1, len(first.lines) + 1))
    assert first.texts("stdout") == attempt.printed.decode().splitlines()
    assert first.texts("stderr") == attempt.complained.decode().splitlines()
    assert late.lines == first.lines[20:]
    assert hive.lines("attempts", "logs", attempt.id) == first.lines


def test_following_at_the_node(
    installation: Installation, repository: Path, tmp_path: Path
) -> None:
    """`node-agent logs -f` shows the same, over a kill of the agent."""
    node = installation.add_node(repository=repository)
    attempt = PrintingAttempt(tmp_path / "printed", exit_code=0)
    attempt.begin(installation, node, burst=8)
    command = node.argv("logs", attempt.id, "-f", "--json")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=node.full_environment()
    ) as following:
        lines: list[dict[str, Any]] = []
        reader = threading.Thread(
            target=lambda: lines.extend(map(json.loads, following.stdout)), daemon=True
        )
        attempt.wait_rising(installation.hive, 20)
        reader.start()
        node.kill()
        node.start()
        attempt.wait_rising(installation.hive, installation.hive.entries(attempt.id))
        attempt.end()
        attempt.check_whole(installation.hive)
        assert following.wait(60) == 0
        reader.join(10)
    lines.sort(key=entry_number)
    texts = [line["text"] for line in lines if line["stream"] == "stdout"]
    assert texts == attempt.printed.decode().splitlines()
