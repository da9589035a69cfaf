"""A node agent as its own process on a folder of its own, driven through its command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
START_S_MAX = 30.0


def wait_until(holds: Callable[[], Any], *, what: str, within_s: float = 60.0) -> Any:
    """Wait for a condition of another process; fails naming it."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s} s: {what}")


@dataclass
class RunningNode:
    """A data folder, the agent that may run on it, and its commands."""

    data_dir: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What the agent wrote to standard error."""
        path = self.data_dir.parent / f"{self.data_dir.name}.log"
        return path.read_text() if path.exists() else ""

    def command(self, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self._argv(*args),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=self._environment(),
            timeout=90,
        )

    def json(self, *args: str) -> Any:
        """Run a command that must work, and return its JSON."""
        done = self.command(*args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refused(self, *args: str) -> dict[str, Any]:
        """Run a command that must fail, and return its error."""
        done = self.command(*args, "--json")
        assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
        assert done.stdout == ""
        error: dict[str, Any] = json.loads(done.stderr)["error"]
        return error

    def lines(self, *args: str) -> list[dict[str, Any]]:
        """Run a command that answers one JSON object per line."""
        done = self.command(*args, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def popen(self, *args: str, **more: Any) -> subprocess.Popen[Any]:
        """Start a command and leave it running."""
        return subprocess.Popen(self._argv(*args), env=self._environment(), **more)

    def start(self, *args: str, wait: bool = True) -> None:
        """Start the agent and wait until it is ready."""
        seen = self.log.count("ready:")
        with (self.data_dir.parent / f"{self.data_dir.name}.log").open("ab") as log:
            self.process = self.popen("run", *args, stderr=log, stdout=subprocess.DEVNULL)
        if wait:
            wait_until(
                lambda: self.log.count("ready:") > seen or self.process.poll() is not None,
                what="the agent is ready",
                within_s=START_S_MAX,
            )
            assert self.process.poll() is None, self.log

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the agent with a signal; return its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(30)
        self.process = None
        return status

    def close(self) -> None:
        """End the agent, and what it was running."""
        if self.process is not None and self.process.poll() is None:
            for one in self.json("attempts")["items"]:
                if one["phase"] != "ended":
                    self.command("attempt", "stop", one["id"], "--grace-s", "0")
                    self.command("attempts", "wait", one["id"], "--timeout", "20")
            self.process.kill()
            self.process.wait(10)

    def _argv(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "node_agent.cli", *args, "--data", str(self.data_dir)]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(CHECKOUT), **self.environment}


def make_repository(path: Path) -> Path:
    """Make a repository with one commit."""
    path.mkdir(parents=True)
    for args in (
        ["init", "-q", "-b", "main"],
        ["config", "user.name", "Tester"],
        ["config", "user.email", "tester@example.org"],
        ["add", "-A"],
        ["commit", "-q", "--allow-empty", "-m", "first"],
    ):
        (path / "README.md").write_text("hello\n")
        subprocess.run(["git", *args], cwd=path, check=True)
    return path
