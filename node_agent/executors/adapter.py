"""What an executor is: how a wish becomes a process to run. Pure, and without knowledge of others.

An executor says what to start; supervisors own processes, and the attempt runner owns what their
end means. All an executor imports of the node agent is this file.
"""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is wanted of the executor: the parts of a start request that are its to read.

    `model` and `mode` go before what the profile says.
    """

    command: str | None = None
    prompt: str | None = None
    profile: str | None = None
    model: str | None = None
    mode: str | None = None


@dataclass(frozen=True, kw_only=True)
class Conversing:
    """How a conversation with the process begins: the agent's mode and model, its own if None.

    `auth_method` is how to log in where the environment holds one of `login_variables`.
    """

    mode: str | None = None
    model: str | None = None
    auth_method: str | None = None
    login_variables: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A process to run in the worktree: never through a shell. `stdin` is its whole input.

    `environment` is for what is set nowhere else; `chosen_environment` goes before the node
    agent's own, and may name secrets in place of values.
    With `conversing` it is spoken to instead, turn after turn, and ends once its input does.
    `tools_word` goes before the tool servers it is given, where it hears of them by its words.
    """

    argv: list[str]
    stdin: bytes = b""
    environment: dict[str, str] = field(default_factory=dict)
    chosen_environment: dict[str, str] = field(default_factory=dict)
    conversing: Conversing | None = None
    tools_word: str | None = None


class Executor(Protocol):
    """One way to have work done."""

    @property
    def name(self) -> str:
        """What requests call it."""

    @property
    def converses(self) -> bool:
        """Whether its processes are spoken to: then one of them serves many turns."""

    def launch(self, wish: Wish) -> Launch:
        """Return what to run. Raises OperationError (INVALID), naming the field that is wrong."""
