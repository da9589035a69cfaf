"""What the hive concludes from attempts: which project they belong to, and what becomes of tasks.

Only a task's newest attempt decides its status, and only by a named step of its table. A task that
the hive lost is rebuilt from the attempt that carries it, and marked `recovered`.
"""

import json
from typing import Any

from hive import projections
from hive.projections import EventDraft
from hive.store import events, linking
from hive.store.backend import Change, Row, Transaction
from hive.store.linking import LinkContext, Repository
from protocol import entities
from protocol.states import AttemptPhase, TaskStatus

_SELECT_CHECKOUT_PROJECT = """
SELECT checkout.project_id FROM checkout
JOIN project ON project.id = checkout.project_id AND project.deleted_at_ms IS NULL
WHERE checkout.id = :checkout_id AND checkout.node_id = :node_id
"""
_SELECT_PUT_OFF = """
SELECT 1 FROM checkout
WHERE id = :checkout_id AND node_id = :node_id AND problem = :problem
"""
_SELECT_TASK = "SELECT * FROM task WHERE id = :id"
_SELECT_REVIEW = "SELECT review FROM project WHERE id = :id"
_INSERT_TASK = """
INSERT INTO task (id, node_id, project_id, checkout_id, title, description, type, priority, size,
    base_branch, target_branch, status, parent_id, depends_on, labels, variables, position, result,
    recovered, archived, version, created_by, created_at_ms, updated_at_ms, completed_at_ms,
    deleted_at_ms, rank, seq, at_ms, snapshot_id, forgotten_at_ms)
VALUES (:id, :node_id, :project_id, :checkout_id, :title, :description, 'feature', 'normal', NULL,
    NULL, :target_branch, :status, NULL, '[]', '[]', '{}', 0, NULL, :recovered, 0, 1, :created_by,
    :created_at_ms, :now_ms, NULL, NULL, :rank, :seq, :at_ms, :snapshot_id,
    :forgotten_at_ms)
"""
_UPDATE_LOCAL = """
UPDATE task SET node_id = :node_id, project_id = coalesce(:project_id, project_id),
    checkout_id = :checkout_id, title = :title, description = :description, recovered = 0,
    version = version + 1, created_at_ms = :created_at_ms, updated_at_ms = :now_ms, rank = :rank,
    seq = :seq, at_ms = :at_ms, snapshot_id = :snapshot_id, forgotten_at_ms = :forgotten_at_ms
WHERE id = :id
"""
_SELECT_OTHER_NODES = """
SELECT 1 FROM attempt WHERE task_id = :id AND node_id <> :node_id LIMIT 1
"""
_SELECT_NEWER_ATTEMPT = """
SELECT 1 FROM attempt
WHERE task_id = :task_id
    AND (created_at_ms > :created_at_ms OR (created_at_ms = :created_at_ms AND id > :id))
LIMIT 1
"""
_SUPERSEDE_OLDER = """
UPDATE attempt SET superseded = 1
WHERE task_id = :task_id AND superseded = 0
    AND (created_at_ms < :created_at_ms OR (created_at_ms = :created_at_ms AND id < :id))
RETURNING id, project_id, node_id
"""
_SUPERSEDE_THIS = "UPDATE attempt SET superseded = 1 WHERE id = :id"
_SET_STATUS = """
UPDATE task SET status = :status, result = :result, version = version + 1,
    updated_at_ms = :now_ms, completed_at_ms = :completed_at_ms
WHERE id = :id AND status = :from_status
"""


def live_ids(**ids: str | None) -> dict[str, str]:
    """Return the ids of a change, without those that are not known."""
    return {word: value for word, value in ids.items() if value is not None}


# --- projects -------------------------------------------------------------------------------------


async def project_of(
    tx: Transaction,
    context: LinkContext,
    node_id: str,
    attempt: entities.Attempt,
    before: Row | None,
) -> str | None:
    """Return the project of an attempt: its checkout's, else its repository's, made if need be.

    Once known it stays: a checkout may move to another project, what ran in it does not.
    """
    if before is not None and before["project_id"] is not None:
        return str(before["project_id"])
    row = await tx.fetch_one(
        _SELECT_CHECKOUT_PROJECT, {"checkout_id": attempt.checkout_id, "node_id": node_id}
    )
    if row is not None:
        return str(row["project_id"])
    repository = Repository(
        node_id=node_id, identity=attempt.project_identity, name=attempt.project_name
    )
    # A project that someone deleted is not brought back by work in its checkout.
    deleted = await tx.fetch_one(
        _SELECT_PUT_OFF,
        {
            "checkout_id": attempt.checkout_id,
            "node_id": node_id,
            "problem": linking.PROJECT_DELETED,
        },
    )
    choice = await linking.link(
        tx,
        context,
        repository,
        claimed_id=attempt.project_id,
        recovered=True,
        may_create=deleted is None,
    )
    return choice.project_id


# --- local tasks ----------------------------------------------------------------------------------


async def may_take_over(tx: Transaction, task: Row, node_id: str) -> bool:
    """Whether a task without an owner is this node's: rebuilt from its attempts alone."""
    if not task["recovered"]:
        return False
    others = await tx.fetch_one(_SELECT_OTHER_NODES, {"id": task["id"], "node_id": node_id})
    return others is None


async def set_local_task(tx: Transaction, values: dict[str, Any]) -> None:
    """Write a node's local task as the node has it."""
    row = await tx.fetch_one(
        _SELECT_CHECKOUT_PROJECT,
        {"checkout_id": values["checkout_id"], "node_id": values["node_id"]},
    )
    project_id = None if row is None else row["project_id"]
    if await tx.execute(_UPDATE_LOCAL, {**values, "project_id": project_id}):
        return
    await tx.execute(
        _INSERT_TASK,
        {
            **values,
            "project_id": project_id,
            "target_branch": None,
            "status": TaskStatus.READY.value,
            "recovered": 0,
            "created_by": values["node_id"],
        },
    )


