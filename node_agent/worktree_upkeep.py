"""Takes away worktrees whose time is over: held until then, or kept until the hive says so.

An attempt that did not succeed is held for a time of grace; one that succeeded is kept by the rule
of its project, which the hive knows. Owns when; `worktree_removals` owns how. Every step can break
off and be run again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
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
from node_agent.worktree_removals import IsOver, WorktreeRemovals, ended_and_kept, held_until
from protocol.errors import ErrorCode, SkepError
from protocol.messages import WorktreeOver

LOG: Final = logging.getLogger(__name__)
INTERVAL_S: Final = 600.0
#: A worktree that cannot be removed without losing work is looked at again after this long.
_TRIED_AGAIN_MS: Final = 24 * 3600 * 1000
_PAGE: Final = 100


class WorktreeUpkeep:
    """Removes worktrees whose time is over. `run` is its one task."""

    def __init__(self, database: Database, notices: Notices, worktrees_dir: Path) -> None:
        self._database = database
        self._notices = notices
        self._root = worktrees_dir
        self._removals = WorktreeRemovals(database, worktrees_dir)
        self._over: Sequence[WorktreeOver] = ()
        #: When worktrees that are over, and could not be removed, are tried again.
        self._again_ms: dict[WorktreeOver, int] = {}
        self._woken = asyncio.Event()

    def over(self, worktrees: Sequence[WorktreeOver]) -> None:
        """Take the hive's word on which worktrees are kept no longer, in place of what it was."""
        self._over = worktrees
        if worktrees:
            self._woken.set()

    async def run(self) -> None:
        """Look every now and then, and when the hive says that some are over, until cancelled."""
        while True:
            self._woken.clear()
            try:
                await self.round()
            except (SkepError, OSError) as error:
                LOG.warning("upkeep of worktrees broke off: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):
                    await self._woken.wait()

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
                again_ms = now_ms() + _TRIED_AGAIN_MS
                if not await self._remove(attempt.id, held_until(now_ms())):
                    await self._database.write(_hold_on, attempt.id, again_ms)
        await self._remove_over()

    async def _remove_over(self) -> None:
        """Remove what the hive said is over; what cannot be removed is not tried again at once."""
        over, self._over = self._over, ()
        self._again_ms = {one: at_ms for one, at_ms in self._again_ms.items() if one in over}
        for one in over:
            found = await self._database.read(attempts.find, one.attempt_id)
            if found is None or self._again_ms.get(one, 0) > now_ms():
                continue
            if not await self._remove(one.attempt_id, ended_and_kept(one.ended_at_ms)):
                self._again_ms[one] = now_ms() + _TRIED_AGAIN_MS

    async def _remove(self, attempt_id: str, is_over: IsOver) -> bool:
        """Remove a worktree, if it still is over; False where it cannot be."""
        try:
            await self._removals.remove_when_over(attempt_id, is_over)
        except (SkepError, OSError) as error:
            # A file that may not be deleted, as of a container's root, holds up no other worktree.
            await self._tell_kept(attempt_id, error)
            return False
        return True

    async def _tell_kept(self, attempt_id: str, error: SkepError | OSError) -> None:
        LOG.warning("the worktree of attempt %s stays: %s", attempt_id, error)
        if isinstance(error, SkepError) and error.code is ErrorCode.UNSAVED_WORK:
            await self._notices.tell(
                "warning",
                "worktree_kept",
                f"the worktree of an ended attempt is kept: {error.message}",
                hint=error.hint,
                attempt_id=attempt_id,
            )


async def _hold_on(tx: Transaction, attempt_id: str, until_ms: int) -> None:
    attempt = await attempts.get(tx, attempt_id)
    # Somebody may have asked to hold it for longer meanwhile.
    until_ms = max(until_ms, attempt.hold_until_ms or 0)
    await attempts.save(tx, msgspec.structs.replace(attempt, hold_until_ms=until_ms), now_ms())
