"""`hive operations`: what became of changing commands, and those that wait for their node."""

from collections.abc import Iterable
from typing import Any

import click

from hive.client import HiveClient, path_of
from hive.commands.calling import NounGroup, client_command, page_options
from hive.commands.terminal import Terminal, facts, more, short, state, table, when, written


@click.group(cls=NounGroup)
def operations() -> None:
    """Show what became of changing commands, by their idempotency keys."""


@operations.command(name="list")
@click.option("--attempt", metavar="A")
@click.option("--node", metavar="N")
@click.option("--status", metavar="S", help="done, failed, unknown, waiting, expired, ...")
@click.option("--waiting", is_flag=True, help="Those that wait for their node.")
@page_options
@client_command
def list_operations(
    hive: HiveClient,
    terminal: Terminal,
    limit: int,
    cursor: str | None,
    attempt: str | None,
    node: str | None,
    status: str | None,
    waiting: bool,
) -> None:
    """List the changing commands, newest first; those given at a node itself too."""
    page = hive.get(
        "operations",
        limit=limit,
        cursor=cursor,
        attempt=attempt,
        node=node,
        status="waiting" if waiting else status,
    )
    terminal.show(page, _render_list)


@operations.command()
@click.argument("key")
@client_command
def show(hive: HiveClient, terminal: Terminal, key: str) -> None:
    """Show what became of one command."""
    terminal.show(hive.get(f"operations/{path_of(key)}"), render_one)


@operations.command()
@click.argument("key")
@client_command
def cancel(hive: HiveClient, terminal: Terminal, key: str) -> None:
    """Take back a command that waits for its node."""
    terminal.show(hive.post(f"operations/{path_of(key)}/cancel"), render_one)


@operations.command()
@click.argument("key")
@client_command
def confirm(hive: HiveClient, terminal: Terminal, key: str) -> None:
    """Have a command leave that is held since the hive was restored."""
    terminal.show(hive.post(f"operations/{path_of(key)}/confirm"), render_one)


def is_kept(reply: Any) -> bool:
    """Whether a command was answered by its record: it waits for its node."""
    return isinstance(reply, dict) and reply.get("kept") is not None and "operation" in reply


def _render_list(page: dict[str, Any]) -> Iterable[Any]:
    if not page["items"]:
        yield "There are none."
        return
    yield table(
        "",
        ["key", "operation", "status", "attempt", "node", "by", "when", "until"],
        (
            (
                row["key"],
                row["operation"],
                state(row["status"]),
                short(row.get("attempt_id")),
                row.get("node_name"),
                row["actor"],
                when(row["created_at_ms"]),
                _until(row),
            )
            for row in page["items"]
        ),
    )
    yield from more(page)


def _until(row: dict[str, Any]) -> str:
    kept = row.get("kept")
    if kept is None or row["status"] != "waiting":
        return ""
    return "held: confirm it" if kept["held"] else when(kept["expires_at_ms"])


def render_one(row: dict[str, Any]) -> Iterable[Any]:
    """Show a record for people."""
    error, kept, report = row.get("error"), row.get("kept") or {}, row.get("report") or {}
    told = None
    if report:
        told = f"{report['status']}, {when(report['ended_at_ms'] or report['started_at_ms'])}"
    yield facts(
        [
            ("key", row["key"]),
            ("operation", row["operation"]),
            ("status", state(row["status"])),
            ("error", f"{error['code']}: {error['message']}" if error else None),
            ("attempt", row.get("attempt_id")),
            ("node", row.get("node_name")),
            ("node last seen", when(row.get("node_last_seen_at_ms"))),
            ("by", row["actor"]),
            ("asked", when(row["created_at_ms"])),
            ("waits until", when(kept.get("expires_at_ms")) if kept else None),
            ("for the run", kept.get("expected_execution_id")),
            ("sent", when(kept.get("delivered_at_ms")) if kept.get("delivered_at_ms") else None),
            ("head before", row.get("head_before")),
            ("head after", row.get("head_after")),
            ("the node says", told),
            ("settled", when(row.get("settled_at_ms"))),
        ]
    )
    if row.get("hint"):
        yield written(row["hint"])
