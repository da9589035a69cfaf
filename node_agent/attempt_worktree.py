"""The worktree of an attempt, made again where it is gone, with the work that was saved of it.

Owns the lock that keeps making and removing apart. Must not decide that either is to be done.
"""

import asyncio
import functools
import logging
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from node_agent.git.copied_files import copy_files
from node_agent.git.refs import branch_ref
from node_agent.git.repository import Repository, open_repository
from node_agent.git.saved_work import find_saved_work, restore_saved_work
from node_agent.git.worktrees import Worktree, create_worktree, find_worktree
from node_agent.run_context import RunContext
from node_agent.stamps import now_ms
from node_agent.store import attempts, checkouts, plans
from node_agent.store.database import Database
from node_agent.store.transaction import Transaction
from protocol.entities import Attempt
from protocol.errors import ErrorCode, OperationError

LOG: Final = logging.getLogger(__name__)
_LOCKS: Final[WeakValueDictionary[str, asyncio.Lock]] = WeakValueDictionary()


class SessionLost(OperationError):  # noqa: N818  named as its code is
    """Nothing is left that an attempt could go on from."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(
            ErrorCode.SESSION_LOST,
            "neither worktree, branch nor commit of the attempt is left in its checkout",
            hint="Start a new attempt of the task.",
            branch=attempt.branch,
        )


def worktree_lock(attempt_id: str) -> asyncio.Lock:
    """Return the lock under which an attempt's worktree is made or removed; for `async with`."""
    # The local name keeps a new lock alive until the caller has it.
    lock = _LOCKS.get(attempt_id)
    if lock is None:
        lock = _LOCKS[attempt_id] = asyncio.Lock()
    return lock


async def repository_of(database: Database, attempt: Attempt) -> Repository:
    """Open the checkout of an attempt. Raises NoCheckout where the node has it no more."""
    checkout = await database.read(checkouts.find, attempt.checkout_id)
    if checkout is None:
        raise checkouts.NoCheckout(attempt.project_name, [])
    return await open_repository(Path(checkout.path))


async def check_can_go_on(context: RunContext, repository: Repository, attempt: Attempt) -> None:
    """Raise SessionLost where the attempt's worktree is gone and cannot be made again."""
    if await find_worktree(repository, context.worktrees_dir, attempt.id) is None:
        await _base(repository, attempt)


async def worktree_again(
    context: RunContext, repository: Repository, attempt_id: str, *, hold_until_ms: int | None
) -> Worktree:
    """Return the attempt's worktree, made again if need be; each step may be run again.

    Under its lock, with no process of the attempt in it. What was uncommitted when it was removed
    is uncommitted in it again. One made again for an attempt that has ended is held that long.
    """
    attempt = await context.database.read(attempts.get, attempt_id)
    found = await find_worktree(repository, context.worktrees_dir, attempt_id)
    if found is not None and attempt.worktree == str(found.path):
        return found
    if attempt.worktree is not None:
        # Its folder was deleted by someone else: until saved work is back in it, it is not there.
        await context.keep(_set_worktree, attempt_id, None, attempt.saved_ref, None)
    worktree = await create_worktree(
        repository,
        context.worktrees_dir,
        attempt_id=attempt_id,
        branch=attempt.branch,
        base=await _base(repository, attempt),
        branch_now=functools.partial(branch_now, context.database, attempt_id),
    )
    restored = await restore_saved_work(repository, worktree)
    if not restored and attempt.saved_ref is not None:
        await context.notices.tell(
            "warning",
            "saved_work_left",
            f"what was saved at {attempt.saved_ref} is not in the worktree that was made again:"
            " its branch has moved on since",
            hint=f"Look at it with: git diff {attempt.branch} {attempt.saved_ref}",
            attempt_id=attempt_id,
        )
    plan = await context.database.read(plans.get, attempt_id)
    await copy_files(repository, worktree, plan.request.copy_files)
    saved_ref = None if restored else attempt.saved_ref
    await context.keep(_set_worktree, attempt_id, str(worktree.path), saved_ref, hold_until_ms)
    LOG.info("made the worktree of attempt %s again", attempt_id)
    return worktree


async def branch_now(database: Database, attempt_id: str) -> str:
    """Return what the attempt's branch is called; it may be renamed until its lock is held."""
    return (await database.read(attempts.get, attempt_id)).branch


async def _base(repository: Repository, attempt: Attempt) -> str:
    """Return the commit a branch that is gone begins from again: where the work stood last."""
    saved = await find_saved_work(repository, attempt.id)
    for commit in (
        branch_ref(attempt.branch),
        saved.head if saved else None,
        attempt.head_commit,
        attempt.base_commit,
    ):
        if commit and (found := await repository.commit_of(commit)) is not None:
            return found
    raise SessionLost(attempt)


async def _set_worktree(
    tx: Transaction,
    attempt_id: str,
    worktree: str | None,
    saved_ref: str | None,
    hold_until_ms: int | None,
) -> None:
    attempt = await attempts.get(tx, attempt_id)
    changed = msgspec.structs.replace(
        attempt,
        worktree=worktree,
        saved_ref=saved_ref,
        hold_until_ms=hold_until_ms or attempt.hold_until_ms,
    )
    await attempts.save(tx, changed, now_ms())
