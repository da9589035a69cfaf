"""A hive and one node agent of this checkout, as processes of their own, in a throw-away folder."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

_BIN = Path(sys.executable).parent
_START_S_MAX = 30.0


class Stack:
    """The running pair. `hive` and `node` run one command of theirs and return its JSON."""

    def __init__(self, folder: Path, *, direct_listen: str = "") -> None:
        self.folder = folder
        self.hive_data = folder / "hive"
        self.node_data = folder / "node"
        self.repository = folder / "repository"
        self._environment = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
        }
        if direct_listen:
            self._environment["SKEP_NODE_DIRECT_LISTEN"] = direct_listen
        self._processes: list[subprocess.Popen[bytes]] = []
        self.node_id = ""
        self.url = ""
        self.token = ""
        #: What the node dials, where that is not the hive itself.
        self.between: Callable[[str], str] = lambda url: url

    def start(self) -> None:
        """Start both, enrol the node, give it a repository."""
        founded = self.hive("init", "--data", str(self.hive_data))
        self.url = url = self._serve()
        self.token = founded["admin_token"]
        self._environment |= {"SKEP_HIVE_URL": url, "SKEP_TOKEN": self.token}
        token = self.hive("nodes", "join-token")["join_token"]
        self.node_id = self.node("join", self.between(url), token, "--slots", "4")["node_id"]
        self._spawn("node-agent", "run", "--data", str(self.node_data))
        self._make_repository()
        self._until(lambda: self.node("status")["hive"]["connected"])
        self.node("checkout", "add", str(self.repository), "--project", "bench")
        self._until(lambda: self.hive("projects")["items"])

    def _serve(self) -> str:
        log = (self.folder / "hive.log").open("w+b")
        self._processes.append(
            subprocess.Popen(
                [_BIN / "hive", "serve", "--data", str(self.hive_data), "--port", "0"],
                env=self._environment,
                stderr=log,
            )
        )
        found = ""

        def listening() -> bool:
            nonlocal found
            for line in (self.folder / "hive.log").read_text().splitlines():
                if "listening" in line and "http://" in line:
                    found = "http://" + line.split("http://", 1)[1].split()[0].rstrip("/,")
            return bool(found)

        self._until(listening)
        return found

    def _spawn(self, *argv: str) -> None:
        log = (self.folder / f"{argv[0]}.log").open("wb")
        self._processes.append(
            subprocess.Popen([_BIN / argv[0], *argv[1:]], env=self._environment, stderr=log)
        )

    def _make_repository(self) -> None:
        self.repository.mkdir()
        for argv in (
            ["git", "init", "-q", "-b", "main"],
            [
                "git",
                "-c",
                "user.name=b",
                "-c",
                "user.email=b@b.invalid",
                "commit",
                "-q",
                "--allow-empty",
                "-m",
                "first",
            ],
        ):
            subprocess.run(argv, cwd=self.repository, env=self._environment, check=True)

    def _until(self, ready: Any) -> None:
        deadline = time.monotonic() + _START_S_MAX
        while True:
            with contextlib.suppress(subprocess.CalledProcessError, KeyError):
                if ready():
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the stack does not start; see the logs in {self.folder}")
            time.sleep(0.1)

    def hive(self, *argv: str) -> Any:
        return self._json([str(_BIN / "hive"), *argv, "--json"])

    def node(self, *argv: str) -> Any:
        return self._json(
            [str(_BIN / "node-agent"), *argv, "--data", str(self.node_data), "--json"]
        )

    def _json(self, argv: list[str]) -> Any:
        done = subprocess.run(argv, env=self._environment, check=True, capture_output=True)
        return json.loads(done.stdout)

    def run_attempt(self, title: str, command: str) -> dict[str, Any]:
        """Start an attempt that runs `command`; return it."""
        task = self.hive("tasks", "create", "--project", "bench", "--title", title)
        return dict(
            self.hive(
                "tasks",
                "run",
                task["id"],
                "--node",
                self.node_id,
                "--executor",
                "command",
                "--command",
                command,
            )
        )

    def follow(self, attempt_id: str) -> subprocess.Popen[bytes]:
        """Follow an attempt's log as a viewer does, one JSON line per entry."""
        return self._following("attempts", "logs", attempt_id)

    def follow_diff(self, attempt_id: str) -> subprocess.Popen[bytes]:
        """Follow an attempt's diff as a viewer does, one JSON line per update."""
        return self._following("attempt", "diff", attempt_id)

    def _following(self, *argv: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [_BIN / "hive", *argv, "--follow", "--json"],
            env=self._environment,
            stdout=subprocess.PIPE,
        )

    def worktree_of(self, attempt_id: str) -> Path:
        """Wait until an attempt runs; return where it works."""
        found: dict[str, Any] = {}

        def runs() -> bool:
            found.update(self.hive("attempts", "show", attempt_id))
            return found["phase"] == "running" and bool(found["worktree"])

        self._until(runs)
        return Path(found["worktree"])

    def cpu_s(self) -> float:
        """Return the CPU seconds hive and node agent have used."""
        return sum(
            times.user + times.system
            for times in (psutil.Process(process.pid).cpu_times() for process in self._processes)
        )

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Stack]:
    """Run a stack in `folder`; it is stopped whatever happens."""
    stack = Stack(folder)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
