"""`hive projects profiles`: agents as a project wants them run, for all its nodes."""

import shlex
from collections.abc import Iterable
from typing import Any

import click

from hive.client import HiveClient, path_of
from hive.commands.calling import client_command, given_only, pairs
from hive.commands.terminal import Terminal, facts, table


@click.group()
def profiles() -> None:
    """Agents as a project wants them run: with which model, mode, arguments, environment."""


@profiles.command(name="list")
@click.argument("project")
@client_command
def list_profiles(hive: HiveClient, terminal: Terminal, project: str) -> None:
    """List a project's profiles, by name."""
    terminal.show(hive.get(f"projects/{path_of(project)}/profiles"), _render_list)


@profiles.command(name="set")
@click.argument("project")
@click.argument("name")
@click.option("--agent", required=True, help="As `node-agent agents` lists them, or custom.")
@click.option("--model", help="As the agent calls it.")
@click.option("--mode", help="As the agent calls it.")
@click.option(
    "--arguments",
    metavar="LINE",
    help="After the agent's own; of custom, the whole command line. Split as a shell would.",
)
@click.option(
    "--env",
    "environment",
    metavar="NAME=VALUE",
    multiple=True,
    callback=pairs,
    help="More than once for more. NAME=secret:OTHER is that secret of the node.",
)
@client_command
def set_profile(
    hive: HiveClient,
    terminal: Terminal,
    project: str,
    name: str,
    arguments: str | None,
    environment: dict[str, str],
    **given: Any,
) -> None:
    """Set a profile, whole: what is not given, the agent and its node decide."""
    body = given_only(**given, environment=environment or None, arguments=_words(arguments))
    path = f"projects/{path_of(project)}/profiles/{path_of(name)}"
    terminal.show(hive.request("PUT", path, body=body), _render_one)


@profiles.command(name="rm")
@click.argument("project")
@click.argument("name")
@client_command
def remove_profile(hive: HiveClient, terminal: Terminal, project: str, name: str) -> None:
    """Take a profile away; attempts that have begun keep it."""
    gone = hive.request("DELETE", f"projects/{path_of(project)}/profiles/{path_of(name)}")
    terminal.show(gone, lambda one: [f"Removed {one['name']}."])


def _words(line: str | None) -> list[str] | None:
    try:
        return None if line is None else shlex.split(line)
    except ValueError as error:
        raise click.UsageError(f"--arguments: {error}") from error


def _render_list(page: dict[str, Any]) -> Iterable[Any]:
    if not page["items"]:
        yield "No profiles. `hive projects profiles set P NAME --agent AGENT` makes one."
        return
    yield table(
        "",
        ["name", "agent", "model", "mode", "arguments?", "environment?"],
        (
            (
                one["name"],
                one["agent"],
                one["model"],
                one["mode"],
                shlex.join(one["arguments"]),
                ", ".join(f"{name}={value}" for name, value in one["environment"].items()),
            )
            for one in page["items"]
        ),
    )


def _render_one(one: dict[str, Any]) -> Iterable[Any]:
    yield facts(
        [
            ("name", one["name"]),
            ("agent", one["agent"]),
            ("model", one["model"]),
            ("mode", one["mode"]),
            ("arguments", shlex.join(one["arguments"])),
            (
                "environment",
                "\n".join(f"{name}={value}" for name, value in one["environment"].items()),
            ),
        ]
    )
