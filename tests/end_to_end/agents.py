"""The scripted agent as attempts of end-to-end tests run it, and what its journal says it saw."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import msgspec

from protocol.conversation import AgentRequest, Message, Session, TurnState
from tests.end_to_end.node_program import NodeProgram
from tests.end_to_end.programs import CHECKOUT
from tests.end_to_end.waiting import until

AGENT = CHECKOUT / "scripts" / "demonstration" / "agent.py"
_RECORDS = "SELECT body FROM record WHERE kind = ? ORDER BY entity_id"


class AgentJournal:
    """What an agent's processes wrote down, each at once."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def command(self) -> str:
        """The command line of the agent that keeps this journal, and its sessions beside it."""
        sessions = self._file.with_suffix(".sessions")
        words = [sys.executable, AGENT, "--journal", self._file, "--sessions", sessions]
        return shlex.join(map(str, words))

    def command_of(self, *lines: str) -> str:
        """The command line of one for which every prompt stands for these lines."""
        script = self._file.with_suffix(".script")
        script.write_text("\n".join(lines))
        return f"{self.command} --script {shlex.quote(str(script))}"

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """What it says of this kind."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return [one for one in map(json.loads, lines) if one["kind"] == kind]

    def wait(self, kind: str, count: int = 1) -> None:
        """Wait until something happened so often."""
        until(
            lambda: len(self.of_kind(kind)),
            f"the agent noted {count} of {kind}",
            holds=lambda found: found >= count,
        )

    @property
    def prompts(self) -> list[str]:
        """The prompts that its processes were given, in order."""
        return [one["text"] for one in self.of_kind("prompt")]

    @property
    def outcomes(self) -> list[str]:
        """What was answered to its requests for permission."""
        return [
            one["result"]["outcome"].get("optionId", one["result"]["outcome"]["outcome"])
            for one in self.of_kind("answer")
        ]

    @property
    def pids(self) -> set[int]:
        """The processes that were spoken to."""
        return {one["pid"] for one in self.of_kind("called")}


class NodeConversation:
    """What a node has on record of an attempt's conversation, read from its own file."""

    def __init__(self, node: NodeProgram, attempt_id: str) -> None:
        self._node = node
        self._attempt_id = attempt_id

    def messages(self) -> list[Message]:
        """The transcript, whose numbers have no hole."""
        found = sorted(self._of("message", Message), key=lambda one: one.seq)
        assert [one.seq for one in found] == list(range(1, len(found) + 1))
        return found

    def told(self) -> list[tuple[str, str]]:
        """The transcript as role and text."""
        return [(one.role.value, one.content.strip()) for one in self.messages()]

    def turns(self) -> list[TurnState]:
        """The turns, in the order in which they were asked for."""
        return self._of("turn", TurnState)

    def sessions(self) -> list[Session]:
        return self._of("session", Session)

    def requests(self) -> list[AgentRequest]:
        return self._of("request", AgentRequest)

    def request(self) -> AgentRequest:
        """The newest request, once there is one."""
        return until(self.requests, "the agent has asked")[-1]

    def _of(self, kind: str, record: type[Any]) -> list[Any]:
        bodies = (body for (body,) in self._node.rows("state", _RECORDS, kind))
        found = [msgspec.msgpack.decode(body, type=record) for body in bodies]
        return [one for one in found if one.attempt_id == self._attempt_id]
