"""The executor `acp`: an agent that speaks the Agent Client Protocol, spoken to turn after turn.

The profile names an agent that is known by name; a command line is any other agent's own. Prompts
go in by the protocol, never by the command line.
"""

import shlex
from collections.abc import Mapping
from dataclasses import replace

from node_agent.executors.adapter import Conversing, Launch, Wish
from protocol.errors import ErrorCode, OperationError


class AcpExecutor:
    """Runs agents: those it knows by name, and others by their command line."""

    name = "acp"
    converses = True

    def __init__(self, known: Mapping[str, Launch]) -> None:
        self._known = known

    def launch(self, wish: Wish) -> Launch:
        """Return what to run: the command line's words, else the agent the profile names."""
        launch = self._named(wish)
        conversing = launch.conversing or Conversing()
        return replace(
            launch,
            conversing=replace(
                conversing,
                model=wish.model or conversing.model,
                mode=wish.mode or conversing.mode,
            ),
        )

    def _named(self, wish: Wish) -> Launch:
        if wish.command is None and wish.profile is not None:
            try:
                return self._known[wish.profile]
            except KeyError:
                known = ", ".join(sorted(self._known))
                raise OperationError(
                    ErrorCode.EXECUTOR_UNAVAILABLE,
                    f"neither this node nor the project has a profile {wish.profile[:100]!r}",
                    hint=f"There are: {known}. Any other agent needs its command line.",
                    field="profile",
                ) from None
        try:
            argv = shlex.split(wish.command or "")
        except ValueError as error:
            raise _invalid(f"the agent's command cannot be split into words: {error}") from error
        if not argv or not argv[0] or "\0" in (wish.command or ""):
            raise _invalid("the executor `acp` needs a profile that names an agent, or a command")
        return Launch(argv=argv, conversing=Conversing())


def _invalid(message: str) -> OperationError:
    return OperationError(
        ErrorCode.INVALID,
        message,
        hint="Name an agent, such as profile `claude`, or a program that speaks the protocol.",
        field="command",
    )
