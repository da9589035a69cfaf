"""What a node's facts mean to the hive: ops to row values, states to events. Pure.

Owns the folding alone. Must not read or write rows: the store hands in what it holds and writes
what is returned, inside the commit. What the hive concludes itself stands beside a node's facts,
never over them.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from hive import conversation_folds
from hive.conversation_folds import Values, text_of
from protocol import entities
from protocol.conversation import RequestStatus, SessionStatus
from protocol.direct_urls import usable_direct_urls
from protocol.ops import OpKind, decode_body
from protocol.states import (
    TASK_AFTER,
    TASK_TRANSITIONS,
    AttemptOutcome,
    AttemptPhase,
    ExecutionStatus,
    SyncPolicy,
    SyncState,
    TaskStatus,
    may_follow,
)

#: Kinds whose rows a snapshot names, so that what it does not name is forgotten by its node.
OWNED: Final = (
    OpKind.CHECKOUT,
    OpKind.TASK,
    OpKind.ATTEMPT,
    OpKind.EXECUTION,
    OpKind.SESSION,
    OpKind.TURN,
    OpKind.MESSAGE,
    OpKind.REQUEST,
)

B = TypeVar("B", bound=msgspec.Struct)


class Position(NamedTuple):
    """What is newer among one node's facts: rank of the epoch, then seq."""

    rank: int
    seq: int


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a fact came from: its node, its position, and the snapshot that named it."""

    node_id: str
    epoch: int
    rank: int
    seq: int
    snapshot_id: str | None = None
    #: A record of state, not a change: the same position says the same, and nothing happened now.
    whole_state: bool = False
    #: Older than the node's newest whole snapshot: where that does not name it, it is forgotten.
    before_snapshot: bool = False

    @property
    def position(self) -> Position:
        return Position(self.rank, self.seq)

    def is_newer(self, rank: int, seq: int) -> bool:
        """Whether this may overwrite what (rank, seq) set."""
        if self.whole_state:
            return self.position >= (rank, seq)
        return self.position > (rank, seq)


class Columns(Protocol):
    """A row as far as events look at it: values by column name."""

    def __getitem__(self, name: str, /) -> Any: ...


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A node's fact as row values, and the body they came from."""

    kind: OpKind
    entity_id: str
    values: Values
    body: msgspec.Struct


class UnknownKind(msgspec.Struct, frozen=True):
    """A kind that a newer release knows: kept as it came."""


class Dead(msgspec.Struct, frozen=True):
    """Cannot be applied: kept aside, with the reason."""

    reason: str


