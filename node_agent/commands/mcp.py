"""`node-agent mcp`: the tools of an attempt as an MCP server on standard input and output."""

import asyncio
import os

import click

from node_agent.commands.invocation import Invocation, node_command
from node_agent.config import process_environment


@click.command()
@click.option("--attempt", help="Whose tools. Default: within an attempt, its own.")
@click.option("--execution", help="Which process of it asks. Default: within an attempt, its own.")
@node_command
def mcp(invocation: Invocation, attempt: str | None, execution: str | None) -> None:
    """Serve Skep's tools to an agent of an attempt of this node."""
    told = process_environment()
    if attempt is None:
        attempt, execution = told.get("SKEP_ATTEMPT_ID"), told.get("SKEP_EXECUTION_ID")
    if attempt is None:
        raise click.UsageError("Give --attempt: this is not within one.")
    from importlib.metadata import version

    from node_agent.tool_server import ToolServer

    server = ToolServer(lambda: invocation.client, attempt, execution)
    asyncio.run(server.run(version("skep")))
    # A call that still waits for the node agent is in a thread of its own; nobody reads its answer.
    os._exit(0)
