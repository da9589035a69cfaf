"""Starting attempts: on the node asked for, on any that can, once per key, never invented."""

import asyncio

import msgspec
import pytest

from protocol.errors import ErrorCode, OperationError
from tests.hive.api.running import RunningHive

RUN = {"command": "make test"}


@pytest.mark.asyncio
async def test_the_attempt_is_what_its_node_answered(running: RunningHive):
    """The node gets the task's text and project, and its answer is the reply."""
    node = await running.node("one")
    node.starts()
    task = await running.task("Sort the shelves", description="By colour", base_branch="main")
    started = await running.post(f"tasks/{task['id']}/attempts", {"node_id": "one", **RUN})
    assert started.status == 201, started.content
    attempt = started.json
    assert (attempt["node_id"], attempt["task_id"]) == (node.id, task["id"])
    assert (attempt["phase"], attempt["reachable"]) == ("created", True)
    asked = msgspec.msgpack.decode(node.calls[0].body)
    assert asked["checkout_id"] == node.checkout_id
    assert (asked["task_title"], asked["task_description"]) == ("Sort the shelves", "By colour")
    assert (asked["command"], asked["base_branch"]) == ("make test", "main")
    assert asked["project_id"] == task["project_id"]


@pytest.mark.asyncio
async def test_an_attempt_shows_before_its_op_came(running: RunningHive):
    """`show` right after a start waits for the op a moment, then tells the node's own reply."""
    node = await running.node("one")
    node.starts(ops=False)
    task = await running.task()
    attempt = (await running.post(f"tasks/{task['id']}/attempts", {"node_id": "one", **RUN})).json
    shown = await running.get(f"attempts/{attempt['id']}")
    assert (shown.status, shown.json["phase"]) == (200, "created")
    reported = node.attempt(101, task_id=task["id"])
    assert reported.id == attempt["id"]
    showing = asyncio.create_task(running.get(f"attempts/{attempt['id']}"))
    await asyncio.sleep(0.1)
    await node.has_attempt(101, task_id=task["id"])
    assert (await showing).json["phase"] == "running"


@pytest.mark.asyncio
async def test_the_same_key_starts_one_attempt(running: RunningHive):
    """A repeated request gets the first attempt; the key with other words is refused."""
    node = await running.node("one")
    node.starts()
    task = await running.task()
    path, key = f"tasks/{task['id']}/attempts", {"Idempotency-Key": "k-1"}
    first = await running.post(path, RUN, headers=key)
    again = await running.post(path, RUN, headers=key)
    assert first.json["id"] == again.json["id"]
    assert len(node.calls) == 1
    other = await running.post(path, {"command": "make all"}, headers=key)
    assert (other.status, other.error["code"]) == (409, "key_reused")
    row = (await running.get("operations/k-1")).json
    assert (row["status"], row["attempt_id"]) == ("done", first.json["id"])
    assert row["reply"]["attempt"]["id"] == first.json["id"]


@pytest.mark.asyncio
async def test_an_outcome_nobody_knows_is_a_504_with_the_key(running: RunningHive):
    """A node that does not answer: unknown, never failed; the same key asks it again."""
    node = await running.node("one")
    task = await running.task()
    path, key = f"tasks/{task['id']}/attempts", {"Idempotency-Key": "k-1"}
    late = await running.post(path, {"node_id": "one", **RUN}, headers=key, deadline_s="0.1")
    assert (late.status, late.error["code"]) == (504, "unknown")
    assert late.error["details"]["key"] == "k-1"
    assert (await running.get("operations/k-1")).json["status"] == "unknown"
    node.starts()
    again = await running.post(path, {"node_id": "one", **RUN}, headers=key)
    assert again.status == 201
    assert [call.idempotency_key for call in node.calls] == ["k-1", "k-1"]


@pytest.mark.asyncio
async def test_asked_again_it_is_what_was_asked_first(running: RunningHive):
    """A task that was edited meanwhile makes no other request of the same words and key."""
    node = await running.node("one")
    task = await running.task("Sort the shelves")
    path, key = f"tasks/{task['id']}/attempts", {"Idempotency-Key": "k-1"}
    asked = {"node_id": "one", **RUN}
    late = await running.post(path, asked, headers=key, deadline_s="0.1")
    assert late.error["code"] == "unknown"
    edited = await running.ask("PATCH", f"tasks/{task['id']}", body={"description": "By size"})
    assert edited.status == 200, edited.content
    node.starts()
    assert (await running.post(path, asked, headers=key)).status == 201
    first, again = node.calls
    assert first.body == again.body
    fresh = await running.post(path, asked, headers={"Idempotency-Key": "k-2"})
    assert fresh.status == 201
    assert msgspec.msgpack.decode(node.calls[-1].body)["task_description"] == "By size"


