"""The time people have to answer: reminds of requests that wait, and ends those nobody answered.

The end is told to the agent as no answer, never as a yes or no. Must not judge a request.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from node_agent.stamps import now_ms
from node_agent.store import requests
from node_agent.store.database import Database
from node_agent.store.errors import StoreFull
from node_agent.store.requests import RequestChanged

LOG: Final = logging.getLogger(__name__)
#: A wall clock may be set: looked at again at least this often.
_LOOK_AGAIN_S: Final = 60.0
_AT_A_TIME: Final = 100
#: After a start, or the machine's sleep, nothing expires for so long: an answer that waited for
#: this node comes first.
START_GRACE_MS: Final = 120_000
#: A wait that took so much longer than was asked for means that the machine slept.
_SLEPT_S: Final = 5.0
#: Unlike the loop's, it goes on while the machine sleeps.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class RequestDeadlines:
    """Watches the deadlines of this node's open requests."""

    def __init__(self, database: Database, *, clock: Callable[[], int] = now_ms) -> None:
        self._database = database
        self._clock = clock
        self._changed = asyncio.Event()
        self._expires_from_ms = clock() + START_GRACE_MS

    async def run(self) -> None:
        """Remind and expire, each at its time; ends by cancellation alone."""
        stop_listening = self._database.listen(self._heard)
        try:
            while True:
                self._changed.clear()
                try:
                    wait_s = await self.look()
                except StoreFull as error:
                    LOG.warning("deadlines of requests wait for room on the disk: %s", error)
                    wait_s = _LOOK_AGAIN_S
                began_s = time.clock_gettime(_CLOCK)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()
                self.waited(wait_s, time.clock_gettime(_CLOCK) - began_s)
        finally:
            stop_listening()

    def waited(self, wait_s: float, took_s: float) -> None:
        """Take note of how long a wait took: after the machine's sleep nothing expires at once."""
        if took_s > wait_s + _SLEPT_S:
            self._expires_from_ms = self._clock() + START_GRACE_MS

    async def look(self) -> float:
        """Do what is due now; return in how many seconds to look again."""
        now = self._clock()
        due_ms = await self._database.read(requests.next_due_ms)
        if due_ms is not None and due_ms <= now:
            # Expiry first: of what nobody can answer any more, nobody is reminded.
            if now >= self._expires_from_ms:
                while len(await self._database.write(requests.expire_due, now, _AT_A_TIME)):
                    pass
            while len(await self._database.write(requests.remind_due, now, _AT_A_TIME)):
                pass
            due_ms = await self._database.read(requests.next_due_ms)
        if due_ms is None:
            return _LOOK_AGAIN_S
        until_ms = due_ms if due_ms > now else max(now + 1000, self._expires_from_ms)
        return min(_LOOK_AGAIN_S, max(0.0, (until_ms - now) / 1000))

    def _heard(self, events: Sequence[object]) -> None:
        if any(isinstance(event, RequestChanged) for event in events):
            self._changed.set()
