"""Executions through real supervisors: what was printed, how it ended, and who survives whom."""

import asyncio
import hashlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import node_agent.executions
import node_agent.supervisor
from node_agent.executions import (
    EndedExecution,
    ExecutionNotStartedError,
    LostExecution,
    NeverStarted,
    Output,
    RunningExecution,
    _write_spec,
    attach,
    start,
)
from node_agent.process_identity import find_family, identify, read_stat, same_process
from node_agent.run_folder import (
    IDENTITY,
    SPEC,
    STDIN,
    claim,
    read_record,
    segment_name,
    write_record,
)
from node_agent.spool import START, Frame
from node_agent.supervisor_connection import RequestRefusedError
from tests.node_agent.run_folders import (
    both_streams,
    end_process,
    gaps_of,
    python_spec,
    read_rest,
    read_to_end,
    spec_of,
    started,
    stream_bytes,
    wait_until,
)

SUPERVISOR = node_agent.supervisor.__file__


def supervisor_pid(run_folder: Path) -> int:
    """Return the pid the supervisor wrote down of itself."""
    record = read_record(run_folder / IDENTITY)
    assert record is not None
    pid: int = record["supervisor_pid"]
    return pid


@pytest.mark.asyncio
async def test_output_and_exit_code(tmp_path: Path) -> None:
    """Both streams arrive byte for byte, with the exit code and the counts of the record."""
    code = r"""
import os
os.write(1, b"one\n\x00\xff\xfe lone \xed\xa0\x80\x1b[31mred\n")
os.write(2, b"two\r\nno newline")
os._exit(3)
"""
    async with started(tmp_path / "run", python_spec(code)) as execution:
        pieces = await read_to_end(execution)
        record = execution.exit_record()
    assert both_streams(pieces) == (
        b"one\n\x00\xff\xfe lone \xed\xa0\x80\x1b[31mred\n",
        b"two\r\nno newline",
    )
    assert record is not None
    assert (record.exit_code, record.signal, record.notes) == (3, None, [])
    assert (record.streams["1"].bytes, record.streams["2"].bytes) == (25, 15)
    assert record.started_at_ms <= record.ended_at_ms


@pytest.mark.asyncio
async def test_large_output_in_large_frames(tmp_path: Path) -> None:
    """A long line and much output arrive exactly, over several segments, in few large frames."""
    code = """
import os, hashlib, random
line = random.Random(1).randbytes(1 << 20).replace(b"\\n", b"n")
for _ in range(20):
    at = 0
    while at < len(line):
        at += os.write(1, line[at:])
"""
    spec = python_spec(code, segment_bytes=1 << 20)
    async with started(tmp_path / "run", spec) as execution:
        pieces = await read_to_end(execution)
        record = execution.exit_record()
    import random

    line = random.Random(1).randbytes(1 << 20).replace(b"\n", b"n")
    printed = stream_bytes(pieces)
    assert hashlib.sha256(printed).digest() == hashlib.sha256(line * 20).digest()
    assert record is not None
    assert record.streams["1"].bytes == len(printed)
    assert record.last_segment >= 19
    assert len(pieces) < 20 * 64


@pytest.mark.asyncio
async def test_small_prints_are_gathered(tmp_path: Path) -> None:
    """A program that prints line by line makes far fewer frames than lines."""
    code = "import os\nfor n in range(20000): os.write(1, b'%d\\n' % n)"
    async with started(tmp_path / "run", python_spec(code)) as execution:
        pieces = await read_to_end(execution)
    assert stream_bytes(pieces) == b"".join(b"%d\n" % n for n in range(20000))
    assert len(pieces) < 2000


@pytest.mark.asyncio
async def test_lone_line_is_seen_at_once(tmp_path: Path) -> None:
    """A line printed in silence wakes the reader; how soon is printed."""
    code = """
import os, time
for _ in range(10):
    time.sleep(0.05)
    os.write(1, b"%d\\n" % time.monotonic_ns())
"""
    waits_ms = []
    async with started(tmp_path / "run", python_spec(code)) as execution:
        while (output := await execution.wait_output(20)) is not Output.ENDED:
            assert output is Output.GREW
            seen_ns = time.monotonic_ns()
            for piece in execution.reader.read():
                assert isinstance(piece, Frame)
                waits_ms += [(seen_ns - int(line)) / 1e6 for line in piece.data.split()]
    print(f"line to reader: {sorted(waits_ms)[5]:.2f} ms")  # noqa: T201  measured, not judged
    assert len(waits_ms) == 10


