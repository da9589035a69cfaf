"""Tasks: the hive's own, and those a node brought along.

A node's local task is its node's to edit; the hive keeps its status after its attempts, and whether
it is archived. Every change of status is a step of its table.
"""

import json
from typing import Any, Final

import msgspec

from hive import variables
from hive.projections import EventDraft
from hive.store import events
from hive.store.backend import Change, Row, Transaction
from hive.store.ids import new_id
from protocol.errors import ErrorCode, OperationError
from protocol.states import TASK_TRANSITIONS, TaskStatus, may_follow

TYPES: Final = frozenset({"feature", "bugfix", "test", "docs"})
PRIORITIES: Final = frozenset({"high", "normal", "low"})
SIZES: Final = frozenset({"small", "medium", "large"})
_TITLE_MAX: Final = 500
_DESCRIPTION_MAX: Final = 32_768

_COLUMNS: Final = """
SELECT task.*, project.name AS project_name FROM task
LEFT JOIN project ON project.id = task.project_id
"""
_SELECT = f"{_COLUMNS} WHERE task.id = :id AND task.deleted_at_ms IS NULL"
_INSERT = """
INSERT INTO task (id, node_id, project_id, checkout_id, title, description, type, priority, size,
    base_branch, target_branch, status, parent_id, depends_on, labels, variables, position, result,
    recovered, archived, version, created_by, created_at_ms, updated_at_ms, completed_at_ms,
    deleted_at_ms, rank, seq, at_ms, snapshot_id, forgotten_at_ms)
VALUES (:id, NULL, :project_id, NULL, :title, :description, :type, :priority, :size,
    :base_branch, :target_branch, :status, :parent_id, :depends_on, :labels, :variables, :position,
    NULL, 0, 0, 1, :actor, :now_ms, :now_ms, NULL, NULL, 0, 0, :now_ms, NULL, NULL)
"""
_UPDATE = """
UPDATE task SET title = :title, description = :description, type = :type, priority = :priority,
    size = :size, base_branch = :base_branch, target_branch = :target_branch,
    parent_id = :parent_id, depends_on = :depends_on, labels = :labels, variables = :variables,
    position = :position, archived = :archived, recovered = 0, version = version + 1,
    updated_at_ms = :now_ms
WHERE id = :id AND version = :version
"""
_ARCHIVE = """
UPDATE task SET archived = :archived, version = version + 1, updated_at_ms = :now_ms
WHERE id = :id
"""
_SET_STATUS = """
UPDATE task SET status = :status, version = version + 1, updated_at_ms = :now_ms,
    completed_at_ms = CASE WHEN :completed = 1 THEN :now_ms ELSE NULL END
WHERE id = :id AND status = :from_status
"""
_DELETE = """
UPDATE task SET deleted_at_ms = :now_ms, updated_at_ms = :now_ms, version = version + 1
WHERE id = :id
"""
_SELECT_RUNNING = """
SELECT 1 FROM attempt WHERE task_id = :id AND phase <> 'ended' AND forgotten_at_ms IS NULL LIMIT 1
"""
_FILTERS: Final = {
    "project_id": "task.project_id = :project_id",
    "status": "task.status = :status",
    "node_id": "task.node_id = :node_id",
    "parent_id": "task.parent_id = :parent_id",
}
COMPLETED: Final = frozenset({TaskStatus.DONE, TaskStatus.FAILED, TaskStatus.CANCELLED})


class TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of wanted work. `node_id` where it is a node's own, not shared."""

    id: str
    node_id: str | None
    project_id: str | None
    project_name: str | None
    title: str
    description: str
    type: str
    priority: str
    size: str | None
    base_branch: str | None
    target_branch: str | None
    status: str
    parent_id: str | None
    depends_on: list[str]
    labels: list[str]
    variables: dict[str, Any]
    position: int
    result: dict[str, Any] | None
    recovered: bool
    archived: bool
    version: int
    created_by: str
    created_at_ms: int
    updated_at_ms: int
    completed_at_ms: int | None
    forgotten_at_ms: int | None


class TaskSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a person sets of a task."""

    title: str
    description: str = ""
    type: str = "feature"
    priority: str = "normal"
    size: str | None = None
    base_branch: str | None = None
    target_branch: str | None = None
    parent_id: str | None = None
    depends_on: list[str] = []
    labels: list[str] = []
    variables: dict[str, Any] = {}
    position: int = 0
    archived: bool = False


def _task(row: Row) -> TaskRow:
    values = {name: row[name] for name in TaskRow.__struct_fields__}
    for name in ("depends_on", "labels", "variables"):
        values[name] = json.loads(values[name])
    values["result"] = None if row["result"] is None else json.loads(row["result"])
    for name in ("recovered", "archived"):
        values[name] = bool(values[name])
    return TaskRow(**values)


# --- reading --------------------------------------------------------------------------------------


async def get_task(tx: Transaction, task_id: str) -> TaskRow:
    """Return one task. Raises NOT_FOUND."""
    row = await tx.fetch_one(_SELECT, {"id": task_id})
    if row is None:
        raise OperationError(ErrorCode.NOT_FOUND, f"there is no task {task_id}")
    return _task(row)


async def list_tasks(
    tx: Transaction,
    *,
    before: tuple[int, str] | None = None,
    limit: int = 50,
    archived: bool = False,
    **filters: str | None,
) -> list[TaskRow]:
    """Return tasks, newest first; `before` is creation time and id of the last one before.

    `filters`: project_id, status, node_id, parent_id.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    conditions = ["task.deleted_at_ms IS NULL", *(_FILTERS[name] for name in given)]
    if not archived:
        conditions.append("task.archived = 0")
    if before is not None:
        conditions.append(
            "(task.created_at_ms < :created_at_ms"
            " OR (task.created_at_ms = :created_at_ms AND task.id < :id))"
        )
    created_at_ms, task_id = before or (0, "")
    rows = await tx.fetch_all(
        f"{_COLUMNS} WHERE {' AND '.join(conditions)} "
        "ORDER BY task.created_at_ms DESC, task.id DESC LIMIT :limit",
        {**given, "created_at_ms": created_at_ms, "id": task_id, "limit": limit},
    )
    return [_task(row) for row in rows]


# --- changing -------------------------------------------------------------------------------------


def check_settings(settings: TaskSettings) -> None:
    """Raise INVALID, naming the field, where a setting makes no sense."""
    if not settings.title.strip() or len(settings.title) > _TITLE_MAX:
        raise _invalid("title", f"it has 1 to {_TITLE_MAX} characters")
    if len(settings.description.encode()) > _DESCRIPTION_MAX:
        raise _invalid("description", f"it has at most {_DESCRIPTION_MAX} bytes")
    if settings.type not in TYPES:
        raise _invalid("type", f"one of {', '.join(sorted(TYPES))}")
    if settings.priority not in PRIORITIES:
        raise _invalid("priority", "high, normal or low")
    if settings.size is not None and settings.size not in SIZES:
        raise _invalid("size", "small, medium or large")
    variables.check(settings.variables)


def _invalid(field: str, rule: str) -> OperationError:
    return OperationError(ErrorCode.INVALID, f"{field}: {rule}", field=field)


def _values(settings: TaskSettings) -> dict[str, Any]:
    values = msgspec.structs.asdict(settings)
    for name in ("depends_on", "labels", "variables"):
        values[name] = json.dumps(values[name])
    values["archived"] = int(settings.archived)
    return values


async def create_task(
    tx: Transaction,
    project_id: str,
    settings: TaskSettings,
    *,
    actor: str,
    now_ms: int,
    draft: bool = False,
) -> TaskRow:
    """Make a task of a project: ready, or a draft."""
    check_settings(settings)
    task_id = new_id(now_ms)
    status = TaskStatus.DRAFT if draft else TaskStatus.READY
    await tx.execute(
        _INSERT,
        {
            **_values(settings),
            "id": task_id,
            "project_id": project_id,
            "status": status.value,
            "actor": actor,
            "now_ms": now_ms,
        },
    )
    task = await get_task(tx, task_id)
    await _changed(tx, task, "task_created", actor, now_ms, to_state=status.value)
    return task


