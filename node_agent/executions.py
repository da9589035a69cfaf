"""Executions as the node agent holds them: start one, find one again, speak to it, learn its end.

All through the run folder and its supervisor: a process is never a child of the node agent. Must
not interpret output nor decide what an end means for an attempt. Reads of the run folder are short
and of local files, so they are made in the loop.
"""

import asyncio
import base64
import enum
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

import node_agent.supervisor
from node_agent.callers import ATTEMPT_VARIABLE, NODE_VARIABLE
from node_agent.config import process_environment
from node_agent.process_identity import ProcessIdentity, same_process
from node_agent.program import kill_orphans
from node_agent.run_folder import (
    EXIT,
    IDENTITY,
    PROCESS,
    SPEC,
    STDIN,
    SUPERVISOR_LOG,
    VERSION,
    claim,
    read_record,
    write_record,
)
from node_agent.spool import START, SpoolPosition, SpoolReader
from node_agent.supervisor_connection import (
    REPLY_S_MAX,
    SupervisorConnection,
    SupervisorUnreachableError,
)
from protocol.errors import ErrorCode, SkepError
from protocol.limits import EXECUTION_LOG_BYTES_MAX, MIB

_SUPERVISOR: Final = Path(node_agent.supervisor.__file__)
#: A start takes some 50 ms; a machine out of breath gets this long.
_START_S_MAX: Final = 60.0
#: How long a supervisor that lives may keep its socket or its records from us at its two ends.
_SETTLE_S_MAX: Final = 5.0
_SETTLE_STEP_S: Final = 0.05
_STDIN_PIECE_BYTES: Final = 256 * 1024


class ExecutionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. `env` is the whole environment; its SKEP_EXECUTION_ID marks what is started."""

    argv: list[str]
    cwd: str
    env: dict[str, str]
    #: Given to the program first; its input ends there unless `keep_stdin_open`.
    stdin: bytes = b""
    keep_stdin_open: bool = False
    #: From the interrupt to the kill, when stopping.
    grace_s: float = 10.0
    spool_quota_bytes: int = EXECUTION_LOG_BYTES_MAX
    segment_bytes: int = 8 * MIB
    sync_ms: int = 500
    #: After the program's end: how long its pipes may stay silent in other hands, and how long
    #: at all, before the log is closed.
    linger_s: float = 2.0
    linger_s_max: float = 30.0


class StreamTotals(msgspec.Struct, frozen=True):
    """What a stream carried in all."""

    bytes: int


class ExecFailure(msgspec.Struct, frozen=True):
    """Why the program never began: in which step (cwd, exec), and the system's word for it."""

    step: str
    errno: int
    message: str


class ExitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How an execution ended: by `exit_code` or by `signal`.

    Notes: output_left_open, processes_left, or what went wrong with the spool's disk.
    """

    exit_code: int | None = None
    signal: int | None = None
    exec_failed: ExecFailure | None = None
    started_at_ms: int = 0
    ended_at_ms: int = 0
    #: By stream number, as text.
    streams: dict[str, StreamTotals] = {}
    last_segment: int = -1
    stop_asked: bool = False
    notes: list[str] = []


class Output(enum.Enum):
    """Why `wait_output` returned."""

    #: There is something to read.
    GREW = "grew"
    #: Nothing new within the time given.
    SILENT = "silent"
    #: The exit record is written and the spool read to its end.
    ENDED = "ended"
    #: The supervisor died without a record; `attach` settles what that means.
    LOST = "lost"


class ExecutionNotStartedError(SkepError):
    """The program never ran; `message` says why in a sentence, `reason` in a word.

    Reasons: exec, cwd, claimed, system (disk, memory), supervisor.
    """

    def __init__(self, reason: str, message: str, hint: str, **details: object) -> None:
        super().__init__(
            ErrorCode.EXECUTOR_UNAVAILABLE, message, hint=hint, reason=reason, **details
        )
        self.reason = reason


class NeverStarted(msgspec.Struct, frozen=True):
    """The program has not run and never will from this folder: start it anew in another."""


class EndedExecution(msgspec.Struct, frozen=True):
    """The execution ended while nobody listened; `reader` has the rest of its output."""

    exit: ExitRecord
    reader: SpoolReader


class LostExecution(msgspec.Struct, frozen=True):
    """The supervisor died without a record, and so nobody knows how the program ended.

    What still ran of it was killed (`killed_pids`): its output had no reader any more, its end no
    witness, and a second run beside it would fight over the worktree.
    """

    reader: SpoolReader
    killed_pids: list[int]


class RunningExecution:
    """An execution whose supervisor lives. One caller reads and waits; any may command."""

    def __init__(
        self,
        run_folder: Path,
        identity: ProcessIdentity,
        supervisor: ProcessIdentity,
        reader: SpoolReader,
    ) -> None:
        self.run_folder = run_folder
        self.identity = identity
        self.reader = reader
        self._supervisor = supervisor
        self._connection = SupervisorConnection(run_folder)
        self._seen_bytes = 0
        #: From which segment on each of those who read the spool still needs it.
        self._needed: dict[str, int] = {}
        self._told_segment = 0

    async def wait_output(self, timeout_s: float = 60.0) -> Output:
        """Return as soon as the reader has something to read, or there is nothing to wait for.

        Read until the reader is `exhausted` before waiting again; otherwise it returns at once.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            if self.reader.finished:
                return Output.ENDED
            if not self.reader.exhausted or self._has_exit():
                return Output.GREW
            left_s = max(0.0, deadline - loop.time())
            try:
                reply = await self._connection.request(
                    "wait",
                    after_bytes=self._seen_bytes,
                    timeout_s=left_s,
                    reply_s_max=left_s + REPLY_S_MAX,
                )
            except SupervisorUnreachableError:
                # Life first: a supervisor that is dead by now had written its record before.
                if not same_process(self._supervisor) and not self._has_exit():
                    self.reader.sealed = True
                    return Output.LOST
                await asyncio.sleep(min(_SETTLE_STEP_S, left_s))
            else:
                if reply["bytes"] > self._seen_bytes:
                    self._seen_bytes = reply["bytes"]
                    self.reader.exhausted = False
                    return Output.GREW
            if loop.time() >= deadline and not self._has_exit():
                return Output.SILENT

    async def status(self) -> dict[str, Any]:
        """Return what the supervisor says of itself and its program."""
        return await self._connection.request("status")

    async def signal(self, signum: int) -> None:
        """Signal the program's process group."""
        await self._connection.request("signal", signum=int(signum))

    async def stop(self, grace_s: float | None = None) -> None:
        """Begin to interrupt, terminate and kill all that was started; returns once begun.

        By default with the grace of the spec. The end is seen by `wait_output`.
        """
        fields = {} if grace_s is None else {"grace_s": grace_s}
        await self._connection.request("stop", **fields)

    async def write_stdin(self, content: bytes) -> None:
        """Write to the program's input; returns once the program's pipe has taken it all."""
        for at in range(0, len(content), _STDIN_PIECE_BYTES):
            piece = base64.b64encode(content[at : at + _STDIN_PIECE_BYTES]).decode()
            await self._connection.request("stdin", bytes=piece, reply_s_max=None)

    async def give_stdin(self, at: int, content: bytes) -> int:
        """Give the supervisor the input behind the first `at` bytes; return how much it has.

        It drops what it had of this before. Raises RequestRefusedError: `stdin_full` while the
        program does not read, `stdin_closed`, `stdin_gap`. One request's worth at a time.
        """
        piece = base64.b64encode(content[:_STDIN_PIECE_BYTES]).decode()
        reply = await self._connection.request("stdin", at=at, bytes=piece)
        return int(reply["stdin_bytes"])

    async def close_stdin(self) -> None:
        """End the program's input once it has taken what was written."""
        await self._connection.request("close_stdin")

    def hold_for(self, name: str) -> None:
        """Have nothing more deleted until a reader of this name tells of itself."""
        self._needed.setdefault(name, self._told_segment)

    def second_reader(
        self, name: str, position: SpoolPosition, emitted: tuple[int, int]
    ) -> "RunningExecution":
        """Return the execution once more, for one who reads its spool at a pace of its own.

        From now on no segment is deleted that `consumed` was not told of by both.
        """
        self._needed = {"": self._told_segment, **self._needed, name: position.segment}
        reader = SpoolReader(self.run_folder, position, emitted)
        return RunningExecution(self.run_folder, self.identity, self._supervisor, reader)

    async def consumed(self, segment: int, reader: str = "") -> None:
        """Say that this reader needs no segment below this one: the supervisor may delete them."""
        self._needed[reader] = segment
        unneeded = min(self._needed.values())
        if unneeded > self._told_segment:
            self._told_segment = unneeded
            await self._connection.request("consumed", segment=unneeded)

    def exit_record(self) -> ExitRecord | None:
        """Return how it ended; None while it has not."""
        return read_exit(self.run_folder)

    async def close(self) -> None:
        """Let go of the execution, which goes on without us."""
        await self._connection.close()
        self.reader.close()

    def _has_exit(self) -> bool:
        return (self.run_folder / EXIT).exists()


