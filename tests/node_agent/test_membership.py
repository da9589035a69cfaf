"""Joining and leaving while the agent runs, and what the hive may ask over the link."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from node_agent import identity
from protocol.attempt_requests import AttemptReply, StartRequest, StopRequest
from protocol.entities import Attempt, NodeState
from protocol.log_chunks import LogChunk, open_chunk
from protocol.messages import End, Links, Opened, Part, ProjectLink, Result
from protocol.work_requests import DiffRequest, LogRequest
from tests.node_agent.hive_double import HiveDouble, hive_double
from tests.node_agent.running_node import RunningNode, make_repository
from tests.node_agent.waiting import until


class Linked:
    """A running node and the hive it may join."""

    def __init__(self, node: RunningNode, hive: HiveDouble) -> None:
        self.node = node
        self.hive = hive

    async def json(self, *args: str) -> Any:
        """Run a command beside the hive's loop."""
        return await asyncio.to_thread(self.node.json, *args)

    async def tell(self, joined: identity.Enrolment | None, **more: Any) -> None:
        """Have the running agent find another enrolment, as join and leave do."""
        record = identity.read_record(self.node.data_dir)
        assert record is not None
        changed = msgspec.structs.replace(record, hive=joined, **more)
        identity.write_record(self.node.data_dir, changed)
        from node_agent.config import NodeConfig
        from node_agent.local_client import LocalClient

        client = LocalClient(NodeConfig(data_dir=self.node.data_dir))
        await asyncio.to_thread(client.send, "POST", "enrolment/changed")

    async def join(self, hive: HiveDouble | None = None, **more: Any) -> None:
        """Join, and wait for the link."""
        hive = hive or self.hive
        hive.node_key = identity.open_identity(self.node.data_dir).public_key
        await self.tell(hive.enrolment, **more)
        await asyncio.wait_for(hive.connected.wait(), 30)


@pytest_asyncio.fixture
async def linked(tmp_path: Path) -> AsyncIterator[Linked]:
    """A node that runs alone, with a checkout, and a hive beside it."""
    node = RunningNode(tmp_path / "node")
    node.data_dir.mkdir()
    repository = make_repository(tmp_path / "project")
    await asyncio.to_thread(node.start)
    await asyncio.to_thread(node.json, "checkout", "add", str(repository))
    async with hive_double() as hive:
        yield Linked(node, hive)
        await asyncio.to_thread(node.close)


def reply_of(frames: list[Any]) -> AttemptReply:
    """Return the attempt a call answered."""
    (result,) = frames
    assert isinstance(result, Result)
    assert result.error is None, result.error
    return msgspec.msgpack.decode(result.body, type=AttemptReply)


def stream_of(frames: list[Any]) -> Any:
    """Return the JSON a stream carried."""
    opened, *parts, end = frames
    assert isinstance(opened, Opened)
    assert end == End(call_id=opened.call_id)
    return msgspec.json.decode(b"".join(part.data for part in parts if isinstance(part, Part)))


@pytest.mark.asyncio
async def test_joining_and_leaving_while_the_agent_runs(linked: Linked) -> None:
    """A running agent dials the hive it is joined to, and hangs up when it leaves."""
    assert (await linked.json("status"))["hive"] is None
    await linked.join()
    hive = linked.hive
    await hive.wait(lambda: hive.ops and hive.heartbeats)
    status = await linked.json("status")
    assert status["hive"]["connected"]
    assert status["hive"]["url"] == hive.enrolment.url
    assert status["hive"]["instance"] == str(hive.hellos[0].instance)
    assert {"node", "checkout"} <= {op.kind for op in hive.ops}
    assert hive.heartbeats[-1].slots_total == 2
    await linked.tell(None)
    await hive.wait(lambda: not hive.connected.is_set())
    assert (await linked.json("status"))["hive"] is None
    # And again: the same process is a higher connect_no, not another holder.
    await linked.join()
    assert [hello.instance for hello in hive.hellos] == [hive.hellos[0].instance] * 2
    assert hive.hellos[1].connect_no > hive.hellos[0].connect_no


@pytest.mark.asyncio
async def test_a_checkout_without_a_project_is_told(linked: Linked) -> None:
    """The list says why the hive has no project for it; the log says so once, and what to do."""
    await linked.join()
    (checkout,) = (await linked.json("checkout", "list"))["items"]
    refused = ProjectLink(checkout_id=checkout["id"], problem="project_mismatch")

    async def told(problem: str) -> None:
        link = msgspec.structs.replace(refused, project_name="shop", problem=problem)
        await linked.hive.send(Links(links=[link]))

        async def known() -> bool:
            (one,) = (await linked.json("checkout", "list"))["items"]
            return bool(one["project"]) and one["project"]["problem"] == problem

        await until(known, f"the checkout's problem to be {problem!r}")

    await told("project_mismatch")
    listed = await asyncio.to_thread(linked.node.command, "checkout", "list")
    assert "project_mismatch" in listed.stdout
    await linked.hive.send(Links(links=[refused]))
    await told("")
    listed = await asyncio.to_thread(linked.node.command, "checkout", "list")
    assert "shop" in listed.stdout
    (warning,) = [line for line in linked.node.log.splitlines() if "project_mismatch" in line]
    assert "--project NAME" in warning


