"""The supervisor as a process: its socket, its independence, and its start, met from outside."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import node_agent.supervisor
from node_agent import supervision
from node_agent.executions import ExitRecord, Output, read_exit, start
from node_agent.process_identity import identify, read_stat, same_process
from node_agent.run_folder import read_record, write_record
from node_agent.spool import SpoolReader
from protocol import limits, log_chunks
from tests.node_agent.run_folders import (
    ENVIRONMENT,
    python_spec,
    read_rest,
    read_to_end,
    spec_of,
    started,
    stream_bytes,
    wait_until,
)

SUPERVISOR = node_agent.supervisor.__file__


def write_spec(run_folder: Path, argv: list[str], **fields: Any) -> None:
    """Write a spec as the node agent does."""
    run_folder.mkdir(mode=0o700)
    spec = {
        "version": 1,
        "argv": argv,
        "cwd": "/",
        "env": ENVIRONMENT,
        "stdin": False,
        "keep_stdin_open": False,
        "grace_s": 1,
        "spool_quota_bytes": 1 << 30,
        "segment_bytes": 8 << 20,
        "sync_ms": 500,
        "linger_s": 0.5,
        "linger_s_max": 5,
    }
    write_record(run_folder / "spec", spec | fields)


def run_supervisor(run_folder: Path, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    """Run the supervisor's file as a program, and return once it has let go of us."""
    command = [sys.executable, "-I", "-S", "-X", "utf8", SUPERVISOR, str(run_folder)]
    return subprocess.run(command, capture_output=True, timeout=30, check=False, **options)


