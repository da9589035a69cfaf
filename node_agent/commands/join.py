"""`node-agent join` and `node-agent leave`."""

import sys
from pathlib import Path
from typing import Any

import click

from node_agent.commands.invocation import Invocation, node_command, plain


@click.command()
@click.argument("hive_url")
@click.argument("join_token")
@click.option("--name", help="This node's name at the hive. Default: the host's.")
@click.option("--slots", type=click.IntRange(1, 1024), help="Attempts at a time. Default: 2.")
@click.option(
    "--ca",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Certificate of the hive's own authority (PEM); no other is trusted then.",
)
@click.option("--plain-http", is_flag=True, help="Allow http:// to a machine that is not this one.")
@node_command
def join(
    invocation: Invocation,
    hive_url: str,
    join_token: str,
    name: str | None,
    slots: int | None,
    ca: Path | None,
    plain_http: bool,
) -> None:
    """Join the hive at HIVE_URL with a JOIN_TOKEN (`-`: read it from standard input)."""
    from node_agent import config as node_config
    from node_agent.identity import open_identity, read_record
    from node_agent.join import join_hive

    invocation.check_person()
    config = invocation.configure(name=name, slots=slots)
    before = read_record(config.data_dir)
    record = join_hive(
        config.data_dir,
        open_identity(config.data_dir),
        url=hive_url,
        join_token=sys.stdin.readline().strip() if join_token == "-" else join_token,  # noqa: S105  not one
        name=config.name or (before.name if before else "") or node_config.host_name(),
        slots=slots,
        ca=ca,
        plain_http=plain_http,
    )
    running = _tell_agent(invocation)
    hive_id = record.hive.hive_id if record.hive else ""
    answer = {"node_id": record.node_id, "name": record.name, "hive_id": hive_id}

    def show(_: Any) -> None:
        invocation.say(f"[green]Joined[/] {plain(hive_url)} as [bold]{plain(record.name)}[/].")
        if running:
            invocation.say("The running agent connects now.")
        else:
            invocation.say(f"Next: {plain(invocation.command_line('run'))}")

    invocation.reply(answer, show)


@click.command()
@node_command
def leave(invocation: Invocation) -> None:
    """Drop the enrolment. The node's id, checkouts, attempts and logs stay."""
    from node_agent.join import leave_hive

    invocation.check_person()
    record = leave_hive(invocation.config.data_dir)
    _tell_agent(invocation)
    invocation.reply(
        {"node_id": record.node_id, "name": record.name, "hive_id": None},
        lambda _: invocation.say("[green]Left the hive.[/] What this node did stays on it."),
    )


def _tell_agent(invocation: Invocation) -> bool:
    """Have a running agent look at its enrolment anew; return whether one runs."""
    client = invocation.client
    if not client.running():
        return False
    client.send("POST", "enrolment/changed")
    return True
