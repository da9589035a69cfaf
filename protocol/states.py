"""The states of attempts and executions as tables: what may follow what.

Every change of state is a guarded update from a named state; the diagrams in docs/ are drawn from
these tables.
"""

import enum
from collections.abc import Mapping
from typing import Final, TypeVar

S = TypeVar("S")


class AttemptPhase(enum.StrEnum):
    """Where an attempt stands."""

    CREATED = "created"
    PREPARING = "preparing"
    RUNNING = "running"
    AWAITING_INPUT = "awaiting_input"
    FINISHING = "finishing"
    ENDED = "ended"


class AttemptOutcome(enum.StrEnum):
    """How an ended attempt ended. `LOST` is found out, never assumed of a silent node."""

    SUCCEEDED = "succeeded"
    SUCCEEDED_WITH_WARNING = "succeeded_with_warning"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"


class ExecutionKind(enum.StrEnum):
    """What an execution is for."""

    SETUP = "setup"
    AGENT = "agent"
    SCRIPT = "script"
    CLEANUP = "cleanup"


class ExecutionStatus(enum.StrEnum):
    """How an execution stands. `LOST`: found dead with no exit record."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"
    LOST = "lost"


class TaskStatus(enum.StrEnum):
    """Where a task stands on the board."""

    DRAFT = "draft"
    READY = "ready"
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    IN_REVIEW = "in_review"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DeferredStatus(enum.StrEnum):
    """How an operation stands that was asked of a node while that was away."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class SyncState(enum.StrEnum):
    """What the hive holds of an attempt, against what it should hold."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    BACKFILLING = "backfilling"


class SyncPolicy(enum.StrEnum):
    """How much of a project's logs the hive keeps."""

    FULL = "full"
    LAZY = "lazy"
    METADATA = "metadata"


_P = AttemptPhase
ATTEMPT_TRANSITIONS: Final[Mapping[AttemptPhase, frozenset[AttemptPhase]]] = {
    _P.CREATED: frozenset({_P.PREPARING, _P.FINISHING}),
    _P.PREPARING: frozenset({_P.RUNNING, _P.FINISHING}),
    _P.RUNNING: frozenset({_P.AWAITING_INPUT, _P.FINISHING}),
    _P.AWAITING_INPUT: frozenset({_P.RUNNING, _P.FINISHING}),
    _P.FINISHING: frozenset({_P.ENDED}),
    _P.ENDED: frozenset({_P.RUNNING}),
}

_E = ExecutionStatus
EXECUTION_TRANSITIONS: Final[Mapping[ExecutionStatus, frozenset[ExecutionStatus]]] = {
    _E.RUNNING: frozenset({_E.SUCCEEDED, _E.FAILED, _E.KILLED, _E.LOST}),
    _E.SUCCEEDED: frozenset(),
    _E.FAILED: frozenset(),
    _E.KILLED: frozenset(),
    _E.LOST: frozenset(),
}

_T = TaskStatus
TASK_TRANSITIONS: Final[Mapping[TaskStatus, frozenset[TaskStatus]]] = {
    _T.DRAFT: frozenset({_T.READY, _T.QUEUED, _T.CANCELLED}),
    # A run may also start at once, with no queue between.
    _T.READY: frozenset({_T.DRAFT, _T.QUEUED, _T.IN_PROGRESS, _T.CANCELLED}),
    _T.QUEUED: frozenset({_T.READY, _T.IN_PROGRESS, _T.FAILED, _T.CANCELLED}),
    _T.IN_PROGRESS: frozenset({_T.IN_REVIEW, _T.DONE, _T.FAILED, _T.CANCELLED, _T.QUEUED}),
    _T.IN_REVIEW: frozenset({_T.IN_PROGRESS, _T.DONE, _T.READY, _T.CANCELLED}),
    _T.FAILED: frozenset({_T.READY, _T.QUEUED, _T.IN_PROGRESS}),
    _T.CANCELLED: frozenset({_T.READY, _T.QUEUED, _T.IN_PROGRESS}),
    _T.DONE: frozenset({_T.IN_PROGRESS, _T.READY}),
}

_D = DeferredStatus
_TOLD: Final = frozenset({_D.DONE, _D.FAILED})
DEFERRED_TRANSITIONS: Final[Mapping[DeferredStatus, frozenset[DeferredStatus]]] = {
    # The node's own word comes from any of them: a hive restored from a copy may have forgotten
    # that it was delivered.
    _D.WAITING: frozenset({_D.DELIVERED, _D.EXPIRED, _D.CANCELLED}) | _TOLD,
    # Back to waiting where the node took nothing: it was full, or gone again.
    _D.DELIVERED: frozenset({_D.WAITING, _D.UNKNOWN}) | _TOLD,
    _D.UNKNOWN: _TOLD,
    _D.EXPIRED: _TOLD,
    _D.CANCELLED: _TOLD,
    _D.DONE: frozenset(),
    _D.FAILED: frozenset(),
}

#: What an attempt's outcome makes of its task.
TASK_AFTER: Final[Mapping[AttemptOutcome, TaskStatus]] = {
    AttemptOutcome.SUCCEEDED: TaskStatus.IN_REVIEW,
    AttemptOutcome.SUCCEEDED_WITH_WARNING: TaskStatus.IN_REVIEW,
    AttemptOutcome.FAILED: TaskStatus.FAILED,
    AttemptOutcome.STOPPED: TaskStatus.CANCELLED,
    AttemptOutcome.LOST: TaskStatus.FAILED,
}


def may_follow(transitions: Mapping[S, frozenset[S]], before: S, after: S) -> bool:
    """Whether `after` may follow `before`; staying is always allowed."""
    return before == after or after in transitions[before]
