"""`hive operations`, and `--when online`: what waits, for people and programs."""

import pytest

from tests.hive.api.kept import away
from tests.hive.api.running import RunningHive
from tests.hive.commands.programs import Commands


@pytest.mark.asyncio
async def test_a_command_for_a_node_that_is_away(running: RunningHive, hive: Commands):
    """It says what will happen; listed, shown, cancelled."""
    _, attempt, _ = await away(running)
    words = ("attempt", "stop", attempt.id, "--when", "online", "--idempotency-key", "k-1")
    kept = (await hive.run(*words, "--expires-in", "2h", "--json")).json
    assert (kept["status"], kept["node_name"]) == ("waiting", "one")
    assert kept["kept"]["expires_at_ms"] - kept["created_at_ms"] == 7_200_000
    plain = await hive.run(*words, "--expires-in", "2h")
    assert plain.code == 0, plain.err
    assert "one is away, last seen" in " ".join(plain.out.split())
    for listing in (("--waiting",), ("--attempt", attempt.id), ("--node", "one")):
        page = (await hive.run("operations", *listing, "--json")).json
        assert [row["key"] for row in page["items"]] == ["k-1"]
    assert "k-1" in (await hive.run("operations", "--waiting")).out
    assert "waiting" in (await hive.run("operations", "show", "k-1")).out
    refused = await hive.run("operations", "confirm", "k-9", "--json")
    assert refused.error["code"] == "not_found"
    assert (await hive.run("operations", "confirm", "k-1", "--json")).json["status"] == "waiting"
    taken = (await hive.run("operations", "cancel", "k-1", "--json")).json
    assert taken["status"] == "cancelled"
    assert "There are none." in (await hive.run("operations", "--waiting")).out
