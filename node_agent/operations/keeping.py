"""`hold`, `release` and `cleanup`, as operations: how long an attempt's worktree is kept."""

from pathlib import Path
from typing import Final

import msgspec

from node_agent.attempt_worktree import worktree_lock
from node_agent.git.errors import WorktreeGone
from node_agent.operations.asking import Asking
from node_agent.operations.attempts import attempt_of
from node_agent.operations.head_check import check_expected_head
from node_agent.stamps import now_ms
from node_agent.store import attempts, operations, plans, removals
from node_agent.store.database import Database
from node_agent.store.transaction import Transaction
from node_agent.turn_steps import done_record
from node_agent.worktree_removals import KEPT_OUTCOMES, WorktreeRemovals
from protocol.attempt_requests import AttemptReply, CleanupRequest, HoldRequest
from protocol.entities import OperationRecord
from protocol.errors import ErrorCode, OperationError
from protocol.operation_values import Request
from protocol.states import AttemptPhase

#: The end of the year 9999: held until someone releases it.
FOR_EVER_MS: Final = 253_402_300_799_000


class KeepingOperations:
    """Keeps worktrees, and removes them."""

    def __init__(self, database: Database, worktrees_dir: Path) -> None:
        self._database = database
        self._worktrees_dir = worktrees_dir
        self._removals = WorktreeRemovals(database, worktrees_dir)

    async def hold(self, asking: Asking) -> AttemptReply:
        """Keep the worktree until a time, or until it is released."""
        request = asking.request
        assert isinstance(request, HoldRequest)  # noqa: S101  the table's own pairing
        until_ms = FOR_EVER_MS if request.until_ms is None else request.until_ms
        if not now_ms() < until_ms <= FOR_EVER_MS:
            raise OperationError(
                ErrorCode.INVALID,
                "until_ms is a time to come, in milliseconds since the epoch",
                hint="Leave it out to hold the worktree until it is released.",
                field="until_ms",
            )
        return await self._change(asking, until_ms)

    async def release(self, asking: Asking) -> AttemptReply:
        """Hold the worktree no longer than the rules keep it."""
        return await self._change(asking, None)

    async def cleanup(self, asking: Asking) -> AttemptReply:
        """Remove the worktree, unless that would lose work."""
        request = asking.request
        assert isinstance(request, CleanupRequest)  # noqa: S101  the table's own pairing
        found = await attempt_of(self._database, asking)
        await check_expected_head(self._database, self._worktrees_dir, asking, found)
        attempt = await self._removals.clean_up(
            asking.attempt_id, save=request.save, force=request.force
        )
        return AttemptReply(attempt=attempt)

    async def settle_cleanup(self, record: OperationRecord, _: Request | None) -> AttemptReply:
        """After a crash: what was decided is carried out; what was not has not begun."""
        return AttemptReply(attempt=await self._removals.settle(record.attempt_id or ""))

    async def _change(self, asking: Asking, until_ms: int | None) -> AttemptReply:
        await attempt_of(self._database, asking)
        name, key = asking.operation.name, asking.key or ""
        record = done_record(name, key, asking.attempt_id, asking.actor)
        # A removal that is under way ends first: what is answered as held is there.
        async with worktree_lock(asking.attempt_id):
            return await self._database.write(
                _set_hold, asking.attempt_id, until_ms, record, asking.body_hash
            )


async def _set_hold(
    tx: Transaction, attempt_id: str, until_ms: int | None, record: OperationRecord, body_hash: str
) -> AttemptReply:
    before = await operations.answered_before(tx, record, body_hash)
    if before is not None:
        return msgspec.msgpack.decode(before, type=AttemptReply)
    attempt = await attempts.get(tx, attempt_id)
    ended = attempt.phase is AttemptPhase.ENDED
    if until_ms is not None and ended and attempt.worktree is None:
        raise WorktreeGone(attempt.branch)
    await plans.hold(tx, attempt_id, until_ms)
    if until_ms is not None:
        await removals.forget(tx, attempt_id)
    if ended:
        # Released: one that waits for its review is kept all the same, others may go now.
        kept = None if attempt.outcome in KEPT_OUTCOMES or attempt.worktree is None else now_ms()
        attempt = msgspec.structs.replace(
            attempt, hold_until_ms=kept if until_ms is None else until_ms
        )
        await attempts.save(tx, attempt, record.started_at_ms)
    reply = AttemptReply(attempt=attempt)
    await operations.answer(tx, record, body_hash, msgspec.msgpack.encode(reply))
    return reply
