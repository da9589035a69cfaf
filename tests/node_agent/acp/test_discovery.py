"""What is installed, found with real files and real programs."""

import asyncio
import json
from pathlib import Path

import pytest

from node_agent.acp.discovery import (
    FoundAgent,
    discover,
    find_program,
    installed_agents,
    login_state,
    version_in,
)
from node_agent.acp.presets import PRESETS


def program(path: Path, text: str = "exit 0") -> Path:
    """A program that runs a shell text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def npm_package(folder: Path, name: str, version: str, bin_name: str) -> None:
    """A package as npm installs it: its program is a link from `.bin`."""
    package = folder / "node_modules" / name
    real = program(package / "dist" / "index.js", "exit 7")
    (package / "package.json").write_text(json.dumps({"name": name, "version": version}))
    links = folder / "node_modules" / ".bin"
    links.mkdir(parents=True, exist_ok=True)
    (links / bin_name).symlink_to(real)


def found(data: Path, environment: dict[str, str]) -> dict[str, FoundAgent]:
    """Every agent by its name."""
    return {one.name: one for one in asyncio.run(discover(data, environment))}


def test_nothing_is_installed(tmp_path: Path):
    """Each agent is listed with the command that installs it, and none is taken for there."""
    agents = found(tmp_path, {"PATH": str(tmp_path / "none")})
    assert set(agents) == set(PRESETS)
    assert not any(one.installed for one in agents.values())
    assert all(f"--prefix {tmp_path}/agents" in one.hint for one in agents.values())
    assert installed_agents(tmp_path, {"PATH": ""}) == []


def test_an_npm_package_tells_its_version_without_being_run(tmp_path: Path):
    """The node's own installation comes before the one on PATH."""
    claude = "@agentclientprotocol/claude-agent-acp"
    npm_package(tmp_path / "data" / "agents", claude, "9.8.7", "claude-agent-acp")
    npm_package(tmp_path / "path", claude, "1.0.0", "claude-agent-acp")
    environment = {"PATH": str(tmp_path / "path" / "node_modules" / ".bin")}
    agent = found(tmp_path / "data", environment)["claude"]
    assert (agent.installed, agent.version) == (True, "9.8.7")
    assert agent.path is not None
    assert agent.path.startswith(str(tmp_path / "data"))
    assert installed_agents(tmp_path / "data", environment) == ["claude"]
    on_path = find_program(PRESETS["claude"], tmp_path / "elsewhere", environment)
    assert on_path is not None
    assert on_path.parent == tmp_path / "path" / "node_modules" / ".bin"


def test_a_program_is_asked_for_its_version_once(tmp_path: Path):
    """The answer is kept until the program's file changes."""
    count = tmp_path / "count"
    gemini = program(tmp_path / "bin" / "gemini", f"echo x >> {count}; echo v0.61.0")
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    for _ in range(2):
        assert found(tmp_path / "data", environment)["gemini"].version == "0.61.0"
    assert count.read_text() == "x\n"
    program(gemini, f"echo x >> {count}; echo gemini version 0.62.10 beta")
    assert found(tmp_path / "data", environment)["gemini"].version == "0.62.10"
    assert count.read_text() == "x\nx\n"


@pytest.mark.parametrize("text", ["exit 1", "echo none", "head -c 100000 /dev/zero; exit 0"])
def test_a_program_that_does_not_tell_its_version(tmp_path: Path, text: str):
    """It is installed all the same."""
    program(tmp_path / "bin" / "qwen", text)
    agent = found(tmp_path / "data", {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"})["qwen"]
    assert (agent.installed, agent.version) == (True, None)


def test_a_login_is_seen_where_it_is_kept(tmp_path: Path):
    """In a variable or a file; its absence is a no only where it is kept nowhere else."""
    nobody = {"HOME": str(tmp_path)}
    codex, claude, opencode = PRESETS["codex"], PRESETS["claude"], PRESETS["opencode"]
    assert login_state(codex, nobody) == "no"
    assert login_state(claude, nobody) == "unknown"
    assert login_state(opencode, nobody) == "not_needed"
    assert login_state(codex, {}) == "unknown"
    assert login_state(codex, {**nobody, "OPENAI_API_KEY": "x"}) == "yes"
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / ".credentials.json").write_text("{}")
    assert login_state(claude, nobody) == "yes"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("2.1.197 (Claude Code)", "2.1.197"),
        ("@agentclientprotocol/codex-acp 2.6.0\n", "2.6.0"),
        ("v1.2.3,", "1.2.3"),
        ("3 programs", None),
        ("", None),
    ],
)
def test_a_version_in_a_text(text: str, version: str | None):
    """The first word that is one."""
    assert version_in(text) == version
