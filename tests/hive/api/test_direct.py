"""What a caller is given to reach a node straight: addresses, and tokens that node will take."""

import time

import msgspec
import pytest

from protocol import entities, limits
from protocol.attempt_requests import StopRequest
from protocol.ops import OpKind
from protocol.states import AttemptPhase
from protocol.stream_tokens import StreamToken, check_stream_token
from protocol.tokens import Capability, check_capability
from tests.hive.api.running import FakeNode, RunningHive

URL = "https://gpu1.example.org:8701"


async def listening(running: RunningHive, urls: list[str]) -> tuple[FakeNode, entities.Attempt]:
    """A node that says where it listens, with an attempt."""
    node = await running.node("one")
    state = entities.NodeState(id=node.id, name="one", slots=2, direct_urls=urls)
    await node.tell((OpKind.NODE, node.id, state))
    return node, await node.has_attempt()


def stream_token(running: RunningHive, node: FakeNode, text: str) -> StreamToken:
    """What the node makes of a token."""
    context = running.hive.context
    return check_stream_token(
        text,
        keys=context.keys,
        hive_id=context.hive_id,
        generation=context.generation(),
        node_id=node.id,
        now_s=time.time(),
    )


@pytest.mark.asyncio
async def test_addresses_and_one_token(running: RunningHive) -> None:
    """By attempt and by task: the node's addresses, the relay's, and a token for that attempt."""
    node, attempt = await listening(running, [URL, "javascript:alert(1)", f"{URL}/"])
    for path in (f"attempts/{attempt.id}", f"tasks/{attempt.task_id}"):
        info = (await running.get(f"{path}/stream-connection-info")).json
        assert info["direct_urls"] == [URL]
        assert info["relay_url"] == f"{running.url}/api/v1/attempts/{attempt.id}"
        assert (info["attempt_id"], info["node_id"]) == (attempt.id, node.id)
        assert info["reachable"]
        token = stream_token(running, node, info["token"])
        assert (token.attempt_id, token.role) == (attempt.id, "admin")
        assert token.expires_at_s * 1000 == info["expires_at_ms"]
        assert token.expires_at_s - token.issued_at_s == limits.STREAM_TOKEN_TTL_S
    assert (await running.get(f"nodes/{node.id}")).json["direct_urls"] == [URL]


@pytest.mark.asyncio
async def test_the_token_has_the_callers_own_role(running: RunningHive) -> None:
    """A viewer's token is a viewer's; an auditor gets none."""
    node, attempt = await listening(running, [URL])
    path = f"attempts/{attempt.id}/stream-connection-info"
    viewer = await running.token_of("viewer")
    info = (await running.get(path, token=viewer)).json
    token = stream_token(running, node, info["token"])
    assert (token.role, token.actor) == ("viewer", "viewer")
    assert (await running.get(path, token=await running.token_of("auditor"))).status == 403
    assert (await running.get(path, token=None)).status == 401


@pytest.mark.asyncio
async def test_a_changing_call_gets_a_capability_for_itself(running: RunningHive) -> None:
    """The capability is for just this request; its key is recorded before it is given away."""
    node, attempt = await listening(running, [URL])
    asked = {"operation": "stop", "request": {"grace_s": 1.5}}
    path = f"attempts/{attempt.id}/direct-calls"
    answer = await running.post(path, asked, headers={"Idempotency-Key": "k-1"})
    assert answer.status == 201
    told = answer.json
    assert (told["direct_urls"], told["idempotency_key"]) == ([URL], "k-1")
    capability = check_capability(
        told["token"],
        keys=running.hive.context.keys,
        hive_id=running.hive.context.hive_id,
        generation=running.hive.context.generation(),
        node_id=node.id,
        operation="stop",
        attempt_id=attempt.id,
        body=msgspec.msgpack.encode(StopRequest(grace_s=1.5)),
        now_s=time.time(),
    )
    assert isinstance(capability, Capability)
    assert capability.expires_at_s - capability.issued_at_s == limits.CAPABILITY_TTL_S
    assert (await running.get("operations/k-1")).json["status"] == "sent"
    # Lost on the way: the same key again gets another capability; another request does not.
    assert (await running.post(path, asked, headers={"Idempotency-Key": "k-1"})).status == 201
    other = {"operation": "stop", "request": {"grace_s": 2.0}}
    reused = await running.post(path, other, headers={"Idempotency-Key": "k-1"})
    assert (reused.status, reused.error["code"]) == (409, "key_reused")
    # The node tells what became of it, as it does of every operation.
    record = entities.OperationRecord(key="k-1", operation="stop", attempt_id=attempt.id)
    await node.tell((OpKind.OPERATION, "k-1", record))
    assert (await running.get("operations/k-1")).json["status"] == "done"
    done = await running.post(path, asked, headers={"Idempotency-Key": "k-1"})
    assert (done.status, done.error["code"]) == (409, "conflict")


@pytest.mark.asyncio
async def test_who_gets_no_capability(running: RunningHive) -> None:
    """A role too low, what only reads, what makes attempts, and what there is not."""
    _, attempt = await listening(running, [URL])
    path = f"attempts/{attempt.id}/direct-calls"
    viewer = await running.token_of("viewer")
    asked = {"operation": "stop", "request": {}}
    refused = await running.post(path, asked, token=viewer, headers={"Idempotency-Key": "k-2"})
    assert (refused.status, refused.error["code"]) == (403, "forbidden")
    assert (await running.get("operations/k-2")).status == 404
    for operation in ("diff", "start", "dance"):
        answer = await running.post(path, {"operation": operation})
        assert (answer.status, answer.error["details"]["field"]) == (422, "operation")
    wrong = await running.post(path, {"operation": "stop", "request": {"speed": 1}})
    assert (wrong.status, wrong.error["details"]["field"]) == (422, "speed")


@pytest.mark.asyncio
async def test_a_task_without_attempts(running: RunningHive) -> None:
    """There is nothing to connect to yet."""
    node, attempt = await listening(running, [])
    assert (await running.get(f"attempts/{attempt.id}/stream-connection-info")).json[
        "direct_urls"
    ] == []
    assert attempt.phase is AttemptPhase.RUNNING
    made = await running.post("tasks", {"project": "shop", "title": "Later"})
    answer = await running.get(f"tasks/{made.json['id']}/stream-connection-info")
    assert answer.status == 404
    assert node.id
