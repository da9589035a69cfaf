"""What follows what in the turns of an attempt: each step is one transaction.

A follow-up is taken in, a turn is over and the next begins, an attempt ends or goes on. Must not
run anything: `attempt_run` does what is written here.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from node_agent.attempt_outcome import Verdict
from node_agent.sessions import parking
from node_agent.sessions.follow_ups import check_session
from node_agent.stamps import now_ms
from node_agent.store import attempts, operations, parked_turns, plans, removals, sessions, turns
from node_agent.store.transaction import Transaction
from node_agent.store.turns import Shown, TurnEnd
from protocol.conversation import Session, SessionStatus
from protocol.entities import Attempt, OperationRecord
from protocol.errors import ErrorCode, OperationError
from protocol.states import AttemptPhase, ExecutionKind
from protocol.turn_requests import Turn

#: A script of this name runs on beside turns; others want the worktree for themselves.
DEV: Final = "dev"
#: Programs of one attempt in all: each is named in its op, which has to have room for them beside
#: the longest texts.
EXECUTIONS_MAX: Final = 400
#: Setup, the agent, cleanup.
_EXECUTIONS_OF_TURN: Final = 3


class NodeFull(OperationError):  # noqa: N818  named as its code is
    """Every slot of this node is taken."""

    def __init__(self, slots: int) -> None:
        super().__init__(
            ErrorCode.NODE_FULL,
            f"all {slots} slots of this node are taken",
            hint="Wait for an attempt to end, stop one, or give the node more slots.",
            slots=slots,
        )


class Running(OperationError):  # noqa: N818  named as its code is
    """Something runs in the attempt's worktree that leaves no room for this."""

    def __init__(self, what: str, *, hint: str) -> None:
        super().__init__(ErrorCode.RUNNING, f"{what} is running", hint=hint, running=what)


class Wanted(NamedTuple):
    """A turn that is wanted: its prompt as it may be shown, and its images (type, base64)."""

    turn: Turn
    shown: Shown
    images: Sequence[tuple[str, str]] = ()
    forks: bool = False
    steers: bool = False
    #: Of one that waited at the hive: the newest run of the agent that its author saw.
    asked_for: str | None = None
    #: The session it is meant for, where one is named.
    session_id: str | None = None


async def take_follow_up(
    tx: Transaction, wanted: Wanted, record: OperationRecord, body_hash: str, slots: int
) -> Turn:
    """Queue a turn, or begin it where its attempt has ended; key, turn and answer are one commit.

    Raises NodeFull where an ended attempt finds no slot, Running, and CONFLICT for another session.
    """
    before = await operations.answered_before(tx, record, body_hash)
    if before is not None:
        return msgspec.msgpack.decode(before, type=Turn)
    attempt = await attempts.get(tx, wanted.turn.attempt_id)
    await check_not_worn(tx, attempt)
    if wanted.session_id is not None:
        check_session(wanted.session_id, await session_to_go_on_in(tx, attempt.id))
    for one in await attempts.running_of(tx, attempt.id):
        if one.kind is ExecutionKind.SCRIPT and one.script != DEV:
            raise Running(
                f"the script {one.script}", hint="Wait until it has ended, or stop the attempt."
            )
    ended = attempt.phase is AttemptPhase.ENDED
    if ended and await attempts.busy_slots(tx) >= slots:
        raise NodeFull(slots)
    taken = await turns.add(
        tx,
        wanted.turn,
        wanted.shown,
        wanted.images,
        forks=wanted.forks,
        # Into an ended attempt nothing can be said: there it is a turn as any other.
        steers=wanted.steers and not ended,
        asked_for=wanted.asked_for,
    )
    if ended:
        taken = await _go_on(tx, attempt) or taken
    await operations.answer(tx, record, body_hash, msgspec.msgpack.encode(taken))
    return taken


async def session_to_go_on_in(tx: Transaction, attempt_id: str) -> Session | None:
    """Return the session that a further turn would be of; None where it is not there yet."""
    begun = await turns.current(tx, attempt_id)
    if await turns.any_forks(tx, attempt_id) or (
        # One that was parked has its fork, though no process at the moment.
        begun is not None and begun.forks and begun.execution_id is None and not begun.parks
    ):
        return None
    return await sessions.newest_of(tx, attempt_id)


async def check_not_worn(tx: Transaction, attempt: Attempt) -> None:
    """Raise CONFLICT where the attempt has run so often that its op has no room for more."""
    queued = len(await turns.queued(tx, attempt.id))
    if len(attempt.executions) + _EXECUTIONS_OF_TURN * (queued + 1) > EXECUTIONS_MAX:
        raise OperationError(
            ErrorCode.CONFLICT,
            f"the attempt has run {len(attempt.executions)} programs, and may run no more than"
            f" {EXECUTIONS_MAX} with what is queued",
            hint="Start a new attempt of its task; with its branch as the base it has this work.",
            executions=len(attempt.executions),
        )


async def runs_since(tx: Transaction, attempt_id: str, seen: str | None) -> list[str]:
    """Return the runs of an attempt's agent, oldest first, for a follow-up whose author saw `seen`.

    A newest run that began for another follow-up whose author had seen just that does not count:
    the two were asked one after the other, and this one was meant to follow. Nor does one that goes
    on with a turn of the run before it, which had waited for a usage limit: it is no other work.
    """
    runs = await attempts.agent_runs(tx, attempt_id)
    if seen is None or not runs:
        return runs
    executions = (await attempts.get(tx, attempt_id)).executions
    while runs and runs[-1] != seen:
        place = executions.index(runs[-1])
        goes_on = len(runs) > 1 and await parked_turns.continues(
            tx, attempt_id, runs[-1], place=place, former=executions.index(runs[-2])
        )
        if not goes_on and await turns.asked_for_of(tx, attempt_id, place) != seen:
            break
        runs.pop()
    return runs


