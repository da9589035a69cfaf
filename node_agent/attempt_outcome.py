"""What the ends of its executions make of an attempt. Pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from protocol.entities import Execution
from protocol.states import AttemptOutcome, ExecutionKind, ExecutionStatus

#: Of an execution that was recorded and whose program never ran: another one takes its place.
NEVER_STARTED: Final = "never_started"
#: Of an execution of which nobody knows how it ended.
NO_EXIT_RECORD: Final = "no_exit_record"


class Verdict(NamedTuple):
    """How an attempt ends, and why where it did not succeed."""

    outcome: AttemptOutcome
    reason: str | None = None


def last_of(executions: Sequence[Execution], kind: ExecutionKind) -> Execution | None:
    """Return the newest execution of a kind, those that never ran left out."""
    for execution in reversed(executions):
        if execution.kind is kind and not never_ran(execution):
            return execution
    return None


def never_ran(execution: Execution) -> bool:
    """Whether the execution stands for a start that did not happen."""
    return execution.status is ExecutionStatus.LOST and execution.reason == NEVER_STARTED


def verdict_of(
    executions: Sequence[Execution], *, stop_asked: bool, interrupted: bool = False
) -> Verdict:
    """Return how an attempt ends whose last turn's executions have all ended."""
    setup = last_of(executions, ExecutionKind.SETUP)
    agent = last_of(executions, ExecutionKind.AGENT)
    # Whoever stopped it wants to see it stopped, however its processes took it.
    if stop_asked:
        return Verdict(AttemptOutcome.STOPPED)
    for execution in (setup, agent):
        if execution is None or execution.status is ExecutionStatus.SUCCEEDED:
            continue
        where = "" if execution.kind is ExecutionKind.AGENT else f"{execution.kind.value}: "
        if execution.status is ExecutionStatus.LOST:
            return Verdict(AttemptOutcome.LOST, f"{where}{execution.reason or NO_EXIT_RECORD}")
        if interrupted and execution is agent:
            return Verdict(AttemptOutcome.FAILED, f"interrupted: {reason_of(execution)}")
        return Verdict(AttemptOutcome.FAILED, f"{where}{reason_of(execution)}")
    if agent is None:
        return Verdict(AttemptOutcome.FAILED, "the agent was never started")
    return Verdict(AttemptOutcome.SUCCEEDED)


def reason_of(execution: Execution) -> str:
    """Return why an execution did not succeed, in few words."""
    if execution.reason:
        return execution.reason
    if execution.signal is not None:
        return f"signal {execution.signal}"
    return f"exit_code {execution.exit_code}"


def verdict_of_turn(stop_reason: str | None, reason: str | None) -> Verdict:
    """Return how an attempt ends whose last turn was over in a conversation, by the agent's word.

    None: the agent's process ended before it took the turn.
    """
    match stop_reason:
        case "end_turn":
            return Verdict(AttemptOutcome.SUCCEEDED)
        case "cancelled":
            return Verdict(AttemptOutcome.FAILED, "interrupted")
        case "lost":
            return Verdict(AttemptOutcome.LOST, NO_EXIT_RECORD)
        case None:
            return Verdict(AttemptOutcome.FAILED, "agent_ended: the agent took no turn")
    return Verdict(AttemptOutcome.FAILED, reason or stop_reason)
