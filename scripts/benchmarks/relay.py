"""G13 to G16: an operation through the hive beside nginx in front of the node's own listener.

One operation, a page of a log, is asked over one connection and over 32; then a 50 MiB diff is
read. Every way answers the same bytes, compared by hash. Last, over a link of 10 Mbit/s, how long
an operation takes while a diff saturates that link.
"""

import asyncio
import contextlib
import hashlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from protocol.limits import MIB
from scripts.benchmarks import figures, reverse_proxy
from scripts.benchmarks.slow_link import SlowLink
from scripts.benchmarks.stack import Stack

_LINES = 10
_CONNECTIONS = 32
_SLOW_BITS_PER_S = 10e6
_FILE_BYTES = 900 * 1024
_WAIT_S_MAX = 60.0
_PROGRAM = """
import time
for number in range({lines}):
    print("line", number, flush=True)
time.sleep(3600)
"""
#: Hardly to be compressed, so that it fills the link.
_NOISE = """
import os, sys
for _ in range({lines}):
    sys.stdout.write(os.urandom(50).hex() + "\\n")
"""

Way = tuple[str, str]


class WrongRun(Exception):  # noqa: N818  a fast wrong run is no run
    """Two ways answered something else."""


def run(*, quick: bool) -> bool:
    """Run the benchmark; return whether every gate holds."""
    rounds = 2 if quick else 5
    folder = Path(tempfile.mkdtemp(prefix="skep-bench-"))
    try:
        found = _beside_nginx(folder / "fast", rounds, quick=quick)
        found += _over_a_slow_link(folder / "slow", rounds, quick=quick)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return figures.report(f"relay: through the hive; {figures.machine()}", found)


# --- beside nginx ---------------------------------------------------------------------------------


def _beside_nginx(folder: Path, rounds: int, *, quick: bool) -> list[figures.Figure]:
    folder.mkdir()
    listen = f"127.0.0.1:{reverse_proxy.free_port()}"
    stack = Stack(folder, direct_listen=listen)
    try:
        stack.start()
        attempt = _running_attempt(stack, folder)
        _fill(Path(attempt["worktree"]), 50 * MIB)
        with reverse_proxy.in_front_of(listen, folder / "nginx") as nginx:
            if nginx is None:
                print("nginx cannot be had here: G13 to G15 are skipped", file=sys.stderr)
            results = asyncio.run(_rounds(stack, attempt, nginx, rounds, quick=quick))
    finally:
        _end(stack)
    return _figures(results)


Results = dict[str, dict[str, list[float]]]


async def _rounds(
    stack: Stack, attempt: dict[str, Any], nginx: str | None, rounds: int, *, quick: bool
) -> Results:
    results: Results = {}
    info = await _info(stack, attempt["id"])
    ways: dict[str, Way] = {
        "relay": (stack.url, stack.token),
        "direct": (info["direct_urls"][0], info["token"]),
    }
    if nginx is not None:
        ways["nginx"] = (nginx, info["token"])
    log = f"executions/{attempt['executions'][-1]['id']}/log?limit={_LINES}"
    for number in range(rounds):
        order = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
        hashes = set()
        for name in order:
            asked = f"{log}&source=node" if name == "relay" else log
            mine = results.setdefault(name, {"p50_ms": [], "per_s": [], "mib_per_s": []})
            p50_ms = statistics.median(await _one_by_one(ways[name], asked, 100 if quick else 500))
            per_s = await _at_once(ways[name], asked, 300 if quick else 2000)
            size, seconds, digest = await _read_diff(ways[name], attempt["id"])
            hashes.add(digest)
            mine["p50_ms"].append(p50_ms)
            mine["per_s"].append(per_s)
            mine["mib_per_s"].append(size / MIB / seconds)
            print(
                f"round {number + 1}: {name:7} p50 {p50_ms:6.2f} ms  {per_s:8,.0f} requests/s"
                f"  {size / MIB:.0f} MiB at {size / MIB / seconds:6.1f} MiB/s",
                file=sys.stderr,
                flush=True,
            )
        if len(hashes) != 1:
            raise WrongRun("the ways answered different diffs")
    return results


