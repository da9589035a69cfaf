"""`node-agent sessions`, `messages S`: the conversations of this node, with no hive."""

from typing import Any, Final
from urllib.parse import quote

import click

from node_agent.commands.conversation import Follower, Printer, show_page
from node_agent.commands.invocation import (
    Invocation,
    ago,
    coloured,
    moment,
    new_key,
    node_command,
    page_options,
    plain,
    standing,
)

_PROMPT_CHARACTERS_MAX: Final = 60


@click.group(invoke_without_command=True)
@click.option("--attempt", help="Only those of this attempt.")
@page_options
@click.option("--all", "everywhere", is_flag=True, help="Also those of other nodes; see login.")
@click.pass_context
@node_command
def sessions(
    invocation: Invocation,
    ctx: click.Context,
    *,
    attempt: str | None,
    limit: int,
    after: str | None,
    everywhere: bool,
) -> None:
    """Sessions of this node, newest first; with --all, those of all nodes of the hive."""
    if ctx.invoked_subcommand is not None:
        return
    query = {
        "attempt": attempt,
        "limit": limit,
        "cursor": after,
        "all": "1" if everywhere else None,
    }

    def show(page: dict[str, Any]) -> None:
        invocation.table(
            ["Session", "Topic", "Attempt", "Status", "Agent", "Messages", "Last"],
            [_row(one) for one in page["items"]],
            empty="No sessions. An attempt with an agent that keeps one begins it.",
        )
        invocation.more(page["next"])

    invocation.reply(invocation.client.get("sessions", query), show)


@sessions.command()
@click.argument("session")
@node_command
def show(invocation: Invocation, session: str) -> None:
    """Show SESSION (an id, or its first or last 8 digits or more)."""
    found = invocation.client.get(_path(session))
    invocation.reply(found, lambda one: _show(invocation, one))


@sessions.command()
@click.argument("session")
@click.argument("topic")
@click.option("--idempotency-key", "key", help="With the same key again, the first answer.")
@node_command
def rename(invocation: Invocation, session: str, topic: str, key: str | None) -> None:
    """Give SESSION another TOPIC, of one line."""
    found = invocation.client.get(_path(session))
    renamed = invocation.client.send(
        "PATCH", _path(found["id"]), {"topic": topic}, key=key or new_key()
    )
    invocation.reply(renamed, lambda one: _show(invocation, one))


@sessions.command()
@click.argument("session")
@page_options
@node_command
def turns(invocation: Invocation, session: str, limit: int, after: str | None) -> None:
    """Show the turns of SESSION: those that have begun, then the queue in its order."""
    page = invocation.client.get(f"{_path(session)}/turns", {"limit": limit, "cursor": after})

    def show(page: dict[str, Any]) -> None:
        invocation.table(
            ["Turn", "Id", "Status", "Why", "Head", "Tokens", "By", "Begun", "Prompt"],
            [_turn_row(one) for one in page["items"]],
            empty="No turns.",
        )
        invocation.more(page["next"])

    invocation.reply(page, show)


@click.command()
@click.argument("session")
@click.option("--before", type=click.IntRange(1), help="The messages before this number.")
@click.option("--after", type=click.IntRange(0), help="The messages after this number.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@click.option("-f", "--follow", is_flag=True, help="Go on as it is said, until it is closed.")
@click.option("--whole", is_flag=True, help="All lines of what tools printed, to people.")
@node_command
def messages(
    invocation: Invocation,
    session: str,
    before: int | None,
    after: int | None,
    limit: int,
    *,
    follow: bool,
    whole: bool,
) -> None:
    """Show the newest messages of SESSION, or a page before or after one.

    With --json one page; with --json --follow one message a line, each time it is there or has
    changed.
    """
    if follow and before is not None:
        raise click.UsageError("--before goes back, --follow goes on: give one of them.")
    printer = Printer(as_json=invocation.as_json, whole=whole)
    path = f"{_path(session)}/messages"
    if follow:
        Follower(invocation.client, path, printer).run(after=after, limit=limit)
        return
    page = invocation.client.get(path, {"before": before, "after": after, "limit": limit})
    invocation.reply(page, lambda page: show_page(page, printer))


def _path(session: str) -> str:
    return f"sessions/{quote(session, safe='')}"


def _show(invocation: Invocation, one: dict[str, Any]) -> None:
    invocation.facts(
        [
            ("Session", plain(one["id"])),
            ("Topic", plain(one["topic"])),
            ("Status", standing(one["status"], one)),
            ("Why", plain(one["reason"])),
            ("Attempt", plain(one["attempt_id"])),
            ("Agent", " ".join(filter(None, (plain(one["agent"]), plain(one["agent_version"]))))),
            ("Profile", plain(one["profile"])),
            ("Messages", str(one["message_count"])),
            ("Turns", str(one["turn_count"])),
            ("Tokens", _tokens(one.get("usage"))),
            ("Begun", moment(one["created_at_ms"])),
            ("Last", moment(one["last_activity_at_ms"])),
            ("Closed", moment(one["closed_at_ms"])),
        ]
    )


def _row(one: dict[str, Any]) -> list[str]:
    return [
        f"[bold]{one['id'][-8:]}[/]",
        plain(one["topic"]),
        (one["attempt_id"] or "")[-8:],
        standing(one["status"], one),
        plain(one["agent"]),
        str(one["message_count"]),
        ago(one["last_activity_at_ms"]),
    ]


def _turn_row(turn: dict[str, Any]) -> list[str]:
    before, after = (turn["head_before"] or "")[:8], (turn["head_after"] or "")[:8]
    return [
        str(turn["no"] or ""),
        turn["id"][-8:],
        coloured(turn["status"]),
        plain(turn["stop_reason"]),
        before if after in {"", before} else f"{before} → {after}",
        _tokens(turn["usage"]),
        plain(turn["author"]),
        moment(turn["begun_at_ms"]),
        plain(turn["prompt"].strip().partition("\n")[0][:_PROMPT_CHARACTERS_MAX]),
    ]


def _tokens(usage: dict[str, Any] | None) -> str:
    counts = (((usage or {}).get(f"{way}put_tokens"), way) for way in ("in", "out"))
    return ", ".join(f"{count:,} {way}" for count, way in counts if count is not None)
