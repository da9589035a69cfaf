"""To a viewer's screen: from a line's printing, and from an edit of a file, followed live.

The program stamps each line with its own clock; the viewer is `hive attempts logs --follow`. The
time a line waits for its chunk to be cut is in the figure and also reported apart. Edits are made
one at a time, at odd moments, and seen by `hive attempt diff --follow`.
"""

import itertools
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from protocol import limits
from scripts.benchmarks import figures
from scripts.benchmarks.stack import Stack, running

_LINES_PER_S = 100
_EDITS = 50
_EDITED = "edited.txt"
#: Between two edits: not in step with anything that looks at intervals.
_PAUSE_S = (0.1, 0.6)
_PROGRAM = """
import sys, time
for number in range({lines}):
    print(time.time_ns(), number, flush=True)
    time.sleep({pause})
"""


class WrongRun(Exception):  # noqa: N818  a fast wrong run is no run
    """A line is missing or doubled."""


def run(*, quick: bool) -> bool:
    """Run the benchmark; return whether every gate holds."""
    seconds, rounds = (5, 2) if quick else (15, 5)
    folder = Path(tempfile.mkdtemp(prefix="skep-bench-"))
    try:
        with running(folder) as stack:
            measured = [_round(stack, seconds) for _ in range(rounds)]
            edited = [_edits(stack) for _ in range(rounds)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    half_cut_ms = limits.CHUNK_CUT_MS / 2
    medians = [statistics.median(times) for times in measured]
    return figures.report(
        f"latency: line to viewer at {_LINES_PER_S} lines/s; {figures.machine()}",
        [
            figures.Figure(name="p50", what="line to viewer", values=medians, unit="ms"),
            figures.Figure(
                name="p99",
                what="line to viewer",
                values=[sorted(times)[int(len(times) * 0.99)] for times in measured],
                unit="ms",
            ),
            figures.Figure(
                name="max",
                what="line to viewer, within a second",
                values=[max(times) for times in measured],
                unit="ms",
                gate_max=1000,
            ),
            figures.Figure(
                name="apart",
                what=f"p50 without the mean wait for a cut ({half_cut_ms:g} ms)",
                values=[median - half_cut_ms for median in medians],
                unit="ms",
            ),
            figures.Figure(
                name="edit p50",
                what="edit to viewer",
                values=[statistics.median(times) for times in edited],
                unit="ms",
            ),
            figures.Figure(
                name="edit p99",
                what=f"edit to viewer, within a second; {_EDITS} edits",
                values=[sorted(times)[int(len(times) * 0.99)] for times in edited],
                unit="ms",
                gate_max=1000,
            ),
        ],
    )


def _round(stack: Stack, seconds: int) -> list[float]:
    lines = seconds * _LINES_PER_S
    program = stack.folder / "stamps.py"
    # The viewer is there before the first line: a second for it to connect.
    program.write_text(
        "import time\ntime.sleep(2)\n" + _PROGRAM.format(lines=lines, pause=1 / _LINES_PER_S)
    )
    attempt = stack.run_attempt("latency", f"{sys.executable} {program}")
    times: list[float] = []
    with stack.follow(attempt["id"]) as viewer:
        for line in viewer.stdout or ():
            seen_ns = time.time_ns()
            entry = json.loads(line)
            if entry.get("stream") != "stdout":
                continue
            stamp, number = entry["text"].split()
            if int(number) != len(times):
                raise WrongRun(f"line {number} where {len(times)} was due")
            times.append((seen_ns - int(stamp)) / 1e6)
            if len(times) == lines:
                break
        viewer.terminate()
    print(f"p50 {statistics.median(times):.0f} ms, max {max(times):.0f} ms", file=sys.stderr)
    return times


def _edits(stack: Stack) -> list[float]:
    attempt = stack.run_attempt("edits", f"{sys.executable} -c 'import time; time.sleep(600)'")
    worktree = stack.worktree_of(attempt["id"])
    chance = random.Random(1)
    times: list[float] = []
    with stack.follow_diff(attempt["id"]) as viewer:
        updates = (json.loads(line) for line in viewer.stdout or ())
        next(updates)
        for number in range(_EDITS):
            time.sleep(chance.uniform(*_PAUSE_S))
            edited_ns = time.time_ns()
            (worktree / _EDITED).write_text(f"{number}\n")
            for update in itertools.islice(updates, 10):
                if any(f"+{number}\n" in (file["patch"] or "") for file in update["changed"]):
                    times.append((time.time_ns() - edited_ns) / 1e6)
                    break
        viewer.terminate()
    stack.hive("attempt", "stop", attempt["id"])
    if len(times) != _EDITS:
        raise WrongRun(f"{len(times)} edits came where {_EDITS} were made")
    print(f"edits: p50 {statistics.median(times):.0f} ms, max {max(times):.0f} ms", file=sys.stderr)
    return times
