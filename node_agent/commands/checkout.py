"""`node-agent checkout`: the repositories on this machine that attempts may work on."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from node_agent.commands.invocation import Invocation, new_key, node_command, plain


@click.group()
def checkout() -> None:
    """Repositories on this machine that attempts may work on."""


@checkout.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--project", "name", help="The project's name. Default: the repository's.")
@node_command
def add(invocation: Invocation, path: Path, name: str | None) -> None:
    """Let attempts work on the repository at PATH. Your own checkout is never changed."""
    # Made absolute here: the agent runs in another folder.
    wanted = {"path": str(path.expanduser().absolute()), "name": name}
    answer = invocation.client.send("POST", "checkouts", wanted, key=new_key())

    def show(one: Any) -> None:
        invocation.say(f"[green]Added[/] {plain(one['path'])} as [bold]{plain(one['name'])}[/].")
        invocation.facts(_facts(one))

    invocation.reply(answer, show)


@checkout.command("list")
@node_command
def list_(invocation: Invocation) -> None:
    """Show the repositories."""
    answer = invocation.client.get("checkouts")
    invocation.reply(
        answer,
        lambda page: invocation.table(
            ["Id", "Name", "Project", "Path", "Branch"],
            [
                [
                    f"[bold]{plain(one['id'][-8:])}[/]",
                    plain(one["name"]),
                    _project(one),
                    plain(one["path"]),
                    plain(one["default_branch"]),
                ]
                for one in page["items"]
            ],
            empty="No checkouts. Add one: node-agent checkout add PATH",
        ),
    )


@checkout.command()
@click.argument("checkout")
@node_command
def remove(invocation: Invocation, checkout: str) -> None:
    """Take no more work on CHECKOUT (id, name or path). Nothing in it is touched."""
    if "/" in checkout or checkout.startswith("."):
        checkout = str(Path(checkout).expanduser().absolute())
    answer = invocation.client.send(
        "DELETE", f"checkouts/{quote(checkout, safe='')}", key=new_key()
    )
    invocation.reply(
        answer,
        lambda one: invocation.say(f"Removed [bold]{plain(one['name'])}[/]; its files stay."),
    )


def _project(one: dict[str, Any]) -> str:
    """The hive's project, or why it has given the checkout none."""
    project = one.get("project") or {}
    if project.get("problem"):
        return f"[red]{plain(project['problem'])}[/]"
    return plain(project.get("project_name"))


def _facts(one: dict[str, Any]) -> list[tuple[str, str]]:
    project = one.get("project") or {}
    return [
        ("Id", plain(one["id"])),
        ("Repository", plain(one["identity"])),
        ("Default branch", plain(one["default_branch"])),
        ("Project", plain(project.get("project_name"))),
        ("Problem", plain(project.get("problem"))),
    ]
