"""`?when=online`: kept while the node is away, done once when it is back, and never against anyone.

The node counts what it is asked to do: that, not the record, says how often something was done.
"""

from typing import Any

import msgspec
import pytest

from hive.store import operations
from protocol.attempt_requests import AttemptReply
from protocol.errors import ErrorCode, OperationError
from tests.hive.api.kept import away, settled, stops
from tests.hive.api.running import RunningHive, running_hive, serving_again

KEY = {"Idempotency-Key": "later-1"}


@pytest.mark.asyncio
async def test_it_is_kept_and_done_once_when_the_node_is_back(running: RunningHive):
    """The answer says what will happen; the node gets key, body and the caller's role once."""
    node, attempt, stopped = await away(running)
    path = f"attempts/{attempt.id}/stop"
    kept = await running.post(path, {"grace_s": 2}, headers=KEY, when="online")
    assert (kept.status, kept.json["status"]) == (202, "waiting")
    assert kept.headers["Idempotency-Key"] == "later-1"
    assert kept.headers["Skep-Attempt-Id"] == attempt.id
    assert (kept.json["node_name"], kept.json["node_online"]) == ("one", False)
    assert kept.json["node_last_seen_at_ms"] > 1_700_000_000_000
    assert "one is away, last seen" in kept.json["hint"]
    week_ms = 7 * 86_400_000
    assert kept.json["kept"]["expires_at_ms"] == kept.json["created_at_ms"] + week_ms
    again = await running.post(path, {"grace_s": 2}, headers=KEY, when="online")
    assert (again.status, again.json) == (202, kept.json | {"hint": again.json["hint"]})
    waiting = (await running.get("operations", status="waiting")).json["items"]
    assert [row["key"] for row in waiting] == ["later-1"]
    assert (node.calls, stopped) == ([], [])

    await node.connect()
    row = await settled(running, "later-1", "done")
    assert row["reply"]["attempt"]["phase"] == "finishing"
    assert (row["kept"]["deliveries"], row["kept"]["delivered_at_ms"] > 0) == (1, True)
    (call,) = node.calls
    assert msgspec.msgpack.decode(call.body)["grace_s"] == 2
    assert (call.idempotency_key, call.expected_execution) == ("later-1", "")
    # Asked again, and at another connection: the hive's own record answers.
    await node.leave()
    done = await running.post(path, {"grace_s": 2}, headers=KEY, when="online")
    assert (done.status, done.json["phase"]) == (200, "finishing")
    await node.connect()
    assert len(stopped) == 1
    told = (await running.get("events", audit="true")).json["items"]
    kinds = [event["kind"] for event in reversed(told) if event["what_id"] == "later-1"]
    assert kinds == ["operation_kept", "operation_delivered"]


@pytest.mark.asyncio
async def test_a_node_that_is_there_is_asked_at_once(running: RunningHive):
    """With the node connected, `when=online` changes nothing; by task it works the same."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    stopped = stops(node)
    done = await running.post(f"attempts/{attempt.id}/stop", headers=KEY, when="online")
    assert (done.status, done.json["phase"], len(stopped)) == (200, "finishing", 1)
    assert (await running.get("operations/later-1")).json["kept"] is None
    await node.leave()
    path = f"tasks/{attempt.task_id}/attempt/stop"
    unnamed = await running.post(path, when="online")
    assert (unnamed.status, unnamed.error["code"]) == (409, "attempt_required")
    kept = await running.post(path, attempt=attempt.id, when="online")
    assert (kept.status, kept.json["attempt_id"]) == (202, attempt.id)


@pytest.mark.asyncio
async def test_it_is_bound_to_the_run_its_caller_saw(running: RunningHive):
    """The newest run of the agent goes along, and the node's refusal is the outcome."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    seen = await node.runs(attempt)

    async def refuse(call: Any) -> AttemptReply:
        assert call.expected_execution == seen
        raise OperationError(ErrorCode.EXPECTED_EXECUTION_MOVED, "it has begun another run")

    node.answers["stop"] = refuse
    await node.leave()
    kept = await running.post(f"attempts/{attempt.id}/stop", headers=KEY, when="online")
    assert kept.json["kept"]["expected_execution_id"] == seen
    await node.connect()
    row = await settled(running, "later-1", "failed")
    assert row["error"]["code"] == "expected_execution_moved"
    again = await running.post(f"attempts/{attempt.id}/stop", headers=KEY, when="online")
    assert (again.status, again.error["code"]) == (409, "expected_execution_moved")
    assert len(node.calls) == 1


@pytest.mark.asyncio
async def test_cancelled_it_does_not_run(running: RunningHive):
    """What waits can be taken back, once; the node never hears of it."""
    node, attempt, stopped = await away(running)
    await running.post(f"attempts/{attempt.id}/stop", headers=KEY, when="online")
    taken = await running.post("operations/later-1/cancel")
    assert (taken.status, taken.json["status"]) == (200, "cancelled")
    await node.connect()
    assert (await running.post("operations/later-1/cancel")).status == 409
    same = await running.post(f"attempts/{attempt.id}/stop", headers=KEY, when="online")
    assert (same.status, same.error["code"]) == (409, "cancelled")
    assert (node.calls, stopped) == ([], [])


@pytest.mark.asyncio
async def test_expired_it_does_not_run(running: RunningHive):
    """Its time is over before the node is back: nothing is done, and the record says so."""
    node, attempt, stopped = await away(running)
    path = f"attempts/{attempt.id}/stop"
    await running.post(path, headers=KEY, when="online", expires_in_s="0.05")
    row = await settled(running, "later-1", "expired")
    assert row["error"]["code"] == "expired"
    await node.connect()
    assert (await running.get("operations/later-1")).json["status"] == "expired"
    assert (node.calls, stopped) == ([], [])


