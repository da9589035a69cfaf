"""The tool server of an agent: how an agent hears of it, and starts it, in whichever folder."""

import json
import subprocess
from pathlib import Path

from node_agent.agent_mcp import tool_server, words_of
from node_agent.executors import executor_named
from node_agent.executors.adapter import Wish

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


def test_an_agent_that_takes_no_programs_by_the_protocol_hears_of_it_by_its_words() -> None:
    """Copilot refuses tool servers that are programs; its command line takes them."""
    server = tool_server(Path("/data"), "attempt", "execution")
    word = executor_named("acp").launch(Wish(profile="copilot")).tools_word
    first, configured = words_of(word, server)
    assert first == "--additional-mcp-config"
    named = json.loads(configured)["mcpServers"]["skep"]
    assert [named["command"], *named["args"]] == server.command
    assert (named["env"], named["tools"]) == ({}, ["*"])


def test_all_others_hear_of_it_by_the_protocol() -> None:
    """Nothing is added to their words."""
    server = tool_server(Path("/data"), "attempt", "execution")
    launch = executor_named("acp").launch(Wish(profile="claude"))
    assert words_of(launch.tools_word, server) == []