async def edit_task(
    tx: Transaction,
    task_id: str,
    changes: dict[str, Any],
    *,
    actor: str,
    now_ms: int,
    version: int | None = None,
) -> TaskRow:
    """Change a task. `version`: raise CONFLICT where it has been edited since.

    `changes` may name any of `TaskSettings`, and `status`. Of a node's local task only `archived`
    is the hive's to change.
    """
    before = await get_task(tx, task_id)
    if version is not None and version != before.version:
        raise OperationError(
            ErrorCode.CONFLICT,
            "the task has been edited since",
            hint="Read it again, then edit it.",
            id=task_id,
            version=before.version,
        )
    changes = dict(changes)
    status = changes.pop("status", None)
    if status is not None and before.node_id is None:
        await set_status(tx, task_id, TaskStatus(status), actor=actor, now_ms=now_ms)
        if not changes:
            return await get_task(tx, task_id)
        before = await get_task(tx, task_id)
    unknown = sorted(set(changes) - set(TaskSettings.__struct_fields__))
    if unknown:
        raise _invalid(unknown[0], "a task has no such setting")
    present = {name: getattr(before, name) for name in TaskSettings.__struct_fields__}
    settings = TaskSettings(**{**present, **changes})
    if before.node_id is not None:
        if status is not None or set(changes) - {"archived"}:
            raise OperationError(
                ErrorCode.CONFLICT,
                "the task is its node's own; it is edited there",
                hint="Edit it on its node, or make a task of the project with the same text.",
                node_id=before.node_id,
            )
        archived = {"id": task_id, "archived": int(settings.archived), "now_ms": now_ms}
        await tx.execute(_ARCHIVE, archived)
    else:
        check_settings(settings)
        values = {**_values(settings), "id": task_id, "version": before.version}
        await tx.execute(_UPDATE, {**values, "now_ms": now_ms})
    task = await get_task(tx, task_id)
    await _changed(tx, task, "task_edited", actor, now_ms, why=", ".join(sorted(changes)))
    return task


async def set_status(
    tx: Transaction, task_id: str, status: TaskStatus, *, actor: str, now_ms: int, why: str = ""
) -> TaskRow:
    """Move a task to another status, by a step of its table. Raises CONFLICT."""
    before = await get_task(tx, task_id)
    present = TaskStatus(before.status)
    if not may_follow(TASK_TRANSITIONS, present, status):
        allowed = sorted(TASK_TRANSITIONS[present])
        raise OperationError(
            ErrorCode.CONFLICT,
            f"a task that is {present.value} does not become {status.value}",
            hint=f"It may become: {', '.join(allowed)}.",
        )
    values = {"id": task_id, "status": status.value, "from_status": present.value}
    await tx.execute(
        _SET_STATUS, {**values, "completed": int(status in COMPLETED), "now_ms": now_ms}
    )
    task = await get_task(tx, task_id)
    if status is not present:
        await _changed(
            tx,
            task,
            "task_changed",
            actor,
            now_ms,
            from_state=present.value,
            to_state=status.value,
            why=why,
        )
    return task


async def delete_task(tx: Transaction, task_id: str, *, actor: str, now_ms: int) -> None:
    """Take a task off all lists; its attempts stay to be read by id. Raises CONFLICT."""
    task = await get_task(tx, task_id)
    if await tx.fetch_one(_SELECT_RUNNING, {"id": task_id}) is not None:
        raise OperationError(
            ErrorCode.CONFLICT,
            "an attempt of this task is still running",
            hint="Stop it first, or archive the task instead.",
        )
    await tx.execute(_DELETE, {"id": task_id, "now_ms": now_ms})
    await _changed(tx, task, "task_deleted", actor, now_ms)


async def _changed(
    tx: Transaction,
    task: TaskRow,
    kind: str,
    actor: str,
    now_ms: int,
    *,
    from_state: str | None = None,
    to_state: str | None = None,
    why: str = "",
) -> None:
    draft = EventDraft(
        kind=kind,
        what="task",
        what_id=task.id,
        from_state=from_state,
        to_state=to_state,
        why=why,
        audit=True,
        actor_kind="user",
        actor=actor,
        project_id=task.project_id,
        task_id=task.id,
    )
    await events.record(tx, draft, now_ms)
    ids = {"task": task.id}
    if task.project_id is not None:
        ids["project"] = task.project_id
    tx.note(Change(kind="task.changed", ids=ids))
