"""`node-agent login` and `node-agent logout`: who looks at other nodes' attempts from here."""

import sys

import click

from node_agent.commands.invocation import Invocation, node_command, plain
from protocol.errors import ErrorCode, OperationError


@click.command()
@node_command
def login(invocation: Invocation) -> None:
    """Keep your token at the joined hive, read from the terminal or standard input."""
    import http.client
    import urllib.error
    import urllib.request

    import msgspec

    from node_agent.hive_login import HiveLogin, write_login
    from node_agent.identity import read_record
    from node_agent.join import tls_context

    invocation.check_person()
    data_dir = invocation.config.data_dir
    record = read_record(data_dir)
    if record is None or record.hive is None:
        raise OperationError(
            ErrorCode.NOT_FOUND,
            "this node has joined no hive",
            hint="Join one with `node-agent join HIVE_URL JOIN_TOKEN`.",
        )
    token = _token()
    request = urllib.request.Request(  # noqa: S310  the address was checked at joining
        f"{record.hive.url.rstrip('/')}/api/v1/me", headers={"Authorization": f"Bearer {token}"}
    )
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    tls = tls_context(record.hive, data_dir)
    if tls is not None:
        handlers.append(urllib.request.HTTPSHandler(context=tls))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=10) as reply:
            me = msgspec.json.decode(reply.read(65_536))
    except urllib.error.HTTPError as error:
        error.close()
        raise OperationError(
            ErrorCode.UNAUTHENTICATED,
            f"the hive does not take this token (HTTP {error.code})",
            hint="Ask an admin of the hive for one: hive tokens create.",
        ) from error
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        raise OperationError(
            ErrorCode.HIVE_OFFLINE,
            f"no answer from {record.hive.url}: {error}",
            hint="Is the hive running?",
        ) from error
    made = HiveLogin(hive_id=record.hive.hive_id, token=token, name=me["name"], role=me["role"])
    write_login(data_dir, made)
    invocation.reply(
        {"hive_url": record.hive.url, "name": made.name, "role": made.role},
        lambda said: invocation.say(
            f"[green]Signed in[/] at {plain(said['hive_url'])} as [bold]{plain(said['name'])}[/]"
            f" ({plain(said['role'])})."
        ),
    )


@click.command()
@node_command
def logout(invocation: Invocation) -> None:
    """Forget your token; this node stays joined."""
    from node_agent.hive_login import forget_login

    invocation.check_person()
    there = forget_login(invocation.config.data_dir)
    invocation.reply(
        {"signed_out": there},
        lambda _: invocation.say("[green]Signed out.[/]" if there else "Nobody was signed in."),
    )


def _token() -> str:
    if sys.stdin.isatty():
        token: str = click.prompt("Token", hide_input=True, err=True)
    else:
        token = sys.stdin.readline()
    token = token.strip()
    if not token:
        raise OperationError(
            ErrorCode.INVALID,
            "no token was given",
            hint="Type it, or pipe it: node-agent login < FILE",
            field="token",
        )
    return token
