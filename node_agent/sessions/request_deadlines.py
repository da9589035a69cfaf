"""The time people have to answer: reminds of requests that wait, and ends those nobody answered.

The end is told to the agent as no answer, never as a yes or no. Nobody answered only once an answer
that waits at the hive would be here. Must not judge a request.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

from node_agent.stamps import now_ms
from node_agent.store import requests
from node_agent.store.database import Database
from node_agent.store.errors import StoreFull
from node_agent.store.requests import RequestChanged
from protocol import limits

LOG: Final = logging.getLogger(__name__)
#: A wall clock may be set: looked at again at least this often.
_LOOK_AGAIN_S: Final = 60.0
_AT_A_TIME: Final = 100
#: After a start, or once the hive is back, nothing expires for so long: an answer that waited for
#: this node comes first.
ANSWERS_COME_MS: Final = 120_000
#: An answer waits at the hive no longer than that, so with none by then there is none.
ANSWERS_WAIT_MS_MAX: Final = limits.DEFERRED_S_MAX * 1000
#: A wait that took this much longer by the wall than was asked for: the machine slept.
_SLEPT_MS: Final = 30_000


class RequestDeadlines:
    """Watches the deadlines of this node's open requests.

    `linked_since_ms`: since when answers come from the hive; 0 with no hive joined, None while it
    is out of reach.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], int] = now_ms,
        linked_since_ms: Callable[[], int | None] = lambda: 0,
    ) -> None:
        self._database = database
        self._clock = clock
        self._linked_since_ms = linked_since_ms
        self._changed = asyncio.Event()
        self._awake_since_ms = clock()

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
                waits_from_ms = self._clock()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()
                if self._clock() - waits_from_ms > wait_s * 1000 + _SLEPT_MS:
                    # The link that is there by its own word may long be gone.
                    self._awake_since_ms = self._clock()
        finally:
            stop_listening()

    async def look(self) -> float:
        """Do what is due now; return in how many seconds to look again."""
        now = self._clock()
        from_ms = self._expires_from_ms(now)
        due_ms = await self._database.read(requests.next_due_ms)
        if due_ms is not None and due_ms <= now:
            # Expiry first: of what nobody can answer any more, nobody is reminded.
            until_ms = now if now >= from_ms else now - ANSWERS_WAIT_MS_MAX
            while len(await self._database.write(requests.expire_due, until_ms, now, _AT_A_TIME)):
                pass
            while len(await self._database.write(requests.remind_due, now, _AT_A_TIME)):
                pass
            due_ms = await self._database.read(requests.next_due_ms)
        if due_ms is None:
            return _LOOK_AGAIN_S
        look_ms = due_ms if due_ms > now else max(now + 1000, from_ms)
        return min(_LOOK_AGAIN_S, max(0.0, (look_ms - now) / 1000))

    def _expires_from_ms(self, now: int) -> int:
        """Return from when on what is due may expire, as far as is known now."""
        since_ms = self._linked_since_ms()
        if since_ms is None:
            # People may have answered at the hive, and it cannot say so.
            return now + ANSWERS_COME_MS
        return max(since_ms, self._awake_since_ms) + ANSWERS_COME_MS

    def _heard(self, events: Sequence[object]) -> None:
        if any(isinstance(event, RequestChanged) for event in events):
            self._changed.set()
