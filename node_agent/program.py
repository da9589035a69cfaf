"""The one process a supervisor owns: started behind a gate, signalled, stopped with all it left.

Part of the supervisor: the standard library only. Must not read output nor speak to anyone. The
process is not reaped before the supervisor ends, so neither its pid nor its group can come to mean
another while there is something to signal.
"""

import contextlib
import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from node_agent.process_identity import ProcessIdentity, ProcessStat, find_family, same_process

#: What a fast program may print ahead of us; the system's usual 64 KiB would stop it at each sync.
_PIPE_BYTES: Final = 1024 * 1024
#: Launchers leave some of these ignored, and Python does; a program expects the defaults.
_SIGNALS_RESET: Final = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD),
    *(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
)
_PR_SET_CHILD_SUBREAPER: Final = 36
#: How often it is looked whether anything is left, and how often killing is tried at most.
LEFTOVER_CHECK_S: Final = 0.05
_KILLS_MAX: Final = 100


class NotExecutedError(Exception):
    """The program could not be started: `step` is `cwd` or `exec`, `number` the system's errno."""

    def __init__(self, step: str, number: int) -> None:
        super().__init__(f"{step}: {os.strerror(number)}")
        self.step = step
        self.number = number


class Pipes(NamedTuple):
    """Our ends: what the program prints, and what it reads (-1 where it reads nothing)."""

    stdout: int
    stderr: int
    stdin: int


class Ended(NamedTuple):
    """How the program ended: one of the two is set."""

    exit_code: int | None
    signal: int | None


def become_subreaper() -> None:
    """Be the parent of every descendant that is orphaned, so that none leaves our sight (Linux)."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(
    spec: dict[str, Any], umask: int, announce: Callable[[int], None], *, with_stdin: bool
) -> tuple["Program", Pipes]:
    """Start the program of `spec`; it executes only after `announce(pid)` has returned.

    So a process whose identity nobody wrote down has never run a line: it dies with the gate.
    """
    stdout_read, stdout_write = _wide_pipe()
    stderr_read, stderr_write = _wide_pipe()
    stdin_read, stdin_write = os.pipe() if with_stdin else (os.open(os.devnull, os.O_RDONLY), -1)
    gate_read, gate_write = os.pipe()
    fault_read, fault_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(gate_write)
        _become(spec, umask, (stdin_read, stdout_write, stderr_write), gate_read, fault_write)
    for fd in (stdout_write, stderr_write, stdin_read, gate_read, fault_write):
        os.close(fd)
    try:
        announce(pid)
        os.write(gate_write, b"!")
    finally:
        os.close(gate_write)
    with os.fdopen(fault_read, "rb") as faults:
        # Closed by the exec itself; what is read here is why there was none.
        fault = faults.read()
    pipes = Pipes(stdout_read, stderr_read, stdin_write)
    if fault:
        for fd in pipes:
            if fd >= 0:
                os.close(fd)
        os.waitpid(pid, 0)
        step, _, number = fault.decode().partition(" ")
        raise NotExecutedError(step, int(number))
    for fd in pipes:
        if fd >= 0:
            os.set_blocking(fd, False)
    marker = spec["env"].get("SKEP_EXECUTION_ID", "")
    return Program(pid, os.fsencode(f"SKEP_EXECUTION_ID={marker}") if marker else b""), pipes


class Program:
    """The running program, and then what it left behind."""

    def __init__(self, pid: int, marker: bytes) -> None:
        self.pid = pid
        self.ended: Ended | None = None
        self.stop_asked = False
        self._marker = marker
        self._steps: list[tuple[float, int]] = []
        self._kills = 0
        self._look_at = 0.0

    def reap(self) -> None:
        """Learn of the program's end, and bury orphans that were given to us meanwhile."""
        if not hasattr(os, "waitid"):
            self._reap_alone()
            return
        while self.ended is None:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if dead is None:
                return
            if dead.si_pid != self.pid:
                os.waitpid(dead.si_pid, 0)
            elif dead.si_code == os.CLD_EXITED:
                self.ended = Ended(dead.si_status, None)
            else:
                self.ended = Ended(None, dead.si_status)

    def _reap_alone(self) -> None:
        # macOS: no way to look without reaping, and no subreaper, so nobody else to bury.
        if self.ended is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                self.ended = Ended(code, None) if code >= 0 else Ended(None, -code)

    def signal(self, number: int) -> None:
        """Signal the program's whole group."""
        # macOS answers EPERM where only zombies are left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def stop(self, now: float, grace_s: float) -> None:
        """Interrupt now, terminate after half of the grace, kill after all of it.

        Asked again, the earlier of both times counts for each step.
        """
        steps = [
            (now + grace_s / 2, signal.SIGTERM),
            (now + grace_s, signal.SIGKILL),
        ]
        if self.stop_asked:
            earlier = {number: at for at, number in self._steps}
            steps = [
                (min(at, earlier[number]), number) for at, number in steps if number in earlier
            ]
        else:
            self._signal_all(signal.SIGINT)
        self.stop_asked = True
        self._steps = list(steps)

    def step_due_s(self, now: float) -> float | None:
        """Return the seconds until `go_on_stopping` has work to do; None if it has none left."""
        if not self._steps:
            return None
        due_at = self._steps[0][0]
        return max(0.0, (min(due_at, self._look_at) if self.ended else due_at) - now)

    def go_on_stopping(self, now: float) -> None:
        """Take the step that is due; done when the program and all it left are dead."""
        if self.step_due_s(now) != 0.0:
            return
        self._look_at = now + LEFTOVER_CHECK_S
        if self.ended and not self._leftovers():
            self._steps = []
            return
        at, number = self._steps[0]
        if at > now:
            return
        self._signal_all(number)
        del self._steps[0]
        self._kills += number == signal.SIGKILL
        if not self._steps and self._kills < _KILLS_MAX:
            # What forks while it is being killed is met by the next round.
            self._steps = [(self._look_at, signal.SIGKILL)]

    def left_pids(self) -> list[int]:
        """Return what is still alive of all the program started, itself apart."""
        return sorted(self._leftovers())

    def _leftovers(self) -> dict[int, ProcessStat]:
        left = find_family(os.getpid(), self._marker)
        left.pop(self.pid, None)
        return left

    def _signal_all(self, number: int) -> None:
        self.signal(number)
        for pid, stat in self._leftovers().items():
            if stat.group != self.pid:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)


