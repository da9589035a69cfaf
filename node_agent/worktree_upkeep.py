"""Takes away worktrees of attempts that did not succeed, once their time of grace is over.

Owns when; `worktree_removals` owns how. Every step can break off and be run again.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

import msgspec

from node_agent.git.repository import open_repository
from node_agent.git.worktree_removal import prune_worktrees
from node_agent.notices import Notices
from node_agent.stamps import now_ms
from node_agent.store import attempts, checkouts
from node_agent.store.database import Database
from node_agent.store.transaction import Transaction
from node_agent.worktree_removals import WorktreeRemovals
from protocol.entities import Attempt
from protocol.errors import ErrorCode, SkepError

LOG: Final = logging.getLogger(__name__)
INTERVAL_S: Final = 600.0
#: A worktree that cannot be removed without losing work is looked at again after this long.
_HELD_AGAIN_MS: Final = 24 * 3600 * 1000
_PAGE: Final = 100


class WorktreeUpkeep:
    """Removes worktrees whose hold has passed. `run` is its one task."""

    def __init__(self, database: Database, notices: Notices, worktrees_dir: Path) -> None:
        self._database = database
        self._notices = notices
        self._root = worktrees_dir
        self._removals = WorktreeRemovals(database, worktrees_dir)

    async def run(self) -> None:
        """Look every now and then until cancelled."""
        while True:
            try:
                await self.round()
            except (SkepError, OSError) as error:
                LOG.warning("upkeep of worktrees broke off: %s", error)
            await asyncio.sleep(INTERVAL_S)

    async def round(self) -> None:
        """Look at every worktree once."""
        for checkout in await self._database.read(checkouts.present):
            try:
                await prune_worktrees(await open_repository(Path(checkout.path)), self._root)
            except (SkepError, OSError) as error:
                LOG.info("the worktrees of %s were not looked at: %s", checkout.path, error)
        for attempt_id in await self._removals.planned():
            try:
                await self._removals.carry_out(attempt_id)
            except (SkepError, OSError) as error:
                LOG.warning("the worktree of attempt %s stays: %s", attempt_id, error)
        while over := await self._database.read(attempts.no_longer_held, now_ms(), _PAGE):
            for attempt in over:
                await self._remove(attempt)

    async def _remove(self, attempt: Attempt) -> None:
        try:
            await self._removals.remove_when_over(attempt.id, now_ms())
        except (SkepError, OSError) as error:
            # A file that may not be deleted, as of a container's root, holds up no other worktree.
            await self._put_off(attempt, error)

    async def _put_off(self, attempt: Attempt, error: SkepError | OSError) -> None:
        LOG.warning("the worktree of attempt %s stays: %s", attempt.id, error)
        if isinstance(error, SkepError) and error.code is ErrorCode.UNSAVED_WORK:
            await self._notices.tell(
                "warning",
                "worktree_kept",
                f"the worktree of an ended attempt is kept: {error.message}",
                hint=error.hint,
                attempt_id=attempt.id,
            )
        await self._database.write(_hold_on, attempt.id, now_ms() + _HELD_AGAIN_MS)


async def _hold_on(tx: Transaction, attempt_id: str, until_ms: int) -> None:
    attempt = await attempts.get(tx, attempt_id)
    await attempts.save(tx, msgspec.structs.replace(attempt, hold_until_ms=until_ms), now_ms())