@pytest.mark.asyncio
async def test_silence_is_told_from_an_end(tmp_path: Path) -> None:
    """Waiting ends after the time given when nothing is printed, and not by itself before."""
    async with started(tmp_path / "run", spec_of(["sleep", "60"])) as execution:
        assert execution.reader.read() == []
        begun = time.monotonic()
        assert await execution.wait_output(0.3) is Output.SILENT
        assert time.monotonic() - begun > 0.25


@pytest.mark.asyncio
async def test_environment_folder_and_signals_are_the_programs_own(tmp_path: Path) -> None:
    """The program gets exactly the environment and folder given, default signals and umask."""
    code = """
import os, signal
print(sorted(os.environ.items()))
print(os.getcwd())
print(os.getpid() == os.getsid(0) == os.getpgrp())
print([n for n in (1, 2, 13, 15, 25) if signal.getsignal(n) is signal.SIG_IGN])
print(oct(os.umask(0)), os.listdir("/proc/self/fd"))
"""
    folder = tmp_path / "with space and \N{SNOWMAN}"
    folder.mkdir()
    env = {"VALUE": "x\ny\udcff"}
    # `sh -c` shows what was inherited: Python itself ignores SIGPIPE again.
    shell = 'grep SigIgn /proc/self/status >&2; exec "$@"'
    spec = python_spec(code, cwd=str(folder), env=env)
    spec = spec_of(["sh", "-c", shell, "sh", *spec.argv], cwd=str(folder), env=spec.env)
    before = os.umask(0o027)
    try:
        async with started(tmp_path / "run", spec) as execution:
            pieces = await read_to_end(execution)
    finally:
        os.umask(before)
    out, err = both_streams(pieces)
    names, cwd, leader, _, last = out.decode("utf-8", "surrogateescape").splitlines()
    expected = spec.env | {"PWD": str(folder)}
    assert dict(eval(names)) | {"PWD": str(folder)} == expected  # noqa: S307  our own repr
    assert cwd == str(folder)
    assert leader == "True"
    assert int(err.split()[1], 16) == 0
    assert last.startswith("0o27 ")
    # 0, 1, 2, and the one that listed them.
    assert len(eval(last.partition(" ")[2])) == 4  # noqa: S307


@pytest.mark.asyncio
async def test_run_folder_is_private_and_forgets_secrets(tmp_path: Path) -> None:
    """All files are for their owner only, and what may hold secrets is gone after the end."""
    run_folder = tmp_path / "run"
    spec = spec_of(["cat"], stdin=b"a secret\n", keep_stdin_open=True)
    async with started(run_folder, spec) as execution:
        await wait_until((run_folder / "out.0").exists)
        modes = {path.name: path.stat().st_mode & 0o777 for path in run_folder.iterdir()}
        assert run_folder.stat().st_mode & 0o777 == 0o700
        assert {STDIN, SPEC, "ctl.sock", "process", IDENTITY} <= set(modes)
        assert not [name for name, mode in modes.items() if mode & 0o077], modes
        await execution.close_stdin()
        assert stream_bytes(await read_to_end(execution)) == b"a secret\n"
    # Its supervisor takes the socket away behind the record of the end.
    await wait_until(lambda: not (run_folder / "ctl.sock").exists())
    left = {path.name for path in run_folder.iterdir()}
    assert left == {"identity", "process", "exit", "out.0", "supervisor.log"}
    assert (run_folder / "supervisor.log").read_text() == ""


@pytest.mark.asyncio
async def test_program_that_is_not_there(tmp_path: Path) -> None:
    """A program that cannot be run is told of at once, with a hint; 127 stays written."""
    with pytest.raises(ExecutionNotStartedError) as caught:
        await start(tmp_path / "run", spec_of(["no-such-program-anywhere"]))
    assert caught.value.reason == "exec"
    assert "no-such-program-anywhere" in caught.value.message
    assert caught.value.hint
    ended = await attach(tmp_path / "run")
    assert isinstance(ended, EndedExecution)
    assert ended.exit.exit_code == 127
    assert ended.exit.exec_failed is not None
    assert read_rest(ended.reader) == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("argv", "cwd", "reason"),
    [
        (["true"], "/no/such/folder", "cwd"),
        (["/"], "/", "exec"),
        ([], "/", "exec"),
        (["true", "a\0b"], "/", "exec"),
    ],
)
async def test_programs_that_cannot_be_started(
    tmp_path: Path, argv: list[str], cwd: str, reason: str
) -> None:
    """Whatever keeps a program from starting is an error with its reason, never a silent end."""
    with pytest.raises(ExecutionNotStartedError) as caught:
        await start(tmp_path / "run", spec_of(argv, cwd=cwd))
    assert caught.value.reason == reason


