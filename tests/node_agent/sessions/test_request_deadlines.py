"""Deadlines by a clock that the test sets: reminders, expiry, a start that waits for answers."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from node_agent.sessions.request_deadlines import START_GRACE_MS, RequestDeadlines
from node_agent.sessions.request_steps import RequestPolicy
from node_agent.store import requests
from node_agent.store.database import Database
from protocol.conversation import AgentRequest, Answer, RequestStatus
from tests.node_agent.sessions.request_store import HOUR_MS, draft, opened


class Clock:
    """A wall clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.mark.asyncio
async def test_reminded_twice_then_expired_and_never_answered(tmp_path: Path):
    """At half and nine tenths; then the agent is told that there is no answer."""
    async with opened(tmp_path) as database:
        clock = Clock()
        began_ms = clock.now_ms
        deadlines = RequestDeadlines(database, clock=clock)
        request = await database.write(RequestPolicy().open, draft(), began_ms)
        assert 0 < await deadlines.look() <= 60
        for hours, reminded_ms in ((11.9, None), (12, 12), (21.5, 12), (21.6, 21.6)):
            clock.now_ms = began_ms + round(hours * HOUR_MS)
            await deadlines.look()
            found = await database.read(requests.get, request.id)
            assert found.status is RequestStatus.OPEN
            expected = None if reminded_ms is None else began_ms + round(reminded_ms * HOUR_MS)
            assert found.reminded_at_ms == expected
        clock.now_ms = began_ms + 24 * HOUR_MS
        await deadlines.look()
        found = await database.read(requests.get, request.id)
        assert (found.status, found.answer) == (RequestStatus.EXPIRED, None)
        (waiting,) = await database.read(requests.undelivered, "e")
        assert waiting.reply.cancelled


@pytest.mark.asyncio
async def test_an_answer_that_waited_for_the_node_comes_before_the_end(tmp_path: Path):
    """What ran out while the agent was stopped is open for a while after its start."""
    async with opened(tmp_path) as database:
        clock = Clock()
        request = await database.write(RequestPolicy().open, draft(), clock.now_ms)
        late = await database.write(RequestPolicy().open, draft("2"), clock.now_ms)
        clock.now_ms += 48 * HOUR_MS
        deadlines = RequestDeadlines(database, clock=clock)
        assert 0 < await deadlines.look() <= 60
        await database.write(requests.answer, request.id, Answer(option="yes", by="ann"))
        clock.now_ms += START_GRACE_MS
        await deadlines.look()
        assert (await database.read(requests.get, request.id)).status is RequestStatus.ANSWERED
        assert (await database.read(requests.get, late.id)).status is RequestStatus.EXPIRED


async def seen(database: Database, holds: Callable[[AgentRequest], bool]) -> None:
    """Wait until the newest request is so, within a bound."""
    async with asyncio.timeout(30):
        while not holds((await database.read(requests.page, limit=1))[0]):
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_the_loop_hears_of_a_new_request(tmp_path: Path):
    """It need not wait for its next look."""
    async with opened(tmp_path) as database:
        clock = Clock()
        deadlines = RequestDeadlines(database, clock=clock)
        running = asyncio.create_task(deadlines.run())
        clock.now_ms += START_GRACE_MS
        try:
            opened_at_ms = clock.now_ms - 25 * HOUR_MS
            # The first may be found by the look at the start; of the second it has to hear.
            for key in ("1", "2"):
                await database.write(RequestPolicy().open, draft(key), opened_at_ms)
                await seen(database, lambda one: one.status is RequestStatus.EXPIRED)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


@pytest.mark.asyncio
async def test_an_answer_that_waited_while_the_machine_slept(tmp_path: Path):
    """What ran out meanwhile is open for a while after it woke; a wait as asked for is no sleep."""
    async with opened(tmp_path) as database:
        clock = Clock()
        deadlines = RequestDeadlines(database, clock=clock)
        request = await database.write(RequestPolicy().open, draft(), clock.now_ms)
        clock.now_ms += 25 * HOUR_MS
        deadlines.waited(60.0, 25 * 3600.0)
        assert 0 < await deadlines.look() <= 60
        assert (await database.read(requests.get, request.id)).status is RequestStatus.OPEN
        clock.now_ms += START_GRACE_MS
        deadlines.waited(60.0, 60.1)
        await deadlines.look()
        assert (await database.read(requests.get, request.id)).status is RequestStatus.EXPIRED
