"""G3 to G6: durable lines a second end to end, beside the raw bounds, in one run.

Two producers print a workload through real pipes. End to end begins at the processes' stdout and
ends where the hive has committed their last chunk: supervisor, redaction, two stores and the link
are all in it. What the hive holds is compared with the workload by count and hash every round.

Wall and CPU are of one span on both sides: from the moment at which the producers are released,
with all processes running and all files open, to the last commit. CPU is that of hive, node agent,
supervisors and producers, here, and of the one process and its producers there. Starting attempts
and interpreters, and tidying up behind them, is in neither.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from protocol.log_chunks import LogChunk, open_chunk
from scripts.benchmarks import figures
from scripts.benchmarks.stack import Stack, running
from scripts.benchmarks.workload import Workload, write_workload

PRODUCERS = 2
_ROUND_S_MAX = 300.0


class WrongRun(Exception):  # noqa: N818  a fast wrong run is no run
    """What was kept is not what was printed."""


def run(*, quick: bool) -> bool:
    """Run the benchmark; return whether every gate holds."""
    lines, rounds = (400_000, 2) if quick else (600_000, 5)
    folder = Path(tempfile.mkdtemp(prefix="skep-bench-"))
    _adopt_orphans()
    try:
        inputs = [
            write_workload(folder / f"workload-{seed}", seed=seed, lines=lines)
            for seed in range(PRODUCERS)
        ]
        with running(folder) as stack:
            results = _rounds(stack, folder, inputs, rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _report(results, lines)


Result = dict[str, float]


def _rounds(
    stack: Stack, folder: Path, inputs: list[Workload], rounds: int
) -> dict[str, list[Result]]:
    contestants = ["skep", "rows", "blocks", "plain"]
    results: dict[str, list[Result]] = {name: [] for name in contestants}
    for number in range(rounds):
        probe_ms = figures.sync_probe_ms(folder)
        order = contestants[number % 4 :] + contestants[: number % 4]
        for name in order:
            result = (
                _skep(stack, inputs, number)
                if name == "skep"
                else _raw(folder, name, inputs, number)
            )
            results[name].append(result)
            rate = result["lines"] / result["wall_s"]
            print(
                f"round {number + 1}: {name:7} {rate:12,.0f} lines/s"
                f"  {result['wall_s']:6.2f} s wall  {result['cpu_s']:6.2f} s CPU"
                f"  (sync {probe_ms:.2f} ms)",
                file=sys.stderr,
                flush=True,
            )
    return results


def _raw(folder: Path, kind: str, inputs: list[Workload], number: int) -> Result:
    out = folder / f"{kind}-{number}"
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmarks.raw_bounds", kind, str(out)]
        + [str(workload.path) for workload in inputs],
        check=True,
        capture_output=True,
    )
    result: Result = json.loads(done.stdout)
    printed = (
        sum(workload.lines for workload in inputs),
        sum(workload.size for workload in inputs),
    )
    if (result["lines"], result["bytes"]) != printed:
        raise WrongRun(f"{kind} read {result['lines']} lines and {result['bytes']} bytes")
    for left in folder.glob(f"{kind}-{number}*"):
        left.unlink()
    return result


def _skep(stack: Stack, inputs: list[Workload], number: int) -> Result:
    attempts = []
    # Each producer waits for a word in a pipe of its own, so that starting attempts is not in the
    # figure, nor how often a shell looks for it.
    gates = [stack.folder / f"gate-{number}-{index}" for index in range(len(inputs))]
    for index, (gate, workload) in enumerate(zip(gates, inputs, strict=True)):
        os.mkfifo(gate)
        used = stack.folder / f"supervised-{number}-{index}"
        command = f"sh -c 'touch {used}; read word < {gate}; exec cat {workload.path}'"
        attempts.append(stack.run_attempt(f"round {number} {index}", command))
    _until(
        lambda: all(
            (stack.folder / f"supervised-{number}-{index}").exists() for index in range(len(inputs))
        )
    )
    executions = [_execution_of(stack, attempt["id"]) for attempt in attempts]
    supervisors = [_supervisor_pid(stack, execution) for execution in executions]
    cpu_before_s = stack.cpu_s() + sum(_tree_cpu_s(pid) for pid in supervisors)
    with contextlib.ExitStack() as opened:
        # Opening waits for the other end, which is there: the shells have begun.
        words = [opened.enter_context(gate.open("w")) for gate in gates]
        database = opened.enter_context(contextlib.closing(_hive_database(stack)))
        started = time.perf_counter()
        for word in words:
            print("go", file=word, flush=True)
        _until(lambda: all(_ended(database, execution) for execution in executions))
        wall_s = time.perf_counter() - started
    cpu_s = stack.cpu_s() + sum(_reaped_cpu_s(pid) for pid in supervisors) - cpu_before_s
    for execution, workload in zip(executions, inputs, strict=True):
        _compare(stack, execution, workload)
    return {
        "lines": sum(workload.lines for workload in inputs),
        "bytes": sum(workload.size for workload in inputs),
        "wall_s": wall_s,
        "cpu_s": cpu_s,
    }


def _execution_of(stack: Stack, attempt_id: str) -> str:
    """Return the agent's execution of an attempt, once the hive knows it."""
    found: list[str] = []

    def known() -> bool:
        attempt = stack.hive("attempts", "show", attempt_id)
        found[:] = [row["id"] for row in attempt["executions"] if row["kind"] == "agent"]
        return bool(found)

    _until(known)
    return found[0]


