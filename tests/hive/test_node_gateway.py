"""The hive's end of a link, by real sockets: who is counted, and what a refused link leaves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import aiohttp
import pytest
import pytest_asyncio

from hive import node_gateway
from hive.store.backend import StoreFull
from protocol import codec, digest, limits
from protocol.errors import REFUSALS, ErrorCode
from protocol.messages import (
    SUBPROTOCOLS,
    Call,
    Challenge,
    Hello,
    HelloLogs,
    HiveMessage,
    LogState,
    Welcome,
)
from protocol.ops import EpochState
from protocol.tokens import hello_bytes
from tests.hive.api.kept import until
from tests.hive.api.running import FakeNode, RunningHive, running_hive
from tests.hive.reported import uid

#: More than one node may open in a minute.
OFTEN = 40
#: As long as one may be.
CALL = Call(
    call_id="c",
    operation="follow_up",
    attempt_id="a",
    body=bytes(limits.FRAME_BYTES_MAX - 4096),
    capability="t",
    time_left_ms=1,
)


@pytest_asyncio.fixture
async def running(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """A hive of its own, served, that soon cuts what does not close."""
    monkeypatch.setattr(node_gateway, "_CLOSE_S_MAX", 0.5)
    async with running_hive(tmp_path) as hive:
        yield hive


@contextlib.asynccontextmanager
async def dialled(
    running: RunningHive,
    node: FakeNode,
    connect_no: int,
    *,
    forged: bool = False,
    pages: Sequence[list[LogState]] = (),
    page_s: float = 0.0,
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Dial and say who one is, and which logs one has, page by page, each after `page_s`."""
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
        await socket.send_bytes(codec.encode(hello))
        for page in pages:
            await asyncio.sleep(page_s)
            await socket.send_bytes(codec.encode(HelloLogs(logs=page, last=False)))
        await asyncio.sleep(page_s)
        await socket.send_bytes(codec.encode(HelloLogs(logs=[], last=True)))
        yield socket


async def say_hello(
    running: RunningHive,
    node: FakeNode,
    connect_no: int,
    *,
    forged: bool = False,
    until_closed: bool = False,
) -> HiveMessage | int:
    """Dial and say who one is; return what the hive says to that, or its close code."""
    async with dialled(running, node, connect_no, forged=forged) as socket:
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


async def say_until_stuck(
    running: RunningHive, node: FakeNode, saying: list[asyncio.Task[bool]]
) -> None:
    """Say more than all buffers on the way take; the last of `saying` waits for room."""
    async with asyncio.timeout(60):
        while True:
            saying.append(asyncio.create_task(running.hive.registry.send(node.id, CALL)))
            # In rounds: after a machine stood still, what can go on has its turns first.
            for _ in range(10):
                await asyncio.wait({saying[-1]}, timeout=0.05)
            if not saying[-1].done():
                return
            assert saying[-1].result(), "the link ended before it was stuck"


@contextlib.asynccontextmanager
async def stuck(running: RunningHive, node: FakeNode) -> AsyncIterator[list[asyncio.Task[bool]]]:
    """A link whose other end takes nothing more; gives what the hive is still saying to it."""
    async with dialled(running, node, 1):
        await until(lambda: asyncio.sleep(0, running.hive.registry.is_online(node.id)))
        saying: list[asyncio.Task[bool]] = []
        try:
            await say_until_stuck(running, node, saying)
            yield saying
        finally:
            for task in saying:
                task.cancel()
            await asyncio.gather(*saying, return_exceptions=True)


@pytest.mark.asyncio
async def test_a_new_link_does_not_wait_for_one_that_takes_nothing(running: RunningHive):
    """It is welcomed at once, and what was being said on the old one ends."""
    node = FakeNode(running, "one")
    await node.join()
    async with stuck(running, node) as saying:
        assert isinstance(await say_hello(running, node, 2), Welcome)
        await asyncio.wait_for(asyncio.gather(*saying), 30)


@pytest.mark.asyncio
async def test_who_gives_up_waiting_ends_nobody_elses_wait(running: RunningHive):
    """A viewer leaves whose call a stuck node does not take: the hive's own tasks say on."""
    node = FakeNode(running, "one")
    await node.join()
    async with stuck(running, node) as saying:
        own = saying[-1]
        await say_until_stuck(running, node, saying)
        viewer = saying[-1]
        viewer.cancel()
        await asyncio.wait({viewer}, timeout=30)
        await running.hive.registry.disconnect(node.id, ErrorCode.REVOKED)
        assert await asyncio.wait_for(own, 30)
        assert viewer.cancelled()


@pytest.mark.asyncio
async def test_a_link_that_takes_nothing_is_closed_as_well(running: RunningHive):
    """A node that is revoked, or a hive that stops, does not wait until the network gives it up."""
    node = FakeNode(running, "one")
    await node.join()
    async with stuck(running, node) as saying:
        await asyncio.wait_for(running.hive.registry.disconnect(node.id, ErrorCode.REVOKED), 30)
        await asyncio.wait_for(asyncio.gather(*saying), 30)
        await until(lambda: asyncio.sleep(0, not running.hive.registry.is_online(node.id)))
    node = FakeNode(running, "two")
    await node.join()
    async with stuck(running, node) as saying:
        await asyncio.wait_for(running.hive.gateway.drain(1000), 30)
        await asyncio.wait_for(asyncio.gather(*saying), 30)


@pytest.mark.asyncio
async def test_a_link_that_takes_nothing_for_long_is_dead(
    running: RunningHive, monkeypatch: pytest.MonkeyPatch
):
    """The reader may be the one who waits to be heard: then no silence ends the link."""
    node = FakeNode(running, "one")
    await node.join()
    async with stuck(running, node) as saying:
        # Not before: the hive's reader, which waits for a frame, is not to be what ends it.
        monkeypatch.setattr(limits, "LINK_SILENT_S_MAX", 1.0)
        async with asyncio.timeout(30):
            while running.hive.registry.is_online(node.id):
                await running.hive.registry.send(node.id, CALL)
                await asyncio.sleep(0.01)
            await asyncio.gather(*saying)


@pytest.mark.asyncio
async def test_a_handshake_that_is_too_slow_is_no_refusal(
    running: RunningHive, monkeypatch: pytest.MonkeyPatch
):
    """A line that swallows what the node says does not keep it away for a quarter of an hour."""
    monkeypatch.setattr(limits, "HANDSHAKE_S_MAX", 0.5)
    async with running.session.ws_connect(
        f"{running.url}/v1/link", protocols=SUBPROTOCOLS
    ) as socket:
        await socket.receive_bytes(timeout=30)
        assert (await socket.receive(timeout=30)).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code not in REFUSALS


@pytest.mark.asyncio
async def test_many_logs_to_name_take_their_time(
    running: RunningHive, monkeypatch: pytest.MonkeyPatch
):
    """What comes in gives a handshake more time: a node that was away for long is let in."""
    monkeypatch.setattr(limits, "HANDSHAKE_S_MAX", 3.0)
    # So each frame gives minutes, whatever else this machine does.
    monkeypatch.setattr(limits, "HANDSHAKE_BYTES_PER_S_MIN", 1)
    node = FakeNode(running, "one")
    await node.join()
    logs = [LogState(uid(number), 2, 3, b"d" * 16) for number in range(40)]
    async with dialled(running, node, 1, pages=[logs, logs], page_s=1.2) as socket:
        said = await socket.receive_bytes(timeout=30)
    assert isinstance(codec.decode_from_hive(said), Welcome)


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
