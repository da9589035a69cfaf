"""`node-agent sessions`, `messages S`: the conversations of this node, with no hive."""

import sys
from typing import Any, Final
from urllib.parse import quote

import click

from node_agent.commands.invocation import Invocation, ago, coloured, node_command, plain
from protocol.transcript import Line, message_lines

_COLOURS: Final = {"head": "cyan", "added": "green", "removed": "red", "failed": "red"}


@click.command()
@click.option("--attempt", help="Only those of this attempt.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@click.option("--after", help="Go on behind a list's `next`.")
@node_command
def sessions(invocation: Invocation, attempt: str | None, limit: int, after: str | None) -> None:
    """Sessions of this node, newest first."""
    query = {"attempt": attempt, "limit": limit, "cursor": after}

    def show(page: dict[str, Any]) -> None:
        invocation.table(
            ["Session", "Topic", "Attempt", "Status", "Agent", "Messages", "Last"],
            [_row(one) for one in page["items"]],
            empty="No sessions. An attempt with an agent that keeps one begins it.",
        )
        if page["next"]:
            invocation.say(f"[dim]More: --after {plain(page['next'])}[/]")

    invocation.reply(invocation.client.get("sessions", query), show)


@click.command()
@click.argument("session")
@click.option("--before", type=click.IntRange(1), help="The messages before this number.")
@click.option("--after", type=click.IntRange(0), help="The messages after this number.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@click.option("--whole", is_flag=True, help="All lines of what tools printed, to people.")
@node_command
def messages(
    invocation: Invocation,
    session: str,
    before: int | None,
    after: int | None,
    limit: int,
    whole: bool,
) -> None:
    """Show the newest messages of SESSION, or a page before or after one."""
    query = {"before": before, "after": after, "limit": limit}
    page = invocation.client.get(f"sessions/{quote(session, safe='')}/messages", query)

    def show(page: dict[str, Any]) -> None:
        if page["previous"] is not None:
            click.secho(f"[earlier: --before {page['previous']}]", err=True, dim=True)
        for message in page["items"]:
            for line in message_lines(message, whole=whole):
                _write(line)
        if page["next"] is not None:
            click.secho(f"[later: --after {page['next']}]", err=True, dim=True)

    invocation.reply(page, show)


def _write(line: Line) -> None:
    text = line.text
    if sys.stdout.isatty():
        colour, dim = _COLOURS.get(line.style), line.style == "quiet"
        text = click.style(text, fg=colour, dim=dim, bold=line.style == "head")
    click.echo(text)


def _row(one: dict[str, Any]) -> list[str]:
    return [
        f"[bold]{one['id'][-8:]}[/]",
        plain(one["topic"]),
        one["attempt_id"][-8:],
        coloured(one["status"]),
        plain(one["agent"]),
        str(one["message_count"]),
        ago(one["last_activity_at_ms"]),
    ]