def _hive_database(stack: Stack) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{stack.hive_data / 'hive.db'}?mode=ro", uri=True)


def _ended(database: sqlite3.Connection, execution_id: str) -> bool:
    """Whether the hive has committed the log to its end. Reads the file: a call would cost CPU."""
    row = database.execute(
        "SELECT next_chunk, end_chunks FROM log WHERE execution_id = ?", (execution_id,)
    ).fetchone()
    return row is not None and row[1] is not None and row[0] > row[1]


def _compare(stack: Stack, execution_id: str, workload: Workload) -> None:
    """Raise unless the hive holds exactly what the producer printed."""
    with contextlib.closing(_hive_database(stack)) as database:
        rows = database.execute(
            "SELECT chunk_seq, first_entry, entries, raw_bytes, crc32, blob FROM chunk"
            " WHERE execution_id = ? ORDER BY chunk_seq",
            (execution_id,),
        ).fetchall()
    digest, lines = hashlib.sha256(), 0
    for seq, first, entries, raw_bytes, crc32, blob in rows:
        chunk = LogChunk(
            execution_id=execution_id,
            chunk_seq=seq,
            first_entry=first,
            entries=entries,
            raw_bytes=raw_bytes,
            crc32=crc32,
            first_ms=0,
            last_ms=0,
            blob=blob,
        )
        lines += entries
        for segment in open_chunk(chunk):
            digest.update(segment.data)
    if (lines, digest.hexdigest()) != (workload.lines, workload.sha256):
        raise WrongRun(f"the hive holds {lines} lines of {workload.lines}, or others")


def _adopt_orphans() -> None:
    """Make this process the parent of orphans: supervisors outlive the node agent by design."""
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def _supervisor_pid(stack: Stack, execution_id: str) -> int:
    folder = stack.node_data / "runs" / execution_id
    return int(json.loads((folder / "identity").read_text())["supervisor_pid"])


def _tree_cpu_s(pid: int) -> float:
    """Return the CPU seconds so far of a supervisor and of what it started."""
    supervisor = psutil.Process(pid)
    used_s = 0.0
    for process in (supervisor, *supervisor.children(recursive=True)):
        # One that ended since is in its parent's figure.
        with contextlib.suppress(psutil.NoSuchProcess):
            used_s += sum(process.cpu_times()[:4])
    return used_s


def _reaped_cpu_s(pid: int) -> float:
    """Return the CPU seconds of an ended supervisor and of the producer it ran."""
    _, _, used = os.wait4(pid, 0)
    return used.ru_utime + used.ru_stime


def _until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _ROUND_S_MAX
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError("the round does not end")
        time.sleep(0.01)


def _report(results: dict[str, list[Result]], lines: int) -> bool:
    def rates(name: str) -> list[float]:
        return [result["lines"] / result["wall_s"] for result in results[name]]

    def cpu(name: str) -> list[float]:
        return [1e6 * result["cpu_s"] / result["lines"] for result in results[name]]

    def over(ours: list[float], theirs: list[float]) -> list[float]:
        return [mine / other for mine, other in zip(ours, theirs, strict=True)]

    skep = rates("skep")
    title = f"link: {PRODUCERS} producers of {lines:,} lines; {figures.machine()}"
    return figures.report(
        title,
        [
            figures.Figure(
                name="link", what="durable lines/s end to end", values=skep, unit="lines/s"
            ),
            figures.Figure(
                name="cpu",
                what="CPU per line, supervisors + node + hive",
                values=cpu("skep"),
                unit="us",
            ),
            figures.Figure(
                name="G3",
                what="over raw SQLite rows",
                gate_min=2.5,
                aim=5,
                values=over(skep, rates("rows")),
            ),
            figures.Figure(
                name="G4",
                what="over raw SQLite compressed blocks",
                gate_min=0.45,
                aim=0.8,
                values=over(skep, rates("blocks")),
            ),
            figures.Figure(
                name="G5",
                what="over plain write + fdatasync",
                gate_min=0.25,
                aim=0.6,
                values=over(skep, rates("plain")),
            ),
            figures.Figure(
                name="G6",
                what="CPU per line over raw SQLite blocks",
                gate_max=2.5,
                aim=1.3,
                values=over(cpu("skep"), cpu("blocks")),
            ),
        ],
    )
