"""Attempts over HTTP: what the node told, and what the hive knows beside it."""

import asyncio

import pytest

from protocol.states import ExecutionStatus
from tests.hive.api.running import RunningHive


@pytest.mark.asyncio
async def test_an_attempt_shows_the_nodes_facts_and_the_hives(running: RunningHive):
    """Executions with how far their logs are held; reachable as long as the node is there."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    execution = await node.runs(attempt)
    await node.prints(execution, "a\n", "b\n")
    shown = (await running.get(f"attempts/{attempt.id}")).json
    assert (shown["phase"], shown["outcome"], shown["reachable"]) == ("running", None, True)
    assert shown["sync_state"] == "complete"
    (run,) = shown["executions"]
    assert (run["id"], run["kind"], run["argv"]) == (execution, "agent", ["make", "test"])
    assert run["log"]["entries"] == 2
    assert not run["log"]["closed"]
    await node.leave()
    away = (await running.get(f"attempts/{attempt.id}")).json
    assert (away["phase"], away["reachable"]) == ("running", False)
    assert away["unreachable_since_ms"] > 1_700_000_000_000


@pytest.mark.asyncio
async def test_attempts_are_listed_newest_first_and_narrowed(running: RunningHive):
    """By node, task, project and status; what fits nothing is refused."""
    one, two = await running.node("one"), await running.node("two")
    first = await one.has_attempt(1)
    second = await two.has_attempt(2)
    listed = (await running.get("attempts")).json["items"]
    assert [item["id"] for item in listed] == [second.id, first.id]
    assert [i["id"] for i in (await running.get("attempts", node="one")).json["items"]] == [
        first.id
    ]
    by_task = (await running.get("attempts", task=second.task_id)).json["items"]
    assert [item["id"] for item in by_task] == [second.id]
    assert len((await running.get("attempts", project="shop")).json["items"]) == 2
    assert len((await running.get("attempts", status="running")).json["items"]) == 2
    assert (await running.get("attempts", status="failed")).json["items"] == []
    wrong = await running.get("attempts", status="odd")
    assert (wrong.status, wrong.error["details"]["field"]) == (422, "status")


@pytest.mark.asyncio
async def test_waiting_for_the_end_answers_as_soon_as_it_came(running: RunningHive):
    """`wait_ended_s` answers at the end, or when the time is over; never later than that."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    path = f"attempts/{attempt.id}"
    still = await running.get(path, wait_ended_s="0.1")
    assert still.json["phase"] == "running"
    waiting = asyncio.create_task(running.get(path, wait_ended_s="20"))
    await asyncio.sleep(0.1)
    await node.ends(attempt, [])
    ended = (await asyncio.wait_for(waiting, 30)).json
    assert (ended["phase"], ended["outcome"]) == ("ended", "succeeded")
    task = (await running.get(f"tasks/{attempt.task_id}")).json
    assert task["status"] == "in_review"
    assert task["result"]["attempt_id"] == attempt.id


@pytest.mark.asyncio
async def test_backfill_asks_the_node_for_what_is_lacking(running: RunningHive):
    """A log that ended past what is here is asked for from where it stops, and then complete."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    execution = await node.runs(attempt, status=ExecutionStatus.SUCCEEDED, ended_at_ms=1_500_000)
    await node.prints(execution, "a\n")
    await node.ends_log(execution, chunks=2, entries=2)
    assert (await running.get(f"attempts/{attempt.id}")).json["sync_state"] == "partial"
    asked = await running.post(f"attempts/{attempt.id}/backfill")
    assert (asked.status, asked.json["sync_state"]) == (202, "backfilling")
    (need,) = node.needs
    assert (need.kind, need.ids, need.from_chunk, need.after) == ("logs", [execution], [2], [1])
    await node.prints(execution, "b\n", chunk=2, entry=2)
    assert (await running.get(f"attempts/{attempt.id}")).json["sync_state"] == "complete"


@pytest.mark.asyncio
async def test_streams_go_through_the_relay(running: RunningHive):
    """Connection info names the attempt and the relay; of a task, its newest attempt."""
    node = await running.node("one")
    attempt = await node.has_attempt()
    info = (await running.get(f"attempts/{attempt.id}/stream-connection-info")).json
    assert info["relay_url"] == f"{running.url}/api/v1/attempts/{attempt.id}"
    assert info["direct_urls"] == []
    of_task = (await running.get(f"tasks/{attempt.task_id}/stream-connection-info")).json
    assert of_task["attempt_id"] == attempt.id
