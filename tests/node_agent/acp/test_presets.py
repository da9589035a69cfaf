"""Agents by name: what is run, how it is installed, what it gets."""

import json

import pytest

from node_agent.acp.presets import (
    PRESETS,
    AgentUnknown,
    asks_in,
    preset_named,
)
from protocol.errors import ErrorCode
from protocol.profiles import AGENTS, CUSTOM


def test_each_agent_is_run_by_its_protocol():
    """The program's words make it speak the protocol; where it was found is what runs."""
    assert {name: preset.argv() for name, preset in PRESETS.items()} == {
        "claude": ["claude-agent-acp"],
        "codex": ["codex-acp"],
        "opencode": ["opencode", "acp"],
        "gemini": ["gemini", "--acp"],
        "copilot": ["copilot", "--acp"],
        "qwen": ["qwen", "--acp"],
    }
    assert PRESETS["gemini"].argv("/opt/gemini") == ["/opt/gemini", "--acp"]


def test_how_it_is_installed():
    """For this node alone, at a path that a shell takes as one word; or for the user."""
    claude = PRESETS["claude"]
    package = "@agentclientprotocol/claude-agent-acp"
    assert claude.install_hint() == f"npm install --global {package}"
    assert claude.install_hint("/my data") == f"npm install --prefix '/my data' {package}"


def test_an_unknown_name_is_told_with_those_that_are_known():
    """The error names the field, and every name there is."""
    with pytest.raises(AgentUnknown) as caught:
        preset_named("clade")
    assert caught.value.code is ErrorCode.INVALID
    assert caught.value.details["field"] == "agent"
    assert all(name in caught.value.hint for name in [*PRESETS, "custom"])
    assert preset_named("codex").title == "Codex"


def test_each_begins_where_people_are_asked():
    """Left alone some let a model decide what is allowed, or allow it all: not here."""
    begins = {name: preset.mode for name, preset in PRESETS.items()}
    assert begins == {
        "claude": "default",
        "codex": "workspace-write",
        "opencode": None,
        "gemini": "default",
        "copilot": "agent",
        "qwen": "default",
    }
    assert all(asks_in(name, mode) for name, mode in begins.items() if mode is not None)
    asks = json.loads(PRESETS["opencode"].sets["OPENCODE_PERMISSION"])
    assert (asks["*"], asks["read"]["*.env"]) == ("ask", "ask")
    assert {"bash", "edit", "webfetch", "skep_start_attempt"}.isdisjoint(asks)


def test_a_mode_that_is_not_known_to_ask_does_not():
    """Agents, modes and their spelling: what nobody vouched for counts as a command line."""
    assert asks_in("copilot", "Plan")
    for agent, mode in (("claude", "acceptEdits"), ("qwen", "yolo"), ("mine", "plan"), (None, "x")):
        assert not asks_in(agent, mode)


def test_there_is_a_preset_for_each_agent_that_profiles_may_name():
    """The hive knows their names alone; here is what they mean."""
    assert tuple(PRESETS) == AGENTS
    assert CUSTOM not in PRESETS
    # The words by which it speaks its protocol are never a profile's.
    for preset in PRESETS.values():
        assert set(preset.words) & {"--acp"} <= preset.reserved