@pytest.mark.asyncio
async def test_run_folder_serves_one_start(tmp_path: Path) -> None:
    """A second start in the same folder is refused and leaves the first alone."""
    async with started(tmp_path / "run", spec_of(["sleep", "60"])) as execution:
        with pytest.raises(ExecutionNotStartedError) as caught:
            await start(tmp_path / "run", spec_of(["true"]))
        assert caught.value.reason == "claimed"
        assert (await execution.status())["running"] is True


@pytest.mark.asyncio
async def test_never_started_is_decided_once(tmp_path: Path) -> None:
    """Once recovery has claimed a folder no supervisor can start in it, however late it comes."""
    assert isinstance(await attach(tmp_path / "run"), NeverStarted)
    assert isinstance(await attach(tmp_path / "run"), NeverStarted)
    witness = tmp_path / "ran"
    with pytest.raises(ExecutionNotStartedError) as caught:
        await start(tmp_path / "run", spec_of(["touch", str(witness)]))
    assert caught.value.reason == "claimed"
    assert not witness.exists()


def test_claims_race_to_one_winner(tmp_path: Path) -> None:
    """Of many processes that claim a folder at the same moment exactly one gets it."""
    code = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from node_agent.run_folder import claim
        time.sleep(max(0.0, float(sys.argv[3]) - time.time()))
        print(claim(Path(sys.argv[1]), {"who": sys.argv[4]}), end="")
    """)
    checkout = str(Path(__file__).resolve().parents[2])
    at = str(time.time() + 0.7)
    racers = [
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code, str(tmp_path), checkout, at, str(n)],
            stdout=subprocess.PIPE,
        )
        for n in range(8)
    ]
    verdicts = [racer.communicate()[0] for racer in racers]
    assert sorted(verdicts) == [b"False"] * 7 + [b"True"]
    record = read_record(tmp_path / IDENTITY)
    assert record == {"who": str(verdicts.index(b"True"))}
    assert [path.name for path in tmp_path.iterdir()] == [IDENTITY]


@pytest.mark.asyncio
async def test_claim_without_program_never_ran(tmp_path: Path) -> None:
    """A supervisor that died between its claim and its program has run nothing."""
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    dead = subprocess.Popen([sys.executable, "-I", "-S", "-c", "pass"])
    was = identify(dead.pid)
    dead.wait()
    claim(
        run_folder,
        {
            "version": 1,
            "boot_id": was.boot_id,
            "supervisor_pid": was.pid,
            "supervisor_start_time": was.start_time,
        },
    )
    assert isinstance(await attach(run_folder), NeverStarted)


# --- stdin ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_stdin_given_at_the_start(tmp_path: Path) -> None:
    """The first input arrives whole, larger than any pipe, and ends; without any it is empty."""
    given = os.urandom(3 << 20)
    code = "import sys, hashlib\nprint(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
    async with started(tmp_path / "a", python_spec(code, stdin=given)) as execution:
        out = stream_bytes(await read_to_end(execution))
    assert out.decode().strip() == hashlib.sha256(given).hexdigest()
    async with started(tmp_path / "b", python_spec(code)) as execution:
        out = stream_bytes(await read_to_end(execution))
    assert out.decode().strip() == hashlib.sha256(b"").hexdigest()


@pytest.mark.asyncio
async def test_conversation_over_stdin(tmp_path: Path) -> None:
    """What is written reaches the program in order; its answers come back; closing ends it."""
    spec = spec_of(["cat"], stdin=b"first\n", keep_stdin_open=True)
    async with started(tmp_path / "run", spec) as execution:
        await execution.write_stdin(b"second\n")
        answered = b""
        while b"second" not in answered:
            assert await execution.wait_output(20) is Output.GREW
            answered += stream_bytes(execution.reader.read())
        large = os.urandom(2 << 20)
        await execution.write_stdin(large)
        await execution.close_stdin()
        answered += stream_bytes(await read_to_end(execution))
        assert answered == b"first\nsecond\n" + large


@pytest.mark.asyncio
async def test_input_by_offset(tmp_path: Path) -> None:
    """What was taken before is dropped, a hole is refused, and the program gets each byte once."""
    spec = spec_of(["cat"], stdin=b"first\n", keep_stdin_open=True)
    async with started(tmp_path / "a", spec) as execution:
        assert (await execution.status())["stdin_bytes"] == 6
        assert await execution.give_stdin(6, b"second\n") == 13
        # Again, by one who had not heard the answer; then with more behind it.
        assert await execution.give_stdin(6, b"second\n") == 13
        assert await execution.give_stdin(6, b"second\nthird\n") == 19
        assert await execution.give_stdin(0, b"first\n") == 19
        for at in (20, -1):
            with pytest.raises(RequestRefusedError) as caught:
                await execution.give_stdin(at, b"x")
            assert caught.value.reason == "stdin_gap"
        # As large as a prompt with images may be, in pieces, each of them given twice.
        large = os.urandom(5 << 20)
        taken = 19
        while taken < 19 + len(large):
            at, piece = taken, large[taken - 19 :]
            taken = await execution.give_stdin(at, piece)
            assert await execution.give_stdin(at, piece[: taken - at]) == taken
        await execution.close_stdin()
        pieces = await read_to_end(execution)
        assert stream_bytes(pieces) == b"first\nsecond\nthird\n" + large


@pytest.mark.asyncio
async def test_input_by_offset_of_a_program_that_does_not_read(tmp_path: Path) -> None:
    """What waits is bounded; once the program has gone, more is refused and the old is known."""
    spec = spec_of(["sh", "-c", "echo up; exec sleep 60"], keep_stdin_open=True)
    async with started(tmp_path / "a", spec) as execution:
        taken = 0
        refused = None
        while refused is None:
            try:
                taken = await execution.give_stdin(taken, bytes(256 * 1024))
            except RequestRefusedError as error:
                refused = error.reason
        assert refused == "stdin_full"
        assert 8 << 20 <= taken <= 64 << 20
        await execution.close_stdin()
        assert await execution.give_stdin(taken - 5, bytes(5)) == taken
        with pytest.raises(RequestRefusedError) as caught:
            await execution.give_stdin(taken, b"x")
        assert caught.value.reason == "stdin_closed"


@pytest.mark.asyncio
async def test_two_readers_keep_what_either_needs(tmp_path: Path) -> None:
    """A segment is deleted once both readers of the spool are past it, and not before."""
    code = "import sys\nfor line in sys.stdin: print('x' * 300, flush=True)"
    spec = python_spec(code, segment_bytes=256, keep_stdin_open=True)
    run_folder = tmp_path / "a"
    async with started(run_folder, spec) as execution:
        other = execution.second_reader("other", START, (0, 0))
        try:
            for count in range(1, 6):
                await execution.write_stdin(b"go\n")
                while len(stream_bytes(other.reader.read())) == 0:
                    assert await other.wait_output() is Output.GREW, count
            assert other.reader.position.segment > 2
            await execution.consumed(3)
            assert (run_folder / segment_name(0)).exists()
            await execution.consumed(2, "other")
            await wait_until(lambda: not (run_folder / segment_name(1)).exists())
            assert (run_folder / segment_name(2)).exists()
        finally:
            await other.close()


@pytest.mark.asyncio
async def test_nothing_is_deleted_before_the_other_reader_is_there(tmp_path: Path) -> None:
    """Whoever is to read the spool too finds all of it, however far the first has come."""
    code = "import sys\nfor line in sys.stdin: print('x' * 300, flush=True)"
    spec = python_spec(code, segment_bytes=256, keep_stdin_open=True)
    run_folder = tmp_path / "a"
    async with started(run_folder, spec) as execution:
        execution.hold_for("other")
        for count in range(1, 6):
            await execution.write_stdin(b"go\n")
            while len(stream_bytes(execution.reader.read())) == 0:
                assert await execution.wait_output() is Output.GREW, count
        await execution.consumed(execution.reader.position.segment)
        assert (await execution.status())["running"]
        assert (run_folder / segment_name(0)).exists()
        other = execution.second_reader("other", START, (0, 0))
        try:
            await execution.consumed(2, "other")
            await wait_until(lambda: not (run_folder / segment_name(1)).exists())
        finally:
            await other.close()


@pytest.mark.asyncio
async def test_stdin_of_a_program_that_does_not_read(tmp_path: Path) -> None:
    """Writing waits for a reader without stopping anything else, and is refused once it is gone."""
    spec = spec_of(["sh", "-c", "echo up; exec sleep 60"], keep_stdin_open=True)
    async with started(tmp_path / "run", spec) as execution:
        writing = asyncio.create_task(execution.write_stdin(bytes(1 << 20)))
        await asyncio.sleep(0.1)
        assert not writing.done()
        assert (await execution.status())["running"] is True
        await execution.stop(0)
        with pytest.raises(RequestRefusedError) as caught:
            await writing
        assert caught.value.reason == "stdin_closed"


# --- ends ----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_killed_from_outside(tmp_path: Path) -> None:
    """A group killed by someone else ends with signal 9 and all that was printed before."""
    code = "import os, time\nos.write(1, b'before\\n')\ntime.sleep(60)"
    async with started(tmp_path / "run", python_spec(code)) as execution:
        assert await execution.wait_output() is Output.GREW
        os.killpg(execution.identity.pid, signal.SIGKILL)
        pieces = await read_to_end(execution)
        record = execution.exit_record()
    assert stream_bytes(pieces) == b"before\n"
    assert record is not None
    assert (record.exit_code, record.signal, record.stop_asked) == (None, 9, False)


@pytest.mark.asyncio
async def test_signal_reaches_the_group(tmp_path: Path) -> None:
    """A signal asked for is delivered to the program."""
    code = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: (os.write(1, b"caught"), os._exit(0)))
os.write(1, b"ready\\n")
while True: signal.pause()
"""
    async with started(tmp_path / "run", python_spec(code)) as execution:
        assert await execution.wait_output() is Output.GREW
        await execution.signal(signal.SIGUSR1)
        assert stream_bytes(await read_to_end(execution)) == b"ready\ncaught"


