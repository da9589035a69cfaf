"""Removals of worktrees: decided in the store first, done second, and done again after a crash.

Owns that nothing runs in a worktree that is removed, and that nobody wants it by then. What a
worktree holds is saved before it goes (`git.worktree_removal`). Must not decide when.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from node_agent.attempt_worktree import repository_of, worktree_lock
from node_agent.failpoints import failpoint
from node_agent.git.nested_repositories import check_nothing_nested
from node_agent.git.repository import Repository
from node_agent.git.saved_work import find_saved_work
from node_agent.git.unsaved import check_nothing_unsaved
from node_agent.git.worktree_removal import remove_worktree
from node_agent.git.worktrees import find_worktree
from node_agent.stamps import now_ms
from node_agent.store import attempts, plans, removals
from node_agent.store.database import Database
from node_agent.store.transaction import Transaction
from node_agent.turn_steps import Running
from protocol.entities import Attempt
from protocol.errors import ErrorCode, OperationError, SkepError
from protocol.states import AttemptOutcome, AttemptPhase, ExecutionKind

LOG: Final = logging.getLogger(__name__)
#: Their worktrees are kept by the rule of their project, the others for a time of grace.
KEPT_OUTCOMES: Final = frozenset({AttemptOutcome.SUCCEEDED, AttemptOutcome.SUCCEEDED_WITH_WARNING})


#: Whether the worktree of an ended attempt may go, asked in the transaction that decides it.
IsOver = Callable[[Attempt], bool]


def held_until(at_ms: int) -> IsOver:
    """Return whether an attempt's hold has passed at that time."""
    return lambda attempt: attempt.hold_until_ms is not None and attempt.hold_until_ms < at_ms


def ended_and_kept(ended_at_ms: int) -> IsOver:
    """Return whether an attempt succeeded then, and nobody has held or continued it since."""
    return lambda attempt: (
        attempt.ended_at_ms == ended_at_ms
        and attempt.outcome in KEPT_OUTCOMES
        and attempt.hold_until_ms is None
        and attempt.worktree is not None
    )


class Held(OperationError):  # noqa: N818  named as its code is
    """Someone asked for the worktree to be kept."""

    def __init__(self, until_ms: int) -> None:
        super().__init__(
            ErrorCode.HELD,
            "the attempt's worktree is held",
            hint="Release it first, or clean up with `force`.",
            hold_until_ms=until_ms,
        )


class WorktreeRemovals:
    """Removes the worktrees of ended attempts."""

    def __init__(self, database: Database, worktrees_dir: Path) -> None:
        self._database = database
        self._root = worktrees_dir

    async def clean_up(self, attempt_id: str, *, save: bool, force: bool) -> Attempt:
        """Remove a worktree because someone asks for it; return the attempt after that.

        Raises Running, Held, and UnsavedChanges or UnsavedWork, which name what would be lost.
        """
        async with worktree_lock(attempt_id):
            attempt = await self._database.read(_check_may_go, attempt_id)
            repository = await repository_of(self._database, attempt)
            worktree = await find_worktree(repository, self._root, attempt_id)
            if worktree is None and attempt.worktree is None:
                return attempt
            if worktree is not None and not force:
                plan = await self._database.read(plans.get, attempt_id)
                if (plan.hold_until_ms or 0) > now_ms():
                    raise Held(plan.hold_until_ms or 0)
                await check_nothing_nested(worktree)
                if not save:
                    await check_nothing_unsaved(worktree)
            await self._database.write(_plan, attempt_id, force)
            failpoint("node.removal.planned")
            return await self._remove(repository, attempt_id)

    async def settle(self, attempt_id: str) -> Attempt:
        """After a crash: carry out what was decided; return the attempt as it is then.

        Raises CANCELLED where the crash came before the decision.
        """
        attempt = await self.carry_out(attempt_id)
        if attempt.worktree is not None:
            raise OperationError(
                ErrorCode.CANCELLED,
                "the node stopped before anything was removed",
                hint="Ask again under another key.",
            )
        return attempt

    async def carry_out(self, attempt_id: str) -> Attempt:
        """Do what is planned, if it still is; return the attempt as it is then."""
        async with worktree_lock(attempt_id):
            attempt = await self._database.read(attempts.get, attempt_id)
            if await self._database.read(removals.find, attempt_id) is None:
                return attempt
            return await self._remove(await repository_of(self._database, attempt), attempt_id)

    async def planned(self) -> list[str]:
        """Return the attempts whose worktrees are to be removed."""
        return [one.attempt_id for one in await self._database.read(removals.planned)]

    async def remove_when_over(self, attempt_id: str, is_over: IsOver) -> Attempt | None:
        """Remove a worktree whose time is over; None where it is not, or it is used again."""
        if not await self._database.write(_plan_when_over, attempt_id, is_over):
            return None
        failpoint("node.removal.planned")
        return await self.carry_out(attempt_id)

    async def _remove(self, repository: Repository, attempt_id: str) -> Attempt:
        """Under the lock, and planned."""
        removal = await self._database.read(removals.find, attempt_id)
        there = await find_worktree(repository, self._root, attempt_id)
        # Gone already: a crash came before the record of it, or someone deleted the folder.
        kept = None if there is not None else await find_saved_work(repository, attempt_id)
        try:
            saved = await remove_worktree(
                repository,
                self._root,
                attempt_id,
                lose_nested=removal is not None and removal.lose_nested,
            )
        except SkepError:
            # Nothing was removed; whoever wants it decides anew.
            await self._database.write(removals.forget, attempt_id)
            raise
        failpoint("node.removal.done")
        kept = saved or kept
        done = await self._database.write(_removed, attempt_id, None if kept is None else kept.ref)
        LOG.info("removed the worktree of attempt %s", attempt_id)
        return done


async def _check_may_go(tx: Transaction, attempt_id: str) -> Attempt:
    attempt = await attempts.get(tx, attempt_id)
    if attempt.phase is not AttemptPhase.ENDED:
        raise Running("the attempt", hint="Wait until it has ended, or stop it.")
    for one in await attempts.running_of(tx, attempt_id):
        what = f"the script {one.script}" if one.kind is ExecutionKind.SCRIPT else "an execution"
        raise Running(what, hint="Wait until it has ended, or stop the attempt.")
    return attempt


async def _plan(tx: Transaction, attempt_id: str, lose_nested: bool) -> None:
    await _check_may_go(tx, attempt_id)
    await removals.plan(tx, attempt_id, lose_nested=lose_nested, at_ms=now_ms())


async def _plan_when_over(tx: Transaction, attempt_id: str, is_over: IsOver) -> bool:
    try:
        attempt = await _check_may_go(tx, attempt_id)
    except Running:
        return False
    if not is_over(attempt):
        return False
    await removals.plan(tx, attempt_id, lose_nested=False, at_ms=now_ms())
    return True


async def _removed(tx: Transaction, attempt_id: str, ref: str | None) -> Attempt:
    attempt = await attempts.get(tx, attempt_id)
    changed = msgspec.structs.replace(
        attempt, worktree=None, saved_ref=ref or attempt.saved_ref, hold_until_ms=None
    )
    await plans.hold(tx, attempt_id, None)
    await attempts.save(tx, changed, now_ms())
    await removals.forget(tx, attempt_id)
    return changed