class EventDraft(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the activity feed or the audit log, before it has a number."""

    kind: str
    what: str
    what_id: str
    from_state: str | None = None
    to_state: str | None = None
    why: str = ""
    level: str = "info"
    audit: bool = False
    actor_kind: str = "node"
    actor: str = ""
    node_id: str | None = None
    project_id: str | None = None
    task_id: str | None = None
    attempt_id: str | None = None
    details: dict[str, Any] = {}


# --- ops to row values ----------------------------------------------------------------------------


def fold(kind: str, entity_id: str, body: bytes) -> Fact | UnknownKind | Dead:
    """Return an op or record as row values. Never raises: a bad body is a dead op."""
    try:
        decoded = decode_body(kind, body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Dead(f"its body does not decode: {error}")
    if decoded is None:
        return UnknownKind()
    op_kind = OpKind(kind)
    named = _entity_named(op_kind, decoded)
    if named is not None and named != entity_id:
        return Dead("its body names another entity")
    try:
        values = _FOLDS[op_kind](decoded)
    except (ValueError, TypeError, RecursionError) as error:
        # Such as a form with bytes in it, which no JSON holds.
        return Dead(f"it says what no row can hold: {error}")
    return Fact(kind=op_kind, entity_id=entity_id, values=values, body=decoded)


def _entity_named(kind: OpKind, body: msgspec.Struct) -> str | None:
    if kind is OpKind.LOG_END:
        return body.execution_id if isinstance(body, entities.LogEnd) else None
    return getattr(body, "id", None)


def _of_node(body: entities.NodeState) -> Values:
    return {
        "name": body.name,
        "slots": body.slots,
        "executors": text_of(body.executors),
        "agents": text_of(body.agents),
        "os": body.os,
        "arch": body.arch,
        "version": body.version,
        "cores": body.cores,
        "memory_bytes": body.memory_bytes,
        "direct_urls": text_of(usable_direct_urls(body.direct_urls)),
    }


def _of_checkout(body: entities.Checkout) -> Values:
    return {
        "path": body.path,
        "name": body.name,
        "identity": body.identity,
        "default_branch": body.default_branch,
        "removed": int(body.removed),
    }


def _of_task(body: entities.LocalTask) -> Values:
    return {
        "title": body.title,
        "description": body.description,
        "checkout_id": body.checkout_id,
        "created_at_ms": body.created_at_ms,
    }


def _of_attempt(body: entities.Attempt) -> Values:
    return {
        "task_id": body.task_id,
        "checkout_id": body.checkout_id,
        "task_title": body.task_title,
        "executor": body.executor,
        "profile": body.profile,
        "branch": body.branch,
        "target_branch": body.target_branch,
        "base_commit": body.base_commit,
        "head_commit": body.head_commit,
        "worktree": body.worktree,
        "phase": body.phase.value,
        "outcome": None if body.outcome is None else body.outcome.value,
        "reason": body.reason,
        "executions": text_of(body.executions),
        "hold_until_ms": body.hold_until_ms,
        "fence": body.fence,
        "start_key": body.start_key,
        "saved_ref": body.saved_ref,
        "created_at_ms": body.created_at_ms,
        "ended_at_ms": body.ended_at_ms,
        "merges": text_of(msgspec.to_builtins(body.merges)),
        "pr": None if body.pr is None else text_of(msgspec.to_builtins(body.pr)),
        "parked_until_ms": body.parked_until_ms,
        "silent_since_ms": body.silent_since_ms,
    }


def _of_execution(body: entities.Execution) -> Values:
    process = body.process
    return {
        "attempt_id": body.attempt_id,
        "kind": body.kind.value,
        "script": body.script,
        "argv": text_of(body.argv),
        "process": None if process is None else text_of(msgspec.to_builtins(process)),
        "head_before": body.head_before,
        "head_after": body.head_after,
        "status": body.status.value,
        "exit_code": body.exit_code,
        "signal": body.signal,
        "reason": body.reason,
        "started_at_ms": body.started_at_ms,
        "ended_at_ms": body.ended_at_ms,
    }


def _of_log_end(body: entities.LogEnd) -> Values:
    return {
        "end_chunks": body.chunks,
        "end_entries": body.entries,
        "end_bytes": body.bytes,
        "end_digest": body.digest,
        "end_chain": body.chain,
    }


def _of_operation(body: entities.OperationRecord) -> Values:
    return {
        "key": body.key,
        "operation": body.operation,
        "attempt_id": body.attempt_id,
        "actor": body.actor,
        "status": body.status,
        "error_code": body.error_code,
        "head_before": body.head_before,
        "head_after": body.head_after,
        "started_at_ms": body.started_at_ms,
        "ended_at_ms": body.ended_at_ms,
    }


def _of_nothing(_: msgspec.Struct) -> Values:
    return {}


_FOLDS: Final[dict[OpKind, Callable[[Any], Values]]] = {
    OpKind.NODE: _of_node,
    OpKind.CHECKOUT: _of_checkout,
    OpKind.TASK: _of_task,
    OpKind.ATTEMPT: _of_attempt,
    OpKind.EXECUTION: _of_execution,
    OpKind.LOG_END: _of_log_end,
    OpKind.OPERATION: _of_operation,
    OpKind.NOTICE: _of_nothing,
    **conversation_folds.FOLDS,
    OpKind.WITHHELD: _of_nothing,
}


# --- tasks follow attempts ------------------------------------------------------------------------


def task_wanted(
    phase: AttemptPhase, outcome: AttemptOutcome | None, *, review: str
) -> TaskStatus | None:
    """Return what an attempt in this state makes of its task."""
    if phase is not AttemptPhase.ENDED:
        return TaskStatus.IN_PROGRESS
    if outcome is None:
        return None
    if outcome is AttemptOutcome.SUCCEEDED and review == "off":
        return TaskStatus.DONE
    return TASK_AFTER[outcome]


def task_after(present: TaskStatus, wanted: TaskStatus) -> TaskStatus:
    """Return the task's status once its newest attempt wants `wanted`; `present` where it may not.

    Steps the hive did not see (it was away, or a snapshot told the end alone) are taken as seen:
    a task that was not yet in progress passes through it.
    """
    for steps in (
        (wanted,),
        (TaskStatus.IN_PROGRESS, wanted),
        (TaskStatus.READY, TaskStatus.IN_PROGRESS, wanted),
    ):
        status = present
        for step in steps:
            if not may_follow(TASK_TRANSITIONS, status, step):
                break
            status = step
        else:
            return status
    return present


# --- what the hive holds --------------------------------------------------------------------------


class LogHeld(NamedTuple):
    """How far the hive holds the log of an execution it knows; `end_chunks` where it is closed.

    `differs` where all its chunks are held by their number, and they are not those of its node.
    """

    next_chunk: int
    end_chunks: int | None
    gone: bool
    differs: bool = False


def lacks_log(policy: SyncPolicy, held: LogHeld) -> bool:
    """Whether the hive lacks a part of this log that the project's policy wants it to hold."""
    if policy is SyncPolicy.METADATA or held.gone:
        return False
    if held.end_chunks is None:
        # A lazy node sends nothing unasked, so what an open log has by now is not known here.
        return policy is SyncPolicy.LAZY
    return held.next_chunk <= held.end_chunks or held.differs


def sync_state(
    policy: SyncPolicy,
    named: Collection[str],
    logs: Mapping[str, LogHeld],
    *,
    gone: Collection[str],
    asked: bool,
) -> SyncState:
    """Return what the hive holds of an attempt against what it should hold.

    `named` are the executions the attempt names, `logs` those that are known, `gone` the ids the
    node answered it has no more: these count as held.
    """
    unknown = any(execution not in logs and execution not in gone for execution in named)
    if not unknown and not any(lacks_log(policy, held) for held in logs.values()):
        return SyncState.COMPLETE
    return SyncState.BACKFILLING if asked else SyncState.PARTIAL


# --- projects -------------------------------------------------------------------------------------


class KnownProject(NamedTuple):
    """A project as far as linking looks at it."""

    id: str
    name: str
    identity: str


class ProjectChoice(NamedTuple):
    """Which project a repository belongs to: an id, a name to create it by, or a problem."""

    project_id: str | None = None
    create: bool = False
    problem: str = ""


PROJECT_MISMATCH: Final = "project_mismatch"
PROJECT_UNKNOWN: Final = "project_unknown"


def choose_project(
    identity: str, name: str, known: Sequence[KnownProject], *, may_create: bool
) -> ProjectChoice:
    """Return the project of a repository. `known`: those of that identity or that name."""
    for project in known:
        if identity and project.identity == identity:
            return ProjectChoice(project_id=project.id)
    for project in known:
        if project.name == name:
            if project.identity in {"", identity}:
                return ProjectChoice(project_id=project.id)
            return ProjectChoice(problem=PROJECT_MISMATCH)
    if may_create:
        return ProjectChoice(create=True)
    return ProjectChoice(problem=PROJECT_UNKNOWN)


# --- events ---------------------------------------------------------------------------------------


def attempt_events(before: Columns | None, after: Columns) -> list[EventDraft]:
    """Return what happened to an attempt, from its row before and after."""
    ids = {
        "node_id": after["node_id"],
        "project_id": after["project_id"],
        "task_id": after["task_id"],
        "attempt_id": after["id"],
    }
    if before is None:
        kind, was = "attempt_created", None
    elif (before["phase"], before["outcome"]) == (after["phase"], after["outcome"]):
        return _parking_events(before, after, ids)
    else:
        kind, was = "attempt_changed", before["phase"]
    ended = after["phase"] == AttemptPhase.ENDED
    if ended and before is not None:
        kind = "attempt_ended"
    failed = after["outcome"] in {AttemptOutcome.FAILED, AttemptOutcome.LOST}
    return [
        EventDraft(
            kind=kind,
            what="attempt",
            what_id=after["id"],
            from_state=was,
            to_state=after["outcome"] if ended and after["outcome"] else after["phase"],
            why=after["reason"] or "",
            level="warning" if failed else "info",
            **ids,
        )
    ]


def _parking_events(before: Columns, after: Columns, ids: dict[str, Any]) -> list[EventDraft]:
    """Return that an attempt waits for a usage limit to end, or went on after it."""
    was, now = before["parked_until_ms"], after["parked_until_ms"]
    if (was is None) == (now is None):
        return []
    parked = now is not None
    return [
        EventDraft(
            kind="attempt_parked" if parked else "attempt_went_on",
            what="attempt",
            what_id=after["id"],
            from_state=before["phase"],
            to_state=after["phase"],
            why=(after["reason"] or "") if parked else "",
            level="warning" if parked else "info",
            details={"parked_until_ms": now} if parked else {},
            **ids,
        )
    ]


def execution_events(
    before: Columns | None,
    after: Columns,
    *,
    project_id: str | None,
    task_id: str | None,
) -> list[EventDraft]:
    """Return what happened to an execution, from its row before and after."""
    if before is not None and before["status"] == after["status"]:
        return []
    running = after["status"] == ExecutionStatus.RUNNING
    return [
        EventDraft(
            kind="execution_started" if running else "execution_ended",
            what="execution",
            what_id=after["id"],
            from_state=None if before is None else before["status"],
            to_state=after["status"],
            why=after["reason"] or "",
            node_id=after["node_id"],
            project_id=project_id,
            task_id=task_id,
            attempt_id=after["attempt_id"],
            details={"kind": after["kind"], "exit_code": after["exit_code"]},
        )
    ]


def session_events(
    before: Columns | None, after: Columns, *, project_id: str | None, task_id: str | None
) -> list[EventDraft]:
    """Return what happened to a session, from its row before and after.

    Its begin, its end, and another topic in place of the one it had.
    """
    was = None if before is None else before["status"]
    closed = after["status"] == SessionStatus.CLOSED
    kinds = []
    if was is None or closed != (was == SessionStatus.CLOSED):
        gone_on = "session_created" if was is None else "session_resumed"
        kinds.append("session_closed" if closed else gone_on)
    if before is not None and before["topic"] not in {"", after["topic"]}:
        kinds.append("session_renamed")
    return [
        EventDraft(
            kind=kind,
            what="session",
            what_id=after["id"],
            from_state=was,
            to_state=after["status"],
            why=after["reason"] or "",
            node_id=after["node_id"],
            project_id=project_id,
            task_id=task_id,
            attempt_id=after["attempt_id"],
            details={"topic": after["topic"]} if kind == "session_renamed" else {},
        )
        for kind in kinds
    ]


def request_kind(before: Columns | None, after: Columns) -> str:
    """Return what happened to a request, as live events call it.

    Opened, reminded, settled; changed where it was none of these, such as told of again.
    """
    opened = after["status"] == RequestStatus.OPEN
    if before is None or before["status"] != after["status"]:
        return "opened" if opened else "settled"
    reminded = opened and before["reminded_at_ms"] != after["reminded_at_ms"]
    return "reminded" if reminded else "changed"


def request_events(
    before: Columns | None, after: Columns, *, project_id: str | None, task_id: str | None
) -> list[EventDraft]:
    """Return what happened to a request, from its row before and after."""
    was = None if before is None else before["status"]
    kind = request_kind(before, after)
    if kind == "changed":
        return []
    answer = {} if after["answer"] is None else json.loads(after["answer"])
    return [
        EventDraft(
            kind=f"request_{kind}",
            what="request",
            what_id=after["id"],
            from_state=was,
            to_state=after["status"],
            why=after["reason"] or after["title"],
            node_id=after["node_id"],
            project_id=project_id,
            task_id=task_id,
            attempt_id=after["attempt_id"],
            details={name: answer[name] for name in ("by", "by_kind") if name in answer},
        )
    ]


def notice_event(node_id: str, notice: entities.Notice) -> EventDraft:
    """Return a node's notice as an event."""
    return EventDraft(
        kind="notice",
        what="node",
        what_id=node_id,
        to_state=notice.code,
        why=notice.message,
        level=notice.level,
        node_id=node_id,
        attempt_id=notice.attempt_id,
        details={"hint": notice.hint} if notice.hint else {},
    )