@pytest.mark.asyncio
async def test_stop_is_polite_first(tmp_path: Path) -> None:
    """A program that ends on the interrupt is not sent anything else."""
    code = """
import os, signal, time
def leave(number, _):
    os.write(1, b"%d\\n" % number)
    time.sleep(0.2)
    os._exit(0)
for number in (2, 15):
    signal.signal(number, leave)
os.write(1, b"ready\\n")
while True: signal.pause()
"""
    async with started(tmp_path / "run", python_spec(code)) as execution:
        assert await execution.wait_output() is Output.GREW
        await execution.stop(10)
        pieces = await read_to_end(execution)
        record = execution.exit_record()
    assert stream_bytes(pieces) == b"ready\n2\n"
    assert record is not None
    assert (record.exit_code, record.stop_asked) == (0, True)


STUBBORN = """
import os, signal, sys, time
def show(number, _): os.write(1, b"%d\\n" % number)
for number in (2, 15):
    signal.signal(number, show)
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        # Out of the group, out of the session, an orphan; and deaf.
        signal.signal(2, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN)
        open(sys.argv[1], "a").write("%d\\n" % os.getpid())
        time.sleep(60)
        os._exit(0)
while open(sys.argv[1]).read().count("\\n") < 2: time.sleep(0.01)
os.write(1, b"ready\\n")
while True: signal.pause()
"""


