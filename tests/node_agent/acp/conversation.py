"""A conversation between the machine and a real agent process, over pipes, judged at both ends.

Before each input the machine is made anew from its state's bytes, as after a restart of the node
agent. Waits for what is said, with a bound that only a hang meets.
"""

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from node_agent.acp.machine import AgentMachine
from node_agent.acp.state import MachineState, decode_state, encode_state
from node_agent.acp.steps import (
    Fact,
    MessageMade,
    Opening,
    Prompt,
    Reply,
    Step,
    TurnOver,
)
from tests.node_agent.acp.judge import Judge

SCRIPTED_AGENT = Path(__file__).parents[3] / "scripts" / "demonstration" / "agent.py"
HANGS_S = 60
F = TypeVar("F", bound=Fact)


class Conversation:
    """One agent process and its machine."""

    def __init__(self, cwd: Path, *options: str, judged: bool = True) -> None:
        self.cwd = cwd
        self.journal = cwd.parent / f"{cwd.name}.journal"
        self.facts: list[Fact] = []
        self.judge = Judge() if judged else None
        self._state: bytes | None = None
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        command = [sys.executable, "-S", str(SCRIPTED_AGENT), "--journal", str(self.journal)]
        self.process = subprocess.Popen(
            [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait(HANGS_S)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._reader.join(HANGS_S)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip(b"\n"))
        self._lines.put(None)

    @property
    def state(self) -> MachineState:
        return MachineState() if self._state is None else decode_state(self._state)

    def put(self, wish: Callable[[AgentMachine], Step]) -> list[Fact]:
        """Give the machine an input; send its lines; return what it led to."""
        machine = AgentMachine(self.state)
        step = wish(machine)
        self._state = encode_state(machine.state)
        self.facts += step.facts
        for line in step.lines:
            self._send(line)
        return list(step.facts)

    def _send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        if self.judge is not None:
            self.judge.hears("client", line)
        try:
            self.process.stdin.write(line + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            # It has died; its output says so next.
            return

    def begin(self, **fields: Any) -> list[Fact]:
        opening = Opening(cwd=str(self.cwd), client_version="1", **fields)
        return self.put(lambda machine: machine.begin(opening))

    def prompt(self, text: str, turn_id: str = "turn", **fields: Any) -> list[Fact]:
        prompt = Prompt(turn_id=turn_id, text=text, **fields)
        return self.put(lambda machine: machine.prompt(prompt))

    def reply(self, key: str, **fields: Any) -> list[Fact]:
        return self.put(lambda machine: machine.reply(key, Reply(**fields)))

    def interrupt(self) -> list[Fact]:
        return self.put(lambda machine: machine.interrupt())

    def hear(self) -> list[Fact]:
        """Take in one line of the agent, or its end."""
        line = self._lines.get(timeout=HANGS_S)
        if line is None:
            self._lines.put(None)
            return self.put(lambda machine: machine.finish())
        if self.judge is not None:
            self.judge.hears("agent", line)
        return self.put(lambda machine: machine.receive(line))

    def until(self, kind: type[F], holds: Callable[[F], bool] = lambda _: True) -> F:
        """Listen until a fact of this kind comes, and return it."""
        while True:
            ended = self._state is not None and self.state.failure is not None
            for fact in self.hear():
                if isinstance(fact, kind) and holds(fact):
                    return fact
            assert not ended, f"it is over, and no such {kind.__name__} came"

    def turn(self, text: str, turn_id: str = "turn", **fields: Any) -> TurnOver:
        """Carry out a whole turn that asks nothing."""
        self.prompt(text, turn_id, **fields)
        return self.until(TurnOver)

    def told(self) -> list[dict[str, Any]]:
        """What the agent wrote down of what it was told and did."""
        if not self.journal.exists():
            return []
        return [json.loads(line) for line in self.journal.read_text().splitlines()]

    def messages(self) -> list[MessageMade]:
        """The messages as they stand, in the order in which each first came."""
        made: dict[str, MessageMade] = {}
        for fact in self.facts:
            if isinstance(fact, MessageMade):
                made[fact.key] = fact
        return list(made.values())

    def contents(self, role: str) -> list[str]:
        return [message.content for message in self.messages() if message.role == role]

    def of(self, kind: type[F]) -> list[F]:
        return [fact for fact in self.facts if isinstance(fact, kind)]
