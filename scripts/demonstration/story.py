"""What the demo does, step by step, and what it has seen by the end.

Owns the order of events. Must not judge them: `checks` does, from what is kept here.
"""

import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from scripts.demonstration import repository
from scripts.demonstration.actors import Follower, Hive, Node, wait_for
from scripts.demonstration.agents import SpokenTo
from scripts.demonstration.conversation import TITLE, Conversation, Conversing
from scripts.demonstration.processes import DemoFolder
from scripts.demonstration.screen import Screen, StepFailed

WORKER: Final = Path(__file__).with_name("worker.py")
#: Live lines shown of each attempt; the rest is counted.
_SHOWN_MAX: Final = 3
#: Lines that must have come before the plug is pulled, and after the agent is back.
_LINES_BEFORE: Final = 40
_LINES_AFTER: Final = 40
#: A code of its own, so that no other ending looks like the right one.
EXIT_CODE: Final = 0


@dataclass
class Run:
    """One attempt of the story, and what was seen of it while it ran."""

    id: str
    title: str
    node: Node
    copy: Path
    outcome: str
    task_id: str
    followed: list[dict[str, Any]] = field(default_factory=list)
    ended: dict[str, Any] = field(default_factory=dict)
    diff: dict[str, Any] = field(default_factory=dict)
    pids_seen: list[int] = field(default_factory=list)
    agent_pids: list[int] = field(default_factory=list)


