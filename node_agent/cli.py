"""The `node-agent` command: its sub-commands by name, each loaded when it is called.

Owns the list of commands only. No sub-command, store or network library is imported here, so that
every call answers at once.
"""

import importlib
import os
import sys
from typing import Any, Final, NoReturn

import click

#: What Python says of an argument that is not UTF-8, once it has to be sent.
_NOT_UTF_8: Final = "surrogates not allowed"
#: Name -> (where the command is, what the list of commands says of it).
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "join": ("node_agent.commands.join:join", "Join a hive with a join token."),
    "leave": ("node_agent.commands.join:leave", "Leave the hive; the data stays."),
    "login": ("node_agent.commands.login:login", "Sign in, to see other nodes' attempts here."),
    "logout": ("node_agent.commands.login:logout", "Forget who signed in."),
    "run": ("node_agent.commands.run:run", "Run the node agent."),
    "status": ("node_agent.commands.status:status", "How this node stands."),
    "agents": ("node_agent.commands.agents:agents", "Coding agents on this machine."),
    "checkout": ("node_agent.commands.checkout:checkout", "Repositories this node works on."),
    "start": ("node_agent.commands.start:start", "Start an attempt here."),
    "attempts": ("node_agent.commands.attempts:attempts", "Attempts of this node."),
    "attempt": ("node_agent.commands.attempt:attempt", "Act on one attempt."),
    "requests": ("node_agent.commands.requests:requests", "What agents ask of people."),
    "logs": ("node_agent.commands.logs:logs", "What an attempt printed."),
    "sessions": ("node_agent.commands.sessions:sessions", "Conversations of this node."),
    "messages": ("node_agent.commands.sessions:messages", "What was said in one of them."),
    "outbox": ("node_agent.commands.status:outbox", "What the hive has not got yet."),
    "mcp": ("node_agent.commands.mcp:mcp", "Serve Skep's tools to an agent."),
    "secrets": ("node_agent.commands.secrets:secrets", "Values hidden in every log."),
}


class _LazyGroup(click.Group):
    """Knows its commands by name, and imports one only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        # click's own would import every command for its first line.
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (_, said) in COMMANDS.items()])


def _print_version(ctx: click.Context, _option: click.Parameter, asked: Any) -> None:
    if asked and not ctx.resilient_parsing:
        import importlib.metadata

        click.echo(importlib.metadata.version("skep"))
        ctx.exit()


@click.group(
    name="node-agent", cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def root() -> None:
    """Run coding agents on this machine, alone or for a hive."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; exit 0 on success, 1 on failure, 2 on wrong use."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows few characters gets their numbers, not a traceback.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _complain(code: str, message: str, *, as_json: bool) -> None:
    from node_agent.commands.invocation import complain
    from protocol.errors import ErrorBody

    complain(ErrorBody(code=code, message=message), as_json=as_json)


def _open_closed_streams() -> None:
    """Open what the caller closed (`>&-`): else a file of ours gets its number, and is written to.

    In the order of their numbers: a file is opened as the lowest that is free.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
            setattr(sys, name, os.fdopen(opened, mode, encoding="utf-8"))


def _run(arguments: list[str]) -> int:
    from node_agent.config import wants_colours

    as_json = "--json" in arguments
    try:
        outcome = root.main(
            arguments,
            prog_name="node-agent",
            standalone_mode=False,
            # Unset: as the terminal is.
            color=None if wants_colours() else False,
        )
    except click.UsageError as error:
        if as_json:
            _complain("usage", error.format_message(), as_json=True)
        else:
            error.show()
        return 2
    except click.ClickException as error:
        _complain("invalid", error.format_message(), as_json=as_json)
        return 1
    except UnicodeEncodeError as error:
        if error.reason != _NOT_UTF_8:
            raise
        _complain("invalid", "an argument is not UTF-8", as_json=as_json)
        return 1
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not complain at its exit.
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return outcome if isinstance(outcome, int) else 0


if __name__ == "__main__":
    main()
