"""Events over HTTP: what happened and who did it, for auditors and admins."""

import pytest

from tests.hive.api.running import RunningHive


@pytest.mark.asyncio
async def test_the_audit_names_who_did_what(running: RunningHive):
    """A revocation stands there with its actor; pages meet, newest first."""
    await running.node("one")
    await running.post("nodes/one/revoke")
    auditor = await running.token_of("auditor")
    events = (await running.get("events", token=auditor, audit="1")).json["items"]
    kinds = [(event["kind"], event["actor"]) for event in events]
    assert ("node_revoked", "admin") in kinds
    first = (await running.get("events", limit=3)).json
    second = (await running.get("events", limit=3, cursor=first["next"])).json
    numbers = [event["no"] for event in [*first["items"], *second["items"]]]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 6


@pytest.mark.asyncio
async def test_events_are_narrowed_by_what_they_are_about(running: RunningHive):
    """Those of one attempt, with the states it went from and to."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    await node.has_attempt(2)
    await node.ends(attempt, [])
    events = (await running.get("events", attempt=attempt.id)).json["items"]
    assert events
    assert {event["attempt_id"] for event in events} == {attempt.id}
    assert any(event["to"] == "succeeded" for event in events)
