"""`hive operations`: what became of changing commands."""

from collections.abc import Iterable
from typing import Any

import click

from hive.client import HiveClient, path_of
from hive.commands.calling import NounGroup, client_command, page_options
from hive.commands.terminal import Terminal, facts, more, short, state, table, when


@click.group(cls=NounGroup)
def operations() -> None:
    """Show what became of changing commands, by their idempotency keys."""


@operations.command(name="list")
@click.option("--attempt", metavar="A")
@page_options
@client_command
def list_operations(
    hive: HiveClient, terminal: Terminal, limit: int, cursor: str | None, attempt: str | None
) -> None:
    """List the changing commands, newest first."""
    page = hive.get("operations", limit=limit, cursor=cursor, attempt=attempt)
    terminal.show(page, _render_list)


@operations.command()
@click.argument("key")
@client_command
def show(hive: HiveClient, terminal: Terminal, key: str) -> None:
    """Show what became of one command."""
    terminal.show(hive.get(f"operations/{path_of(key)}"), _render_one)


def _render_list(page: dict[str, Any]) -> Iterable[Any]:
    if not page["items"]:
        yield "No commands were sent yet."
        return
    yield table(
        "",
        ["key", "operation", "status", "attempt", "by", "when"],
        (
            (
                row["key"],
                row["operation"],
                state(row["status"]),
                short(row.get("attempt_id")),
                row["actor"],
                when(row["created_at_ms"]),
            )
            for row in page["items"]
        ),
    )
    yield from more(page)


def _render_one(row: dict[str, Any]) -> Iterable[Any]:
    error = row.get("error") or {}
    yield facts(
        [
            ("key", row["key"]),
            ("operation", row["operation"]),
            ("status", state(row["status"])),
            ("error", f"{error['code']}: {error['message']}" if error else None),
            ("attempt", row.get("attempt_id")),
            ("by", row["actor"]),
            ("sent", when(row["created_at_ms"])),
            ("settled", when(row.get("settled_at_ms"))),
        ]
    )