def kill_orphans(program: ProcessIdentity, marker: bytes) -> list[int]:
    """Kill a program whose supervisor is dead, with all that bears its marker; return who it was.

    Its output has no reader any more and its end no witness, so it cannot be taken up again.
    Returns when they are dead, or would not die.
    """
    killed: set[int] = set()
    for _ in range(_KILLS_MAX):
        found = set(find_family(None, marker)) if marker else set()
        if same_process(program):
            found |= {program.pid, *find_family(program.pid, b"")}
        if not found:
            break
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
        time.sleep(LEFTOVER_CHECK_S)
    return sorted(killed)


def _wide_pipe() -> tuple[int, int]:
    read, write = os.pipe()
    if sys.platform == "linux":
        import fcntl

        # Refused where the user's pipes hold too much already; the usual size does then.
        with contextlib.suppress(OSError):
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return read, write


def _become(
    spec: dict[str, Any], umask: int, stdio: tuple[int, int, int], gate: int, fault: int
) -> None:
    """Turn this forked process into the program; never returns."""
    step = "exec"
    try:
        os.setsid()
        for target, fd in enumerate(stdio):
            os.dup2(fd, target)
        if not os.read(gate, 1):
            os._exit(127)
        for number in _SIGNALS_RESET:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.umask(umask)
        step = "cwd"
        os.chdir(spec["cwd"])
        step = "exec"
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606  a shell is never wanted
    except OSError as error:
        os.write(fault, f"{step} {error.errno or errno.EIO}".encode())
    except (LookupError, TypeError, ValueError):
        # No argument at all, or a NUL inside one.
        os.write(fault, f"{step} {errno.EINVAL}".encode())
    finally:
        os._exit(127)
