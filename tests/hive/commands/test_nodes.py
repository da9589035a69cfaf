"""Join tokens and nodes from the command line: what is wrong use, and what it names."""

import json

import pytest

from tests.hive.api.running import RunningHive
from tests.hive.commands.programs import Commands


@pytest.mark.parametrize("ttl", ["banana", "-1", "0s", "1x", ""])
@pytest.mark.asyncio
async def test_a_duration_that_is_none_names_its_option(
    running: RunningHive, hive: Commands, ttl: str
):
    """Whoever gave several options is told which one it was."""
    del running
    said = await hive.run("nodes", "join-token", "--ttl", ttl, "--json")
    error = json.loads(said.err)["error"]
    assert (said.code, said.out, error["code"]) == (2, "", "usage")
    assert "--ttl" in error["message"]
