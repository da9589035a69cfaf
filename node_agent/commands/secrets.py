"""`node-agent secrets`: names are shown, values never."""

import sys

import click

from node_agent.commands.invocation import Invocation, node_command, plain


@click.group()
def secrets() -> None:
    """Values that no log of this node shows."""


@secrets.command("set")
@click.argument("name")
@node_command
def set_(invocation: Invocation, name: str) -> None:
    """Keep the value on standard input under NAME."""
    from node_agent.secret_values import set_secret

    invocation.check_person()
    if sys.stdin.isatty():
        value = click.prompt("Value", hide_input=True, err=True)
    else:
        # The newline that echo and editors end with is not part of the value.
        value = sys.stdin.read().removesuffix("\n")
    set_secret(invocation.config.secrets_file, name, value)
    invocation.reply({"name": name}, lambda _: invocation.say(f"Kept [bold]{plain(name)}[/]."))


@secrets.command("list")
@node_command
def list_(invocation: Invocation) -> None:
    """Show the names of all secrets."""
    from node_agent.secret_values import read_secrets

    names = sorted(read_secrets(invocation.config.secrets_file))
    invocation.reply(
        {"items": [{"name": name} for name in names], "next": None},
        lambda _: invocation.table(["Name"], [[plain(name)] for name in names], empty="None."),
    )


@secrets.command()
@click.argument("name")
@node_command
def rm(invocation: Invocation, name: str) -> None:
    """Forget the secret NAME."""
    from node_agent.secret_values import remove_secret

    invocation.check_person()
    remove_secret(invocation.config.secrets_file, name)
    invocation.reply({"name": name}, lambda _: invocation.say(f"Forgot [bold]{plain(name)}[/]."))
