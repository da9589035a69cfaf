"""`node-agent status` and `node-agent outbox`."""

from typing import Any

import click

from node_agent.commands.invocation import (
    Invocation,
    ago,
    length,
    moment,
    node_command,
    plain,
    size_of,
)


@click.command()
@node_command
def status(invocation: Invocation) -> None:
    """How this node stands: its hive, what is unsent, its slots."""
    answer = invocation.client.get("status")

    def show(node: dict[str, Any]) -> None:
        slots = node["slots"]
        running = "[green]running[/]" if node["running"] else "[yellow]not running[/]"
        invocation.facts(
            [
                ("Node", f"[bold]{plain(node['name'])}[/] [dim]{plain(node['node_id'])}[/]"),
                ("Agent", running),
                ("Hive", _hive(node["hive"])),
                ("", ""),
                ("Outbox", _outbox(node["outbox"])),
                ("Slots", f"{slots['busy']} of {slots['total']} busy"),
                ("Activity", plain(node["activity"])),
                ("Data", plain(invocation.config.data_dir)),
                ("Note", plain(node.get("note"))),
            ]
        )
        if not node["running"]:
            invocation.say(f"[dim]Start it: {plain(invocation.command_line('run'))}[/]")

    invocation.reply(answer, show)


@click.command()
@node_command
def outbox(invocation: Invocation) -> None:
    """What the hive has not got yet, and why."""
    answer = invocation.client.get("outbox")

    def show(waiting: dict[str, Any]) -> None:
        invocation.say(_outbox(waiting))
        if waiting["reason"]:
            invocation.say(f"[dim]Why:[/] {plain(waiting['reason'])}")
        if waiting["items"]:
            invocation.table(
                ["What", "Number", "Id"],
                [
                    [one["what"], str(one["count"]), f"[dim]{plain(one['id'])}[/]"]
                    for one in waiting["items"]
                ],
                empty="",
            )

    invocation.reply(answer, show)


def _hive(hive: dict[str, Any] | None) -> str:
    if hive is None:
        return "[dim]none joined; node-agent join HIVE_URL JOIN_TOKEN[/]"
    if hive["connected"]:
        return f"{plain(hive['url'])} [green]connected[/] [dim]since {moment(hive['since_ms'])}[/]"
    since = f", last seen {ago(hive['since_ms'])}" if hive["since_ms"] else ""
    problem = f"\n[red]{plain(hive['problem'])}[/]" if hive.get("problem") else ""
    hint = f"\n[dim]{plain(hive['hint'])}[/]" if hive.get("hint") else ""
    # Named to an admin who has to say which of two holders may go on.
    instance = f"\n[dim]instance {plain(hive['instance'])}[/]" if hive.get("instance") else ""
    return f"{plain(hive['url'])} [yellow]not connected[/][dim]{since}[/]{problem}{hint}{instance}"


def _outbox(waiting: dict[str, Any]) -> str:
    if not waiting["ops"] and not waiting["chunks"]:
        return "[green]empty[/]"
    import time

    oldest = ""
    if waiting["oldest_ms"]:
        oldest = f", oldest {length(max(0.0, time.time() - waiting['oldest_ms'] / 1000))} old"
    return (
        f"{waiting['ops']} ops, {waiting['chunks']} log chunks, {size_of(waiting['bytes'])}{oldest}"
    )
