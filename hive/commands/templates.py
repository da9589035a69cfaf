"""`hive templates`: texts that tasks are made from."""

from collections.abc import Iterable
from typing import Any

import click

from hive.client import HiveClient, path_of
from hive.commands.calling import NounGroup, client_command, given_only, page_options
from hive.commands.terminal import Terminal, facts, more, short, table, when, written


@click.group(cls=NounGroup)
def templates() -> None:
    """Show the texts that tasks are made from."""


@templates.command(name="list")
@click.option("--project", metavar="P", help="Those that tasks of this project can be made from.")
@page_options
@client_command
def list_templates(
    hive: HiveClient, terminal: Terminal, limit: int, cursor: str | None, project: str | None
) -> None:
    """List the templates, by name."""
    page = hive.get("templates", limit=limit, cursor=cursor, project=project)
    terminal.show(page, _render_list)


@templates.command()
@click.option("--name", required=True)
@click.option("--text", required=True, help="The description of tasks, with $NAME for variables.")
@click.option("--title", help="The title of tasks, where none is given.")
@click.option("--project", metavar="P", help="Default: for tasks of every project.")
@client_command
def create(hive: HiveClient, terminal: Terminal, **given: Any) -> None:
    """Make a template."""
    terminal.show(hive.post("templates", given_only(**given)), _render_one)


@templates.command()
@click.argument("template")
@client_command
def show(hive: HiveClient, terminal: Terminal, template: str) -> None:
    """Show one template."""
    terminal.show(hive.get(f"templates/{path_of(template)}"), _render_one)


@templates.command()
@click.argument("template")
@click.option("--name")
@click.option("--text")
@click.option("--title")
@client_command
def edit(hive: HiveClient, terminal: Terminal, template: str, **given: Any) -> None:
    """Change a template; tasks that were made from it keep their text."""
    changed = hive.request("PATCH", f"templates/{path_of(template)}", body=given_only(**given))
    terminal.show(changed, _render_one)


@templates.command()
@click.argument("template")
@client_command
def delete(hive: HiveClient, terminal: Terminal, template: str) -> None:
    """Delete a template; tasks that were made from it stay."""
    deleted = hive.request("DELETE", f"templates/{path_of(template)}")
    terminal.show(deleted, lambda gone: [f"Deleted {gone['id']}."])


def _render_list(page: dict[str, Any]) -> Iterable[Any]:
    if not page["items"]:
        yield "No templates. `hive templates create --name NAME --text TEXT` makes one."
        return
    yield table(
        "",
        ["id", "name", "title", "project?", "changed?"],
        (
            (
                short(template["id"]),
                template["name"],
                template["title"],
                "all" if template["project_id"] is None else short(template["project_id"]),
                when(template["updated_at_ms"]),
            )
            for template in page["items"]
        ),
    )
    yield from more(page)


def _render_one(template: dict[str, Any]) -> Iterable[Any]:
    yield facts(
        [
            ("id", template["id"]),
            ("name", template["name"]),
            ("project", template["project_id"] or "all"),
            ("title", template["title"]),
            ("made", when(template["created_at_ms"])),
            ("changed", when(template["updated_at_ms"])),
        ]
    )
    yield written(template["text"])
