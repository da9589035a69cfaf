"""`node-agent mcp`: the tools of an attempt as an MCP server on standard input and output."""

import asyncio
import os

import click

from node_agent.commands.invocation import Invocation, node_command


@click.command()
@click.option("--attempt", envvar="SKEP_ATTEMPT_ID", required=True, help="Whose tools.")
@click.option("--execution", envvar="SKEP_EXECUTION_ID", help="Which process of it asks.")
@node_command
def mcp(invocation: Invocation, attempt: str, execution: str | None) -> None:
    """Serve Skep's tools to an agent of an attempt of this node."""
    from importlib.metadata import version

    from node_agent.tool_server import ToolServer

    server = ToolServer(lambda: invocation.client, attempt, execution)
    asyncio.run(server.run(version("skep")))
    # A call that still waits for the node agent is in a thread of its own; nobody reads its answer.
    os._exit(0)
