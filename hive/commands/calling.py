"""What every client command shares: its options, the call to the hive, the shape of groups.

Must not know any noun.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import click

from hive.client import HiveClient
from hive.commands.terminal import Terminal
from hive.config import load_client

Command = Callable[..., Any]


def client_command(function: Command) -> Command:
    """Give a command `--json` and `--ca`, and call it with the hive's client and the terminal."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
    @click.option("--ca", metavar="FILE", help="The hive's own certificate authority (SKEP_CA).")
    @functools.wraps(function)
    def called(*, as_json: bool, ca: str | None, **given: Any) -> Any:
        config = load_client(ca=ca)
        with HiveClient(config.hive_url, config.token, config.ca) as hive:
            return function(hive, Terminal(as_json=as_json), **given)

    return called


def page_options(function: Command) -> Command:
    """Give a list its `--limit` and `--cursor`."""
    function = click.option(
        "--cursor", metavar="CURSOR", help="Go on where a page ended (its `next`)."
    )(function)
    return click.option(
        "--limit",
        type=click.IntRange(1, 200),
        default=50,
        show_default=True,
        help="Items on a page.",
    )(function)


def key_option(function: Command) -> Command:
    """Give a changing command its idempotency key."""
    return click.option(
        "--idempotency-key",
        "key",
        metavar="KEY",
        default=new_key,
        help="The same key again does it once only. Default: a fresh one.",
    )(function)


def variable_option(function: Command) -> Command:
    """Give a command `--variable NAME=VALUE`, which it gets as a dict called `variables`."""
    return click.option(
        "--variable",
        "variables",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_pairs,
        help="Put in where texts say $NAME.",
    )(function)


def _pairs(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    del ctx
    pairs = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{one!r} is not NAME=VALUE", param=option)
        pairs[name] = value
    return pairs


def new_key() -> str:
    """Return a fresh idempotency key."""
    return os.urandom(16).hex()


def given_only(**values: Any) -> dict[str, Any]:
    """Return what was given: a body names only what the caller asked for."""
    return {name: value for name, value in values.items() if value is not None}


class NounGroup(click.Group):
    """A group that lists when no sub-command is named: `hive nodes` is `hive nodes list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asks_help = bool(args) and args[0] in {"-h", "--help"}
        if (not args or args[0].startswith("-")) and not asks_help:
            args = ["list", *args]
        return super().parse_args(ctx, args)
