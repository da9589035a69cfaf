"""`hive login`: keep a hive's address and a token for later commands."""

import os.path
import sys

import click

from hive.client import HiveClient
from hive.commands.terminal import Terminal
from hive.config import Login, is_loopback, write_login
from protocol.errors import ErrorCode, SkepError


@click.command()
@click.argument("url")
@click.option("--ca", metavar="FILE", help="The hive's own certificate authority.")
@click.option("--plain-http", is_flag=True, help="Send the token without TLS all the same.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def login(url: str, ca: str | None, *, plain_http: bool, as_json: bool) -> None:
    """Keep the address of a hive and your token, which is read from the terminal or stdin."""
    token = (
        click.prompt("Token", hide_input=True, err=True)
        if sys.stdin.isatty()
        else sys.stdin.readline()
    ).strip()
    if not token:
        raise SkepError(
            ErrorCode.INVALID,
            "no token was given",
            hint="Type it, or pipe it: `hive login URL < FILE`.",
            field="token",
        )
    ca = os.path.abspath(ca) if ca else None  # noqa: PTH100  kept as text
    _refuse_plain(url, allowed=plain_http)
    with HiveClient(url, token, ca) as hive:
        me = hive.get("me")
        kept = write_login(Login(hive_url=hive.url, token=token, ca=ca))
        said = {"hive_url": hive.url, "name": me["name"], "role": me["role"]}
    Terminal(as_json=as_json).show(
        said, lambda _: [f"Signed in at {url} as {me['name']} ({me['role']}).", f"Kept in {kept}."]
    )


def _refuse_plain(url: str, *, allowed: bool) -> None:
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if scheme == "http" and not allowed and not is_loopback(name.strip("[]")):
        raise SkepError(
            ErrorCode.INVALID,
            f"{url} is plain http to another machine: anyone between could read the token",
            hint="Use https://, or add --plain-http where the network itself is private.",
            field="url",
        )
