"""Deadlines by a clock that the test sets: reminders, expiry, a start that waits for answers."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from node_agent.sessions.request_deadlines import (
    ANSWERS_COME_MS,
    ANSWERS_WAIT_MS_MAX,
    RequestDeadlines,
)
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
        clock.now_ms += ANSWERS_COME_MS
        await deadlines.look()
        assert (await database.read(requests.get, request.id)).status is RequestStatus.ANSWERED
        assert (await database.read(requests.get, late.id)).status is RequestStatus.EXPIRED


@pytest.mark.asyncio
async def test_nothing_expires_while_an_answer_may_wait_at_the_hive(tmp_path: Path):
    """Given in time while the hive was out of reach, it counts when it comes; none never counts."""
    async with opened(tmp_path) as database:
        clock = Clock()
        began_ms = clock.now_ms
        linked: list[int | None] = [None]
        deadlines = RequestDeadlines(database, clock=clock, linked_since_ms=lambda: linked[-1])
        request = await database.write(RequestPolicy().open, draft(), began_ms)
        unanswered = await database.write(RequestPolicy().open, draft("2"), began_ms)
        clock.now_ms = began_ms + 30 * HOUR_MS
        assert 0 < await deadlines.look() <= 60
        linked.append(clock.now_ms)
        assert 0 < await deadlines.look() <= 60
        await database.write(requests.answer, request.id, Answer(option="yes", by="ann"))
        clock.now_ms += ANSWERS_COME_MS
        await deadlines.look()
        assert (await database.read(requests.get, request.id)).status is RequestStatus.ANSWERED
        assert (await database.read(requests.get, unanswered.id)).status is RequestStatus.EXPIRED


@pytest.mark.asyncio
async def test_a_hive_that_stays_away_is_not_waited_for_for_ever(tmp_path: Path):
    """Once no answer can wait there any more, the time is over."""
    async with opened(tmp_path) as database:
        clock = Clock()
        deadlines = RequestDeadlines(database, clock=clock, linked_since_ms=lambda: None)
        request = await database.write(RequestPolicy().open, draft(), clock.now_ms)
        assert request.deadline_ms is not None
        for now_ms, status in (
            (request.deadline_ms + ANSWERS_WAIT_MS_MAX - 1, RequestStatus.OPEN),
            (request.deadline_ms + ANSWERS_WAIT_MS_MAX, RequestStatus.EXPIRED),
        ):
            clock.now_ms = now_ms
            await deadlines.look()
            assert (await database.read(requests.get, request.id)).status is status


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
        clock.now_ms += ANSWERS_COME_MS
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


class Counted(RequestDeadlines):
    """Counts its looks."""

    looks = 0

    async def look(self) -> float:
        wait_s = await super().look()
        self.looks += 1
        return wait_s

    async def looked(self, times: int) -> None:
        """Wait until it has looked so often, and so waits again."""
        async with asyncio.timeout(30):
            while self.looks < times:
                await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_after_a_sleep_an_answer_comes_first(tmp_path: Path):
    """The link says it is there, as before the machine slept; nothing ends on its word at once."""
    async with opened(tmp_path) as database:
        clock = Clock()
        deadlines = Counted(database, clock=clock)
        request = await database.write(RequestPolicy().open, draft(), clock.now_ms)
        clock.now_ms += ANSWERS_COME_MS
        running = asyncio.create_task(deadlines.run())
        try:
            await deadlines.looked(1)
            clock.now_ms += 48 * HOUR_MS
            await database.write(RequestPolicy().open, draft("2"), clock.now_ms)
            await deadlines.looked(2)
            assert (await database.read(requests.get, request.id)).status is RequestStatus.OPEN
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
