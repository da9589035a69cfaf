"""`hive sessions`: conversations with agents, and their transcripts."""

from collections.abc import Iterable
from typing import Any, Final

import click

from hive.client import HiveClient, path_of
from hive.commands import operations
from hive.commands.calling import (
    NounGroup,
    client_command,
    key_option,
    new_key,
    page_options,
    when_options,
)
from hive.commands.terminal import Terminal, facts, more, short, standing, state, table, when

_PROMPT_CHARACTERS_MAX: Final = 60


@click.group(cls=NounGroup)
def sessions() -> None:
    """The conversations: list, show, read and follow their messages."""


@sessions.command(name="list")
@click.option("--attempt", metavar="A")
@click.option("--task", metavar="T")
@click.option("--project", metavar="P")
@click.option("--node", metavar="N")
@click.option("--status", type=click.Choice(["open", "idle", "closed"]))
@page_options
@client_command
def list_sessions(
    hive: HiveClient, terminal: Terminal, limit: int, cursor: str | None, **given: Any
) -> None:
    """List the sessions, newest first."""
    terminal.show(hive.get("sessions", limit=limit, cursor=cursor, **given), _render_list)


@sessions.command()
@click.argument("session")
@client_command
def show(hive: HiveClient, terminal: Terminal, session: str) -> None:
    """Show one session."""
    terminal.show(hive.get(f"sessions/{path_of(session)}"), render_one)


@sessions.command()
@click.argument("session")
@click.option("--before", type=click.IntRange(1), help="The messages before number N.")
@click.option("--after", type=click.IntRange(0), help="The messages after number N.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@click.option("-f", "--follow", is_flag=True, help="Go on as it is said, until it is closed.")
@click.option("--whole", is_flag=True, help="All lines of what tools printed, to people.")
@client_command
def messages(
    hive: HiveClient,
    terminal: Terminal,
    session: str,
    before: int | None,
    after: int | None,
    limit: int,
    *,
    follow: bool,
    whole: bool,
) -> None:
    """Read a conversation: its newest messages, or a page before or after one.

    With --json one page; with --json --follow one object a line: a message each time it is there or
    has changed, and gaps.
    """
    from hive.commands.conversation import Follower, Printer, show_page

    if follow and before is not None:
        raise click.UsageError("--before goes back, --follow goes on: give one of them.")
    path = f"sessions/{path_of(session)}"
    printer = Printer(as_json=terminal.as_json, whole=whole)
    if follow:
        Follower(hive, hive.get(path), printer).run(after=after, limit=limit)
        return
    page = hive.get(f"{path}/messages", before=before, after=after, limit=limit)
    if terminal.as_json:
        terminal.show(page, lambda _: ())
    else:
        show_page(page, printer)


@sessions.command()
@click.argument("session")
@click.argument("text")
@click.option("--id", "message_id", metavar="ID", help="The same id again is the same message.")
@when_options
@client_command
def send(
    hive: HiveClient,
    terminal: Terminal,
    session: str,
    text: str,
    message_id: str | None,
    waiting: dict[str, Any],
) -> None:
    """Say TEXT in a session; a node's agent gets it as its next turn."""
    message = {"id": message_id or new_key(), "role": "user", "content": text}
    sent = hive.request(
        "POST",
        f"sessions/{path_of(session)}/messages",
        query=waiting,
        body={"messages": [message]},
    )
    terminal.show(sent, _render_sent)


@sessions.command()
@click.argument("session")
@click.argument("topic")
@when_options
@key_option
@client_command
def rename(
    hive: HiveClient,
    terminal: Terminal,
    session: str,
    topic: str,
    waiting: dict[str, Any],
    key: str,
) -> None:
    """Give a session another TOPIC, of one line."""
    renamed = hive.request(
        "PATCH", f"sessions/{path_of(session)}", query=waiting, body={"topic": topic}, key=key
    )
    terminal.show(renamed, operations.render_one if operations.is_kept(renamed) else render_one)


@sessions.command()
@click.argument("session")
@page_options
@client_command
def turns(
    hive: HiveClient, terminal: Terminal, session: str, limit: int, cursor: str | None
) -> None:
    """List a session's turns: those that have begun, then the queue in its order."""
    page = hive.get(f"sessions/{path_of(session)}/turns", limit=limit, cursor=cursor)
    terminal.show(page, _render_turns)


def _render_turns(page: dict[str, Any]) -> Iterable[Any]:
    if not page["items"]:
        yield "No turns."
        return
    yield table(
        "",
        [">turn", "id", "status", "why?", "head", "tokens?", "by", "begun", "prompt"],
        (
            (
                turn["no"] or "",
                short(turn["id"]),
                state(turn["status"]),
                turn["stop_reason"],
                _moved(turn["head_before"], turn["head_after"]),
                _tokens(turn["usage"] or {}),
                turn["author"],
                when(turn["begun_at_ms"]),
                turn["prompt"].strip().partition("\n")[0][:_PROMPT_CHARACTERS_MAX],
            )
            for turn in page["items"]
        ),
    )
    yield from more(page)


def _moved(before: str | None, after: str | None) -> str:
    first, last = (before or "")[:8], (after or "")[:8]
    return first if last in {"", first} else f"{first} → {last}"


def _render_sent(sent: dict[str, Any]) -> Iterable[Any]:
    if sent["kept"]:
        yield "Kept: its node gets it once it is there, behind what waits before it."
        yield f"hive operations show {sent['items'][0]['key']} says how it stands."
    else:
        yield "It had been sent before." if sent["duplicates"] else "Sent."


def _render_list(page: dict[str, Any]) -> Iterable[Any]:
    if not page["items"]:
        yield "No sessions. An attempt with an agent that keeps one begins it."
        return
    yield table(
        "",
        ["id", "topic", "node", "status", "agent?", ">messages", ">turns?", "last"],
        (
            (
                short(session["id"]),
                session["topic"],
                "external" if session["external"] else session["node_name"],
                standing(session["status"], session),
                session["agent"],
                session["message_count"],
                session["turn_count"],
                when(session["last_activity_at_ms"]),
            )
            for session in page["items"]
        ),
    )
    yield from more(page)


def render_one(session: dict[str, Any]) -> Iterable[Any]:
    """Show a session."""
    usage = session.get("usage") or {}
    yield facts(
        [
            ("id", session["id"]),
            ("topic", session["topic"]),
            ("status", standing(session["status"], session)),
            ("reason", session["reason"]),
            ("attempt", session["attempt_id"]),
            ("task", session["task_title"] or session["task_id"]),
            ("node", "none: external" if session["external"] else session["node_name"]),
            ("reachable", "yes" if session["reachable"] else "no, its node is away"),
            ("agent", " ".join(filter(None, (session["agent"], session["agent_version"])))),
            ("profile", session["profile"]),
            ("can", ", ".join(session["capabilities"])),
            ("agent's session", session["agent_session_id"]),
            ("messages", session["message_count"]),
            ("turns", session["turn_count"]),
            ("tokens", _tokens(usage)),
            ("cost", " ".join(filter(None, (usage.get("cost"), usage.get("currency"))))),
            ("forked from", session["forked_from"]),
            ("begun", when(session["created_at_ms"])),
            ("last", when(session["last_activity_at_ms"])),
            ("closed", when(session["closed_at_ms"])),
            ("forgotten", when(session.get("forgotten_at_ms"))),
        ]
    )


def _tokens(usage: dict[str, Any]) -> str:
    counts = ((usage.get("input_tokens"), "in"), (usage.get("output_tokens"), "out"))
    return ", ".join(f"{count:,} {way}" for count, way in counts if count is not None)
