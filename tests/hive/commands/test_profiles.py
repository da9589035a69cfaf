"""A project's profiles from the command line, as the hive then has them."""

import pytest

from tests.hive.api.running import RunningHive
from tests.hive.commands.programs import Commands


@pytest.mark.asyncio
async def test_a_profile_is_set_shown_and_removed(running: RunningHive, hive: Commands):
    """Its arguments are split as a shell would, its secrets named."""
    await running.post("projects", {"name": "shop"})
    words = ["projects", "profiles"]
    made = await hive.json(
        *(*words, "set", "shop", "careful", "--agent", "claude", "--mode", "plan"),
        *("--arguments", "--verbose 'two words'", "--env", "KEY=secret:MODEL_KEY", "--env", "A=b"),
    )
    assert made["arguments"] == ["--verbose", "two words"]
    assert made["environment"] == {"KEY": "secret:MODEL_KEY", "A": "b"}
    listed = await hive.json(*words, "list", "shop")
    assert listed["items"] == [made]
    assert "secret:MODEL_KEY" in (await hive.run(*words, "list", "shop")).out
    assert "careful" in (await hive.run("projects", "show", "shop")).out
    again = await hive.json(*words, "set", "shop", "careful", "--agent", "codex")
    assert (again["mode"], again["arguments"], again["environment"]) == (None, [], {})
    assert "Removed careful" in (await hive.run(*words, "rm", "shop", "careful")).out
    assert (await hive.json(*words, "list", "shop"))["items"] == []