def _figures(results: Results) -> list[figures.Figure]:
    found = []
    for name, mine in results.items():
        for kind, unit in (("p50_ms", "ms"), ("per_s", "1/s"), ("mib_per_s", "MiB/s")):
            found.append(figures.Figure(name=name, what=kind, values=mine[kind], unit=unit))
    if "nginx" not in results:
        return found
    relay, nginx = results["relay"], results["nginx"]

    def over(kind: str) -> list[float]:
        return [one / other for one, other in zip(relay[kind], nginx[kind], strict=True)]

    return [
        *found,
        figures.Figure(
            name="G13",
            what="operation p50, one connection, over nginx",
            values=over("p50_ms"),
            gate_max=3,
            aim=1.8,
        ),
        figures.Figure(
            name="G14",
            what=f"requests/s, {_CONNECTIONS} connections, over nginx",
            values=over("per_s"),
            gate_min=0.6,
            aim=1.0,
        ),
        figures.Figure(
            name="G15",
            what="a 50 MiB diff, MiB/s, over nginx",
            values=over("mib_per_s"),
            gate_min=0.35,
            aim=0.7,
        ),
    ]


# --- over a slow link -----------------------------------------------------------------------------


def _over_a_slow_link(folder: Path, rounds: int, *, quick: bool) -> list[figures.Figure]:
    folder.mkdir()
    link = SlowLink(_SLOW_BITS_PER_S)
    stack = Stack(folder)
    stack.between = link.between()
    try:
        stack.start()
        attempt = _running_attempt(stack, folder)
        _fill(Path(attempt["worktree"]), (4 if quick else 50) * MIB)
        measured = [asyncio.run(_while_a_diff_passes(stack, attempt)) for _ in range(rounds)]
        logs = [_while_logs_pass(stack, attempt, quick=quick) for _ in range(rounds)]
    finally:
        _end(stack)
        link.close()
    return [
        figures.Figure(
            name="idle",
            what="operation round trip p50, 10 Mbit/s, nothing else",
            values=[statistics.median(idle) for idle, _ in measured],
            unit="ms",
        ),
        figures.Figure(
            name="diff p50",
            what="the same while a diff passes",
            values=[statistics.median(busy) for _, busy in measured],
            unit="ms",
        ),
        figures.Figure(
            name="diff p99",
            what="the same, p99, while a diff passes",
            values=[sorted(busy)[int(len(busy) * 0.99)] for _, busy in measured],
            unit="ms",
            gate_max=150,
            aim=80,
        ),
        figures.Figure(
            name="G16",
            what="the same, p99, while logs saturate the link",
            values=[sorted(busy)[int(len(busy) * 0.99)] for busy in logs],
            unit="ms",
            gate_max=150,
            aim=80,
        ),
    ]


async def _while_a_diff_passes(
    stack: Stack, attempt: dict[str, Any]
) -> tuple[list[float], list[float]]:
    """Return the times of an operation alone, and while a diff passes."""
    relay: Way = (stack.url, stack.token)
    execution = attempt["executions"][-1]["id"]
    asked = f"executions/{execution}/log?limit=1&source=node"
    idle = await _one_by_one(relay, asked, 50)
    diff = asyncio.create_task(_read_diff(relay, attempt["id"]))
    await asyncio.sleep(1.0)
    busy: list[float] = []
    while not diff.done():
        busy += await _one_by_one(relay, asked, 1)
        await asyncio.sleep(0.05)
    size, seconds, _ = await diff
    print(
        f"{len(busy)} operations while {size / MIB:.0f} MiB passed at {size / MIB / seconds:.2f}"
        f" MiB/s: p50 {statistics.median(busy):.0f} ms, max {max(busy):.0f} ms"
        f" (idle {statistics.median(idle):.0f} ms)",
        file=sys.stderr,
        flush=True,
    )
    return idle, busy


