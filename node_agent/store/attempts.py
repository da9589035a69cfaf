"""Attempts and their executions: guarded changes, each with its op, and what is asked about them.

Functions take the transaction they work in, so that a change and all it goes with are one commit.
Must not decide what happens next: `attempt_runner` and `recovery` do.
"""

import msgspec

from node_agent.store.errors import NotStored
from node_agent.store.journal import save as save_state
from node_agent.store.journal import state_of
from node_agent.store.transaction import Transaction
from protocol.entities import Attempt, Execution, LogEnd
from protocol.errors import ErrorCode, SkepError
from protocol.ops import OpKind
from protocol.states import (
    ATTEMPT_TRANSITIONS,
    EXECUTION_TRANSITIONS,
    AttemptPhase,
    ExecutionKind,
    ExecutionStatus,
    may_follow,
)


class IllegalTransition(SkepError):  # noqa: N818  names what is wrong, as all our errors do
    """A change of state that the tables of `protocol.states` do not allow. Nothing was changed."""

    def __init__(self, kind: str, identifier: str, before: str, after: str) -> None:
        super().__init__(
            ErrorCode.CONFLICT,
            f"{kind} {identifier} is {before} and cannot become {after}",
            before=before,
            after=after,
        )


_SET_ATTEMPT = """
INSERT INTO attempt (id, phase, task_id, checkout_id, created_at_ms, start_key, hold_until_ms)
VALUES (:id, :phase, :task_id, :checkout_id, :created_at_ms, :start_key, :hold_until_ms)
ON CONFLICT (id) DO UPDATE SET phase = excluded.phase, hold_until_ms = excluded.hold_until_ms
"""


async def save(tx: Transaction, attempt: Attempt, at_ms: int) -> None:
    """Write an attempt and its op. Raises IllegalTransition where its phase may not follow."""
    before = await find(tx, attempt.id)
    if before is None:
        allowed = attempt.phase is AttemptPhase.CREATED
    else:
        allowed = may_follow(ATTEMPT_TRANSITIONS, before.phase, attempt.phase)
    if not allowed:
        raise IllegalTransition(
            "attempt", attempt.id, before.phase if before else "not there", attempt.phase
        )
    row = {
        "id": attempt.id,
        "phase": attempt.phase.value,
        "task_id": attempt.task_id,
        "checkout_id": attempt.checkout_id,
        "created_at_ms": attempt.created_at_ms,
        "start_key": attempt.start_key,
        "hold_until_ms": attempt.hold_until_ms if attempt.worktree else None,
    }
    await tx.execute(_SET_ATTEMPT, row)
    await save_state(tx, OpKind.ATTEMPT, attempt.id, at_ms, attempt)


async def find(tx: Transaction, attempt_id: str) -> Attempt | None:
    """Return an attempt as it stands."""
    body = await state_of(tx, OpKind.ATTEMPT, attempt_id)
    return None if body is None else msgspec.msgpack.decode(body, type=Attempt)


async def get(tx: Transaction, attempt_id: str) -> Attempt:
    """Return an attempt as it stands. Raises NotStored."""
    attempt = await find(tx, attempt_id)
    if attempt is None:
        raise NotStored("attempt", attempt_id)
    return attempt


_UNENDED = "SELECT id FROM attempt WHERE phase <> :ended ORDER BY created_at_ms, id"


async def unended(tx: Transaction) -> list[Attempt]:
    """Return the attempts that have not ended, oldest first."""
    rows = await tx.fetch_all(_UNENDED, {"ended": AttemptPhase.ENDED.value})
    return [await get(tx, row["id"]) for row in rows]


_BUSY = "SELECT count(*) AS busy FROM attempt WHERE phase <> :ended"


async def busy_slots(tx: Transaction) -> int:
    """Return how many slots are taken: one by each attempt that has not ended."""
    row = await tx.fetch_one(_BUSY, {"ended": AttemptPhase.ENDED.value})
    return 0 if row is None else int(row["busy"])


_HELD_BEFORE = """
SELECT id FROM attempt WHERE hold_until_ms IS NOT NULL AND hold_until_ms < :now_ms
    AND phase = :ended AND NOT EXISTS
        (SELECT 1 FROM execution WHERE attempt_id = attempt.id AND status = 'running')
ORDER BY hold_until_ms, id LIMIT :limit
"""


async def no_longer_held(tx: Transaction, now_ms: int, limit: int) -> list[Attempt]:
    """Return ended attempts whose worktree need not be held any more, the longest due first."""
    rows = await tx.fetch_all(
        _HELD_BEFORE, {"now_ms": now_ms, "ended": AttemptPhase.ENDED.value, "limit": limit}
    )
    return [await get(tx, row["id"]) for row in rows]


_PAGE = """
SELECT id FROM attempt
WHERE (created_at_ms, id) < (:before_ms, :before_id)
    AND (:task_id IS NULL OR task_id = :task_id)
    AND (:phase IS NULL OR phase = :phase)
ORDER BY created_at_ms DESC, id DESC LIMIT :limit
"""
_NEVER_MS = (1 << 63) - 1


