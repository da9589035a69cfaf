"""Sessions of agents that are no node's: kept alive by heartbeats, closed once they are silent.

Owns when such a session counts as silent, and when its agent's own session beneath it is old. Must
not touch a node's session: that node alone decides.
"""

import asyncio
import logging
from typing import Final

from hive.store import sessions
from hive.store.backend import Clock, Database
from hive.store.sessions import SessionRow
from protocol.conversation import SessionStatus
from protocol.errors import SkepError

log = logging.getLogger(__name__)

_SWEEP_S: Final = 30.0
_CLOSED_PER_SWEEP_MAX: Final = 500
#: Why a session was closed that nothing was heard of.
SILENT: Final = "no sign of life for too long"


class ExternalSessions:
    """The rules of idleness and age. `run` is its task."""

    def __init__(self, database: Database, clock: Clock, *, idle_s: float, age_s: float) -> None:
        self._database = database
        self._clock = clock
        self._idle_ms = round(idle_s * 1000)
        self._age_ms = round(age_s * 1000)
        #: While the hive was away nobody could be heard: all of them were, when it began.
        self._listening_since_ms = clock()

    def closes_at_ms(self, session: SessionRow) -> int | None:
        """Return when a session is closed if nothing more is heard of it; None: not by us."""
        if not session.external or session.status == SessionStatus.CLOSED:
            return None
        heard_ms = max(session.heartbeat_at_ms or 0, session.last_activity_at_ms)
        return max(heard_ms, self._listening_since_ms) + self._idle_ms

    def rotation_due(self, session: SessionRow) -> bool:
        """Whether the agent's own session is so old that the next turn should begin a fresh one."""
        since_ms = session.agent_session_at_ms
        closed = session.status == SessionStatus.CLOSED
        return since_ms is not None and not closed and self._clock() >= since_ms + self._age_ms

    async def close_silent(self) -> int:
        """Close the sessions that nothing was heard of for too long; return how many."""
        now_ms = self._clock()
        if now_ms - self._idle_ms < self._listening_since_ms:
            return 0
        return await self._database.write(
            sessions.close_silent,
            silent_ms=now_ms - self._idle_ms,
            reason=SILENT,
            limit=_CLOSED_PER_SWEEP_MAX,
            now_ms=now_ms,
        )

    async def run(self) -> None:
        """Close what is silent, for ever."""
        while True:
            try:
                while await self.close_silent() == _CLOSED_PER_SWEEP_MAX:
                    continue
            except SkepError as error:
                # A full disk: it is looked at again.
                log.warning("silent sessions could not be closed: %s", error)
            await asyncio.sleep(_SWEEP_S)