@pytest.mark.asyncio
async def test_stop_escalates_and_finds_what_left_the_group(tmp_path: Path) -> None:
    """Interrupt, terminate, kill, in this order; grandchildren in other sessions die as well."""
    pids_path = tmp_path / "pids"
    pids_path.touch()
    async with started(tmp_path / "run", python_spec(STUBBORN, str(pids_path))) as execution:
        assert await execution.wait_output() is Output.GREW
        begun = time.monotonic()
        await execution.stop(0.6)
        pieces = await read_to_end(execution)
        took_s = time.monotonic() - begun
        record = execution.exit_record()
    pids = [int(line) for line in pids_path.read_text().split()]
    assert len(pids) == 2
    stats = [read_stat(pid) for pid in pids]
    assert all(stat is None or stat.state in "ZX" for stat in stats), stats
    assert stream_bytes(pieces) == b"ready\n2\n15\n"
    assert record is not None
    assert (record.signal, record.notes) == (9, [])
    assert took_s > 0.5


@pytest.mark.asyncio
async def test_stop_asked_again_does_not_wait_longer(tmp_path: Path) -> None:
    """A second stop with less grace shortens the first; one with more does not lengthen it."""
    code = "import signal\nsignal.signal(2, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN)\n"
    code += "print('up', flush=True)\nwhile True: signal.pause()"
    async with started(tmp_path / "run", python_spec(code)) as execution:
        assert await execution.wait_output() is Output.GREW
        await execution.stop(300)
        await execution.stop(0.5)
        await execution.stop(300)
        await read_to_end(execution, timeout_s=20)
        record = execution.exit_record()
    assert record is not None
    assert record.signal == 9


@pytest.mark.asyncio
async def test_pipes_left_open_end_the_log_after_silence(tmp_path: Path) -> None:
    """What a program leaves behind may print on for a while; its silence closes the log."""
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    time.sleep(0.3)
    os.write(1, b"late\\n")
    time.sleep(60)
    os._exit(0)
os.write(1, b"main\\n%d\\n" % os.getpid())
os._exit(5)
"""
    marker = {"SKEP_EXECUTION_ID": f"left-{os.getpid()}"}
    async with started(tmp_path / "run", python_spec(code, env=marker, linger_s=0.8)) as execution:
        pieces = await read_to_end(execution)
        record = execution.exit_record()
    lines = stream_bytes(pieces).split()
    assert (lines[0], lines[-1]) == (b"main", b"late")
    assert record is not None
    assert (record.exit_code, record.notes) == (5, ["output_left_open"])
    # It was not stopped, so what it left behind lives.
    left = find_family(None, f"SKEP_EXECUTION_ID=left-{os.getpid()}".encode())
    assert len(left) == 1
    for pid in left:
        end_process(pid)


@pytest.mark.asyncio
async def test_endless_output_of_leftovers_is_cut(tmp_path: Path) -> None:
    """What is left behind and never falls silent cannot keep the execution open for ever."""
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    while True:
        os.write(1, b"tick\\n")
        time.sleep(0.05)
os._exit(0)
"""
    spec = python_spec(code, linger_s=1.0, linger_s_max=1.0)
    async with started(tmp_path / "run", spec) as execution:
        await read_to_end(execution, timeout_s=20)
        record = execution.exit_record()
    assert record is not None
    assert (record.exit_code, record.notes) == (0, ["output_left_open"])


