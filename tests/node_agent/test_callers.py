"""Who asks: a person, or a program of an attempt, whatever that makes of itself."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from node_agent.callers import UNPLACED, attempt_behind, attempt_in, check_person
from node_agent.executions import RunningExecution
from node_agent.spool import Frame, SpoolGap
from protocol.errors import ErrorCode, OperationError
from tests.node_agent.run_folders import python_spec, started, stream_bytes
from tests.node_agent.test_process_identity import add_process, fake_proc

MARKS = b"A=1\0SKEP_NODE_ID=node-1\0SKEP_ATTEMPT_ID=attempt-1\0B=2\0"


def test_an_environment_counts_for_its_own_node() -> None:
    """A node agent that is run within another one's attempt serves those within it."""
    own = {"SKEP_NODE_ID": "node-1", "SKEP_ATTEMPT_ID": "attempt-1"}
    assert attempt_in(own, "node-1") == "attempt-1"
    assert attempt_in(own, "node-2") is None
    assert attempt_in({"SKEP_NODE_ID": "node-1"}, "node-1") is None
    assert attempt_in({}, "") is None


def test_ancestors_tell(tmp_path: Path) -> None:
    """The nearest process that was started for an attempt of this node decides."""
    proc = fake_proc(tmp_path)
    add_process(proc, 1, parent=0)
    add_process(proc, 10, environ=MARKS)
    add_process(proc, 11, parent=10)
    add_process(proc, 12, parent=11, environ=MARKS.replace(b"attempt-1", b"attempt-2"))
    add_process(proc, 13, parent=12, environ=MARKS.replace(b"node-1", b"node-2"))
    add_process(proc, 20, environ=b"SKEP_NODE_ID=node-1\0")
    found = {pid: attempt_behind(pid, "node-1", proc) for pid in (1, 10, 11, 12, 13, 20)}
    assert found == {
        1: None,
        10: "attempt-1",
        11: "attempt-1",
        12: "attempt-2",
        13: "attempt-2",
        20: None,
    }


def test_who_cannot_be_placed(tmp_path: Path) -> None:
    """A process that is gone is nobody's; one whose ancestors are hidden from us is a person's."""
    proc = fake_proc(tmp_path)
    assert attempt_behind(30, "node-1", proc) == UNPLACED
    add_process(proc, 31, parent=30)
    assert attempt_behind(31, "node-1", proc) is None
    for pid in range(100, 1_200):
        add_process(proc, pid, parent=pid - 1)
    assert attempt_behind(1_199, "node-1", proc) == UNPLACED


def test_without_proc_nobody_is_known(tmp_path: Path) -> None:
    """Where the system tells nothing of processes, what a caller says counts alone."""
    assert attempt_behind(os.getpid(), "node-1", tmp_path) is None


async def printed_number(execution: RunningExecution) -> int:
    """Return the number in the first line that a program prints."""
    pieces: list[Frame | SpoolGap] = []
    async with asyncio.timeout(60):
        while not stream_bytes(pieces).endswith(b"\n"):
            await execution.wait_output()
            pieces.extend(execution.reader.read())
    return int(stream_bytes(pieces))


@pytest.mark.asyncio
async def test_a_program_stays_its_attempts(tmp_path: Path) -> None:
    """One that drops its environment, its session and its parent is known by its supervisor."""
    code = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    command = 'echo $$; read line'
    os.execve("/bin/sh", ["sh", "-c", command], {})
os.wait()
os.execve("/bin/sh", ["sh", "-c", "read line"], {})
"""
    marks = {"SKEP_NODE_ID": "node-1", "SKEP_ATTEMPT_ID": "attempt-1"}
    async with started(
        tmp_path / "run", python_spec(code, env=marks, keep_stdin_open=True)
    ) as execution:
        pid = await printed_number(execution)
        assert attempt_behind(pid, "node-1") == "attempt-1"
        assert attempt_behind(pid, "node-2") is None


def test_a_person_is_no_attempts() -> None:
    """A shell that no attempt has begun is a person's, as is what it starts."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            assert attempt_behind(process.pid, "node-1") is None
        finally:
            process.kill()


def test_what_only_a_person_may_do() -> None:
    """The refusal says whose program it was, and what to do instead."""
    check_person(None)
    with pytest.raises(OperationError) as caught:
        check_person("attempt-1")
    assert caught.value.code is ErrorCode.FORBIDDEN
    assert caught.value.details == {"attempt_id": "attempt-1"}
    with pytest.raises(OperationError):
        check_person(UNPLACED)