async def page(
    tx: Transaction,
    *,
    limit: int,
    before: tuple[int, str] | None = None,
    task_id: str | None = None,
    phase: str | None = None,
) -> list[Attempt]:
    """Return attempts, newest first, older than `before` (created_at_ms, id)."""
    before_ms, before_id = before or (_NEVER_MS, "")
    rows = await tx.fetch_all(
        _PAGE,
        {
            "before_ms": before_ms,
            "before_id": before_id,
            "task_id": task_id,
            "phase": phase,
            "limit": limit,
        },
    )
    return [await get(tx, row["id"]) for row in rows]


# --- executions -----------------------------------------------------------------------------------

_SET_EXECUTION = """
INSERT INTO execution (id, attempt_id, started_at_ms, status)
VALUES (:id, :attempt_id, :started_at_ms, :status)
ON CONFLICT (id) DO UPDATE SET status = excluded.status
"""


async def save_execution(tx: Transaction, execution: Execution, at_ms: int) -> None:
    """Write an execution and its op. Raises IllegalTransition where its status may not follow."""
    before = await find_execution(tx, execution.id)
    if before is None:
        allowed = execution.status is ExecutionStatus.RUNNING
    else:
        allowed = may_follow(EXECUTION_TRANSITIONS, before.status, execution.status)
    if not allowed:
        raise IllegalTransition(
            "execution", execution.id, before.status if before else "not there", execution.status
        )
    row = {
        "id": execution.id,
        "attempt_id": execution.attempt_id,
        "started_at_ms": execution.started_at_ms,
        "status": execution.status.value,
    }
    await tx.execute(_SET_EXECUTION, row)
    await save_state(tx, OpKind.EXECUTION, execution.id, at_ms, execution)


async def find_execution(tx: Transaction, execution_id: str) -> Execution | None:
    """Return an execution as it stands."""
    body = await state_of(tx, OpKind.EXECUTION, execution_id)
    return None if body is None else msgspec.msgpack.decode(body, type=Execution)


async def executions_of(tx: Transaction, attempt_id: str) -> list[Execution]:
    """Return the executions of an attempt, in the order in which they were begun."""
    attempt = await get(tx, attempt_id)
    found = [await find_execution(tx, execution_id) for execution_id in attempt.executions]
    return [execution for execution in found if execution is not None]


async def agent_runs(tx: Transaction, attempt_id: str) -> list[str]:
    """Return the executions of an attempt's agent, oldest first; none of an unknown attempt."""
    if await find(tx, attempt_id) is None:
        return []
    executions = await executions_of(tx, attempt_id)
    return [one.id for one in executions if one.kind is ExecutionKind.AGENT]


_RUNNING = "SELECT id FROM execution WHERE status = 'running' ORDER BY started_at_ms, id"


async def running_executions(tx: Transaction) -> list[Execution]:
    """Return every execution of this node that has not ended, oldest first."""
    found = [await find_execution(tx, row["id"]) for row in await tx.fetch_all(_RUNNING)]
    return [execution for execution in found if execution is not None]


_RUNNING_OF = """
SELECT id FROM execution WHERE attempt_id = :attempt_id AND status = 'running'
ORDER BY started_at_ms, id
"""


async def running_of(tx: Transaction, attempt_id: str) -> list[Execution]:
    """Return an attempt's executions that have not ended, oldest first."""
    rows = await tx.fetch_all(_RUNNING_OF, {"attempt_id": attempt_id})
    found = [await find_execution(tx, row["id"]) for row in rows]
    return [execution for execution in found if execution is not None]


async def save_log_end(tx: Transaction, end: LogEnd, at_ms: int) -> None:
    """Write what the whole log of an execution is, and its op."""
    await save_state(tx, OpKind.LOG_END, end.execution_id, at_ms, end)


async def log_end_of(tx: Transaction, execution_id: str) -> LogEnd | None:
    """Return what the whole log of an execution is, once that was written."""
    body = await state_of(tx, OpKind.LOG_END, execution_id)
    return None if body is None else msgspec.msgpack.decode(body, type=LogEnd)


# --- names people type ----------------------------------------------------------------------------

_BY_PART = """
SELECT id FROM attempt
WHERE id = :text OR (id >= :text AND id < :beyond)
    OR substr(replace(id, '-', ''), -:length) = :digits
ORDER BY id = :text DESC, id LIMIT 2
"""
PART_CHARACTERS_MIN = 8
_HINT = "Give its id, or 8 or more of its first or last digits: node-agent attempts lists them."


async def resolve(tx: Transaction, text: str) -> str:
    """Return the id of the attempt a person means: its id, or 8 or more first or last digits.

    Dashes do not count. Raises NotStored, or INVALID where several fit.
    """
    digits = text.strip().lower().replace("-", "")
    if len(digits) < PART_CHARACTERS_MIN:
        raise NotStored("attempt", text, hint=_HINT)
    wanted = _dashed(digits)
    rows = await tx.fetch_all(
        _BY_PART,
        {"text": wanted, "beyond": wanted + "g", "digits": digits, "length": len(digits)},
    )
    if not rows:
        raise NotStored("attempt", text, hint=_HINT)
    if len(rows) > 1 and rows[0]["id"] != wanted:
        raise SkepError(
            ErrorCode.INVALID, f"several attempts fit {text!r}", hint="Give more of the id."
        )
    found: str = rows[0]["id"]
    return found


def _dashed(digits: str) -> str:
    """Return the beginning of an id, with the dashes an id has."""
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return "-".join(part for part in parts if part)
