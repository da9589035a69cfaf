"""`hive attempts`: waiting for one to end, also while the hive is started anew."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from tests.hive.api.running import running_hive, serving_again
from tests.hive.commands.programs import Commands


@pytest.mark.asyncio
async def test_waiting_goes_on_over_a_restart_of_the_hive(tmp_path: Path):
    """A hive that is started anew ends nobody's wait; one that never answered does."""
    async with running_hive(tmp_path) as running:
        token, port = running.token, running.port
        node = await running.node("one")
        attempt = await node.has_attempt()
        execution = await node.runs(attempt)
        hive = Commands(tmp_path, running)
        waiting = await hive.process("attempts", "wait", attempt.id, "--json")
        async with asyncio.timeout(60):
            while not running.hive.feed.viewers:
                await asyncio.sleep(0.05)
    away = await hive.run("attempts", "wait", attempt.id, "--json")
    assert away.error["code"] == "hive_offline"
    assert waiting.returncode is None
    async with serving_again(tmp_path, token, port=port) as running:
        node.running = running
        await node.connect()
        await node.ends(attempt, [execution])
        async with asyncio.timeout(60):
            out, err = await waiting.communicate()
    assert waiting.returncode == 0, err
    assert msgspec.json.decode(out)["outcome"] == "succeeded"
