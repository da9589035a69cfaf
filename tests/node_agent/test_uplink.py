"""The uplink's way for what is only shown: to a hive that takes it, and to no other."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from node_agent.hive_clock import HiveClock
from node_agent.identity import open_identity
from node_agent.join import JoinError
from node_agent.link_session import Sources
from node_agent.store.answers import StoredAnswers
from node_agent.uplink import Dial, Uplink
from protocol.errors import ErrorCode
from protocol.messages import Call, Heartbeat, Links, LiveText, Result
from tests.node_agent.hive_double import HiveDouble, hive_double
from tests.node_agent.workshop import open_workshop

PIECE = LiveText(session_id="s-1", message_id="m-1", role="assistant", at=0, text="Next I ")


class QuietAgent:
    """The rest of an agent, of which these tests need nothing."""

    async def heartbeat(self, n: int) -> Heartbeat:
        return Heartbeat(n=n)

    async def linked(self, links: Any) -> None:
        del links

    async def safe_moved(self, safe: Any) -> None:
        del safe

    def marks_moved(self, marks: Any) -> None:
        del marks

    def unstreamed(self) -> frozenset[str]:
        return frozenset()


class DoneAtOnce:
    """Carries each call out at once, and keeps its number."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def run_call(self, call: Call, **_given: Any) -> AsyncGenerator[Result, None]:
        self.done.append(call.call_id)
        yield Result(call_id=call.call_id, body=b"")


class BrokenAgent(QuietAgent):
    """One with a fault that a hive's word brings out."""

    async def linked(self, links: Any) -> None:
        raise OverflowError("nobody thought of this")


@contextlib.asynccontextmanager
async def linked(
    folder: Path,
    hive: HiveDouble,
    tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    *,
    dispatcher: Any = None,
    agent: QuietAgent | None = None,
    clock: HiveClock | None = None,
) -> AsyncIterator[Uplink]:
    """An uplink with an empty store, connected."""
    identity = open_identity(folder)
    hive.node_key = identity.public_key
    async with open_workshop(folder / "data", identity.instance) as shop:
        uplink = Uplink(
            identity=identity,
            dial=Dial(
                url=hive.enrolment.url,
                hive_id=hive.hive_id,
                keys=hive.enrolment.keys,
                tls=tls,
            ),
            version="0",
            generation_seen=0,
            sources=Sources(
                journal=shop.journal,
                chunks=shop.chunks,
                answers=StoredAnswers(shop.database, shop.journal, shop.chunks),
                dispatcher=dispatcher,
                agent=agent or QuietAgent(),
            ),
            clock=clock,
        )
        running = asyncio.create_task(uplink.run())
        try:
            await hive.wait(lambda: hive.heartbeats, within_s=60)
            yield uplink
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.mark.asyncio
async def test_each_dial_trusts_the_authority_of_its_time(tmp_path: Path) -> None:
    """An authority that cannot be used, or another one, holds until the next dial and no longer."""
    problems: list[str] = []
    uplinks: list[Uplink] = []

    def tls() -> None:
        if uplinks:
            problems.append(uplinks[0].state.problem)
        if len(problems) == 1:
            raise JoinError(ErrorCode.INVALID, "it cannot be used", hint="Join again.")

    async with hive_double() as hive:
        (tmp_path / "node").mkdir()
        async with linked(tmp_path / "node", hive, tls) as uplink:
            uplinks.append(uplink)
            await uplink.redial()
            async with asyncio.timeout(60):
                while len(problems) < 2 or not uplink.state.connected:
                    uplink.hurry()
                    await asyncio.sleep(0.05)
    assert problems[1] == "it cannot be used"


@pytest.mark.asyncio
async def test_a_fault_ends_one_link_and_no_more(tmp_path: Path) -> None:
    """Whatever a hive's word brings out, the operator is told, and the node dials again."""
    uplinks: list[Uplink] = []
    problems: list[str] = []

    def tls() -> None:
        # As it stands when the next dial begins: once that is accepted, it is over.
        problems.extend(one.state.problem for one in uplinks)

    async with hive_double() as hive:
        (tmp_path / "node").mkdir()
        async with linked(tmp_path / "node", hive, tls, agent=BrokenAgent()) as uplink:
            uplinks.append(uplink)
            await hive.send(Links(links=[]))
            await hive.wait(lambda: hive.closed_with)
            uplink.hurry()
            await hive.wait(lambda: len(hive.hellos) > 1)
    assert problems[0] == "the link broke: OverflowError"


@pytest.mark.asyncio
async def test_live_text_goes_to_a_hive_that_takes_it(tmp_path: Path) -> None:
    """What is said while the link is up arrives, joined; with no link it is dropped."""
    async with hive_double() as hive:
        hive.features = ["live_text"]
        (tmp_path / "node").mkdir()
        async with linked(tmp_path / "node", hive) as uplink:
            assert hive.hellos[0].features == ["live_text"]
            uplink.say_live(PIECE)
            await hive.wait(lambda: hive.live, within_s=60)
        uplink.say_live(PIECE)
    assert hive.live == [PIECE]


@pytest.mark.asyncio
async def test_live_text_is_not_sent_to_a_hive_that_named_no_such(tmp_path: Path) -> None:
    """A hive of an older release is sent no frame it does not know; the link stays up."""
    async with hive_double() as hive:
        (tmp_path / "node").mkdir()
        async with linked(tmp_path / "node", hive) as uplink:
            uplink.say_live(PIECE)
            uplink.status_changed()
            before = len(hive.heartbeats)
            await hive.wait(lambda: len(hive.heartbeats) > before, within_s=60)
            assert hive.connected.is_set()
    assert hive.live == []


def call(number: int) -> Call:
    """A call of the hive, as it lies in the socket."""
    return Call(
        call_id=f"call-{number}",
        operation="stop",
        attempt_id="a",
        body=b"",
        capability="",
        time_left_ms=30_000,
    )


@pytest.mark.asyncio
async def test_what_waited_in_the_socket_of_a_machine_that_slept_is_not_done(
    tmp_path: Path,
) -> None:
    """Its caller was told long ago that nobody answered; the node calls anew before it acts."""
    slept = [0.0]
    clock = HiveClock(lambda: time.monotonic() + slept[0])
    dispatcher = DoneAtOnce()
    async with hive_double() as hive:
        (tmp_path / "node").mkdir()
        async with linked(tmp_path / "node", hive, dispatcher=dispatcher, clock=clock):
            await hive.wait(hive.connected.is_set, within_s=60)
            # As on a resume: this clock jumped, the one that timers go by did not.
            slept[0] = 300.0
            await hive.send(call(1))
            await hive.wait(lambda: len(hive.hellos) >= 2 and hive.connected.is_set(), within_s=60)
            await hive.send(call(2))
            await hive.wait(lambda: dispatcher.done, within_s=60)
    assert dispatcher.done == ["call-2"]
