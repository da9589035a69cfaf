"""How long the hive keeps its history: events, and operations whose outcome is known.

Owns when it is looked what is old. Must not say what may go: the store does.
"""

import asyncio
import logging
from typing import Final

from hive.store import history
from hive.store.backend import Clock, Database
from protocol.errors import SkepError

log = logging.getLogger(__name__)

_LOOK_S: Final = 3600.0
#: So many rows go in one commit, so that nobody waits long behind it.
_ROWS_MAX: Final = 500
_DAY_MS: Final = 86_400_000


class History:
    """Lets go of what is older than `kept_days`; of nothing where that is None."""

    def __init__(self, database: Database, clock: Clock, *, kept_days: int | None) -> None:
        self._database = database
        self._clock = clock
        self._kept_days = kept_days

    async def look(self) -> int:
        """Let go of what is too old; return how many rows went."""
        if self._kept_days is None:
            return 0
        before_ms = self._clock() - self._kept_days * _DAY_MS
        gone = 0
        while rows := await self._database.write(history.let_go, before_ms, _ROWS_MAX):
            gone += rows
        return gone

    async def run(self) -> None:
        """Look now and then, for ever."""
        while True:
            try:
                await self.look()
            except SkepError as error:
                # A full disk: it is looked at again.
                log.warning("old history could not be let go of: %s", error)
            await asyncio.sleep(_LOOK_S)
