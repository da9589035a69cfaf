"""A node agent as a process on a data folder of its own, and the ways to speak to it.

Owns what the node runs as well: programs outlive their agent, but no test.
"""

import contextlib
import os
import signal
import sqlite3
import uuid
from pathlib import Path
from typing import Any

import psutil

from node_agent.config import load
from node_agent.local_client import LocalClient
from protocol.errors import SkepError
from tests.end_to_end.programs import Program
from tests.end_to_end.waiting import until

#: In the environment of everything the node starts, so that nothing outlives the test. Not one of
#: SKEP_..., which programs of attempts are not given.
_MARK = "NODE_TEST_MARK"


class NodeProgram(Program):
    """A node: its data folder, its agent's process, its operator's command line and client."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__("node-agent", folder / f"{name}.log", "ready: ")
        self.node_name = name
        self.data_dir = folder / name
        self._mark = uuid.uuid4().hex
        self.environment[_MARK] = self._mark

    def argv(self, *args: str) -> list[str]:
        return [*super().argv(*args), "--data", str(self.data_dir)]

    def run_arguments(self) -> list[str]:
        return ["run"]

    @property
    def client(self) -> LocalClient:
        """The node's own API."""
        return LocalClient(load(self.data_dir, environment={}))

    def attempt(self, attempt_id: str) -> dict[str, Any]:
        """One attempt as the node shows it."""
        shown: dict[str, Any] = self.client.get(f"attempts/{attempt_id}")
        return shown

    def process_of(self, attempt_id: str) -> dict[str, Any]:
        """The process identity of an attempt's newest execution."""
        identity: dict[str, Any] = self.attempt(attempt_id)["executions"][-1]["process"]
        return identity

    def status(self) -> dict[str, Any]:
        """How the node stands."""
        shown: dict[str, Any] = self.client.get("status")
        return shown

    def wait_connected(self) -> dict[str, Any]:
        """Wait until the node says that its link is up."""
        return until(
            self.status,
            f"{self.node_name} is connected",
            holds=lambda status: status["hive"] is not None and status["hive"]["connected"],
        )

    def wait_sent(self) -> dict[str, Any]:
        """Wait until the hive has all this node has to say."""
        return until(
            self.status,
            f"{self.node_name} has sent everything",
            holds=lambda status: (
                status["hive"]["connected"]
                and not status["outbox"]["ops"]
                and not status["outbox"]["chunks"]
            ),
        )

    def hurry(self) -> None:
        """Have the agent dial now: the same that `join` does, without waiting for the backoff."""
        with contextlib.suppress(SkepError):
            self.client.send("POST", "enrolment/changed")

    def rows(self, name: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read one of the node's own files: `state` or `logs`."""
        uri = f"file:{self.data_dir / name}.db?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            return connection.execute(query, values).fetchall()

    # --- what it runs -------------------------------------------------------------------------

    def started_processes(self) -> list[psutil.Process]:
        """Every living process that came of this node: supervisors and what they run."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get(_MARK) == self._mark
                folder = str(self.data_dir / "runs")
                if ours or any(folder in word for word in process.cmdline()):
                    found.append(process)
        return found

    def close(self) -> None:
        """Kill the agent and all it started."""
        if self.running:
            self.kill()
        for process in self.started_processes():
            if process.pid != os.getpid():
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL)
        gone = self.started_processes()
        until(self.started_processes, f"all of {gone} are gone", holds=lambda left: not left)