@pytest.mark.asyncio
async def test_a_run_asked_by_the_hive(linked: Linked) -> None:
    """Start, log, diff and stop work over the link; ops and chunks follow; slots are told."""
    await linked.join()
    hive = linked.hive
    command = "sh -c 'echo hello; echo x > made; while :; do sleep 0.1; done'"
    request = StartRequest(project="project", task_id="task-1", task_title="T", command=command)
    attempt = reply_of(await hive.call("start", request, idempotency_key="k1")).attempt
    assert (attempt.task_id, attempt.start_key) == ("task-1", "k1")
    again = reply_of(await hive.call("start", request, idempotency_key="k1")).attempt
    assert again.id == attempt.id
    await hive.wait(lambda: any(beat.slots_busy == 1 for beat in hive.heartbeats))
    chunk = await hive.wait(lambda: hive.chunks and hive.chunks[0])
    assert isinstance(chunk, LogChunk)
    assert b"".join(bytes(segment.data) for segment in open_chunk(chunk)) == b"hello\n"
    log = LogRequest(execution_id=chunk.execution_id)
    page = stream_of(await hive.call("log", log, attempt_id=attempt.id))
    assert [entry["text"] for entry in page["entries"]] == ["hello"]
    diff = stream_of(await hive.call("diff", DiffRequest(), attempt_id=attempt.id))
    assert [file["path"] for file in diff["files"]] == ["made"]
    stop = StopRequest(grace_s=0.2)
    reply_of(await hive.call("stop", stop, attempt_id=attempt.id, idempotency_key="k2"))

    def ended() -> bool:
        states = [
            msgspec.msgpack.decode(op.body, type=Attempt) for op in hive.ops if op.kind == "attempt"
        ]
        return bool(states) and states[-1].outcome == "stopped"

    await hive.wait(ended)
    await hive.wait(lambda: hive.heartbeats[-1].slots_busy == 0)
    kinds = [op.kind for op in hive.ops]
    assert kinds.count("operation") == 2
    assert "log_end" in kinds


@pytest.mark.asyncio
async def test_another_hive_is_told_everything(linked: Linked) -> None:
    """A node that moves to another hive sends that one all it has, acknowledged before or not."""
    await linked.join()
    first = linked.hive
    request = StartRequest(project="project", command="echo hello")
    attempt = reply_of(await first.call("start", request, idempotency_key="k1")).attempt
    await linked.json("attempts", "wait", attempt.id)
    await first.wait(lambda: any(op.kind == "log_end" for op in first.ops) and first.chunks)
    await linked.tell(None)
    async with hive_double() as second:
        second.hive_id = "another-hive"
        await linked.join(second)
        await second.wait(lambda: second.chunks and len(second.ops) >= len(first.ops))
        told = {(op.kind, op.entity_id, op.body) for op in second.ops}
        assert {(op.kind, op.entity_id, op.body) for op in first.ops} <= told
        assert second.chunks == first.chunks
        await linked.tell(None)


@pytest.mark.asyncio
async def test_name_and_slots_given_at_a_join_hold_at_once(linked: Linked) -> None:
    """A join of a running agent that gives a name and slots is told to the hive and obeyed."""
    await linked.join(name="bee", slots=1)
    hive = linked.hive

    def named() -> bool:
        nodes = [
            msgspec.msgpack.decode(op.body, type=NodeState) for op in hive.ops if op.kind == "node"
        ]
        return bool(nodes) and (nodes[-1].name, nodes[-1].slots) == ("bee", 1)

    await hive.wait(named)
    await hive.wait(lambda: hive.heartbeats and hive.heartbeats[-1].slots_total == 1)
    status = await linked.json("status")
    assert (status["name"], status["slots"]["total"]) == ("bee", 1)
    request = StartRequest(project="project", command="sleep 30")
    attempt = reply_of(await hive.call("start", request, idempotency_key="k1")).attempt
    (full,) = await hive.call("start", request, idempotency_key="k2")
    assert isinstance(full, Result)
    assert (full.error and full.error.code) == "node_full"
    await linked.json("attempt", "stop", attempt.id, "--grace-s", "0")


@pytest.mark.asyncio
async def test_what_the_hive_may_not(linked: Linked) -> None:
    """Too low a role is refused by the node itself, and the link stays up."""
    await linked.join()
    request = StartRequest(project="project", command="true")
    (refused,) = await linked.hive.call("start", request, role="viewer", idempotency_key="k")
    assert isinstance(refused, Result)
    assert (refused.error and refused.error.code) == "forbidden"
    assert (await linked.json("attempts"))["items"] == []
    assert linked.hive.connected.is_set()
