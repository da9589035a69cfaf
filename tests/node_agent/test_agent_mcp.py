"""The tool server of an agent, as the agent starts it: in a folder that may hold anything."""

import subprocess
from pathlib import Path

from node_agent.agent_mcp import tool_server

#: Names that Skep, or what it stands on, imports: a repository may well have files called so.
NAMES = ("node_agent", "protocol", "mcp", "msgspec", "click", "uuid", "queue")


def test_it_imports_nothing_of_the_folder_it_runs_in(tmp_path: Path):
    """The repository an agent works in may have modules of the same names."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken from the repository')\n")
    server = tool_server(tmp_path / "data", "attempt", "execution")
    asked = subprocess.run(
        [*server.command, "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    assert "--attempt" in asked.stdout
