"""Closes conversations in which nothing happened for long, until someone goes on with them.

Owns when; the rule stands in `rules`, and what is at rest is the store's to know.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from node_agent.sessions.rules import IDLE_MS_MAX
from node_agent.store import sessions
from node_agent.store.database import Database
from node_agent.store.transaction import Transaction
from protocol.conversation import SessionStatus
from protocol.errors import SkepError

LOG: Final = logging.getLogger(__name__)
INTERVAL_S: Final = 60.0
_PAGE: Final = 100


class SessionUpkeep:
    """Closes what is at rest, every now and then. `clock` is the wall clock."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock

    async def run(self) -> None:
        """Close what is at rest, until cancelled."""
        while True:
            try:
                await self.round()
            except SkepError as error:
                LOG.warning("sessions were not closed: %s", error)
            except Exception:
                # No reason to end the agent: attempts do not need it.
                LOG.exception("sessions were not closed")
            await asyncio.sleep(INTERVAL_S)

    async def round(self) -> int:
        """Close what is at rest now; return how many were closed."""
        closed = 0
        while page := await self._database.write(_close_resting, self._clock()):
            closed += page
        return closed


async def _close_resting(tx: Transaction, now_ms: int) -> int:
    resting = await sessions.resting(tx, before_ms=now_ms - IDLE_MS_MAX, now_ms=now_ms, limit=_PAGE)
    for session in resting:
        closed = msgspec.structs.replace(session, status=SessionStatus.CLOSED, reason="idle")
        await sessions.save(tx, closed, now_ms)
    return len(resting)
