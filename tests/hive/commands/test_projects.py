"""Projects from the command line, as the hive then has them."""

import pytest

from tests.hive.api.running import RunningHive
from tests.hive.commands.programs import Commands


@pytest.mark.asyncio
async def test_scripts_are_set_and_taken_away(running: RunningHive, hive: Commands):
    """What is named changes, what is not named stays, and an empty text takes it away."""
    node = await running.node("one")
    task = await running.task()
    assert node.id
    project = task["project_id"]
    words = ["projects", "edit", project]
    await hive.json(*words, "--setup-script", "npm ci", "--dev-script", "npm run dev")
    await hive.json(*words, "--copy-file", ".env", "--copy-file", "*.key")
    shown = await hive.json("projects", "show", project)
    assert (shown["setup_script"], shown["dev_script"]) == ("npm ci", "npm run dev")
    assert shown["copy_files"] == [".env", "*.key"]
    assert "npm ci" in (await hive.run("projects", "show", project)).out
    changed = await hive.json(*words, "--setup-script", "", "--copy-file", "")
    assert (changed["setup_script"], changed["copy_files"]) == (None, [])
    assert changed["dev_script"] == "npm run dev"


@pytest.mark.asyncio
async def test_a_limit_of_silence_is_set_and_taken_away(running: RunningHive, hive: Commands):
    """Beside the other policies, which stay; what is no number is refused at once."""
    await running.node("one")
    task = await running.task()
    words = ["projects", "edit", task["project_id"]]
    await hive.json(*words, "--allow", "read")
    changed = await hive.json(*words, "--silence-stop-s", "900")
    rules = {"requests": {"allow": ["read"]}}
    assert changed["policies"] == {**rules, "silence_stop_s": 900.0}
    assert "after 900 s" in (await hive.run("projects", "show", task["project_id"])).out
    assert (await hive.run(*words, "--silence-stop-s", "soon")).code == 2
    gone = await hive.json(*words, "--silence-stop-s", "")
    assert gone["policies"] == rules