@pytest.mark.asyncio
async def test_the_right_is_looked_at_again(running: RunningHive):
    """A token revoked meanwhile: failed with the reason, and not done. A viewer cannot ask."""
    node, attempt, stopped = await away(running)
    operator, viewer = await running.token_of("operator"), await running.token_of("viewer")
    path = f"attempts/{attempt.id}/stop"
    refused = await running.post(path, headers=KEY, token=viewer, when="online")
    assert (refused.status, refused.error["code"]) == (403, "forbidden")
    kept = await running.post(path, headers=KEY, token=operator, when="online")
    assert kept.status == 202
    for action in ("cancel", "confirm"):
        no = await running.post(f"operations/later-1/{action}", token=viewer)
        assert (no.status, no.error["code"]) == (403, "forbidden")
    assert (await running.ask("DELETE", "tokens/operator")).status == 200
    await node.connect()
    row = await settled(running, "later-1", "failed")
    assert row["error"]["code"] == "forbidden"
    assert "revoked" in row["error"]["message"]
    assert (node.calls, stopped) == ([], [])


@pytest.mark.asyncio
async def test_it_waits_no_longer_than_the_token_is_good(running: RunningHive):
    """The answer says the earlier of both times."""
    _, attempt, _ = await away(running)
    made = (await running.post("tokens", {"name": "x", "role": "operator", "ttl_s": 3600})).json
    path = f"attempts/{attempt.id}/stop"
    kept = await running.post(path, headers=KEY, token=made["token"], when="online")
    assert kept.json["kept"]["expires_at_ms"] == made["expires_at_ms"]


@pytest.mark.asyncio
async def test_a_key_is_one_request_of_one_person(running: RunningHive):
    """The key of another body or person is refused; without `when` it says that it is kept."""
    _, attempt, _ = await away(running)
    operator = await running.token_of("operator")
    path = f"attempts/{attempt.id}/stop"
    await running.post(path, headers=KEY, when="online")
    for body, token in (({"grace_s": 1}, ""), ({}, operator)):
        other = await running.post(path, body, headers=KEY, token=token, when="online")
        assert (other.status, other.error["code"]) == (409, "key_reused")
    now = await running.post(path, headers=KEY)
    assert (now.status, now.error["code"]) == (409, "in_progress")
    assert (await running.get("operations/later-1")).json["status"] == "waiting"


@pytest.mark.asyncio
async def test_what_failed_because_the_node_was_away_can_be_kept(running: RunningHive):
    """The same request, first without and then with `when`, is one operation."""
    node, attempt, stopped = await away(running)
    path = f"attempts/{attempt.id}/stop"
    assert (await running.post(path, headers=KEY)).status == 503
    kept = await running.post(path, headers=KEY, when="online")
    assert (kept.status, kept.json["status"]) == (202, "waiting")
    await node.connect()
    await settled(running, "later-1", "done")
    assert len(stopped) == 1


@pytest.mark.asyncio
async def test_they_leave_in_the_order_they_were_asked(running: RunningHive):
    """One after the other, to each node."""
    node, attempt, _ = await away(running)
    for number in range(5):
        key = {"Idempotency-Key": f"k-{number}"}
        await running.post(f"attempts/{attempt.id}/stop", {}, headers=key, when="online")
    await node.connect()
    await settled(running, "k-4", "done")
    assert [call.idempotency_key for call in node.calls] == [f"k-{n}" for n in range(5)]


@pytest.mark.asyncio
async def test_it_outlives_the_hive(tmp_path):
    """Kept before a restart, delivered after it."""
    async with running_hive(tmp_path) as running:
        node, attempt, stopped = await away(running)
        await running.post(f"attempts/{attempt.id}/stop", headers=KEY, when="online")
    async with serving_again(tmp_path, running.token) as running:
        node.running = running
        assert (await running.get("operations/later-1")).json["status"] == "waiting"
        await node.connect()
        await settled(running, "later-1", "done")
        assert len(stopped) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"when": "tomorrow"}, "when"),
        ({"when": "online", "expires_in_s": "0"}, "expires_in_s"),
        ({"when": "online", "expires_in_s": "604801"}, "expires_in_s"),
        ({"when": "online", "expires_in_s": "nan"}, "expires_in_s"),
        ({"expires_in_s": "60"}, "expires_in_s"),
    ],
)
async def test_a_wish_that_makes_no_sense(running: RunningHive, query, field: str):
    """The field at fault is named, and nothing is recorded."""
    _, attempt, _ = await away(running)
    refused = await running.post(f"attempts/{attempt.id}/stop", headers=KEY, **query)
    assert (refused.status, refused.error["details"]["field"]) == (422, field)
    assert await running.hive.database.read(operations.find_operation, "later-1") is None


@pytest.mark.asyncio
async def test_a_start_is_not_kept(running: RunningHive):
    """There is no attempt to keep it for; the error says what waits for a node."""
    await running.node("one")
    task = await running.task()
    path = f"tasks/{task['id']}/attempts"
    refused = await running.post(path, {"command": "true"}, when="online")
    assert (refused.status, refused.error["details"]["field"]) == (422, "when")
    assert "--wait" in refused.error["hint"]


@pytest.mark.asyncio
async def test_a_revoked_node_is_waited_for_by_nothing(running: RunningHive):
    """It will not be back: refused when asked."""
    node, attempt, _ = await away(running)
    await running.post(f"nodes/{node.id}/revoke")
    refused = await running.post(f"attempts/{attempt.id}/stop", headers=KEY, when="online")
    assert (refused.status, refused.error["code"]) == (403, "revoked")
