"""`hive tokens`: who may call the hive, and as what."""

from collections.abc import Iterable
from typing import Any

import click

from hive.client import HiveClient, path_of
from hive.commands.calling import NounGroup, client_command, given_only, page_options, seconds
from hive.commands.terminal import Terminal, more, short, table, when, written

_ROLES = click.Choice(["auditor", "viewer", "operator", "maintainer", "admin"])


@click.group(cls=NounGroup)
def tokens() -> None:
    """Show who may call the hive, and as what."""


@tokens.command(name="list")
@page_options
@client_command
def list_tokens(hive: HiveClient, terminal: Terminal, limit: int, cursor: str | None) -> None:
    """List the tokens; never their secret part."""
    terminal.show(hive.get("tokens", limit=limit, cursor=cursor), _render_list)


@tokens.command()
@click.option("--name", required=True, help="Who or what it is for.")
@click.option("--role", type=_ROLES, default="viewer", show_default=True)
@click.option("--ttl", help="How long it is good: 12h, 30d. Default: until revoked.")
@click.option(
    "--data",
    "data_dir",
    metavar="DIR",
    help="Make it in this data folder, with the hive stopped: where no admin's token is left.",
)
@client_command
def create(
    hive: HiveClient,
    terminal: Terminal,
    name: str,
    role: str,
    ttl: str | None,
    data_dir: str | None,
) -> None:
    """Make a token; it is shown this once."""
    ttl_s = None if ttl is None else seconds(ttl, "--ttl")
    if data_dir is None:
        made = hive.post("tokens", given_only(name=name, role=role, ttl_s=ttl_s))
    else:
        made = _made_in(data_dir, name, role, ttl_s)
    terminal.show(made, _render_made)


def _made_in(data_dir: str, name: str, role: str, ttl_s: float | None) -> dict[str, Any]:
    import asyncio

    import msgspec

    from hive.api import replies
    from hive.config import load
    from hive.founding import make_token
    from protocol.operations import Role

    ttl_ms = None if ttl_s is None else round(ttl_s * 1000)
    secret, row = asyncio.run(
        make_token(load(data_dir), name=name, role=Role[role.upper()], ttl_ms=ttl_ms)
    )
    shown = msgspec.convert(row, replies.Token, from_attributes=True)
    return {**msgspec.structs.asdict(shown), "token": secret}


@tokens.command()
@click.argument("token")
@client_command
def revoke(hive: HiveClient, terminal: Terminal, token: str) -> None:
    """Revoke a token, by its id or name; it is refused within seconds."""
    revoked = hive.request("DELETE", f"tokens/{path_of(token)}")
    terminal.show(revoked, lambda gone: [f"Revoked {gone['name']}."])


def _render_list(page: dict[str, Any]) -> Iterable[Any]:
    yield table(
        "",
        ["id", "name", "role", "made", "good until", "last used"],
        (
            (
                short(token["id"]),
                token["name"],
                token["role"],
                when(token["created_at_ms"]),
                "revoked" if token.get("revoked_at_ms") else when(token.get("expires_at_ms")),
                when(token.get("last_used_at_ms")),
            )
            for token in page["items"]
        ),
    )
    yield from more(page)


def _render_made(made: dict[str, Any]) -> Iterable[Any]:
    yield written(f"Token of {made['name']} ({made['role']}); it is shown this once:")
    yield ""
    yield f"  [bold]{made['token']}[/]"
