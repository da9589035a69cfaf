"""What the node alone knows of an attempt: what was asked for, whether to stop, how it will end.

None of it is in an op: a request's environment may hold secrets. Must not change attempts.
"""

from typing import NamedTuple

import msgspec

from node_agent.store import attempts
from node_agent.store.errors import NotStored
from node_agent.store.transaction import Transaction
from protocol.attempt_requests import StartRequest
from protocol.states import AttemptOutcome


class Plan(NamedTuple):
    """What an attempt is to do. `outcome` is set once it is only to be finished."""

    request: StartRequest
    stop_asked_at_ms: int | None
    stop_grace_s: float | None
    outcome: AttemptOutcome | None
    reason: str | None
    #: Until when someone asked for the worktree to be kept.
    hold_until_ms: int | None = None


_INSERT = "INSERT INTO attempt_plan (attempt_id, request) VALUES (:attempt_id, :request)"


async def save(tx: Transaction, attempt_id: str, request: StartRequest) -> None:
    """Keep the request an attempt was started with."""
    await tx.execute(
        _INSERT, {"attempt_id": attempt_id, "request": msgspec.msgpack.encode(request)}
    )


_PLAN = """
SELECT request, stop_asked_at_ms, stop_grace_s, outcome, reason, hold_until_ms FROM attempt_plan
WHERE attempt_id = :attempt_id
"""


async def get(tx: Transaction, attempt_id: str) -> Plan:
    """Return what an attempt is to do. Raises NotStored."""
    row = await tx.fetch_one(_PLAN, {"attempt_id": attempt_id})
    if row is None:
        raise NotStored("attempt", attempt_id)
    return Plan(
        msgspec.msgpack.decode(row["request"], type=StartRequest),
        row["stop_asked_at_ms"],
        row["stop_grace_s"],
        None if row["outcome"] is None else AttemptOutcome(row["outcome"]),
        row["reason"],
        row["hold_until_ms"],
    )


async def began_by(tx: Transaction, attempt_id: str) -> StartRequest | None:
    """Return what an attempt was started with, by the profile it has by now; None for none here."""
    try:
        attempt, plan = await attempts.get(tx, attempt_id), await get(tx, attempt_id)
    except NotStored:
        return None
    return msgspec.structs.replace(
        plan.request, executor=attempt.executor, profile=attempt.profile or plan.request.profile
    )


# The first to ask is the one who stopped it; how patiently is the last one's word.
_ASK_STOP = """
UPDATE attempt_plan SET stop_asked_at_ms = coalesce(stop_asked_at_ms, :at_ms),
    stop_grace_s = :grace_s
WHERE attempt_id = :attempt_id
"""


async def ask_stop(tx: Transaction, attempt_id: str, at_ms: int, grace_s: float | None) -> None:
    """Write down that the attempt is to be stopped."""
    await tx.execute(_ASK_STOP, {"attempt_id": attempt_id, "at_ms": at_ms, "grace_s": grace_s})


_DECIDE = """
UPDATE attempt_plan SET outcome = :outcome, reason = :reason
WHERE attempt_id = :attempt_id AND outcome IS NULL
"""


async def decide(
    tx: Transaction, attempt_id: str, outcome: AttemptOutcome, reason: str | None
) -> None:
    """Write down how the attempt ends; what was decided first stays."""
    await tx.execute(
        _DECIDE, {"attempt_id": attempt_id, "outcome": outcome.value, "reason": reason}
    )


_REOPEN = """
UPDATE attempt_plan SET stop_asked_at_ms = NULL, stop_grace_s = NULL, outcome = NULL, reason = NULL
WHERE attempt_id = :attempt_id
"""


async def reopen(tx: Transaction, attempt_id: str) -> None:
    """Forget how the attempt ended and that it was stopped: it goes on."""
    await tx.execute(_REOPEN, {"attempt_id": attempt_id})


_HOLD = "UPDATE attempt_plan SET hold_until_ms = :until_ms WHERE attempt_id = :attempt_id"


async def hold(tx: Transaction, attempt_id: str, until_ms: int | None) -> None:
    """Write down until when the worktree is to be kept; None: nobody asks for it any more."""
    await tx.execute(_HOLD, {"attempt_id": attempt_id, "until_ms": until_ms})