class Story:
    """A hive, its nodes and their attempts, from nothing to the end."""

    def __init__(
        self,
        screen: Screen,
        folder: DemoFolder,
        source: Path,
        agent: SpokenTo,
        *,
        nodes: int,
        port: int,
    ) -> None:
        self.screen = screen
        self.folder = folder
        self.source = source
        self.hive = Hive(folder, port)
        self.nodes = [Node(folder, f"node-{number}") for number in range(1, nodes + 1)]
        self.project = source.name.removesuffix(".git") or "project"
        self.runs: list[Run] = []
        self.conversation = Conversation(agent, self.nodes[-1])
        self.clones_before: dict[str, repository.State] = {}
        self._followers: list[Follower] = []

    def tell(self) -> None:
        """Go through it all. Raises StepFailed."""
        self._found()
        self._clone()
        self._enrol()
        self._work()
        self._read_diff()
        self._converse()
        self._stop_one()
        self._pull_the_plug()

    # --- the steps ----------------------------------------------------------------------------

    def _found(self) -> None:
        with self.screen.step("Found a hive and serve it", f"The hive serves at {self.hive.url}"):
            self.hive.found()

    def _clone(self) -> None:
        name = self.project
        with self.screen.step(f"Clone {name} for each node", f"{name} cloned for each node"):
            for node in self.nodes:
                node.clone = self.folder.path / "checkouts" / node.name / name
                repository.clone(self.folder, self.source, node.clone)
                self.clones_before[node.name] = repository.state_of(self.folder, node.clone)

    def _enrol(self) -> None:
        names = " and ".join(node.name for node in self.nodes)
        with self.screen.step(f"Enrol {names}", f"{names} enrolled, each with a key of its own"):
            for number, node in enumerate(self.nodes):
                token = self.hive.json("nodes", "join-token", "--label", node.name)["join_token"]
                if number == 0:
                    self.screen.command(f"node-agent join {self.hive.url} {token[:9]}…")
                    self.screen.command(f"node-agent checkout add …/{self.project}")
                node.id = node.json("join", self.hive.url, token, "--name", node.name)["node_id"]
                node.json("checkout", "add", str(node.clone), "--project", self.project)
                node.program.start()
            wait_for(self._linked, "the hive did not link the nodes' checkouts to a project")

    def _linked(self) -> bool:
        nodes = {one["name"]: one["status"] for one in self.hive.get("nodes")["items"]}
        found = [one for one in self.hive.get("projects")["items"] if one["name"] == self.project]
        linked = {each["node_name"] for one in found for each in one["checkouts"]}
        names = {node.name for node in self.nodes}
        return names <= linked and all(nodes.get(name) == "online" for name in names)

    def _work(self) -> None:
        with self.screen.step("Run a task on each node, followed live"):
            runs = [
                self._start(node, "Count the lines", "report", outcome="succeeded")
                for node in self.nodes
            ]
            followers = [self._follow(run) for run in runs]
            for run, follower in zip(runs, followers, strict=True):
                self._show_to_end(run, follower)
            for run in runs:
                run.ended = self.hive.wait_ended(run.id)

    def _read_diff(self) -> None:
        with self.screen.step("Read what changed, through the relay"):
            for run in self.runs:
                if run.outcome == "succeeded":
                    run.diff = self.hive.json("attempt", "diff", run.id)
            shown = self.runs[0]
            self.screen.command(f"hive attempt diff {shown.id[-8:]}")
            for file in shown.diff["files"]:
                counted = f"+{file['additions']} -{file['deletions']}"
                self.screen.detail(f"{file['kind']} {file['path']}  {counted}")
                self.screen.patch((file["patch"] or "").splitlines()[-3:])

    def _converse(self) -> None:
        kept = self.conversation
        conversing = Conversing(self.screen, self.folder, self.hive, kept)
        with self.screen.step(f"Give {kept.agent.title} a task on {kept.node.name}, and answer it"):
            base = self.clones_before[kept.node.name].base_words()
            conversing.begin(self.project, base)
            conversing.show()
        with self.screen.step("Say more in the same session"):
            conversing.follow_up()
            conversing.show(after=len(kept.messages))

    def _stop_one(self) -> None:
        node = self.nodes[-1]
        with self.screen.step(f"Stop an attempt on {node.name} that would run for minutes"):
            run = self._start(node, "Wait for ever", "until", outcome="stopped")
            follower = self._follow(run)
            self._take(run, follower, 1)
            run.pids_seen.append(node.pid_of(run.id))
            self.screen.command(f"hive attempt stop {run.id[-8:]}")
            self.hive.json("attempt", "stop", run.id, "--grace-s", "2")
            run.ended = self.hive.wait_ended(run.id)

    def _pull_the_plug(self) -> None:
        node = self.nodes[0]
        with self.screen.step(
            f"Pull a plug: kill -9 the agent of {node.name} while its attempt prints",
            f"{node.name} was killed and came back; its attempt never noticed",
        ):
            run = self._start(node, "Outlive the agent", "until", outcome="succeeded")
            follower = self._follow(run)
            self._take(run, follower, _LINES_BEFORE)
            run.pids_seen.append(node.pid_of(run.id))
            run.agent_pids.append(node.program.pid)
            node.program.kill()
            begun = time.monotonic()
            self.screen.detail(
                f"killed agent {run.agent_pids[0]} after {len(run.followed)} lines;"
                f" the attempt's process {run.pids_seen[0]} goes on"
            )
            node.program.start()
            run.agent_pids.append(node.program.pid)
            run.pids_seen.append(node.pid_of(run.id))
            took_s = time.monotonic() - begun
            self.screen.detail(
                f"back after {took_s:.1f} s as agent {run.agent_pids[1]};"
                f" the attempt is still process {run.pids_seen[1]}"
            )
            self._take(run, follower, len(run.followed) + _LINES_AFTER)
            gate_of(run).write_text(str(EXIT_CODE))
            while (entry := follower.next()) is not None:
                run.followed.append(entry)
            run.ended = self.hive.wait_ended(run.id)
            self.screen.detail(f"{len(run.followed)} lines at the hive, in order, none missing")

    # --- attempts -----------------------------------------------------------------------------

    def _start(self, node: Node, title: str, mode: str, *, outcome: str) -> Run:
        """Make a task and run it on a node by the commands a person would type."""
        task = self.hive.json("tasks", "create", "--project", self.project, "--title", title)
        copy = self.folder.path / "printed" / f"{len(self.runs)}"
        copy.parent.mkdir(exist_ok=True)
        # Isolated, so that no module of the repository it works in is imported by accident.
        words = [sys.executable, "-I", str(WORKER), mode, str(copy)]
        if mode == "until":
            words.append(str(copy.with_suffix(".gate")))
        if not self.runs:
            self.screen.command(
                f"hive tasks run {task['id'][-8:]} --node {node.name} --command '{mode} …'"
            )
        asked = ["tasks", "run", task["id"], "--node", node.name, "--command", shlex.join(words)]
        asked += self.clones_before[node.name].base_words()
        started = self.hive.json(*asked)
        run = Run(started["id"], title, node, copy, outcome, task["id"])
        self.runs.append(run)
        return run

    def _follow(self, run: Run) -> Follower:
        follower = Follower(self.hive, run.id)
        self._followers.append(follower)
        return follower

    def _take(self, run: Run, follower: Follower, count: int) -> None:
        """Read entries as they come until there are `count`; the first few are shown."""
        while len(run.followed) < count:
            entry = follower.next()
            if entry is None:
                shown = self.hive.attempt(run.id)
                raise StepFailed(
                    f"the attempt {run.title!r} ended early: {shown.get('outcome')}"
                    f" ({shown.get('reason') or 'no reason given'})"
                )
            run.followed.append(entry)
            if len(run.followed) <= _SHOWN_MAX:
                self.screen.printed(run.node.name, entry.get("text", ""))

    def _show_to_end(self, run: Run, follower: Follower) -> None:
        while (entry := follower.next()) is not None:
            run.followed.append(entry)
            if len(run.followed) <= _SHOWN_MAX:
                self.screen.printed(run.node.name, entry.get("text", ""))
        left = len(run.followed) - _SHOWN_MAX - 1
        if left > 0:
            self.screen.printed(run.node.name, f"… {left} more")
            self.screen.printed(run.node.name, run.followed[-1].get("text", ""))

    # --- the end ------------------------------------------------------------------------------

    def table(self) -> list[list[str]]:
        """The attempts: a row each."""
        told = [(run.ended, run.title, run.node) for run in self.runs]
        told.insert(len(self.nodes), (self.conversation.ended, TITLE, self.conversation.node))
        rows = []
        for one, title, node in told:
            took_s = (one["ended_at_ms"] - one["created_at_ms"]) / 1000
            entries = sum(execution["log"]["entries"] for execution in one["executions"])
            row = [one["id"][-8:], title, node.name, one["outcome"]]
            rows.append([*row, str(entries), f"{took_s:.1f} s", one["branch"]])
        return rows

    def close(self) -> None:
        """End all of it: what runs in attempts, the agents, the hive."""
        for follower in self._followers:
            follower.close()
        for program in [node.program for node in self.nodes] + [self.hive.program]:
            program.stop()


def gate_of(run: Run) -> Path:
    """The file that tells an attempt's program to end."""
    return run.copy.with_suffix(".gate")