# --- who survives whom ---------------------------------------------------------------------------

AGENT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from node_agent.executions import ExecutionSpec, start
async def main():
    spec = ExecutionSpec(argv=sys.argv[3:], cwd="/", env={"PATH": "/usr/bin:/bin"})
    execution = await start(Path(sys.argv[2]), spec)
    print(execution.identity.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def start_agent(run_folder: Path, *argv: str) -> tuple["subprocess.Popen[bytes]", int]:
    """Start a process that starts an execution, as a node agent does; return it and the pid."""
    checkout = str(Path(__file__).resolve().parents[2])
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, checkout, str(run_folder), *argv],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert agent.stdout is not None
    return agent, int(agent.stdout.readline())


def kill_agent(agent: "subprocess.Popen[bytes]") -> None:
    """Kill it with its whole group, as a terminal or a supervisor of services may."""
    os.killpg(agent.pid, signal.SIGKILL)
    agent.communicate()


@pytest.mark.asyncio
async def test_program_survives_the_node_agent(tmp_path: Path) -> None:
    """After the node agent was killed the same process is found again and its output goes on."""
    run_folder = tmp_path / "run"
    gate = tmp_path / "gate"
    shell = f"echo before; until [ -e {gate} ]; do sleep 0.02; done; echo after"
    agent, pid = start_agent(run_folder, "sh", "-c", shell)
    kill_agent(agent)
    execution = await attach(run_folder)
    assert isinstance(execution, RunningExecution)
    assert execution.identity.pid == pid
    assert same_process(execution.identity)
    await execution.wait_output()
    first = execution.reader.read()
    assert stream_bytes(first) == b"before\n"
    position = execution.reader.position
    await execution.close()

    # And once more, from where the first one left off.
    execution = await attach(run_folder, position, (7, 0))
    assert isinstance(execution, RunningExecution)
    gate.touch()
    assert stream_bytes(await read_to_end(execution)) == b"after\n"
    record = execution.exit_record()
    assert record is not None
    assert record.exit_code == 0
    await execution.close()


@pytest.mark.asyncio
async def test_end_while_nobody_listens(tmp_path: Path) -> None:
    """An exit code and the last output wait for whoever comes."""
    run_folder = tmp_path / "run"
    agent, _ = start_agent(run_folder, "sh", "-c", "echo on; sleep 0.3; echo off; exit 7")
    kill_agent(agent)
    await wait_until((run_folder / "exit").exists)
    for _ in range(2):
        ended = await attach(run_folder)
        assert isinstance(ended, EndedExecution)
        assert ended.exit.exit_code == 7
        assert stream_bytes(read_rest(ended.reader)) == b"on\noff\n"


@pytest.mark.asyncio
async def test_polite_signals_do_not_end_the_supervisor(tmp_path: Path) -> None:
    """SIGTERM and SIGHUP, as at a shutdown, reach the supervisor and lose nothing."""
    run_folder = tmp_path / "run"
    gate = tmp_path / "gate"
    shell = f"echo a; until [ -e {gate} ]; do sleep 0.02; done; echo b; exit 4"
    async with started(run_folder, spec_of(["sh", "-c", shell])) as execution:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(supervisor_pid(run_folder), number)
            await asyncio.sleep(0.02)
        gate.touch()
        assert stream_bytes(await read_to_end(execution)) == b"a\nb\n"
        record = execution.exit_record()
    assert record is not None
    assert record.exit_code == 4


@pytest.mark.asyncio
async def test_supervisor_killed(tmp_path: Path) -> None:
    """Without its supervisor an execution is lost: what ran is killed, what was spooled is kept."""
    run_folder = tmp_path / "run"
    code = "import os, time\nos.write(1, b'kept\\n')\nos.fork() or os.setsid()\ntime.sleep(60)"
    execution = await start(run_folder, python_spec(code))
    await execution.wait_output()
    assert stream_bytes(execution.reader.read()) == b"kept\n"
    waiting = asyncio.create_task(execution.wait_output(30))
    while execution.reader.read():
        pass
    os.kill(supervisor_pid(run_folder), signal.SIGKILL)
    assert await waiting is Output.LOST
    await execution.close()

    lost = await attach(run_folder)
    assert isinstance(lost, LostExecution)
    assert execution.identity.pid in lost.killed_pids
    assert len(lost.killed_pids) == 2
    assert not same_process(execution.identity)
    assert stream_bytes(read_rest(lost.reader)) == b"kept\n"
    assert lost.reader.finished
    again = await attach(run_folder)
    assert isinstance(again, LostExecution)
    assert again.killed_pids == []


