"""`hive nodes`: the machines of the team."""

from collections.abc import Iterable
from typing import Any, Final

import click

from hive.client import HiveClient, path_of
from hive.commands.calling import (
    NounGroup,
    client_command,
    given_only,
    page_options,
    seconds,
)
from hive.commands.terminal import Terminal, facts, more, short, size, state, table, when

#: The hive refuses more; said here in words a person would use.
_JOIN_TTL_S_MAX: Final = 3600


@click.group(cls=NounGroup)
def nodes() -> None:
    """Show the machines of the team: list, enrol, drain, revoke."""


@nodes.command(name="list")
@page_options
@client_command
def list_nodes(hive: HiveClient, terminal: Terminal, limit: int, cursor: str | None) -> None:
    """List the nodes."""
    terminal.show(hive.get("nodes", limit=limit, cursor=cursor), _render_list)


@nodes.command()
@click.argument("node")
@client_command
def show(hive: HiveClient, terminal: Terminal, node: str) -> None:
    """Show one node."""
    terminal.show(hive.get(f"nodes/{path_of(node)}"), _render_one)


@nodes.command(name="join-token")
@click.option("--label", help="What the token is for; shown in the events.")
@click.option("--ttl", default="1h", show_default=True, help="How long it is good: 30m, 1h.")
@client_command
def join_token(hive: HiveClient, terminal: Terminal, label: str | None, ttl: str) -> None:
    """Make a one-time token that lets a machine join."""
    ttl_s = seconds(ttl, "--ttl")
    if ttl_s > _JOIN_TTL_S_MAX:
        raise click.UsageError("--ttl: a join token is good for an hour at most.")
    body = given_only(label=label, ttl_s=ttl_s)
    terminal.show(hive.post("join-tokens", body), _render_join_token)


@nodes.command()
@click.argument("node")
@client_command
def revoke(hive: HiveClient, terminal: Terminal, node: str) -> None:
    """Shut a node out for good; what it reported stays."""
    terminal.show(hive.post(f"nodes/{path_of(node)}/revoke"), _render_one)


@nodes.command()
@click.argument("node")
@click.option("--off", is_flag=True, help="Take new work again.")
@client_command
def drain(hive: HiveClient, terminal: Terminal, node: str, *, off: bool) -> None:
    """Give a node no new work; what runs there goes on."""
    changed = hive.request("PATCH", f"nodes/{path_of(node)}", body={"draining": not off})
    terminal.show(changed, _render_one)


@nodes.command()
@click.argument("node")
@click.option(
    "--instance",
    required=True,
    type=int,
    help="The process to let on, as `hive nodes show` names it.",
)
@client_command
def release(hive: HiveClient, terminal: Terminal, node: str, instance: int) -> None:
    """Let one holder of a quarantined identity on; the other has to join anew."""
    released = hive.post(f"nodes/{path_of(node)}/release", {"instance": instance})
    terminal.show(released, _render_one)


def _render_list(page: dict[str, Any]) -> Iterable[Any]:
    if not page["items"]:
        yield "No node has joined yet. `hive nodes join-token` prints how one does."
        return
    yield table(
        "",
        ["id", "name", "status", "activity", ">slots", "executors?", "version?", "last seen"],
        (
            (
                short(node["id"]),
                node["name"],
                state(node["status"]),
                state(node["activity"]),
                f"{node['slots']['busy']}/{node['slots']['total']}",
                ", ".join(node["executors"]),
                node["version"],
                when(node["last_seen_at_ms"]),
            )
            for node in page["items"]
        ),
    )
    yield from more(page)


def _render_one(node: dict[str, Any]) -> Iterable[Any]:
    outbox = node.get("outbox") or {}
    unsent = ""
    if outbox.get("ops") or outbox.get("chunks"):
        unsent = f"{outbox['ops']} ops, {outbox['chunks']} chunks, {size(outbox['bytes'])}"
    yield facts(
        [
            ("id", node["id"]),
            ("name", node["name"]),
            ("status", state(node["status"])),
            ("reason", node.get("reason")),
            ("activity", state(node["activity"])),
            ("slots", f"{node['slots']['busy']} of {node['slots']['total']} busy"),
            ("executors", ", ".join(node["executors"])),
            ("agents", ", ".join(node.get("agents") or [])),
            ("labels", ", ".join(node["labels"])),
            ("system", " ".join(filter(None, [node.get("os"), node.get("arch")]))),
            ("version", node["version"]),
            ("last seen", when(node["last_seen_at_ms"])),
            ("not yet sent", unsent),
            ("holders", ", ".join(str(holder) for holder in node.get("instances") or [])),
        ]
    )


def _render_join_token(made: dict[str, Any]) -> Iterable[Any]:
    yield "Run this on the machine that is to join:"
    yield ""
    yield f"  [bold]{made['command']}[/]"
    yield ""
    yield f"Good once, until {when(made['expires_at_ms'])}."
