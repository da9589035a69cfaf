"""Following a conversation: each message once, whatever comes late."""

import asyncio
from typing import Any

import msgspec
import pytest

from protocol.conversation import Session, SessionStatus
from protocol.messages import NeedDone, NeedOutcome, Records, Snapshot
from protocol.ops import OpKind, Record, encode_body
from tests.hive.api.running import FakeNode, RunningHive
from tests.hive.api.test_sessions import talks
from tests.hive.commands.programs import Commands


class Listener:
    """A running `hive sessions messages -f --json`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.told: list[dict[str, Any]] = []

    async def hears(self, count: int) -> list[Any]:
        """Wait until so many lines were printed; return what each is about."""
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            while len(self.told) < count:
                line = await self._process.stdout.readline()
                assert line, "it ended"
                self.told.append(msgspec.json.decode(line))
        return self.said

    async def ends(self) -> list[Any]:
        """Wait until it ends by itself; return all it printed."""
        async with asyncio.timeout(60):
            out, err = await self._process.communicate()
        assert self._process.returncode == 0, err
        self.told += [msgspec.json.decode(line) for line in out.splitlines()]
        return self.said

    @property
    def said(self) -> list[Any]:
        return [tuple(one["gap"]) if "gap" in one else one["seq"] for one in self.told]


async def listen(hive: Commands, session: Session, *words: str) -> Listener:
    """Follow a session."""
    return Listener(await hive.process("sessions", "messages", session.id, "-f", "--json", *words))


async def answers(running: RunningHive, node: FakeNode, session: Session, outcome: str) -> None:
    """Have the node answer, once it is asked, that it has no more than it told of."""
    async with asyncio.timeout(60):
        while not node.needs:
            await asyncio.sleep(0.01)
    [need] = node.needs
    told = NeedOutcome(session.id, outcome, int(outcome == "sent"))
    if outcome == "sent":
        body = encode_body(session)
        record = Record(OpKind.SESSION, session.id, 1, body, node.epoch, node.seq)
        await running.hive.ingest.records(
            node.id, node.link_no, Records(request_id=need.request_id, records=[record])
        )
    done = NeedDone(request_id=need.request_id, outcomes=[told])
    await running.hive.ingest.need_done(node.id, node.link_no, done)


async def closes(node: FakeNode, session: Session, count: int) -> None:
    """Have a session closed, of so many messages."""
    closed = msgspec.structs.replace(session, status=SessionStatus.CLOSED, message_count=count)
    await node.tells_of(closed)


@pytest.mark.asyncio
async def test_what_is_on_its_way_is_printed_once(running: RunningHive, hive: Commands):
    """A count that comes before its messages is no gap, and they are not printed twice."""
    node = await running.node()
    session = await talks(node, message_count=4)
    await node.tells_of(*node.messages(session, 1, 2))
    listener = await listen(hive, session)
    assert await listener.hears(2) == [1, 2]
    await node.tells_of(*node.messages(session, 3, 1))
    assert await listener.hears(3) == [1, 2, 3]
    await node.tells_of(*node.messages(session, 4, 2))
    assert await listener.hears(5) == [1, 2, 3, 4, 5]
    await closes(node, session, 5)
    assert await listener.ends() == [1, 2, 3, 4, 5]


@pytest.mark.asyncio
async def test_what_was_missing_is_printed_when_it_comes(running: RunningHive, hive: Commands):
    """Each hole is shown once, however long its node says it is, and filled once."""
    node = await running.node()
    far = 900_000_000
    session = await talks(node, message_count=far)
    await node.tells_of(*node.messages(session, 2, 1), *node.messages(session, 5, 1))
    await node.tells_of(*node.messages(session, far, 1))
    listener = await listen(hive, session, "--after", "0")
    holes = [(1, 1), 2, (3, 4), 5, (6, far - 1), far]
    assert await listener.hears(6) == holes
    await node.tells_of(*node.messages(session, 7, 2))
    assert await listener.hears(8) == [*holes, 7, 8]
    await node.tells_of(*node.messages(session, 3, 2))
    assert await listener.hears(10) == [*holes, 7, 8, 3, 4]
    await closes(node, session, far)
    assert await listener.ends() == [*holes, 7, 8, 3, 4]


@pytest.mark.asyncio
@pytest.mark.parametrize("outcome", ["sent", "unknown"])
async def test_a_closed_session_whose_end_is_lost_ends(
    running: RunningHive, hive: Commands, outcome: str
):
    """It waits for what its node may have; once that has no more either, it says so and ends."""
    node = await running.node()
    session = await talks(node, message_count=9, status=SessionStatus.CLOSED)
    await node.tells_of(*node.messages(session, 1, 2), *node.messages(session, 5, 1))
    listener = await listen(hive, session)
    assert await listener.hears(4) == [1, 2, (3, 4), 5]
    await answers(running, node, session, outcome)
    assert await listener.ends() == [1, 2, (3, 4), 5, (6, 9)]
    assert listener.told[-1]["reason"] == "its node no longer has it"
    again = await listen(hive, session)
    assert await again.ends() == [1, 2, (3, 4), 5, (6, 9)]
    assert len(node.needs) == 1, "nor is it asked for again"


@pytest.mark.asyncio
async def test_a_session_that_goes_on_behind_what_is_lost(running: RunningHive, hive: Commands):
    """What is lost at its end so far is told, and what is said after it is printed."""
    node = await running.node()
    session = await talks(node, message_count=3, status=SessionStatus.OPEN)
    await node.tells_of(*node.messages(session, 1, 1))
    listener = await listen(hive, session)
    assert await listener.hears(1) == [1]
    await answers(running, node, session, "sent")
    assert await listener.hears(2) == [1, (2, 3)]
    await node.tells_of(*node.messages(session, 4, 1))
    assert await listener.hears(3) == [1, (2, 3), 4]
    await node.tells_of(*node.messages(session, 3, 1))
    assert await listener.hears(4) == [1, (2, 3), 4, 3]
    await closes(node, session, 4)
    assert await listener.ends() == [1, (2, 3), 4, 3]


@pytest.mark.asyncio
async def test_a_session_that_its_node_has_forgotten_ends(running: RunningHive, hive: Commands):
    """A node whose disk was put back knows nothing of it: it is never closed."""
    node = await running.node()
    session = await talks(node, message_count=2, status=SessionStatus.OPEN)
    await node.tells_of(*node.messages(session, 1, 2))
    listener = await listen(hive, session)
    assert await listener.hears(2) == [1, 2]
    page = Snapshot(snapshot_id="s", epoch=node.epoch, seq=node.seq + 1, records=[], last=True)
    await running.hive.ingest.snapshot(node.id, node.link_no, page)
    assert await listener.ends() == [1, 2]
