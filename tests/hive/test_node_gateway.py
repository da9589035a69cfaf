"""The hive's end of a link, by real sockets: who is counted, and what a refused link leaves."""

import asyncio

import aiohttp
import pytest
import pytest_asyncio

from hive.store.backend import StoreFull
from protocol import codec, digest
from protocol.messages import SUBPROTOCOLS, Challenge, Hello, HelloLogs, HiveMessage, Welcome
from protocol.ops import EpochState
from protocol.tokens import hello_bytes
from tests.hive.api.kept import until
from tests.hive.api.running import FakeNode, RunningHive, running_hive

#: More than one node may open in a minute.
OFTEN = 40


@pytest_asyncio.fixture
async def running(tmp_path):
    """A hive of its own, served."""
    async with running_hive(tmp_path) as hive:
        yield hive


async def say_hello(
    running: RunningHive,
    node: FakeNode,
    connect_no: int,
    *,
    forged: bool = False,
    until_closed: bool = False,
) -> HiveMessage | int:
    """Dial and say who one is; return what the hive says to that, or its close code."""
    async with running.session.ws_connect(
        f"{running.url}/v1/link", protocols=SUBPROTOCOLS, timeout=aiohttp.ClientWSTimeout(10)
    ) as socket:
        challenge = codec.decode_from_hive(await socket.receive_bytes(timeout=30))
        assert isinstance(challenge, Challenge)
        host = f"127.0.0.1:{running.port}"
        signed = hello_bytes(challenge.hive_id, host, challenge.nonce, node.id, 7, connect_no)
        hello = Hello(
            node_id=node.id,
            instance=7,
            connect_no=connect_no,
            host=host,
            signature=bytes(64) if forged else node.key.sign(signed),
            version="0",
            epochs=[EpochState(7, 1, 0, digest.EMPTY)],
        )
        for message in (hello, HelloLogs(logs=[], last=True)):
            await socket.send_bytes(codec.encode(message))
        said = await socket.receive(timeout=30)
        while until_closed and said.type is aiohttp.WSMsgType.BINARY:
            said = await socket.receive(timeout=30)
        if said.type is aiohttp.WSMsgType.BINARY:
            return codec.decode_from_hive(said.data)
        assert socket.close_code is not None
        return socket.close_code


@pytest.mark.asyncio
async def test_nobody_else_can_use_up_a_nodes_connections(running: RunningHive):
    """However often others call under its name, whoever holds the node's key is let in."""
    node = FakeNode(running, "one")
    await node.join()
    for number in range(OFTEN):
        assert await say_hello(running, node, number, forged=True) == 4401
    assert isinstance(await say_hello(running, node, 1), Welcome)


@pytest.mark.asyncio
async def test_a_node_that_calls_too_often_is_slowed_down(running: RunningHive):
    """A loop of its own errors does not keep the hive busy."""
    node = FakeNode(running, "one")
    await node.join()
    said = [await say_hello(running, node, number) for number in range(1, OFTEN)]
    assert isinstance(said[0], Welcome)
    assert said[-1] == 4429


@pytest.mark.asyncio
async def test_a_link_that_breaks_while_it_is_accepted_leaves_nobody_online(
    running: RunningHive, monkeypatch: pytest.MonkeyPatch
):
    """The disk is full just then: the node is not shown as connected by a socket that is closed."""
    node = FakeNode(running, "one")
    await node.join()
    tried = asyncio.Event()

    async def no_room(_node_id: str) -> None:
        tried.set()
        raise StoreFull("no room")

    monkeypatch.setattr(running.hive.gateway, "on_change", no_room)
    assert isinstance(await say_hello(running, node, 1), Welcome)
    await asyncio.wait_for(tried.wait(), 30)
    await until(lambda: asyncio.sleep(0, not running.hive.registry.is_online(node.id)))


@pytest.mark.asyncio
async def test_a_fault_ends_one_link_and_says_so(
    running: RunningHive, monkeypatch: pytest.MonkeyPatch
):
    """What a node's word brings out that nobody thought of closes its socket as our own error."""
    node = FakeNode(running, "one")
    await node.join()

    async def fault(*_: object, **__: object) -> int:
        raise OverflowError("nobody thought of this")

    with monkeypatch.context() as broken:
        broken.setattr(running.hive.gateway.store, "accept_link", fault)
        assert await say_hello(running, node, 1) == 1011
    with monkeypatch.context() as broken:
        broken.setattr(running.hive.gateway, "on_live", fault)
        assert await say_hello(running, node, 2, until_closed=True) == 1011
    assert isinstance(await say_hello(running, node, 3), Welcome)
