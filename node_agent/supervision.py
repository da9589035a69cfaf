"""The supervisor's loop: one program, two pipes to the spool, one socket, one record of the end.

Part of the supervisor: the standard library only, one thread beside the syncing, and never a wait
that the program could notice. Must not start the program, nor read anything but its output.
"""

import base64
import binascii
import contextlib
import math
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from node_agent.control_socket import BadRequestError, Client, ControlSocket
from node_agent.program import Pipes, Program
from node_agent.run_folder import (
    EXIT,
    SOCKET,
    SPEC,
    STDIN,
    VERSION,
    sync_folder,
    write_record,
)
from node_agent.spool_frames import PAYLOAD_BYTES_MAX, STDERR, STDOUT
from node_agent.spool_writer import SpoolWriter

#: A stream is read again only this long after a read that did not fill much: a program printing in
#: small pieces makes few frames, and a lone line still is on disk at once.
_GATHER_S: Final = 0.004
_FULL_READ_BYTES: Final = 64 * 1024
#: A full read fills one chunk of the log to the last byte: the chunk is cut from four pieces of
#: it, each behind a header of 14 bytes. A few bytes more, and each would leave a rest behind.
READ_BYTES: Final = PAYLOAD_BYTES_MAX - 4 * 14
#: What may wait for a program that does not read.
_STDIN_PENDING_BYTES_MAX: Final = 16 * 1024 * 1024
_STDIN_WRITE_BYTES: Final = 64 * 1024
#: A client may wait this long for output; then it is answered and may ask again.
_WAIT_S_MAX: Final = 600.0
#: With the disk full the end is written as soon as there is room, but not waited for for ever.
_EXIT_TRIES_MAX: Final = 600


