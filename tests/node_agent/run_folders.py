"""What the tests of the supervisor share: short-lived executions, and their whole output."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from node_agent.executions import ExecutionSpec, Output, RunningExecution, start
from node_agent.spool import Frame, SpoolGap, SpoolReader
from node_agent.spool_frames import STDERR, STDOUT

#: What the programs of the tests are given: their own python, and little else.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def python_spec(code: str, *arguments: str, **fields: Any) -> ExecutionSpec:
    """Return the spec of a Python program given as text."""
    argv = [sys.executable, "-I", "-S", "-c", code, *arguments]
    return spec_of(argv, **fields)


def spec_of(argv: list[str], **fields: Any) -> ExecutionSpec:
    """Return a spec whose marker no other test shares."""
    marker = f"test-{os.getpid()}-{os.urandom(6).hex()}"
    environment = ENVIRONMENT | {"SKEP_EXECUTION_ID": marker} | fields.pop("env", {})
    defaults: dict[str, Any] = {"cwd": "/", "grace_s": 2.0, "linger_s": 0.5}
    return ExecutionSpec(argv=argv, env=environment, **(defaults | fields))


@asynccontextmanager
async def started(run_folder: Path, spec: ExecutionSpec) -> AsyncIterator[RunningExecution]:
    """Start, and leave nothing behind whatever the test did."""
    execution = await start(run_folder, spec)
    try:
        yield execution
    finally:
        if execution.exit_record() is None:
            try:
                await execution.stop(0)
                await wait_until(lambda: execution.exit_record() is not None)
            except Exception:  # noqa: BLE001  the test has its own word on what went wrong
                end_process(execution.identity.pid)
        await execution.close()


def end_process(pid: int) -> None:
    """Kill a process that may be gone already."""
    with suppress(ProcessLookupError):
        os.kill(pid, 9)


async def wait_until(holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Return once something holds; the test fails when it does not come to."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.01)


async def read_to_end(
    execution: RunningExecution, timeout_s: float = 60.0
) -> list[Frame | SpoolGap]:
    """Return all that is still to come of an execution, read as it grows."""
    found: list[Frame | SpoolGap] = []
    async with asyncio.timeout(timeout_s):
        while True:
            while pieces := execution.reader.read():
                found.extend(pieces)
            output = await execution.wait_output(timeout_s)
            if output is Output.ENDED:
                return found
            assert output is Output.GREW, output


def read_rest(reader: SpoolReader) -> list[Frame | SpoolGap]:
    """Return all that a reader has without waiting."""
    found: list[Frame | SpoolGap] = []
    while pieces := reader.read():
        found.extend(pieces)
    reader.close()
    return found


def stream_bytes(pieces: list[Frame | SpoolGap], stream: int = STDOUT) -> bytes:
    """Return what the frames of one stream carry."""
    return b"".join(
        piece.data for piece in pieces if isinstance(piece, Frame) and piece.stream == stream
    )


def gaps_of(pieces: list[Frame | SpoolGap]) -> list[SpoolGap]:
    """Return the gaps alone."""
    return [piece for piece in pieces if isinstance(piece, SpoolGap)]


def both_streams(pieces: list[Frame | SpoolGap]) -> tuple[bytes, bytes]:
    """Return what was printed on each stream."""
    return stream_bytes(pieces, STDOUT), stream_bytes(pieces, STDERR)
