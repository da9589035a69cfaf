"""The executor `acp`: an agent that speaks the Agent Client Protocol, spoken to turn after turn.

The command line is the agent's own; prompts go in by the protocol, never by the command line.
"""

import shlex

from node_agent.executors.adapter import Conversing, Launch, Wish
from protocol.errors import ErrorCode, OperationError


class AcpExecutor:
    """Runs the agent that a command line names."""

    name = "acp"
    converses = True

    def launch(self, wish: Wish) -> Launch:
        """Return the agent's words as argv."""
        try:
            argv = shlex.split(wish.command or "")
        except ValueError as error:
            raise _invalid(f"the agent's command cannot be split into words: {error}") from error
        if not argv or not argv[0] or "\0" in (wish.command or ""):
            raise _invalid("the executor `acp` needs the command of an agent")
        return Launch(argv=argv, conversing=Conversing())


def _invalid(message: str) -> OperationError:
    return OperationError(
        ErrorCode.INVALID,
        message,
        hint="Name a program that speaks the Agent Client Protocol, such as: opencode acp.",
        field="command",
    )
