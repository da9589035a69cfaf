"""One execution: recorded, started or found again, its log written, its end recorded.

Every step is in the store before the next, so that a crash between any two is taken up by
`resume`. Must not decide what the end means for the attempt.
"""

import asyncio
import base64
import contextlib
import logging
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import msgspec

from node_agent import executions as supervised
from node_agent.attempt_outcome import NEVER_STARTED, NO_EXIT_RECORD
from node_agent.execution_environment import secrets_in
from node_agent.executions import (
    EndedExecution,
    ExecutionNotStartedError,
    ExecutionSpec,
    ExitRecord,
    LostExecution,
    NeverStarted,
    Output,
    RunningExecution,
    read_exit,
)
from node_agent.failpoints import failpoint
from node_agent.log_replay import replay_cuts
from node_agent.log_writer import LogWriter
from node_agent.redaction import Redactor
from node_agent.run_context import RunContext, when_there_is_room
from node_agent.stamps import now_ms
from node_agent.store import attempts, requests
from node_agent.store.contract import Log
from node_agent.store.transaction import Transaction
from node_agent.supervisor_connection import RequestRefusedError, SupervisorUnreachableError
from protocol.entities import Attempt, Execution, LogEnd, ProcessIdentity
from protocol.states import ExecutionKind, ExecutionStatus

LOG: Final = logging.getLogger(__name__)
#: Beside the supervisor's files, until the execution ends: what its log must not show.
REDACTION_FILE: Final = "redaction"
SCRIPT_FILE: Final = "script"
BEGUN_FILE: Final = "begun"
#: A supervisor that lives and is silent is asked again this often, with growing pauses.
_ATTACH_TRIES: Final = 6
#: Of a long command line, what its record shows of each word and how many words.
_WORD_CHARACTERS_MAX: Final = 1_000
_WORDS_MAX: Final = 32
#: From asking a process to end at once to no longer waiting for it.
_ABANDON_S_MAX: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to run. `script`: text for `sh`, given as a file in place of `argv`.

    `name` is what people call it, of what was asked for by name.
    """

    kind: ExecutionKind
    argv: Sequence[str]
    cwd: Path
    environment: dict[str, str]
    stdin: bytes = b""
    script: str | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How an execution ended, before it is written down."""

    status: ExecutionStatus
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    at_ms: int = field(default_factory=now_ms)


class Companion(Protocol):
    """What goes along with an execution's log: it reads the same output, and speaks to the program.

    It does nothing that it could not do again: whatever it does may be cut short.
    """

    @property
    def reader(self) -> str:
        """Return the name under which it tells how far it has read."""

    def hide(self, hidden: list[bytes]) -> None:
        """Take the values that nobody may see."""

    def wake(self) -> None:
        """Look again what is wanted of the program."""

    def stop(self, grace_s: float | None) -> None:
        """Bring the program to its end."""

    async def follow(self, running: RunningExecution) -> None:
        """Go along until the program has ended and its output is read."""

    async def drain(self, run_folder: Path, *, lost: bool) -> None:
        """Read the rest of the output of a program that no longer runs."""