@pytest.mark.asyncio
async def test_any_node_is_the_one_with_most_free_slots(running: RunningHive):
    """With no node named, one that can run it is taken; a full one is passed over."""
    full, free = await running.node("a"), await running.node("b")
    await running.node("c", checkout=False)

    async def no_slot(_call):
        raise OperationError(ErrorCode.NODE_FULL, "no slot is free")

    full.answers["start"] = no_slot
    free.starts()
    task = await running.task()
    started = await running.post(f"tasks/{task['id']}/attempts", RUN)
    assert (started.status, started.json["node_name"]) == (201, "b")


@pytest.mark.asyncio
async def test_with_no_node_to_run_it_the_reason_is_told(running: RunningHive):
    """The error is the refusal that is nearest to passing."""
    await running.post("projects", {"name": "shop"})
    task = await running.task()
    path = f"tasks/{task['id']}/attempts"
    refused = await running.post(path, RUN)
    assert (refused.status, refused.error["code"]) == (409, "no_checkout")
    node = await running.node("one")
    node.running.hive.registry.state(node.id).slots_busy = 2
    refused = await running.post(path, RUN)
    assert (refused.status, refused.error["code"]) == (409, "node_full")
    assert refused.error["retryable"]
    await node.leave()
    refused = await running.post(path, RUN)
    assert (refused.status, refused.error["code"]) == (503, "node_offline")


@pytest.mark.asyncio
async def test_the_last_free_slot_goes_to_one(running: RunningHive):
    """Two at once: `node_full` for the other; with `any` it gets the next node that has one."""
    one = await running.node("one")
    free = [True]

    async def start(call):
        if not free:
            raise OperationError(ErrorCode.NODE_FULL, "no slot is free")
        free.pop()
        return await started(call)

    one.starts()
    started, one.answers["start"] = one.answers["start"], start
    task = await running.task()
    path = f"tasks/{task['id']}/attempts"
    both = await asyncio.gather(*(running.post(path, {"node_id": "one", **RUN}) for _ in "ab"))
    assert sorted(answer.status for answer in both) == [201, 409]
    refused = await running.post(path, RUN)
    assert (refused.status, refused.error["code"]) == (409, "node_full")
    free.append(True)
    two = await running.node("two")
    two.starts()
    both = await asyncio.gather(*(running.post(path, RUN) for _ in "ab"))
    assert sorted(answer.json["node_name"] for answer in both) == ["one", "two"]


@pytest.mark.asyncio
async def test_the_answer_is_the_attempts_own_op(running: RunningHive):
    """Whoever is answered finds the attempt at the hive: its first op was waited for."""
    node = await running.node("one")
    node.starts(ops=False)
    answer = node.answers["start"]

    async def start(call):
        reply = await answer(call)

        async def tell():
            await asyncio.sleep(0.2)
            await node.has_attempt(101, task_id=reply.attempt.task_id)

        node.tasks.add(asyncio.ensure_future(tell()))
        return reply

    node.answers["start"] = start
    task = await running.task()
    started = await running.post(f"tasks/{task['id']}/attempts", {"node_id": "one", **RUN})
    # The reply said `created`; what the hive holds by then says what the op said.
    assert started.json["phase"] == "running"
    listed = (await running.get("attempts", task=task["id"])).json["items"]
    assert [row["id"] for row in listed] == [started.json["id"]]


@pytest.mark.asyncio
async def test_one_may_wait_for_a_node(running: RunningHive):
    """With `wait_s` the start happens as soon as a node can run it."""
    node = await running.node("one")
    node.starts()
    await node.leave()
    task = await running.task()
    waiting = asyncio.create_task(
        running.post(f"tasks/{task['id']}/attempts", {**RUN, "wait_s": 20})
    )
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await node.connect()
    started = await asyncio.wait_for(waiting, 30)
    assert started.status == 201


