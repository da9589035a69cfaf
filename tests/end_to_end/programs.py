"""The two programs as processes of their own: started, killed, stopped, and their commands.

Owns the processes it starts and where their own logs go. Must not import the programs it runs:
what these tests hold is what a user gets.
"""

import abc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.end_to_end.waiting import until

BIN = Path(sys.executable).parent
CHECKOUT = Path(__file__).resolve().parents[2]
#: A command of ours that takes longer than this hangs.
COMMAND_S_MAX = 120.0
_STOP_S_MAX = 30.0


class Refused(AssertionError):  # noqa: N818  what happened, as the tests say it
    """A command that was to work failed; `error` is what it said on stderr."""

    def __init__(self, argv: list[str], done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"{' '.join(argv)} exited {done.returncode}: {done.stderr[-3000:]}")


class Command:
    """One of the two commands, with the environment it is called in."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log_path = log
        self.environment: dict[str, str] = {}

    def argv(self, *args: str) -> list[str]:
        return [str(BIN / self.name), *args]

    def call(
        self, *args: str, stdin: str = "", timeout_s: float = COMMAND_S_MAX
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is."""
        return subprocess.run(
            self.argv(*args),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=self.full_environment(),
            timeout=timeout_s,
        )

    def json(self, *args: str, stdin: str = "") -> Any:
        """Run a command that must work, and return the one JSON value it prints."""
        done = self.call(*args, "--json", stdin=stdin)
        if done.returncode != 0:
            raise Refused(self.argv(*args), done)
        return json.loads(done.stdout)

    def lines(self, *args: str) -> list[dict[str, Any]]:
        """Run a command that must work, and return the JSON objects it prints line by line."""
        done = self.call(*args, "--json")
        if done.returncode != 0:
            raise Refused(self.argv(*args), done)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def refused(self, *args: str, stdin: str = "") -> dict[str, Any]:
        """Run a command that must fail in the one shape, and return its error."""
        done = self.call(*args, "--json", stdin=stdin)
        assert done.returncode == 1, (self.argv(*args), done.returncode, done.stdout, done.stderr)
        assert done.stdout == "", done.stdout
        error: dict[str, Any] = json.loads(done.stderr)["error"]
        assert set(error) == {"code", "message", "hint", "retryable", "details"}, error
        assert error["message"]
        return error

    def popen(self, *args: str, **more: Any) -> subprocess.Popen[Any]:
        """Start a command and leave it running."""
        return subprocess.Popen(self.argv(*args), env=self.full_environment(), **more)

    def full_environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment}


class Program(Command, abc.ABC):
    """A command that runs on: it says when it is ready, and ends by a signal."""

    def __init__(self, name: str, log: Path, ready: str) -> None:
        super().__init__(name, log)
        self.process: subprocess.Popen[bytes] | None = None
        self._ready = ready.encode()
        self._begun = 0

    @property
    def log(self) -> str:
        """What the program wrote to standard error, over all its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @abc.abstractmethod
    def run_arguments(self) -> list[str]:
        """What the program is started with."""

    def start(self, *, failpoint: str | None = None, wait: bool = True) -> None:
        """Start the program, and wait until it says that it is ready."""
        assert self.process is None, f"{self.name} runs already"
        self._begun = self.log_path.stat().st_size if self.log_path.exists() else 0
        environment = self.full_environment()
        if failpoint is not None:
            environment["SKEP_FAILPOINT"] = f"{failpoint}:kill9"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv(*self.run_arguments()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the program says that it is ready, since its newest start."""
        process = self.process
        assert process is not None
        until(
            lambda: (
                self._ready in self.log_path.read_bytes()[self._begun :]
                or process.poll() is not None
            ),
            f"{self.name} is ready",
        )
        assert process.poll() is None, f"{self.name} ended as it started:\n{self.log[-3000:]}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End the program as a power cut would: at once, without a word."""
        assert self.running, f"{self.name} ended by itself:\n{self.log[-3000:]}"
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask the program to stop; return its exit status."""
        return self._end(signal.SIGTERM)

    def ended(self, within_s: float = _STOP_S_MAX) -> int:
        """Wait for the program to end by itself; return its exit status."""
        assert self.process is not None
        status = self.process.wait(within_s)
        self.process = None
        return status

    def _end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.ended()