class ExecutionRun:
    """One execution under way. `stop` may come at any time, also before the process is there."""

    def __init__(
        self,
        context: RunContext,
        attempt: Attempt,
        *,
        head: Callable[[], Awaitable[str | None]],
        settled: Callable[[], None],
        companion: Companion | None = None,
    ) -> None:
        self._context = context
        self._attempt = attempt
        #: Looks where the attempt's branch stands now.
        self._head = head
        #: Called once it is known whether the process runs, ended or never was.
        self._settled = settled
        self._companion = companion
        self._running: RunningExecution | None = None
        self._stop_grace_s: float | None = None
        self._stop_asked = False
        self._interrupt_asked = False

    # --- from its beginning -------------------------------------------------------------------

    async def run(self, execution_id: str, wanted: Wanted) -> Execution:
        """Run it to its end; return it as it was recorded then."""
        execution = new_execution(
            self._context, self._attempt.id, execution_id, wanted, head=await self._head()
        )
        await self._context.keep(record_begin, execution)
        failpoint("node.execution.recorded")
        return await self.launch(execution, wanted)

    async def launch(self, execution: Execution, wanted: Wanted) -> Execution:
        """Run an execution that is recorded as begun, to its end."""
        context = self._context
        folder = context.run_folder(execution.id)
        hidden = _hidden(context, wanted)
        if self._companion is not None:
            self._companion.hide(hidden)
        argv = _argv(folder, wanted)
        await self._open_log(execution)
        failpoint("node.execution.log_opened")
        _prepare_folder(folder, execution, hidden, wanted.script)
        spec = ExecutionSpec(
            argv=list(argv),
            cwd=str(wanted.cwd),
            env=wanted.environment,
            stdin=wanted.stdin,
            keep_stdin_open=self._companion is not None,
            grace_s=context.grace_s,
            spool_quota_bytes=context.spool_quota_bytes,
        )
        try:
            running = await supervised.start(folder, spec)
        except ExecutionNotStartedError as error:
            return await self._not_started(execution, error, hidden)
        failpoint("node.execution.started")
        return await self._follow(execution, running, await self._writer(execution, hidden))

    async def _not_started(
        self, execution: Execution, error: ExecutionNotStartedError, hidden: list[bytes]
    ) -> Execution:
        LOG.warning("execution %s did not start: %s", execution.id, error)
        writer = await self._writer(execution, hidden)
        message, hint = (
            Redactor(hidden).whole(text.encode("utf-8", "replace"))
            for text in (error.message, error.hint or "")
        )
        await writer.event(message + b". " + hint if hint else message)
        self._settled()
        reason = f"not started: {message.decode('utf-8', 'replace')}"[:500]
        ended = Ended(status=ExecutionStatus.FAILED, reason=reason)
        return await self._end(execution, ended, writer)

    # --- found again --------------------------------------------------------------------------

    async def resume(self, execution: Execution) -> Execution:
        """Take up an execution that another process of the node agent began."""
        log = await self._open_log(execution)
        folder = self._context.run_folder(execution.id)
        hidden = _read_redaction(folder)
        if hidden is None:
            # What was said before the folder was lost is shown once more.
            hidden = self._context.secrets()
        if self._companion is not None:
            self._companion.hide(hidden)
        # Where the store is of an older copy; else there is nothing behind its end.
        await replay_cuts(self._context.chunks, execution.id, hidden, folder)
        writer = await self._writer(execution, hidden)
        if log.closed:
            # Its log was whole; only the record of its end is missing.
            self._settled()
            return await self._end(execution, _ended_by(read_exit(folder)), writer)
        found = await self._attach(folder, writer)
        if isinstance(found, RunningExecution):
            return await self._follow(execution, found, writer)
        return await self._end_found(execution, found, writer)

    async def _end_found(
        self,
        execution: Execution,
        found: EndedExecution | NeverStarted | LostExecution,
        writer: LogWriter,
    ) -> Execution:
        """Record the end of an execution that no longer runs, after the rest of its log."""
        self._settled()
        if self._companion is not None:
            folder = self._context.run_folder(execution.id)
            await self._companion.drain(folder, lost=not isinstance(found, EndedExecution))
        match found:
            case EndedExecution():
                await writer.drain(found.reader)
                ended = _ended_by(found.exit)
            case LostExecution():
                await writer.drain(found.reader)
                ended = _ended_by(None)
            case NeverStarted():
                # With a process on record it ran once, and its run folder was lost since.
                ran = execution.process is not None or writer.has_output
                reason = NO_EXIT_RECORD if ran else NEVER_STARTED
                ended = Ended(status=ExecutionStatus.LOST, reason=reason)
        return await self._end(execution, ended, writer)

    async def _attach(
        self, folder: Path, writer: LogWriter
    ) -> RunningExecution | EndedExecution | NeverStarted | LostExecution:
        for tried in range(1, _ATTACH_TRIES):
            try:
                return await supervised.attach(folder, writer.position, writer.emitted)
            except SupervisorUnreachableError:
                LOG.warning("the supervisor in %s does not answer yet", folder)
                await asyncio.sleep(2**tried / 4)
        return await supervised.attach(folder, writer.position, writer.emitted)

    # --- its middle ---------------------------------------------------------------------------

    async def _follow(
        self, execution: Execution, running: RunningExecution, writer: LogWriter
    ) -> Execution:
        process = ProcessIdentity(
            boot_id=running.identity.boot_id,
            pid=running.identity.pid,
            start_time=running.identity.start_time,
        )
        try:
            if execution.process != process:
                execution = msgspec.structs.replace(execution, process=process)
                await self._context.keep(attempts.save_execution, execution, now_ms())
                failpoint("node.execution.process_recorded")
            self._running = running
            self._settled()
            if self._stop_asked:
                await self.stop(self._stop_grace_s)
            elif self._interrupt_asked:
                await self.interrupt()
            known = await self._follow_both(running, writer)
            record = running.exit_record() if known else None
        finally:
            self._running = None
            await running.close()
        if record is not None:
            return await self._end(execution, _ended_by(record), writer)
        # Its supervisor is dead. Whatever it left running must not run on unseen.
        found = await self._attach(self._context.run_folder(execution.id), writer)
        if isinstance(found, RunningExecution):
            return await self._follow(execution, found, writer)
        return await self._end_found(execution, found, writer)

    async def _follow_both(self, running: RunningExecution, writer: LogWriter) -> bool:
        """Write the log and go along with it, both to the end; whether that end is known."""
        if self._companion is None:
            return await writer.follow(running)
        # Before the log moves on: what the other has not read must not go meanwhile.
        running.hold_for(self._companion.reader)
        following = asyncio.ensure_future(writer.follow(running))
        accompanying = asyncio.ensure_future(self._companion.follow(running))
        both = {following, accompanying}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
            if accompanying.done():
                # A fault of its own must not wait for the program's end, which it would not see.
                accompanying.result()
            return await following
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    def wake(self) -> None:
        """Have whoever speaks to the program look again what is wanted of it."""
        if self._companion is not None:
            self._companion.wake()

    async def stop(self, grace_s: float | None = None) -> None:
        """Ask the process to stop; does nothing where it has ended."""
        self._stop_asked, self._stop_grace_s = True, grace_s
        if self._companion is not None:
            self._companion.stop(grace_s)
        elif self._running is not None:
            with contextlib.suppress(SupervisorUnreachableError, RequestRefusedError):
                await self._running.stop(grace_s)

    async def interrupt(self) -> None:
        """Interrupt the process as Ctrl-C would; what it makes of that is its own."""
        self._interrupt_asked = True
        if self._companion is not None:
            self._companion.wake()
        elif self._running is not None:
            with contextlib.suppress(SupervisorUnreachableError, RequestRefusedError):
                await self._running.signal(signal.SIGINT)

    async def abandon(self, execution: Execution) -> None:
        """End an execution whose log cannot be written on; nothing of it is left running."""
        folder = self._context.run_folder(execution.id)
        found = await supervised.attach(folder)
        if isinstance(found, RunningExecution):
            try:
                await found.stop(0)
                async with asyncio.timeout(_ABANDON_S_MAX):
                    while await found.wait_output() is Output.GREW:
                        found.reader.read()
            except (SupervisorUnreachableError, RequestRefusedError, TimeoutError) as error:
                LOG.warning("execution %s does not end: %s", execution.id, error)
            finally:
                await found.close()
        log = await when_there_is_room(lambda: self._context.chunks.close_log(execution.id))
        ended = _ended_by(read_exit(folder))
        end = LogEnd(
            execution_id=execution.id,
            chunks=log.next_chunk - 1,
            entries=log.next_entry - 1,
            bytes=0,
            chain=log.digest,
        )
        await self._context.keep(_record_end, _done(execution, ended, await self._head()), end)
        await asyncio.to_thread(remove_run_folder, folder)

    # --- its end ------------------------------------------------------------------------------

    async def _end(self, execution: Execution, ended: Ended, writer: LogWriter) -> Execution:
        end = await writer.close()
        failpoint("node.execution.log_closed")
        done = _done(execution, ended, await self._head())
        await self._context.keep(_record_end, done, end)
        failpoint("node.execution.ended")
        await asyncio.to_thread(remove_run_folder, self._context.run_folder(execution.id))
        return done

    async def _open_log(self, execution: Execution) -> Log:
        return await when_there_is_room(
            lambda: self._context.chunks.open_log(
                execution.id, self._attempt.id, self._attempt.checkout_id
            )
        )

    async def _writer(self, execution: Execution, hidden: list[bytes]) -> LogWriter:
        return await LogWriter.open(
            self._context.chunks,
            execution.id,
            hidden,
            live_bytes_max=self._context.live_log_bytes_max,
            folder=self._context.run_folder(execution.id),
        )


