"""`node-agent run`."""

import click

from node_agent.commands.invocation import Invocation, node_command


@click.command()
@click.option("--name", help="This node's name at the hive, in place of the one it joined with.")
@click.option("--slots", type=click.IntRange(1, 1024), help="Attempts at a time.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Default: info."
)
@click.option("--log-json", is_flag=True, default=None, help="Log one JSON object per line.")
@node_command
def run(
    invocation: Invocation,
    name: str | None,
    slots: int | None,
    log_level: str | None,
    log_json: bool | None,
) -> None:
    """Run the node agent until it is told to stop; what it runs goes on without it.

    Works with no hive joined. Logs to standard error.
    """
    config = invocation.configure(name=name, slots=slots, log_level=log_level, log_json=log_json)
    from node_agent.agent import run_agent

    run_agent(config)
