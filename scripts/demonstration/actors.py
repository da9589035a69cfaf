"""The hive and the nodes of the story, spoken to by the commands a person would type.

Owns what each is called and where it lives. Must not tell the story.
"""

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from hive.client import HiveClient
from protocol.errors import ErrorCode, SkepError
from scripts.demonstration.processes import BIN, DemoFolder, Program, environment, run
from scripts.demonstration.screen import StepFailed

T = TypeVar("T")
WITHIN_S: Final = 30.0
_LOOK_S: Final = 0.05


class Hive:
    """The hive: founded, served, and asked as its admin."""

    def __init__(self, folder: DemoFolder, port: int) -> None:
        self.folder = folder
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.token = ""
        self.sign_in_url = ""
        self._data = folder.path / "hive"
        serve = ["serve", "--data", str(self._data), "--port", str(port)]
        self.program = Program(folder, "hive", [str(BIN / "hive"), *serve], "listening on ")

    def found(self) -> None:
        """Found the hive and start it."""
        made = self.json("init", "--data", str(self._data), "--port", str(self.port))
        self.token, self.sign_in_url = made["admin_token"], made["sign_in_url"]
        self.program.start()

    def environment(self) -> dict[str, str]:
        return environment(self.folder, {"SKEP_HIVE_URL": self.url, "SKEP_TOKEN": self.token})

    def json(self, *args: str) -> Any:
        """Run a `hive` command and return its JSON. Raises StepFailed."""
        return json.loads(run([str(BIN / "hive"), *args, "--json"], self.environment()))

    def lines(self, attempt_id: str) -> list[dict[str, Any]]:
        """The whole log of an attempt, as the hive tells it."""
        argv = [str(BIN / "hive"), "attempts", "logs", attempt_id, "--json"]
        return [json.loads(line) for line in run(argv, self.environment()).splitlines()]

    def get(self, path: str, **query: Any) -> Any:
        """Ask the API itself: for waiting, where starting a command each time would be slow."""
        with HiveClient(self.url, self.token) as client:
            return client.get(path, **query)

    def attempt(self, attempt_id: str) -> dict[str, Any]:
        """An attempt as the hive shows it; empty while it has not heard of it."""
        try:
            shown: dict[str, Any] = self.get(f"attempts/{attempt_id}")
        except SkepError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            return {}
        return shown

    def wait_ended(self, attempt_id: str) -> dict[str, Any]:
        """Wait until an attempt has ended and all of it is at the hive."""
        return wait_for(
            lambda: self.attempt(attempt_id),
            "the attempt did not end",
            lambda one: one.get("phase") == "ended" and one["sync_state"] == "complete",
        )

    def has_page(self) -> bool:
        """Whether this hive serves a page for people at its address."""
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/")
            reply = connection.getresponse()
            return reply.status == 200 and "html" in (reply.getheader("Content-Type") or "")
        finally:
            connection.close()


class Node:
    """A node: its data folder, its own clone of the repository, its agent."""

    def __init__(self, folder: DemoFolder, name: str) -> None:
        self.name = name
        self.folder = folder
        self.data = folder.path / name
        self.clone = Path()
        self.id = ""
        argv = [str(BIN / "node-agent"), "run", "--data", str(self.data)]
        self.program = Program(folder, name, argv, "ready: ")

    def json(self, *args: str) -> Any:
        """Run a `node-agent` command on this node and return its JSON. Raises StepFailed."""
        argv = [str(BIN / "node-agent"), *args, "--data", str(self.data), "--json"]
        return json.loads(run(argv, environment(self.folder)))

    def pid_of(self, attempt_id: str) -> int:
        """The process that an attempt runs as."""
        pid: int = self.json("attempts", "show", attempt_id)["executions"][-1]["process"]["pid"]
        return pid


class Follower:
    """`hive attempts logs A -f`, read line by line as it comes."""

    def __init__(self, hive: Hive, attempt_id: str) -> None:
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        argv = [str(BIN / "hive"), "attempts", "logs", attempt_id, "-f", "--json"]
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=hive.environment(),
            start_new_session=True,
            text=True,
        )
        hive.folder.record(self._process)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  it was asked for
        for line in self._process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def next(self, within_s: float = WITHIN_S) -> dict[str, Any] | None:
        """The next entry; None at the end of the log. Raises StepFailed where none comes."""
        try:
            return self._lines.get(timeout=within_s)
        except queue.Empty:
            raise StepFailed(f"no line came for {within_s:.0f} s, followed live") from None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(5)
        if self._process.stdout is not None:
            self._process.stdout.close()


def wait_for(look: Callable[[], T], why: str, holds: Callable[[T], object] = bool) -> T:
    """Look until what is seen holds, and return it. Raises StepFailed with `why`."""
    deadline_s = time.monotonic() + WITHIN_S
    while not holds(seen := look()):
        if time.monotonic() > deadline_s:
            raise StepFailed(f"{why} within {WITHIN_S:.0f} s")
        time.sleep(_LOOK_S)
    return seen