def new_execution(
    context: RunContext, attempt_id: str, execution_id: str, wanted: Wanted, *, head: str | None
) -> Execution:
    """Return an execution as it begins."""
    argv = _argv(context.run_folder(execution_id), wanted)
    return Execution(
        id=execution_id,
        attempt_id=attempt_id,
        kind=wanted.kind,
        script=wanted.name,
        argv=_shown(argv, _hidden(context, wanted)),
        head_before=head,
        status=ExecutionStatus.RUNNING,
        started_at_ms=now_ms(),
    )


def _hidden(context: RunContext, wanted: Wanted) -> list[bytes]:
    return [*context.secrets(), *secrets_in(wanted.environment)]


def _argv(folder: Path, wanted: Wanted) -> Sequence[str]:
    return ["sh", str(folder / SCRIPT_FILE)] if wanted.script is not None else wanted.argv


async def record_begin(tx: Transaction, execution: Execution) -> None:
    """Write down that an execution begins, and that it is its attempt's."""
    attempt = await attempts.get(tx, execution.attempt_id)
    named = msgspec.structs.replace(attempt, executions=[*attempt.executions, execution.id])
    await attempts.save(tx, named, execution.started_at_ms)
    await attempts.save_execution(tx, execution, execution.started_at_ms)


async def _record_end(tx: Transaction, execution: Execution, end: LogEnd) -> None:
    at_ms = execution.ended_at_ms or now_ms()
    # What its program asked by a tool has no reader any more.
    await requests.withdraw_all(tx, execution.id, "the program has ended", at_ms)
    await attempts.save_log_end(tx, end, at_ms)
    await attempts.save_execution(tx, execution, at_ms)


