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
                event["actor"][-20:],
                event["kind"].replace("_", " "),
                event.get("from"),
                event.get("to"),
                _about(event),
            )
            for event in page["items"]
        ),
    )
    yield from more(page)


def _about(event: dict[str, Any]) -> str:
    words = ("attempt", "task", "project", "node")
    named = [f"{word} {event[f'{word}_id'][-8:]}" for word in words if event.get(f"{word}_id")]
    return ", ".join(named)
