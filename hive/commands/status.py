"""`hive status`: how the hive is."""

from collections.abc import Iterable
from typing import Any

import click

from hive.client import HiveClient
from hive.commands.calling import client_command
from hive.commands.terminal import Terminal, facts


@click.command()
@client_command
def status(hive: HiveClient, terminal: Terminal) -> None:
    """Show how the hive is."""
    terminal.show(hive.get("status"), lambda shown: _render(hive.url, shown))


def _render(url: str, shown: dict[str, Any]) -> Iterable[Any]:
    online, offline = shown["nodes"]["online"], shown["nodes"]["offline"]
    yield facts(
        [
            ("hive", url),
            ("id", shown["hive_id"]),
            ("ready", "yes" if shown["ready"] else "no"),
            ("nodes", f"{online} online, {offline} offline"),
            ("version", shown["version"]),
            ("generation", shown["generation"]),
        ]
    )