def _done(execution: Execution, ended: Ended, head: str | None) -> Execution:
    """Return the execution as it is once it has ended so."""
    return msgspec.structs.replace(
        execution,
        status=ended.status,
        exit_code=ended.exit_code,
        signal=ended.signal,
        reason=ended.reason,
        head_after=head,
        ended_at_ms=ended.at_ms,
    )


def _ended_by(record: ExitRecord | None) -> Ended:
    """Return what an exit record says; without one nobody knows."""
    if record is None:
        return Ended(status=ExecutionStatus.LOST, reason=NO_EXIT_RECORD)
    at_ms = record.ended_at_ms or now_ms()
    if record.exec_failed is not None:
        reason = f"not started: {record.exec_failed.message}"
        return Ended(status=ExecutionStatus.FAILED, reason=reason, at_ms=at_ms)
    if record.signal is not None:
        return Ended(status=ExecutionStatus.KILLED, signal=record.signal, at_ms=at_ms)
    failed = record.exit_code != 0
    return Ended(
        status=ExecutionStatus.FAILED if failed else ExecutionStatus.SUCCEEDED,
        exit_code=record.exit_code,
        at_ms=at_ms,
    )


def _shown(argv: Sequence[str], hidden: list[bytes]) -> list[str]:
    """Return a command line as its record shows it: without secrets, and not too long."""
    redactor = Redactor(hidden)
    shown = [
        redactor.whole(word.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")
        for word in argv[:_WORDS_MAX]
    ]
    cut = [
        word if len(word) <= _WORD_CHARACTERS_MAX else f"{word[:_WORD_CHARACTERS_MAX]}..."
        for word in shown
    ]
    return [*cut, "..."] if len(argv) > _WORDS_MAX else cut


# --- the run folder -------------------------------------------------------------------------------


def _prepare_folder(
    folder: Path, execution: Execution, hidden: list[bytes], script: str | None
) -> None:
    """Make the run folder with what must be in it before the supervisor starts."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_private(folder / BEGUN_FILE, msgspec.json.encode(execution))
    values = [base64.b64encode(value).decode() for value in hidden]
    _write_private(folder / REDACTION_FILE, msgspec.json.encode(values))
    if script is not None:
        _write_private(folder / SCRIPT_FILE, script.encode("utf-8", "surrogateescape"))


def _write_private(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)


def _read_redaction(folder: Path) -> list[bytes] | None:
    """Return the values that were hidden when the execution began, whatever they are now."""
    try:
        values = msgspec.json.decode((folder / REDACTION_FILE).read_bytes(), type=list[str])
    except (OSError, msgspec.DecodeError):
        return None
    return [base64.b64decode(value) for value in values]


def begun_in(folder: Path) -> Execution | None:
    """Return the execution of a run folder as it began; None where that cannot be read."""
    try:
        return msgspec.json.decode((folder / BEGUN_FILE).read_bytes(), type=Execution)
    except (OSError, msgspec.DecodeError):
        return None


def remove_run_folder(folder: Path) -> None:
    """Delete what an ended execution left; what stays is found again at the next start."""
    shutil.rmtree(folder, ignore_errors=True)