def wait_for_exit(run_folder: Path) -> ExitRecord:
    """Return the record of the end once there is one."""
    deadline = time.monotonic() + 60
    while (record := read_exit(run_folder)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return record


@contextmanager
def connected(run_folder: Path) -> Iterator[socket.socket]:
    """Connect to a supervisor's socket by hand."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(run_folder / "ctl.sock"))
        yield connection


def ask(connection: socket.socket, request: object) -> dict[str, Any]:
    """Send one line and return the answer to it."""
    text = request if isinstance(request, bytes) else json.dumps(request).encode()
    connection.sendall(text + b"\n")
    answer = json.loads(connection.makefile("rb").readline())
    assert isinstance(answer, dict)
    return answer


def test_runs_as_a_file_alone(tmp_path: Path) -> None:
    """The file runs isolated in any folder, says how it went, and writes a whole run down."""
    for name in ("json", "socket", "node_agent", "msgspec"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    write_spec(tmp_path / "run", ["sh", "-c", "echo hello; exit 5"])
    begun = time.monotonic()
    done = run_supervisor(Path("run"), cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    print(f"spawn to running: {(time.monotonic() - begun) * 1000:.0f} ms")  # noqa: T201
    assert (done.returncode, done.stdout, done.stderr) == (0, b"started\n", b"")
    assert wait_for_exit(tmp_path / "run").exit_code == 5
    assert stream_bytes(read_rest(SpoolReader(tmp_path / "run"))) == b"hello\n"


def test_where_waitid_is_missing(tmp_path: Path) -> None:
    """On systems without waitid (macOS) the end of the program is learned all the same."""
    code = """
import os, runpy, sys
del os.waitid
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
    for name, shell, code_and_signal in (
        ("a", "echo x; exit 6", (6, None)),
        ("b", "kill -15 $$", (None, 15)),
    ):
        write_spec(tmp_path / name, ["sh", "-c", shell])
        command = [sys.executable, "-I", "-S", "-c", code, SUPERVISOR, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
        assert done.stdout == b"started\n"
        record = wait_for_exit(tmp_path / name)
        assert (record.exit_code, record.signal) == code_and_signal


def test_without_a_spec_nothing_is_claimed(tmp_path: Path) -> None:
    """A folder without a spec, or with one of another version, is left as it was."""
    (tmp_path / "run").mkdir()
    assert run_supervisor(tmp_path / "run").stdout == b"unreadable\n"
    write_spec(tmp_path / "next", ["true"], version=2)
    assert run_supervisor(tmp_path / "next").stdout == b"unreadable\n"
    for name in ("run", "next"):
        assert not (tmp_path / name / "identity").exists()


@pytest.mark.asyncio
async def test_is_nobodys_child(tmp_path: Path) -> None:
    """It has a session of its own, nothing of the caller's, and the program is its child."""
    kept_open = (tmp_path / "inherited").open("w")
    os.set_inheritable(kept_open.fileno(), True)
    async with started(tmp_path / "run", spec_of(["sleep", "60"])) as execution:
        status = await execution.status()
        pid = status["supervisor_pid"]
        stat = read_stat(pid)
        program = read_stat(status["pid"])
        assert stat is not None
        assert program is not None
        assert stat.parent_pid != os.getpid()
        assert os.getsid(pid) == pid
        assert program.parent_pid == pid
        assert os.getsid(status["pid"]) == status["pid"] == program.group
        for process in (pid, status["pid"]):
            targets = [str(entry.readlink()) for entry in Path(f"/proc/{process}/fd").iterdir()]
            assert kept_open.name not in targets
        assert [str(Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in range(3)] == [
            os.devnull,
            os.devnull,
            str(tmp_path / "run/supervisor.log"),
        ]
        identity = read_record(tmp_path / "run/identity")
        process_record = read_record(tmp_path / "run/process")
        assert identity is not None
        assert process_record is not None
        assert (identity["supervisor_pid"], identity["supervisor_start_time"]) == (
            pid,
            stat.start_time,
        )
        assert (process_record["pid"], process_record["start_time"]) == (
            status["pid"],
            program.start_time,
        )
    kept_open.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("request_line", "error", "request_id"),
    [
        (b"not json", "invalid", None),
        (b"\xff\xfe\x00", "invalid", None),
        (b"[1, 2]", "invalid", None),
        (b"[" * 100_000, "invalid", None),
        (b'{"id": 1}', "unsupported_version", 1),
        (b'{"version": 2, "id": 1, "do": "status"}', "unsupported_version", 1),
        (b'{"version": 1, "id": "x", "do": "fly"}', "unknown_request", "x"),
        (b'{"version": 1, "id": 2, "do": ["status"]}', "unknown_request", 2),
        (b'{"version": 1, "id": 3, "do": "signal"}', "invalid", 3),
        (b'{"version": 1, "id": 3, "do": "signal", "signum": 1000}', "invalid", 3),
        (b'{"version": 1, "id": 4, "do": "wait", "after_bytes": 0}', "invalid", 4),
        (
            b'{"version": 1, "id": 4, "do": "wait", "after_bytes": 1e999, "timeout_s": 1}',
            "invalid",
            4,
        ),
        (
            b'{"version": 1, "id": 4, "do": "wait", "after_bytes": 0, "timeout_s": NaN}',
            "invalid",
            4,
        ),
        (b'{"version": 1, "id": 4, "do": "stop", "grace_s": NaN}', "invalid", 4),
        (b'{"version": 1, "id": 5, "do": "stop", "grace_s": "soon"}', "invalid", 5),
        (b'{"version": 1, "id": 6, "do": "stdin", "bytes": "!"}', "invalid", 6),
        (b'{"version": 1, "id": 6, "do": "stdin", "bytes": "YQ=="}', "stdin_closed", 6),
        (b'{"version": 1, "id": 7, "do": "consumed", "segment": {}}', "invalid", 7),
    ],
)
async def test_bad_requests_are_answered(
    tmp_path: Path, request_line: bytes, error: str, request_id: object
) -> None:
    """Whatever is asked, the answer names what is wrong with it, and the supervisor goes on."""
    async with started(tmp_path / "run", spec_of(["sleep", "60"])) as execution:
        with connected(tmp_path / "run") as connection:
            answer = ask(connection, request_line)
            assert (answer["version"], answer["ok"]) == (1, False)
            assert (answer["error"], answer["id"]) == (error, request_id)
            assert answer["message"]
            answer = ask(connection, {"version": 1, "id": 9, "do": "status"})
            assert (answer["ok"], answer["running"]) == (True, True)
        assert (await execution.status())["stop_asked"] is False


@pytest.mark.asyncio
async def test_requests_too_long_or_never_read(tmp_path: Path) -> None:
    """A line without end is refused, a client that never reads is let go, others are served."""
    async with started(tmp_path / "run", spec_of(["sleep", "60"])) as execution:
        with connected(tmp_path / "run") as connection:
            received = b""
            with suppress(OSError):
                for _ in range(40):
                    connection.sendall(bytes(64 * 1024))
            with suppress(OSError):
                received = connection.recv(4096)
            assert not received or b"too_large" in received
        with connected(tmp_path / "run") as connection:
            request = b'{"version": 1, "do": "status"}\n' * 1000
            with pytest.raises(OSError):
                await asyncio.to_thread(connection.sendall, request * 400)
        assert (await execution.status())["running"] is True


@pytest.mark.asyncio
async def test_clients_are_bounded(tmp_path: Path) -> None:
    """More connections than there is room for are closed, and room comes back."""
    path = str(tmp_path / "run/ctl.sock")
    async with started(tmp_path / "run", spec_of(["sleep", "60"])) as execution:
        await execution.status()
        with ExitStack() as connections:
            for _ in range(40):
                last = connections.enter_context(socket.socket(socket.AF_UNIX))
                # Refused for a moment when more wait than the supervisor has seen.
                await wait_until(lambda last=last: last.connect_ex(path) == 0)
            last.settimeout(10)
            assert last.recv(1) == b""
            assert (await execution.status())["running"] is True

        def is_served() -> bool:
            with suppress(OSError), connected(tmp_path / "run") as connection:
                return ask(connection, {"version": 1, "do": "status"})["ok"] is True
            return False

        # As soon as it has noticed that the others are gone.
        await wait_until(is_served)


@pytest.mark.asyncio
async def test_waits(tmp_path: Path) -> None:
    """A wait is answered by output, by its time, by a later wait of the client, or by the end."""
    spec = spec_of(["cat"], keep_stdin_open=True)
    async with started(tmp_path / "run", spec) as execution:
        with connected(tmp_path / "run") as connection:
            lines = connection.makefile("rb")

            def wait(request_id: int, after_bytes: int, timeout_s: float) -> None:
                request = {"version": 1, "id": request_id, "do": "wait"}
                request |= {"after_bytes": after_bytes, "timeout_s": timeout_s}
                connection.sendall(json.dumps(request).encode() + b"\n")

            def answer() -> tuple[int, bool, bool]:
                record = json.loads(lines.readline())
                return record["id"], record["bytes"] > 0, record["ended"]

            wait(1, 0, 0.05)
            assert await asyncio.to_thread(answer) == (1, False, False)
            wait(2, 0, 60)
            wait(3, 0, 60)
            assert await asyncio.to_thread(answer) == (2, False, False)
            await execution.write_stdin(b"x")
            assert await asyncio.to_thread(answer) == (3, True, False)
            wait(4, 0, 60)
            assert await asyncio.to_thread(answer) == (4, True, False)
            wait(5, 1 << 40, 60)
            await execution.close_stdin()
            assert await asyncio.to_thread(answer) == (5, True, True)
            assert await asyncio.to_thread(lines.readline) == b""
            # Who heard of the end finds it written.
            record = execution.exit_record()
            assert record is not None
            assert record.exit_code == 0


@pytest.mark.asyncio
async def test_idle_costs_nothing(tmp_path: Path) -> None:
    """A program that is silent does not make its supervisor work."""
    async with started(tmp_path / "run", spec_of(["sh", "-c", "echo a; sleep 60"])) as execution:
        await execution.wait_output()
        pid = (await execution.status())["supervisor_pid"]
        await asyncio.sleep(0.7)
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        before = int(fields[11]) + int(fields[12])
        await asyncio.sleep(1.0)
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        # In ticks of 10 ms.
        assert int(fields[11]) + int(fields[12]) - before <= 1


@pytest.mark.asyncio
async def test_orphans_are_buried(tmp_path: Path) -> None:
    """Orphans of a long-running program that end do not stay behind as zombies."""
    code = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.05)
            os._exit(0)
        os._exit(0)
    os.wait()
os.write(1, b"ready\\n")
time.sleep(60)
"""
    async with started(tmp_path / "run", python_spec(code)) as execution:
        assert await execution.wait_output() is Output.GREW
        pid = (await execution.status())["supervisor_pid"]
        children = Path(f"/proc/{pid}/task/{pid}/children")
        await wait_until(lambda: len(children.read_text().split()) == 1)


@pytest.mark.asyncio
async def test_ends_in_a_folder_that_is_gone(tmp_path: Path) -> None:
    """With its folder deleted under it the supervisor still sees its program out, and ends."""
    run_folder = tmp_path / "run"
    shell = "echo up; read -r line; i=0; while [ $i -lt 99 ]; do echo $i; i=$((i+1)); done"
    spec = spec_of(["sh", "-c", shell], keep_stdin_open=True, segment_bytes=64)
    execution = await start(run_folder, spec)
    assert await execution.wait_output() is Output.GREW
    supervisor = identify((await execution.status())["supervisor_pid"])
    shutil.rmtree(run_folder)
    await execution.close_stdin()
    await wait_until(lambda: not same_process(supervisor))
    assert not same_process(execution.identity)
    await execution.close()


@pytest.mark.asyncio
async def test_output_is_synced_by_and_by(tmp_path: Path) -> None:
    """A spool that was synced a moment ago is not synced again for each frame."""
    code = "import os, time\nfor n in range(100): os.write(1, b'x' * 100); time.sleep(0.005)"
    async with started(tmp_path / "run", python_spec(code, sync_ms=50)) as execution:
        pieces = await read_to_end(execution)
        record = execution.exit_record()
    assert stream_bytes(pieces) == b"x" * 10_000
    assert record is not None
    assert record.notes == []


def test_a_full_read_fills_a_chunk() -> None:
    """The supervisor may not import the protocol, so the arithmetic is checked here."""
    pieces = 4 * log_chunks.SEGMENT_HEADER_BYTES
    assert supervision.READ_BYTES + pieces == limits.CHUNK_RAW_BYTES_MAX
