"""`node-agent agents`, as people and scripts call it."""

import json
import os
import subprocess
import sys
from pathlib import Path


def agents(tmp_path: Path, *options: str) -> str:
    """What the command prints where one agent is installed, by a real process."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir(exist_ok=True)
    gemini = bin_folder / "gemini"
    gemini.write_text("#!/bin/sh\necho 0.61.0\n")
    gemini.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "node_agent", "agents", "--data", str(tmp_path / "data"), *options],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PATH": str(bin_folder), "HOME": str(tmp_path), "GEMINI_API_KEY": "x"},
    )
    return done.stdout


def test_agents_for_scripts(tmp_path: Path):
    """One JSON value: each known agent, with what is missing to use it."""
    answer = json.loads(agents(tmp_path, "--json"))
    assert answer["next"] is None
    found = {one["name"]: one for one in answer["items"]}
    assert list(found) == ["claude", "codex", "opencode", "gemini", "copilot", "qwen"]
    gemini, claude = found["gemini"], found["claude"]
    assert (gemini["installed"], gemini["version"], gemini["login"], gemini["hint"]) == (
        True,
        "0.61.0",
        "yes",
        "",
    )
    assert not claude["installed"]
    assert claude["hint"].startswith("Install it: npm install --prefix")


def test_agents_for_people(tmp_path: Path):
    """A table, and below it what to do, whole, so that it can be copied."""
    shown = agents(tmp_path)
    assert "0.61.0" in shown
    assert "custom" in shown
    assert "@agentclientprotocol/claude-agent-acp" in shown.replace("\n", "")
