"""The agent that the demo's conversation is with: the scripted one, or one that people use.

Says what is missing where it cannot be had, before anything is started. Must not speak to it.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node_agent.acp.discovery import login_state
from node_agent.acp.presets import preset_named
from scripts.demonstration.processes import DemoFolder
from scripts.demonstration.screen import StepFailed

_SCRIPTED: Final = Path(__file__).with_name("agent.py")


@dataclass(frozen=True)
class SpokenTo:
    """An agent: what it is called here, and how `hive tasks run` is told to run it.

    `journal`: where it writes down itself what it was told; only the scripted one does.
    """

    title: str
    words: list[str]
    shown: str
    within_s: float
    journal: Path | None = None
    hint: str = ""


def scripted(folder: DemoFolder) -> SpokenTo:
    """The agent that needs no model: it is in this checkout."""
    kept = folder.path / "agent"
    command = [sys.executable, str(_SCRIPTED), "--journal", str(kept / "journal")]
    kept.mkdir(parents=True, exist_ok=True)
    command += ["--sessions", str(kept / "sessions")]
    return SpokenTo(
        title="a scripted agent",
        words=["--executor", "acp", "--command", shlex.join(command)],
        shown="--executor acp --command agent.py",
        within_s=60.0,
        journal=kept / "journal",
    )


def installed(name: str, environment: Mapping[str, str]) -> SpokenTo:
    """An agent known by its name. Raises StepFailed, AgentUnknown."""
    preset = preset_named(name)
    if shutil.which(preset.program, path=environment.get("PATH", os.defpath)) is None:
        raise StepFailed(
            f"{preset.title} is not here: there is no {preset.program}",
            # For the user, not for a node: the nodes of a demo begin with nothing each time.
            f"Install it: {preset.install_hint()}",
        )
    if login_state(preset, environment) == "no":
        raise StepFailed(f"nobody is logged in to {preset.title}", preset.login_hint)
    return SpokenTo(
        title=preset.title,
        words=["--executor", "acp", "--profile", preset.name],
        shown=f"--executor acp --profile {preset.name}",
        within_s=600.0,
        hint=preset.login_hint,
    )