@pytest.mark.asyncio
async def test_pid_of_another_is_left_alone(tmp_path: Path) -> None:
    """A process that has the dead program's pid by chance is neither attached nor killed."""
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    bystander = subprocess.Popen(["sleep", "60"])
    other = identify(bystander.pid)
    claim(
        run_folder,
        {
            "version": 1,
            "boot_id": other.boot_id,
            "supervisor_pid": other.pid,
            "supervisor_start_time": other.start_time - 1,
        },
    )
    write_record(
        run_folder / "process",
        {"version": 1, "pid": other.pid, "start_time": other.start_time - 1},
    )
    lost = await attach(run_folder)
    assert isinstance(lost, LostExecution)
    assert lost.killed_pids == []
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


@pytest.mark.asyncio
async def test_supervisor_killed_at_any_moment_of_the_start(tmp_path: Path) -> None:
    """However a start is cut short, `never started` means that the program never ran."""
    begun = time.monotonic()
    async with started(tmp_path / "whole", spec_of(["touch", str(tmp_path / "ran")])) as execution:
        await read_to_end(execution)
    whole_s = time.monotonic() - begun
    assert (tmp_path / "ran").exists()

    outcomes = set()
    for round_no in range(24):
        run_folder, witness = tmp_path / f"run-{round_no}", tmp_path / f"ran-{round_no}"
        spec = spec_of(["touch", str(witness)])
        marker = f"SKEP_TEST_ROUND={spec.env['SKEP_EXECUTION_ID']}"
        _write_spec(run_folder, spec)
        supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", "utf8", SUPERVISOR, str(run_folder)],
            env=dict([marker.split("=")]),
            stdout=subprocess.DEVNULL,
        )
        await asyncio.sleep(whole_s * round_no / 20)
        for _ in range(5):
            for pid in find_family(None, marker.encode()):
                end_process(pid)
        supervisor.wait()
        outcome = await attach(run_folder)
        outcomes.add(type(outcome))
        if isinstance(outcome, NeverStarted):
            await asyncio.sleep(0.02)
            assert not witness.exists()
        elif isinstance(outcome, EndedExecution):
            assert witness.exists() == (outcome.exit.exit_code == 0)
        else:
            assert isinstance(outcome, LostExecution)
    assert NeverStarted in outcomes


@pytest.mark.asyncio
async def test_stop_after_the_programs_end(tmp_path: Path) -> None:
    """What a program left behind is stopped as well while its output is still waited for."""
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(60)
os._exit(0)
"""
    spec = python_spec(code, linger_s=30.0)
    async with started(tmp_path / "run", spec) as execution:
        assert await execution.wait_output() is Output.GREW
        (first,) = execution.reader.read()
        assert isinstance(first, Frame)
        left = identify(int(first.data))
        await wait_until(lambda: not same_process(execution.identity))
        assert same_process(left)
        await execution.stop(0.2)
        await read_to_end(execution, timeout_s=20)
        record = execution.exit_record()
        assert not same_process(left)
    assert record is not None
    assert (record.exit_code, record.stop_asked, record.notes) == (0, True, [])


@pytest.mark.asyncio
async def test_node_without_room(tmp_path: Path) -> None:
    """A run folder that cannot be made is an error for a person, not a stack of calls."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExecutionNotStartedError) as caught:
        await start(tmp_path / "file" / "run", spec_of(["true"]))
    assert caught.value.reason == "system"
    assert caught.value.hint


@pytest.mark.asyncio
async def test_supervisor_that_cannot_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the supervisor itself fails, its own words are in the error, and nothing has run."""
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('no room for me')")
    monkeypatch.setattr(node_agent.executions, "_SUPERVISOR", broken)
    with pytest.raises(ExecutionNotStartedError) as caught:
        await start(tmp_path / "run", spec_of(["true"]))
    assert caught.value.reason == "supervisor"
    assert "no room for me" in caught.value.details["complaint"]
    assert isinstance(await attach(tmp_path / "run"), NeverStarted)


@pytest.mark.asyncio
async def test_disk_full_while_running(tmp_path: Path) -> None:
    """A full disk neither stops the program nor the supervisor; with room again it heals."""
    run_folder = tmp_path / "run"
    code = """