@pytest.mark.asyncio
async def test_what_no_node_can_do_is_not_waited_for(running: RunningHive):
    """An executor that none has is told at once; with a node away that may have it, not."""
    await running.node("one")
    away = await running.node("away")
    task = await running.task()
    asked = {**RUN, "node_id": "any", "executor": "claude", "wait_s": 300}
    refused = await asyncio.wait_for(running.post(f"tasks/{task['id']}/attempts", asked), 60)
    assert (refused.status, refused.error["code"]) == (409, "executor_unavailable")
    await away.leave()
    waits = {**asked, "wait_s": 0.2}
    refused = await running.post(f"tasks/{task['id']}/attempts", waits)
    assert (refused.status, refused.error["code"]) == (503, "node_offline")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("given", "code", "status"),
    [
        ({"node_id": "two"}, "no_checkout", 409),
        ({"node_id": "away"}, "node_offline", 503),
        ({"node_id": "one", "executor": "claude"}, "executor_unavailable", 409),
        ({"node_id": "nobody"}, "not_found", 404),
        ({"node_id": "one", "command": None}, "invalid", 422),
        ({"node_id": "one", "command": "sh -c 'open"}, "invalid", 422),
        ({"node_id": "one", "command": "   "}, "invalid", 422),
    ],
)
async def test_a_node_that_cannot_says_why(running: RunningHive, given, code: str, status: int):
    """Each reason has its own code; nothing leaves the hive."""
    one = await running.node("one")
    await running.node("two", checkout=False)
    away = await running.node("away")
    await away.leave()
    task = await running.task()
    refused = await running.post(f"tasks/{task['id']}/attempts", {**RUN, **given})
    assert (refused.status, refused.error["code"]) == (status, code)
    assert one.calls == []
    if code == "node_offline":
        assert refused.error["details"]["last_seen_at_ms"] > 1_700_000_000_000


@pytest.mark.asyncio
async def test_a_draining_node_takes_no_new_work(running: RunningHive):
    """Asked for by name it refuses; by `any` it is passed over."""
    node = await running.node("one")
    node.starts()
    await running.ask("PATCH", "nodes/one", body={"draining": True})
    task = await running.task()
    for node_id in ("one", "any"):
        refused = await running.post(f"tasks/{task['id']}/attempts", {"node_id": node_id, **RUN})
        assert (refused.status, refused.error["code"]) == (409, "conflict")


@pytest.mark.asyncio
async def test_available_nodes_say_why_not(running: RunningHive):
    """Every node is listed, with whether it can run the task and what is in the way."""
    await running.node("one")
    await running.node("two", checkout=False)
    away = await running.node("away")
    await away.leave()
    task = await running.task()
    listed = (await running.get(f"tasks/{task['id']}/available-nodes")).json["items"]
    assert [(node["name"], node["can_run"], node["code"]) for node in listed] == [
        ("one", True, ""),
        ("away", False, "node_offline"),
        ("two", False, "no_checkout"),
    ]
    assert (listed[0]["checkout_id"] is None, listed[2]["checkout_id"]) == (False, None)
    assert listed[1]["last_seen_at_ms"] > 1_700_000_000_000
    assert listed[2]["why_not"] == "the node has no checkout of shop"
    claude = (await running.get(f"tasks/{task['id']}/available-nodes", executor="claude")).json
    assert {node["can_run"] for node in claude["items"]} == {False}


@pytest.mark.asyncio
async def test_digits_that_fit_several_attempts_name_none(running: RunningHive):
    """One that was just started is not preferred to others with the same first digits."""
    node = await running.node("one")
    old = await node.has_attempt()
    for reports in (True, False):
        node.starts(ops=reports)
        task = await running.task()
        path = f"tasks/{task['id']}/attempts"
        started = (await running.post(path, {"node_id": "one", **RUN})).json
        digits = old.id[:8]
        assert started["id"].startswith(digits)
        named = await running.post(f"attempts/{digits}/stop")
        assert (named.status, named.json["error"]["code"]) == (422, "invalid")
        assert (await running.get(f"attempts/{started['id']}")).json["id"] == started["id"]
        assert (await running.get(f"attempts/{started['id'][-8:]}")).json["id"] == started["id"]
    assert [call.operation for call in node.calls] == ["start", "start"]
