"""Bodies: what cannot be read is the caller's mistake; nothing of it fails the hive."""

import pytest

from tests.hive.api.running import RunningHive
from tests.hive.api.test_requests import answers, asked


@pytest.mark.asyncio
async def test_a_deep_body_is_read_or_refused(running: RunningHive):
    """However deep a form is nested: what the hive can read it passes on, all else it refuses."""
    node = await running.node()
    request = await asked(node, await node.has_attempt())
    taken = answers(node, request)
    statuses = []
    for depth in (50, 150, 300, 450, 600, 900, 100_000):
        sent = await running.ask(
            "POST",
            f"requests/{request.id}/answer",
            data=b'{"form": {"a": ' + b"[" * depth + b"]" * depth + b"}}",
            headers={"Content-Type": "application/json"},
        )
        statuses.append(sent.status)
    assert statuses[0] == 200
    assert statuses[-2:] == [422, 422]
    assert set(statuses) <= {200, 409, 422}
    assert len(taken) == len([status for status in statuses if status != 422])


@pytest.mark.asyncio
async def test_a_word_that_is_none_of_a_fields_is_told_which_there_are(running: RunningHive):
    """In a body and in a query, by the field; what was sent is not told again at length."""
    sent = {"project": "shop", "title": "Mend", "priority": "urgent" * 1000}
    wrong = await running.post("tasks", sent)
    assert (wrong.status, wrong.error["details"]["field"]) == (422, "priority")
    assert wrong.error["hint"] == "One of: high, low, normal."
    assert len(wrong.error["message"]) < 200
    asked = await running.get("tasks", status="begun")
    assert (asked.status, asked.error["details"]["field"]) == (422, "status")
    assert "in_review" in asked.error["hint"]