def _while_logs_pass(stack: Stack, attempt: dict[str, Any], *, quick: bool) -> list[float]:
    """Return the times of an operation while another attempt prints more than the link carries."""
    program = stack.folder / "noise.py"
    program.write_text(_NOISE.format(lines=50_000 if quick else 150_000))
    execution = attempt["executions"][-1]["id"]
    asked = f"executions/{execution}/log?limit=1&source=node"
    started = time.monotonic()
    stack.run_attempt("noise", f"{sys.executable} {program}")
    busy: list[float] = []
    while True:
        busy += asyncio.run(_one_by_one((stack.url, stack.token), asked, 10))
        chunks = stack.node("status")["outbox"]["chunks"]
        if time.monotonic() - started > 3.0 and not chunks:
            break
    print(
        f"{len(busy)} operations in {time.monotonic() - started:.0f} s of logs:"
        f" p50 {statistics.median(busy):.0f} ms, max {max(busy):.0f} ms",
        file=sys.stderr,
        flush=True,
    )
    return busy


# --- asking ---------------------------------------------------------------------------------------


def _session(way: Way, connections: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        f"{way[0]}/api/v1/",
        headers={"Authorization": f"Bearer {way[1]}"},
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=300),
    )


async def _one_by_one(way: Way, asked: str, count: int) -> list[float]:
    times = []
    async with _session(way, 1) as session:
        ask = _asker(session, asked)
        await ask()
        for _ in range(count):
            started = time.perf_counter()
            await ask()
            times.append((time.perf_counter() - started) * 1000)
    return times


async def _at_once(way: Way, asked: str, count: int) -> float:
    async with _session(way, _CONNECTIONS) as session:
        ask = _asker(session, asked)

        async def some() -> None:
            for _ in range(count // _CONNECTIONS):
                await ask()

        await asyncio.gather(*(ask() for _ in range(_CONNECTIONS)))
        started = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(_CONNECTIONS)))
        return count // _CONNECTIONS * _CONNECTIONS / (time.perf_counter() - started)


def _asker(session: aiohttp.ClientSession, asked: str) -> Callable[[], Awaitable[None]]:
    async def ask() -> None:
        async with session.get(asked) as reply:
            content = await reply.read()
            if reply.status != 200:
                raise WrongRun(f"HTTP {reply.status}: {content[:300]!r}")

    return ask


async def _read_diff(way: Way, attempt_id: str) -> tuple[int, float, str]:
    """Return the bytes of the diff, the seconds they took, and their hash."""
    digest = hashlib.sha256()
    size = 0
    async with _session(way, 1) as session:
        started = time.perf_counter()
        async with session.get(f"attempts/{attempt_id}/diff") as reply:
            async for piece in reply.content.iter_any():
                digest.update(piece)
                size += len(piece)
        return size, time.perf_counter() - started, digest.hexdigest()


# --- what is asked about --------------------------------------------------------------------------


def _running_attempt(stack: Stack, folder: Path) -> dict[str, Any]:
    program = folder / "lines.py"
    program.write_text(_PROGRAM.format(lines=_LINES))
    made = stack.run_attempt("relay", f"{sys.executable} {program}")
    until = time.monotonic() + _WAIT_S_MAX
    while time.monotonic() < until:
        shown: dict[str, Any] = stack.hive("attempts", "show", made["id"])
        held = sum(one["log"]["entries"] for one in shown["executions"])
        if shown["worktree"] and held >= _LINES:
            return shown
        time.sleep(0.1)
    raise TimeoutError(f"the attempt does not run; see the logs in {folder}")


def _end(stack: Stack) -> None:
    """Stop the stack, and first what its node runs: programs outlive their agent."""
    with contextlib.suppress(subprocess.CalledProcessError, KeyError):
        for attempt in stack.node("attempts", "--status", "running")["items"]:
            stack.node("attempt", "stop", attempt["id"])
            stack.node("attempts", "wait", attempt["id"])
    stack.stop()


def _fill(worktree: Path, size: int) -> None:
    """Write new files whose diff has about `size` bytes."""
    line = "x" * 99 + "\n"
    for number in range(max(1, size // _FILE_BYTES)):
        (worktree / f"{number:03}.txt").write_text(f"{number}\n" + line * (_FILE_BYTES // 102))


async def _info(stack: Stack, attempt_id: str) -> dict[str, Any]:
    async with (
        _session((stack.url, stack.token), 1) as session,
        session.get(f"attempts/{attempt_id}/stream-connection-info") as reply,
    ):
        info: dict[str, Any] = await reply.json()
        return info