class Stdin:
    """What is still to be written to the program, and who waits to hear that it was."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.pending = bytearray()
        self.close_asked = False
        self._waiting: list[tuple[int, Client, object]] = []
        #: All the input so far, what was given at the start included.
        self.taken_bytes = 0
        self._written = 0

    def take_first(self, first: bytes) -> None:
        """Take the attempt's own input, as large as it is; the bound is for the socket."""
        self.pending += first
        self.taken_bytes += len(first)
        self.write()

    def take(self, received: bytes, client: Client, request_id: object) -> None:
        """Take input; the client is answered once the program's pipe has it."""
        self._take(received)
        self._waiting.append((self.taken_bytes, client, request_id))
        self.write()

    def take_at(self, at: int, received: bytes) -> int:
        """Take input that begins behind `at` bytes, but what was taken before; return the total.

        So a client that is not sure what was taken says it again.
        """
        if at < 0 or at > self.taken_bytes:
            raise BadRequestError("stdin_gap", f"only {self.taken_bytes} bytes came before")
        fresh = received[self.taken_bytes - at :]
        if fresh:
            self._take(fresh)
            self.write()
        return self.taken_bytes

    def _take(self, received: bytes) -> None:
        if self.fd < 0 or self.close_asked:
            raise BadRequestError("stdin_closed", "the program's input is closed")
        if len(self.pending) + len(received) > _STDIN_PENDING_BYTES_MAX:
            raise BadRequestError("stdin_full", "the program is not reading its input")
        self.pending += received
        self.taken_bytes += len(received)

    def write(self) -> None:
        """Write what the program takes now; answer those whose bytes it has taken."""
        try:
            while self.pending and self.fd >= 0:
                written = os.write(self.fd, self.pending[:_STDIN_WRITE_BYTES])
                del self.pending[:written]
                self._written += written
        except BlockingIOError:
            pass
        except OSError:
            self.close()
        while self._waiting and self._waiting[0][0] <= self._written:
            _, client, request_id = self._waiting.pop(0)
            if not client.closed:
                client.reply(request_id, ok=True)
        if self.close_asked and not self.pending:
            self.close()

    def close(self) -> None:
        """Close it now, whatever has not been taken."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
        self.pending.clear()
        for _, client, request_id in self._waiting:
            if not client.closed:
                client.refuse(request_id, BadRequestError("stdin_closed", "it was closed unread"))
        self._waiting.clear()


class Supervision:
    """Everything between the program's start and the record of its end."""

    def __init__(self, folder: Path, spec: dict[str, Any]) -> None:
        self.socket = ControlSocket(folder / SOCKET, self._handle)
        self._folder = folder
        self._spec = spec
        self._linger_s = float(spec["linger_s"])
        self._linger_s_max = float(spec["linger_s_max"])
        self._spool = SpoolWriter(
            folder,
            quota_bytes=int(spec["spool_quota_bytes"]),
            segment_bytes=int(spec["segment_bytes"]),
            sync_s=spec["sync_ms"] / 1000,
        )
        self._buffer = bytearray(READ_BYTES)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._sync_asked = False
        self._program: Program
        self._stdin = Stdin(-1)
        #: Open pipes: descriptor -> (stream, not to be read before).
        self._sources: dict[int, tuple[int, float]] = {}
        self._waits: list[tuple[Client, object, int, float]] = []
        self._started_at_ms = 0
        self._ended_at_ms = 0
        self._ended_at = math.inf
        self._printed_at = 0.0

    def watch_signals(self) -> None:
        """Wake on the program's end; outlive a polite request to end, with all on disk."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._ask_sync)

    def run(self, program: Program, pipes: Pipes) -> None:
        """Serve until the program and its output have ended, and write it down."""
        self._program = program
        self._started_at_ms = _now_ms()
        self._sources = {pipes.stdout: (STDOUT, 0.0), pipes.stderr: (STDERR, 0.0)}
        self._begin_stdin(pipes.stdin)
        now = time.monotonic()
        while not self._is_over(now):
            self._wait(now)
            now = time.monotonic()
            self._notice_end(now)
            self._program.go_on_stopping(now)
            self._spool.sync(now, at_once=self._sync_asked)
            self._sync_asked = False
            self._answer_waits(now)
        self._finish()

    def write_exit(self, **fields: object) -> None:
        """Write the record of the end, with the room it needs or as soon as there is some."""
        totals = self._spool.totals
        record = {
            "version": VERSION,
            "exit_code": None,
            "signal": None,
            "exec_failed": None,
            "started_at_ms": self._started_at_ms,
            "ended_at_ms": self._ended_at_ms or _now_ms(),
            "streams": {stream: {"bytes": total} for stream, total in totals.items()},
            "last_segment": self._spool.current,
            "stop_asked": False,
            "notes": [],
            **fields,
        }
        # The environment and the input may hold secrets: they end with the execution. On a full
        # disk the room they leave is the record's.
        for name in (SPEC, STDIN):
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()
        for _ in range(_EXIT_TRIES_MAX):
            try:
                write_record(self._folder / EXIT, record)
                sync_folder(self._folder)
            except FileNotFoundError:
                # The folder was deleted: before, so nobody asks; or once the record was seen.
                return
            except OSError:
                time.sleep(1.0)
            else:
                return

    def _begin_stdin(self, fd: int) -> None:
        if fd < 0:
            return
        self._stdin = Stdin(fd)
        first = (self._folder / STDIN).read_bytes() if self._spec["stdin"] else b""
        self._stdin.close_asked = not self._spec["keep_stdin_open"]
        self._stdin.take_first(first)

    # --- the loop --------------------------------------------------------------------------------

    def _interests(self, now: float) -> Iterator[tuple[int, int]]:
        yield self._wake_read, select.POLLIN
        yield from self.socket.interests()
        for fd, (_, not_before) in self._sources.items():
            if not_before <= now or self._program.ended:
                yield fd, select.POLLIN
        if self._stdin.fd >= 0:
            # Without anything to write, only the reader's going away is heard of.
            yield self._stdin.fd, select.POLLOUT if self._stdin.pending else 0

    def _wait(self, now: float) -> None:
        poller = select.poll()
        for fd, events in self._interests(now):
            poller.register(fd, events)
        timeout_s = min(self._due_s(now), default=None)
        for fd, _ in poller.poll(None if timeout_s is None else math.ceil(timeout_s * 1000)):
            if fd in self._sources:
                self._read(fd)
            elif fd == self._stdin.fd:
                self._serve_stdin()
            elif fd == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            else:
                self.socket.ready(fd)

    def _due_s(self, now: float) -> Iterator[float]:
        """Yield the seconds to each moment at which something is to be done unasked."""
        for _, not_before in self._sources.values():
            if not_before > now:
                yield not_before - now
        for due_s in (self._spool.sync_due_s(now), self._program.step_due_s(now)):
            if due_s is not None:
                yield due_s
        for _, _, _, deadline in self._waits:
            yield max(0.0, deadline - now)
        if self._program.ended:
            yield max(0.0, self._lingers_until() - now)

    def _read(self, fd: int) -> None:
        stream, _ = self._sources[fd]
        try:
            length = os.readv(fd, [self._buffer])
        except BlockingIOError:
            return
        except OSError:
            length = 0
        now = time.monotonic()
        if length == 0:
            del self._sources[fd]
            os.close(fd)
            return
        self._spool.append(stream, self._buffer, length)
        self._printed_at = now
        self._sources[fd] = (stream, now if length >= _FULL_READ_BYTES else now + _GATHER_S)

    def _serve_stdin(self) -> None:
        if self._stdin.pending:
            self._stdin.write()
        else:
            self._stdin.close()

    def _notice_end(self, now: float) -> None:
        self._program.reap()
        if self._program.ended and self._ended_at == math.inf:
            self._ended_at, self._ended_at_ms = now, _now_ms()
            self._stdin.close()

    def _lingers_until(self) -> float:
        """Until when output of what the program left behind is still waited for."""
        silent = max(self._ended_at, self._printed_at) + self._linger_s
        return min(silent, self._ended_at + self._linger_s_max)

    def _is_over(self, now: float) -> bool:
        if not self._program.ended or self._program.step_due_s(now) is not None:
            return False
        return not self._sources or now >= self._lingers_until()

    def _finish(self) -> None:
        notes = ["output_left_open"] if self._sources else []
        for fd in self._sources:
            os.close(fd)
        self._sources = {}
        self._spool.finish()
        if self._spool.failure:
            notes.append(self._spool.failure)
        if self._program.stop_asked and self._program.left_pids():
            notes.append("processes_left")
        ended = self._program.ended
        self.write_exit(
            exit_code=ended.exit_code if ended else None,
            signal=ended.signal if ended else None,
            stop_asked=self._program.stop_asked,
            notes=notes,
        )
        for client, request_id, _, _ in self._waits:
            if not client.closed:
                client.reply(request_id, ok=True, bytes=self._spool.written_bytes, ended=True)
        self.socket.close()

    def _ask_sync(self, *_: object) -> None:
        self._sync_asked = True

    # --- requests --------------------------------------------------------------------------------

    def _handle(self, client: Client, request_id: object, request: dict[str, Any]) -> None:
        now = time.monotonic()
        match request.get("do"):
            case "status":
                client.reply(request_id, ok=True, **self._status())
            case "wait":
                wait_s = min(_seconds(request["timeout_s"]), _WAIT_S_MAX)
                self._replace_wait((client, request_id, int(request["after_bytes"]), now + wait_s))
            case "signal":
                self._program.signal(signal.Signals(request["signum"]))
                client.reply(request_id, ok=True)
            case "stop":
                grace_s = _seconds(request.get("grace_s", self._spec["grace_s"]))
                self._program.stop(now, grace_s)
                client.reply(request_id, ok=True)
            case "stdin":
                received = _decode(request["bytes"])
                if "at" in request:
                    taken = self._stdin.take_at(int(request["at"]), received)
                    client.reply(request_id, ok=True, stdin_bytes=taken)
                else:
                    self._stdin.take(received, client, request_id)
            case "close_stdin":
                self._stdin.close_asked = True
                self._stdin.write()
                client.reply(request_id, ok=True)
            case "consumed":
                self._spool.consumed(int(request["segment"]))
                client.reply(request_id, ok=True)
            case unknown:
                raise BadRequestError("unknown_request", f"no request is called {unknown!r}")

    def _replace_wait(self, wait: tuple[Client, object, int, float]) -> None:
        """Keep one wait for each client, so that no client can pile them up; answer the former."""
        for client, request_id, *_ in self._waits:
            if client is wait[0]:
                client.reply(request_id, ok=True, bytes=self._spool.written_bytes, ended=False)
        self._waits = [other for other in self._waits if other[0] is not wait[0]] + [wait]

    def _answer_waits(self, now: float) -> None:
        written = self._spool.written_bytes
        waiting = []
        for wait in self._waits:
            client, request_id, after_bytes, deadline = wait
            if client.closed:
                continue
            if written > after_bytes or now >= deadline:
                client.reply(request_id, ok=True, bytes=written, ended=False)
            else:
                waiting.append(wait)
        self._waits = waiting

    def _status(self) -> dict[str, object]:
        return {
            "pid": self._program.pid,
            "supervisor_pid": os.getpid(),
            "running": self._program.ended is None,
            "stop_asked": self._program.stop_asked,
            "started_at_ms": self._started_at_ms,
            "bytes": self._spool.written_bytes,
            "printed_bytes": sum(self._spool.totals.values()),
            "kept_bytes": self._spool.kept_bytes,
            "segment": self._spool.current,
            "stdin_bytes": self._stdin.taken_bytes,
            "stdin_open": self._stdin.fd >= 0 and not self._stdin.close_asked,
            "failure": self._spool.failure,
        }


def record_exec_failure(supervision: Supervision, step: str, number: int) -> None:
    """Write an end that had no beginning, as a shell reports it: exit code 127."""
    failure = {"step": step, "errno": number, "message": os.strerror(number)}
    supervision.write_exit(exit_code=127, exec_failed=failure)
    supervision.socket.close()


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not 0 <= seconds < math.inf:
        raise BadRequestError("invalid", "seconds are a number from 0 on")
    return seconds


def _decode(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except binascii.Error as error:
        raise BadRequestError("invalid", "bytes are base64") from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
