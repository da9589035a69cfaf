"""The executor `command`: one command line, split as a shell would and run without one.

The prompt, if there is one, is the command's standard input.
"""

import shlex

from node_agent.executors.adapter import Launch, Wish
from protocol.errors import ErrorCode, OperationError


class CommandExecutor:
    """Runs the command line it is given."""

    name = "command"
    converses = False

    def launch(self, wish: Wish) -> Launch:
        """Return the command's words as argv, the prompt as its input."""
        if not wish.command or not wish.command.strip():
            raise _invalid("the executor `command` needs a command")
        for field in ("profile", "model", "mode"):
            if getattr(wish, field) is not None:
                raise OperationError(
                    ErrorCode.INVALID,
                    f"the executor `command` takes no {field}",
                    hint="Agents do: executor `acp`.",
                    field=field,
                )
        if "\0" in wish.command:
            raise _invalid("a command cannot hold a NUL")
        try:
            argv = shlex.split(wish.command)
        except ValueError as error:
            raise _invalid(f"the command cannot be split into words: {error}") from error
        if not argv or not argv[0]:
            raise _invalid("the command names no program")
        return Launch(argv=argv, stdin=(wish.prompt or "").encode("utf-8", "surrogateescape"))


def _invalid(message: str) -> OperationError:
    return OperationError(
        ErrorCode.INVALID,
        message,
        hint="Write it as on a command line, such as: sh -c 'make test'.",
        field="command",
    )
