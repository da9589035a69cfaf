"""The tool server that an agent of an attempt is given: how its program is called."""

import sys
from pathlib import Path
from typing import Final

import msgspec

from node_agent.acp.steps import McpServer

NAME: Final = "skep"


def words_of(tools_word: str | None, server: McpServer) -> list[str]:
    """Return the words that name a tool server to an agent that hears of it by its words."""
    if tools_word is None:
        return []
    program, *words = server.command
    named = {"type": "local", "command": program, "args": words, "tools": ["*"]}
    configured = {"mcpServers": {server.name: {**named, "env": server.environment}}}
    return [tools_word, msgspec.json.encode(configured).decode()]


def tool_server(data_dir: Path, attempt_id: str, execution_id: str) -> McpServer:
    """Return Skep's own MCP server for the agent of one execution."""
    return McpServer(
        name=NAME,
        command=[
            sys.executable,
            # It begins in the agent's folder: modules of the repository are not ours to import.
            "-P",
            "-m",
            "node_agent",
            "mcp",
            "--data",
            str(data_dir),
            "--attempt",
            attempt_id,
            "--execution",
            execution_id,
        ],
    )