async def turn_over(
    tx: Transaction, attempt_id: str, verdict: Verdict, head: str | None, *, go_on: bool
) -> bool:
    """End the turn that ran. True: the next one has begun; else the attempt is to be finished.

    Unless `go_on`, those that are queued are dropped: they could not run either.
    """
    at_ms = now_ms()
    attempt = await attempts.get(tx, attempt_id)
    plan = await plans.get(tx, attempt_id)
    end = TurnEnd(verdict.reason or verdict.outcome.value, head=head)
    if await parking.unpark(tx, attempt_id, at_ms):
        # Of a turn that was parked no process is left to say how it ended.
        end = end._replace(stop_reason="cancelled")
        session = await sessions.newest_of(tx, attempt_id)
        if session is not None:
            one_more = msgspec.structs.replace(session, turn_count=session.turn_count + 1)
            await sessions.save(tx, one_more, at_ms)
        attempt = await attempts.get(tx, attempt_id)
    await turns.end(tx, attempt_id, end, at_ms)
    if not go_on and plan.stop_asked_at_ms is None:
        await turns.drop(tx, attempt_id, verdict.reason or verdict.outcome.value, at_ms)
    changed = msgspec.structs.replace(
        attempt, head_commit=head or attempt.head_commit, silent_since_ms=None
    )
    if plan.stop_asked_at_ms is None and attempt.phase is not AttemptPhase.FINISHING:
        turn = await turns.begin_next(
            tx,
            attempt_id,
            executions_before=len(attempt.executions),
            head=changed.head_commit or attempt.base_commit,
            at_ms=at_ms,
        )
        if turn is not None:
            await sessions.become(tx, attempt_id, SessionStatus.OPEN, at_ms)
            changed = msgspec.structs.replace(changed, profile=turn.profile or attempt.profile)
            await attempts.save(tx, changed, at_ms)
            return True
    await sessions.become(tx, attempt_id, SessionStatus.IDLE, at_ms)
    await plans.decide(tx, attempt_id, verdict.outcome, verdict.reason)
    await attempts.save(tx, msgspec.structs.replace(changed, phase=AttemptPhase.FINISHING), at_ms)
    return False


async def end_attempt(tx: Transaction, attempt_id: str, changes: dict[str, Any]) -> bool:
    """End an attempt. True: it has gone on at once, with a turn that was queued meanwhile."""
    attempt = msgspec.structs.replace(
        await attempts.get(tx, attempt_id), phase=AttemptPhase.ENDED, **changes
    )
    await attempts.save(tx, attempt, now_ms())
    return await _go_on(tx, attempt) is not None


async def _go_on(tx: Transaction, attempt: Attempt) -> Turn | None:
    """Begin the next queued turn of an attempt that has ended; None where none is queued."""
    at_ms = now_ms()
    turn = await turns.begin_next(
        tx,
        attempt.id,
        executions_before=len(attempt.executions),
        head=attempt.head_commit or attempt.base_commit,
        at_ms=at_ms,
    )
    if turn is None:
        return None
    await sessions.become(tx, attempt.id, SessionStatus.OPEN, at_ms)
    await plans.reopen(tx, attempt.id)
    await removals.forget(tx, attempt.id)
    again = msgspec.structs.replace(
        attempt,
        phase=AttemptPhase.RUNNING,
        outcome=None,
        reason=None,
        ended_at_ms=None,
        hold_until_ms=None,
        profile=turn.profile or attempt.profile,
    )
    await attempts.save(tx, again, at_ms)
    return turn


async def ask_stop(tx: Transaction, attempt_id: str, grace_s: float | None) -> Attempt:
    """Write down that an attempt is to stop. What is queued is dropped: it was to follow on it."""
    attempt = await attempts.get(tx, attempt_id)
    if attempt.phase is not AttemptPhase.ENDED:
        at_ms = now_ms()
        await plans.ask_stop(tx, attempt_id, at_ms, grace_s)
        await turns.drop(tx, attempt_id, "the attempt was stopped", at_ms)
    return attempt


async def ask_interrupt(
    tx: Transaction, attempt_id: str, turn_id: str | None, record: OperationRecord, body_hash: str
) -> Turn:
    """Write down that the turn that runs is to be interrupted. Raises NO_TURN."""
    before = await operations.answered_before(tx, record, body_hash)
    if before is not None:
        return msgspec.msgpack.decode(before, type=Turn)
    attempt = await attempts.get(tx, attempt_id)
    turn = await turns.running(tx, attempt_id)
    at_work = attempt.phase in {AttemptPhase.RUNNING, AttemptPhase.AWAITING_INPUT}
    if turn is None or not at_work or turn_id not in {None, turn.id}:
        raise OperationError(
            ErrorCode.NO_TURN,
            "no turn of this attempt is running"
            if turn_id is None
            else f"the turn {turn_id[:60]} is not the one that runs",
            hint="`turns` shows what runs and what is queued.",
            phase=attempt.phase.value,
        )
    await turns.ask_interrupt(tx, attempt_id, now_ms())
    asked = await turns.running(tx, attempt_id) or turn
    await operations.answer(tx, record, body_hash, msgspec.msgpack.encode(asked))
    return asked


def done_record(
    operation: str, key: str, attempt_id: str, actor: str, *, head: str | None = None
) -> OperationRecord:
    """Return the record of an operation whose effect is rows of the same transaction."""
    at_ms = now_ms()
    return OperationRecord(
        key=key,
        operation=operation,
        attempt_id=attempt_id,
        actor=actor,
        status="done",
        head_after=head,
        started_at_ms=at_ms,
        ended_at_ms=at_ms,
    )