import os, sys
for line in sys.stdin.buffer:
    out = int(line) * b"0123456789abcde\\n"
    while out: out = out[os.write(1, out):]
    os.write(2, b"done\\n")
"""
    async with started(run_folder, python_spec(code, keep_stdin_open=True)) as execution:
        supervisor = supervisor_pid(run_folder)

        async def print_lines(count: int) -> None:
            before = (await execution.status())["printed_bytes"]
            await execution.write_stdin(b"%d\n" % count)
            async with asyncio.timeout(60):
                while (await execution.status())["printed_bytes"] < before + count * 16 + 5:
                    await asyncio.sleep(0.01)

        await print_lines(1000)
        room_bytes = (run_folder / "out.0").stat().st_size
        limits = resource.prlimit(supervisor, resource.RLIMIT_FSIZE)
        resource.prlimit(supervisor, resource.RLIMIT_FSIZE, (room_bytes, limits[1]))
        await print_lines(200_000)
        assert (await execution.status())["failure"] == "disk_full"
        resource.prlimit(supervisor, resource.RLIMIT_FSIZE, limits)
        await print_lines(1000)
        assert (await execution.status())["failure"] == ""
        await execution.close_stdin()
        pieces = await read_to_end(execution)
        record = execution.exit_record()
    assert record is not None
    assert (record.exit_code, record.notes) == (0, [])
    out, err = both_streams(pieces)
    gaps = gaps_of(pieces)
    assert {gap.reason for gap in gaps} == {"disk_full"}
    assert len(out) + sum(gap.stdout_bytes for gap in gaps) == 202_000 * 16
    assert len(err) + sum(gap.stderr_bytes for gap in gaps) == 15
    assert out.endswith(b"0123456789abcde\n" * 900)


# --- the spool's bounds --------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_quota_keeps_head_and_tail(tmp_path: Path) -> None:
    """Nobody reading, a storm keeps its beginning and its end; the middle is one counted gap."""
    lines = 400_000
    code = f"import sys\nfor n in range({lines}): sys.stdout.write('%09d\\n' % n)"
    quota = 1 << 20
    spec = python_spec(code, spool_quota_bytes=quota, segment_bytes=64 * 1024)
    async with started(tmp_path / "run", spec) as execution:
        await wait_until(lambda: execution.exit_record() is not None, timeout_s=60)
        kept = sum(path.stat().st_size for path in (tmp_path / "run").glob("out.*"))
        pieces = await read_to_end(execution)
    assert kept < quota + 3 * 64 * 1024 + 256 * 1024
    gaps = gaps_of(pieces)
    assert [gap.reason for gap in gaps] == ["quota"]
    (place,) = [at for at, piece in enumerate(pieces) if piece in gaps]
    head, tail = stream_bytes(pieces[:place]), stream_bytes(pieces[place:])
    assert head.startswith(b"000000000\n")
    assert tail.endswith(b"%09d\n" % (lines - 1))
    assert len(head) + gaps[0].stdout_bytes + len(tail) == lines * 10
    newlines = head.count(b"\n") + tail.count(b"\n")
    assert gaps[0].newlines == lines - newlines
    assert quota // 4 < len(head) < quota * 3 // 4
    assert quota // 4 < len(tail) < quota * 3 // 4


@pytest.mark.asyncio
async def test_consumed_segments_go(tmp_path: Path) -> None:
    """Segments told to be safe are deleted, never the present one, and reading goes on."""
    run_folder = tmp_path / "run"
    code = "import os\nfor _ in range(64): os.write(1, bytes(64 * 1024))\nos.read(0, 1)"
    spec = python_spec(code, segment_bytes=256 * 1024, keep_stdin_open=True)
    async with started(run_folder, spec) as execution:
        read_bytes = 0
        while read_bytes < 64 * 64 * 1024:
            read_bytes += len(stream_bytes(execution.reader.read()))
            if execution.reader.exhausted:
                await execution.wait_output()
        segment = execution.reader.position.segment
        await execution.consumed(segment)
        left = sorted(path.name for path in run_folder.glob("out.*"))
        assert left == [f"out.{segment}"]
        await execution.consumed(segment + 10)
        assert (run_folder / f"out.{segment}").exists()
        await execution.close_stdin()
        assert await read_to_end(execution) == []


@pytest.mark.asyncio
async def test_folder_with_a_long_name(tmp_path: Path) -> None:
    """A run folder too long for a socket's address is spoken to all the same."""
    run_folder = tmp_path / ("long" * 30) / ("name" * 30)
    async with started(run_folder, spec_of(["sleep", "60"])) as execution:
        assert (await execution.status())["pid"] == execution.identity.pid