# --- tasks follow attempts ------------------------------------------------------------------------


async def follow_attempt(
    tx: Transaction,
    context: LinkContext,
    before: Row | None,
    attempt: entities.Attempt,
    project_id: str | None,
    node_id: str,
) -> None:
    """Bring the attempt's task after it: rebuild it, supersede older attempts, move its status."""
    task = await tx.fetch_one(_SELECT_TASK, {"id": attempt.task_id})
    if task is None:
        task = await _recover_task(tx, context, attempt, project_id)
    order = {
        "task_id": attempt.task_id,
        "created_at_ms": attempt.created_at_ms,
        "id": attempt.id,
    }
    newest = await tx.fetch_one(_SELECT_NEWER_ATTEMPT, order) is None
    if before is None:
        await _supersede(tx, order, newest=newest)
    if not newest or not _may_decide(task, project_id, node_id):
        return
    if before is not None and (before["phase"], before["outcome"]) == (
        attempt.phase,
        attempt.outcome,
    ):
        # Nothing new of its life: a person may have moved the task since.
        return
    await _move_task(tx, context, task, attempt, project_id)


def _may_decide(task: Row, project_id: str | None, node_id: str) -> bool:
    # Another node's local task, or one of another project, is not this attempt's to move.
    if task["node_id"] not in {None, node_id} or task["deleted_at_ms"] is not None:
        return False
    return task["project_id"] is None or task["project_id"] == project_id


async def _supersede(tx: Transaction, order: dict[str, Any], *, newest: bool) -> None:
    if not newest:
        await tx.execute(_SUPERSEDE_THIS, order)
        return
    for row in await tx.fetch_all(_SUPERSEDE_OLDER, order):
        ids = live_ids(
            attempt=row["id"],
            project=row["project_id"],
            node=row["node_id"],
            task=order["task_id"],
        )
        tx.note(Change(kind="attempt.changed", ids=ids))


async def _recover_task(
    tx: Transaction, context: LinkContext, attempt: entities.Attempt, project_id: str | None
) -> Row:
    await tx.execute(
        _INSERT_TASK,
        {
            "id": attempt.task_id,
            "node_id": None,
            "project_id": project_id,
            "checkout_id": None,
            "title": attempt.task_title,
            "description": attempt.task_description,
            "target_branch": attempt.target_branch,
            "status": TaskStatus.READY.value,
            "recovered": 1,
            "created_by": "",
            "created_at_ms": attempt.created_at_ms,
            "now_ms": context.now_ms,
            "rank": 0,
            "seq": 0,
            "at_ms": attempt.created_at_ms,
            "snapshot_id": None,
            "forgotten_at_ms": None,
        },
    )
    draft = EventDraft(
        kind="task_recovered",
        what="task",
        what_id=attempt.task_id,
        to_state=TaskStatus.READY.value,
        why="an attempt names it and the hive did not know it",
        actor_kind="hive",
        project_id=project_id,
        task_id=attempt.task_id,
        attempt_id=attempt.id,
    )
    await events.record(tx, draft, context.now_ms)
    tx.note(Change(kind="task.changed", ids=live_ids(task=attempt.task_id, project=project_id)))
    task = await tx.fetch_one(_SELECT_TASK, {"id": attempt.task_id})
    if task is None:
        raise LookupError(attempt.task_id)
    return task


async def _move_task(
    tx: Transaction,
    context: LinkContext,
    task: Row,
    attempt: entities.Attempt,
    project_id: str | None,
) -> None:
    project = await tx.fetch_one(_SELECT_REVIEW, {"id": project_id})
    review = "on" if project is None else project["review"]
    wanted = projections.task_wanted(attempt.phase, attempt.outcome, review=review)
    present = TaskStatus(task["status"])
    if wanted is None:
        return
    status = projections.task_after(present, wanted)
    if status is present:
        return
    moved = await tx.execute(
        _SET_STATUS,
        {
            "id": attempt.task_id,
            "status": status.value,
            "from_status": present.value,
            "result": task["result"] if status is TaskStatus.IN_PROGRESS else _result(attempt),
            "completed_at_ms": context.now_ms if status in _COMPLETED else None,
            "now_ms": context.now_ms,
        },
    )
    if not moved:
        return
    draft = EventDraft(
        kind="task_changed",
        what="task",
        what_id=attempt.task_id,
        from_state=present.value,
        to_state=status.value,
        why=attempt.reason or "",
        actor_kind="hive",
        node_id=None,
        project_id=project_id,
        task_id=attempt.task_id,
        attempt_id=attempt.id,
    )
    await events.record(tx, draft, context.now_ms)
    tx.note(Change(kind="task.changed", ids=live_ids(task=attempt.task_id, project=project_id)))


_COMPLETED = frozenset({TaskStatus.DONE, TaskStatus.FAILED, TaskStatus.CANCELLED})


def _result(attempt: entities.Attempt) -> str | None:
    if attempt.phase is not AttemptPhase.ENDED or attempt.outcome is None:
        return None
    warning = attempt.reason if attempt.outcome.value.endswith("warning") else None
    return json.dumps(
        {
            "attempt_id": attempt.id,
            "branch": attempt.branch,
            "pr_url": None,
            "summary": attempt.reason or attempt.outcome.value,
            "warning": warning,
        }
    )
