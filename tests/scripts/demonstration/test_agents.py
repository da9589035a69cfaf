"""Which agent the demo talks to, and what it says where there is none, with real files."""

from pathlib import Path

import pytest

from scripts.demonstration.agents import installed
from scripts.demonstration.screen import StepFailed


def program(folder: Path, name: str) -> str:
    """A folder with a program of this name, as a PATH."""
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)
    return str(folder)


def test_an_agent_that_is_not_here_is_refused_with_its_installation(tmp_path: Path) -> None:
    """The hint is the command that installs it for the user."""
    with pytest.raises(StepFailed, match="there is no claude-agent-acp") as refused:
        installed("claude", {"PATH": str(tmp_path)})
    assert refused.value.hint.endswith("--global @agentclientprotocol/claude-agent-acp")


def test_an_agent_nobody_is_logged_in_to_is_refused(tmp_path: Path) -> None:
    """With a login in its environment the same agent is taken, by its profile."""
    environment = {"PATH": program(tmp_path, "codex-acp"), "HOME": str(tmp_path)}
    with pytest.raises(StepFailed, match="nobody is logged in to Codex") as refused:
        installed("codex", environment)
    assert "codex login" in refused.value.hint
    agent = installed("codex", {**environment, "CODEX_API_KEY": "x"})
    assert agent.words == ["--executor", "acp", "--profile", "codex"]
    assert agent.journal is None
