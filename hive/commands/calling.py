"""What every client command shares: its options, the call to the hive, the shape of groups.

Must not know any noun.
"""

import functools
import math
import os
from collections.abc import Callable
from typing import Any

import click

from hive.client import HiveClient
from hive.commands.terminal import Terminal
from hive.config import load_client

Command = Callable[..., Any]


class Seconds(click.FloatRange):
    """A number of seconds within bounds; `nan` is in none of them, and `inf` is no number."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; wrong use where it is not finite."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return number


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


def when_options(function: Command) -> Command:
    """Give a changing command `--when` and `--expires-in`, as the query `waiting` that says it."""

    @click.option(
        "--when",
        "asked_when",
        type=click.Choice(["online"]),
        help="Where the node is away: have it done once that is back.",
    )
    @click.option(
        "--expires-in",
        metavar="2d",
        help="With --when online: how long it may wait. Default, and at most: 7d.",
    )
    @functools.wraps(function)
    def called(*, asked_when: str | None, expires_in: str | None, **given: Any) -> Any:
        expires_in_s = seconds(expires_in, "--expires-in") if expires_in else None
        return function(**given, waiting={"when": asked_when, "expires_in_s": expires_in_s})

    return called


def seconds(text: str, option: str) -> int:
    """Return a duration such as 90, 30m or 1h in seconds. Raises click.BadParameter."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], text[-1:]) if text[-1:] in units else (text, "s")
    try:
        value = float(number) * units[unit]
    except ValueError:
        value = 0
    if not 1 <= value <= 10 * 366 * 86400:
        raise click.BadParameter(
            f"{text!r} is no duration; write 90, 30m, 1h or 7d", param_hint=option
        )
    return int(value)


def variable_option(function: Command) -> Command:
    """Give a command `--variable NAME=VALUE`, which it gets as a dict called `variables`."""
    return click.option(
        "--variable",
        "variables",
        multiple=True,
        metavar="NAME=VALUE",
        callback=pairs,
        help="Put in where texts say $NAME.",
    )(function)


def pairs(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Return what was given as NAME=VALUE, each once or more, as a dict."""
    del ctx
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{one!r} is not NAME=VALUE", param=option)
        found[name] = value
    return found


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