async def start(run_folder: Path, spec: ExecutionSpec) -> RunningExecution:
    """Start the program in a run folder of its own; return once it runs.

    Cancelled or failed half-way, the run folder alone knows the outcome: ask `attach`.
    """
    try:
        _write_spec(run_folder, spec)
        word = await _spawn_supervisor(run_folder, spec)
    except OSError as error:
        raise ExecutionNotStartedError(
            "system",
            f"the execution could not be prepared: {error.strerror}",
            "Check this node's disk, memory and number of processes.",
            errno=error.errno,
        ) from error
    if word == "started":
        return _running(run_folder, SpoolReader(run_folder))
    if word == "claimed":
        raise ExecutionNotStartedError(
            "claimed",
            "the run folder belongs to another start",
            "Each execution needs a run folder of its own.",
        )
    # It failed, or died, or was too slow to say: the folder knows, or learns that it never will.
    outcome = await attach(run_folder)
    match outcome:
        case RunningExecution():
            return outcome
        case EndedExecution(exit=ExitRecord(exec_failed=None), reader=reader):
            return _running(run_folder, reader)
        case EndedExecution(exit=ExitRecord(exec_failed=failure)) if failure is not None:
            raise _not_executed(failure, spec)
        case _:
            raise ExecutionNotStartedError(
                "supervisor",
                "the supervisor could not be started",
                "Its own words are in the details; check memory and room on the disk first.",
                complaint=_complaint(run_folder),
            )


async def _spawn_supervisor(run_folder: Path, spec: ExecutionSpec) -> str:
    """Run the supervisor until it has let go of us; return its word on how the start went."""
    # By these its descendants are known, whatever they make of their own environment (`callers`).
    # Not the marker of the execution: what bears that is killed as the supervisor's leftovers.
    marked = {NODE_VARIABLE, ATTEMPT_VARIABLE}
    marks = {name: value for name, value in spec.env.items() if name in marked}
    with _supervisor_log(run_folder) as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", "-X", "utf8"),
            os.fspath(_SUPERVISOR),
            os.fspath(run_folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=process_environment() | marks,
        )
    assert process.stdout is not None  # noqa: S101  asked for above
    word = b""
    try:
        async with asyncio.timeout(_START_S_MAX):
            word = await process.stdout.read()
            await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()
    return word.decode().strip()


