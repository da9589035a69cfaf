"""Tokens over HTTP: made once, listed without their secret, refused once revoked."""

from pathlib import Path

import pytest

from tests.hive.api.running import RunningHive, running_hive


@pytest.mark.asyncio
async def test_a_token_is_shown_once_and_works(running: RunningHive):
    """The secret is in the answer that made it and nowhere else."""
    made = (await running.post("tokens", {"name": "ci", "role": "operator"})).json
    me = (await running.get("me", token=made["token"])).json
    assert (me["name"], me["role"]) == ("ci", "operator")
    listed = await running.get("tokens")
    assert made["token"] not in listed.content.decode()
    assert {token["name"] for token in listed.json["items"]} == {"admin", "ci"}


@pytest.mark.asyncio
async def test_a_revoked_token_is_refused_at_once(running: RunningHive):
    """Also where it was used a moment ago."""
    made = (await running.post("tokens", {"name": "ci"})).json
    assert (await running.get("nodes", token=made["token"])).status == 200
    revoked = await running.ask("DELETE", f"tokens/{made['id']}")
    assert revoked.json["revoked_at_ms"] > 0
    assert (await running.get("nodes", token=made["token"])).status == 401


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a", "role": "king"}, "role"),
        ({"name": "a", "ttl_s": 0}, "ttl_s"),
    ],
)
async def test_a_token_that_makes_no_sense_is_refused(running: RunningHive, body, field: str):
    """The field at fault is named."""
    refused = await running.post("tokens", body)
    assert (refused.status, refused.error["details"]["field"]) == (422, field)


@pytest.mark.asyncio
async def test_a_join_token_comes_with_the_command_to_copy(running: RunningHive):
    """The command has the hive's own address and the token."""
    made = (await running.post("join-tokens", {"ttl_s": 60})).json
    assert made["command"] == f"node-agent join {running.url} {made['join_token']}"
    refused = await running.post("join-tokens", {"ttl_s": 7200})
    assert (refused.status, refused.error["details"]["field"]) == (422, "ttl_s")


@pytest.mark.asyncio
async def test_the_command_names_the_address_the_admin_used(tmp_path: Path):
    """A hive on all addresses tells the one it was called by, and what plain http takes."""
    async with running_hive(tmp_path, host="0.0.0.0", plain_http=True) as running:
        made = await running.post("join-tokens", headers={"Host": "192.168.1.4:8700"})
        assert " http://192.168.1.4:8700 " in made.json["command"]
        assert made.json["command"].endswith(" --plain-http")
    async with running_hive(tmp_path / "b", public_urls=["https://hive.example"]) as running:
        made = (await running.post("join-tokens")).json
        assert " https://hive.example " in made["command"]
        assert "--plain-http" not in made["command"]
