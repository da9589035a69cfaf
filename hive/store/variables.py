"""The variables of tasks and projects: what holds for a task, and setting one at a time."""

import json
from collections.abc import Mapping

from hive import variables
from hive.store import catalog, tasks
from hive.store.backend import Transaction
from hive.variables import Level, Variable
from protocol.errors import ErrorCode, OperationError

_SELECT_PARENT = """
SELECT id, parent_id, project_id, variables FROM task WHERE id = :id AND deleted_at_ms IS NULL
"""


async def variables_of(tx: Transaction, task_id: str) -> list[Variable]:
    """Return the variables that hold for a task, by name: its own, its parents', its project's."""
    task = await tasks.get_task(tx, task_id)
    levels = [Level(kind="task", id=task.id, variables=_texts(task.variables))]
    seen, parent_id = {task.id}, task.parent_id
    while (
        parent_id is not None and parent_id not in seen and len(seen) <= variables.PARENTS_READ_MAX
    ):
        row = await tx.fetch_one(_SELECT_PARENT, {"id": parent_id})
        # A parent that moved to another project has nothing to say here.
        if row is None or row["project_id"] != task.project_id:
            break
        levels.append(
            Level(kind="parent", id=row["id"], variables=_texts(json.loads(row["variables"])))
        )
        seen.add(parent_id)
        parent_id = row["parent_id"]
    if task.project_id is not None:
        project = await catalog.get_project(tx, task.project_id)
        levels.append(Level(kind="project", id=project.id, variables=project.variables))
    return variables.inherited(levels)


async def check_parent(
    tx: Transaction, parent_id: str | None, project_id: str | None, task_id: str | None = None
) -> None:
    """Raise INVALID where a task cannot be the parent of another: not here, or its own child."""
    seen: set[str] = set() if task_id is None else {task_id}
    following = parent_id
    while following is not None:
        if following in seen:
            raise _parent("a task cannot stand below itself")
        if len(seen) > variables.PARENTS_MAX:
            raise _parent(f"tasks stand at most {variables.PARENTS_MAX} deep")
        row = await tx.fetch_one(_SELECT_PARENT, {"id": following})
        if row is None or row["project_id"] != project_id:
            raise _parent("there is no such task in this project")
        seen.add(following)
        following = row["parent_id"]


async def set_variable(
    tx: Transaction, task_id: str, name: str, value: str | None, *, actor: str, now_ms: int
) -> list[Variable]:
    """Set one variable of a task, or with None take it away; return what holds then.

    Two at once do not undo each other: the rest is read in the same transaction.
    """
    task = await tasks.get_task(tx, task_id)
    changed = dict(task.variables)
    if value is None:
        if name not in changed:
            raise OperationError(
                ErrorCode.NOT_FOUND,
                f"the task has no variable {name[:64]!r} of its own",
                hint="What it inherits is changed where it is set.",
            )
        del changed[name]
    else:
        changed[name] = value
    await tasks.edit_task(tx, task_id, {"variables": changed}, actor=actor, now_ms=now_ms)
    return await variables_of(tx, task_id)


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {name: value for name, value in values.items() if isinstance(value, str)}


def _parent(rule: str) -> OperationError:
    return OperationError(ErrorCode.INVALID, f"parent_id: {rule}", field="parent_id")