async def attach(
    run_folder: Path,
    position: SpoolPosition = START,
    emitted: tuple[int, int] | None = None,
) -> RunningExecution | EndedExecution | NeverStarted | LostExecution:
    """Find out what became of an execution, and take it up where its output was left.

    Decides for ever: a folder that nobody had claimed, or that is not there, never starts a program
    later on. An execution whose supervisor is dead is lost, and what is left of it is killed.
    """
    reader = SpoolReader(run_folder, position, emitted)
    for _ in range(round(_SETTLE_S_MAX / _SETTLE_STEP_S)):
        if _claim_never_started(run_folder):
            return NeverStarted()
        identity, supervisor = _identities(run_folder)
        # Asked before the record is looked for: one that dies writes it first.
        alive = same_process(supervisor)
        if (record := read_exit(run_folder)) is not None:
            return EndedExecution(record, reader)
        if not alive:
            break
        if identity.pid:
            return _running(run_folder, reader)
        # Between its claim and its program.
        await asyncio.sleep(_SETTLE_STEP_S)
    else:
        raise SupervisorUnreachableError(run_folder)
    # Read again: only what a dead supervisor has written is its last word.
    identity, _ = _identities(run_folder)
    if not identity.pid:
        # It died before it opened the gate: the program has not run a single instruction.
        return NeverStarted()
    reader.sealed = True
    killed = await asyncio.to_thread(kill_orphans, identity, _marker(run_folder))
    return LostExecution(reader, killed)


def read_exit(run_folder: Path) -> ExitRecord | None:
    """Return the record of an execution's end; None where there is none."""
    try:
        return msgspec.json.decode((run_folder / EXIT).read_bytes(), type=ExitRecord)
    except (OSError, msgspec.DecodeError):
        return None


def _claim_never_started(run_folder: Path) -> bool:
    """Claim a folder for nobody; False when a supervisor was here first."""
    record = read_record(run_folder / IDENTITY)
    if record is None:
        run_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if claim(run_folder, {"version": VERSION, "never_started": True}):
            return True
        record = read_record(run_folder / IDENTITY)
    return bool(record and record.get("never_started"))


def _identities(run_folder: Path) -> tuple[ProcessIdentity, ProcessIdentity]:
    """Return the program's identity (pid 0 where it has none yet) and its supervisor's."""
    claimed = read_record(run_folder / IDENTITY) or {}
    started = read_record(run_folder / PROCESS) or {}
    boot_id = claimed.get("boot_id", "")
    program = ProcessIdentity(boot_id, started.get("pid", 0), started.get("start_time", 0))
    supervisor = ProcessIdentity(
        boot_id, claimed.get("supervisor_pid", 0), claimed.get("supervisor_start_time", 0)
    )
    return program, supervisor


def _marker(run_folder: Path) -> bytes:
    claimed = read_record(run_folder / IDENTITY) or {}
    marker = claimed.get("marker", "")
    return os.fsencode(f"SKEP_EXECUTION_ID={marker}") if marker else b""


def _supervisor_log(run_folder: Path) -> BinaryIO:
    path = run_folder / SUPERVISOR_LOG
    path.touch(mode=0o600)
    return path.open("ab")


def _write_spec(run_folder: Path, spec: ExecutionSpec) -> None:
    run_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if spec.stdin:
        fd = os.open(run_folder / STDIN, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(spec.stdin)
    record = msgspec.structs.asdict(spec) | {"version": VERSION, "stdin": bool(spec.stdin)}
    write_record(run_folder / SPEC, record)


def _running(run_folder: Path, reader: SpoolReader) -> RunningExecution:
    identity, supervisor = _identities(run_folder)
    return RunningExecution(run_folder, identity, supervisor, reader)


def _not_executed(failure: ExecFailure, spec: ExecutionSpec) -> ExecutionNotStartedError:
    if failure.step == "cwd":
        message = f"the folder to run in cannot be entered: {failure.message}"
        hint = f"Look at {spec.cwd} on this node."
    else:
        name = spec.argv[0] if spec.argv else "the program"
        message = f"{name} cannot be run: {failure.message}"
        hint = "Install it on this node, or put its folder into the node agent's PATH."
    return ExecutionNotStartedError(failure.step, message, hint, errno=failure.errno)


def _complaint(run_folder: Path) -> str:
    try:
        return (run_folder / SUPERVISOR_LOG).read_text(errors="replace")[-2000:]
    except OSError as error:
        return str(error)
