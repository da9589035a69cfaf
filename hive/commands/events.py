"""`hive events`: what happened, and who did it."""

from collections.abc import Iterable
from typing import Any

import click

from hive.client import HiveClient
from hive.commands.calling import client_command, page_options
from hive.commands.terminal import Terminal, more, table, when


@click.command()
@click.option("--attempt", metavar="A")
@click.option("--node", metavar="N")
@page_options
@client_command
def events(
    hive: HiveClient, terminal: Terminal, limit: int, cursor: str | None, **given: Any
) -> None:
    """Show what happened, newest first: for auditors and admins."""
    terminal.show(hive.get("events", limit=limit, cursor=cursor, **given), _render)


def _render(page: dict[str, Any]) -> Iterable[Any]:
    yield table(
        "",
        ["when", "who", "what", "from", "to", "about"],
        (
            (
                when(event["at_ms"]),
                _who(event),
                event["kind"].replace("_", " "),
                event.get("from"),
                event.get("to"),
                _about(event),
            )
            for event in page["items"]
        ),
    )
    yield from more(page)


def _who(event: dict[str, Any]) -> str:
    if event["actor_kind"] == "node":
        return f"node {event['actor'][-8:]}"
    return event["actor"] or str(event["actor_kind"])


def _about(event: dict[str, Any]) -> str:
    # The nearest thing says most: an attempt has a task, a task a project.
    for word in ("attempt", "task", "project", "node"):
        identifier = event.get(f"{word}_id")
        if identifier:
            return f"{word} {identifier[-8:]}"
    return f"{event['what']} {event['what_id'][-8:]}"
