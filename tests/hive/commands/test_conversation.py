"""Following a conversation: each message once, whatever comes late."""

import asyncio
from typing import Any

import msgspec
import pytest

from protocol.conversation import Session, SessionStatus
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
