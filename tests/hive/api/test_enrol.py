"""Joining: each check refuses what it is there for, and guessing is slowed down."""

import base64
from pathlib import Path

import pytest

from tests.hive.api.running import FakeNode, RunningHive, running_hive


async def join_token(running: RunningHive) -> str:
    """A fresh join token."""
    return (await running.post("join-tokens")).json["join_token"]


@pytest.mark.asyncio
async def test_joining_answers_all_a_node_has_to_know(running: RunningHive):
    """Id, name, the hive's id and keys."""
    node = FakeNode(running, "one")
    said = await running.post("/v1/enrol", node.enrolment(await join_token(running)), token=None)
    assert said.status == 200
    assert said.json["name"] == "one"
    assert said.json["hive_id"] == running.hive.context.hive_id
    (key,) = said.json["keys"].values()
    assert len(base64.b64decode(key)) == 32


@pytest.mark.asyncio
async def test_the_same_token_and_key_again_is_the_same_node(running: RunningHive):
    """A node that lost the answer asks again; another key does not get in by that token."""
    token = await join_token(running)
    node, other = FakeNode(running, "one"), FakeNode(running, "two")
    first = await running.post("/v1/enrol", node.enrolment(token), token=None)
    again = await running.post("/v1/enrol", node.enrolment(token), token=None)
    assert first.json["node_id"] == again.json["node_id"]
    refused = await running.post("/v1/enrol", other.enrolment(token), token=None)
    assert (refused.status, refused.error["code"]) == (401, "authentication_failed")
    assert "used" in refused.error["message"]
    assert "join-token" in refused.error["hint"]


@pytest.mark.asyncio
async def test_a_proof_of_another_key_is_refused(running: RunningHive):
    """The signature must be the registered key's own, over this very token."""
    node, thief = FakeNode(running, "one"), FakeNode(running, "thief")
    token = await join_token(running)
    body = {**node.enrolment(token), "proof": thief.enrolment(token)["proof"]}
    refused = await running.post("/v1/enrol", body, token=None)
    assert (refused.status, refused.error["code"]) == (401, "authentication_failed")
    other = {**node.enrolment(await join_token(running)), "join_token": token}
    refused = await running.post("/v1/enrol", other, token=None)
    assert (refused.status, refused.error["code"]) == (401, "authentication_failed")
    assert (await running.get("nodes")).json["items"] == []


@pytest.mark.asyncio
@pytest.mark.parametrize("field", ["public_key", "proof"])
@pytest.mark.parametrize("value", ["", "!!!", "AAAA"])
async def test_what_is_no_key_is_refused(running: RunningHive, field: str, value: str):
    """Malformed keys and proofs are told apart from wrong ones, and crash nothing."""
    node = FakeNode(running, "one")
    body = {**node.enrolment(await join_token(running)), field: value}
    refused = await running.post("/v1/enrol", body, token=None)
    assert refused.status in {401, 422}


@pytest.mark.asyncio
async def test_guessing_from_elsewhere_is_slowed_down(tmp_path: Path):
    """After five failures an address waits, also with a good token; others are not held up."""
    async with running_hive(tmp_path, behind_proxy=True) as running:
        node = FakeNode(running, "one")
        guess = node.enrolment("skepjoin_guess")
        here = {"X-Forwarded-For": "10.0.0.9"}
        for _ in range(5):
            refused = await running.post("/v1/enrol", guess, token=None, headers=here)
            assert refused.status == 401
        body = node.enrolment(await join_token(running))
        slow = await running.post("/v1/enrol", body, token=None, headers=here)
        assert (slow.status, slow.error["code"]) == (429, "slow_down")
        assert int(slow.headers["Retry-After"]) > 0
        elsewhere = {"X-Forwarded-For": "10.0.0.10"}
        assert (await running.post("/v1/enrol", body, token=None, headers=elsewhere)).status == 200


@pytest.mark.asyncio
async def test_this_machine_is_not_slowed_down(running: RunningHive):
    """Whoever is on the hive's own machine could read its data anyway."""
    guess = FakeNode(running, "one").enrolment("skepjoin_guess")
    for _ in range(8):
        assert (await running.post("/v1/enrol", guess, token=None)).status == 401


@pytest.mark.asyncio
async def test_a_name_is_made_fit_to_be_shown(running: RunningHive):
    """Control characters of a hostile name reach no terminal."""
    node = FakeNode(running, "on\x1b[31me\n")
    said = await running.post("/v1/enrol", node.enrolment(await join_token(running)), token=None)
    assert said.json["name"] == "on[31me"
