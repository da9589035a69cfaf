"""The `node-agent` command: its sub-commands by name, each loaded when it is called.

Owns the list of commands only. No sub-command, store or network library is imported here, so that
every call answers at once.
"""

import importlib
from typing import Any, Final

import click

#: Name -> (where the command is, what the list of commands says of it).
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "join": ("node_agent.commands.join:join", "Join a hive with a join token."),
    "leave": ("node_agent.commands.join:leave", "Leave the hive; the data stays."),
    "run": ("node_agent.commands.run:run", "Run the node agent."),
    "status": ("node_agent.commands.status:status", "How this node stands."),
    "checkout": ("node_agent.commands.checkout:checkout", "Repositories this node works on."),
    "start": ("node_agent.commands.start:start", "Start an attempt here."),
    "attempts": ("node_agent.commands.attempts:attempts", "Attempts of this node."),
    "attempt": ("node_agent.commands.attempt:attempt", "Act on one attempt."),
    "logs": ("node_agent.commands.logs:logs", "What an attempt printed."),
    "outbox": ("node_agent.commands.status:outbox", "What the hive has not got yet."),
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


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def main() -> None:
    """Run coding agents on this machine, alone or for a hive."""


if __name__ == "__main__":
    main()
