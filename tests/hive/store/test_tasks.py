"""Tasks: made, edited and moved by people, within the steps of their table."""

import pytest

from hive.store import catalog, tasks
from hive.store.catalog import ProjectSettings
from hive.store.tasks import TaskSettings
from protocol.errors import ErrorCode, OperationError
from protocol.states import AttemptOutcome, TaskStatus
from tests.hive import reported
from tests.hive.reported import NOW_MS, uid
from tests.hive.store.open_hive import OpenHive

BY = {"actor": "ann", "now_ms": NOW_MS}


async def make(hive: OpenHive, title: str = "Mend the door", *, draft: bool = False, **settings):
    """Make a task of the project `shop`."""
    found = await hive.rows("SELECT id FROM project")
    if not found:
        await hive.write(catalog.create_project, ProjectSettings(name="shop"), **BY)
        found = await hive.rows("SELECT id FROM project")
    return await hive.write(
        tasks.create_task, found[0]["id"], TaskSettings(title=title, **settings), draft=draft, **BY
    )


async def refused(code: ErrorCode, work) -> OperationError:
    """The work must be refused with this code; return the error."""
    with pytest.raises(OperationError) as caught:
        await work
    assert caught.value.code is code
    return caught.value


@pytest.mark.asyncio
async def test_a_task_is_made_edited_and_listed(hive: OpenHive):
    """What a person writes is what is shown; lists are newest first, in pages, and filtered."""
    door = await make(hive, labels=["wood"], variables={"tool": "saw"})
    assert (door.status, door.project_name, door.labels) == ("ready", "shop", ["wood"])
    draft = await make(hive, "Paint", draft=True)
    assert draft.status == "draft"
    edited = await hive.write(tasks.edit_task, door.id, {"priority": "high"}, version=1, **BY)
    assert (edited.priority, edited.variables, edited.version) == ("high", {"tool": "saw"}, 2)
    first = await hive.read(tasks.list_tasks, limit=1)
    rest = await hive.read(tasks.list_tasks, before=(first[0].created_at_ms, first[0].id))
    assert {task.title for task in (*first, *rest)} == {"Mend the door", "Paint"}
    only = await hive.read(tasks.list_tasks, status="draft", project_id=door.project_id)
    assert [task.id for task in only] == [draft.id]
    await hive.write(tasks.edit_task, door.id, {"archived": True}, **BY)
    assert [task.id for task in await hive.read(tasks.list_tasks)] == [draft.id]
    assert len(await hive.read(tasks.list_tasks, archived=True)) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", ""),
        ("title", "x" * 501),
        ("description", "x" * 40_000),
        ("type", "chore"),
        ("priority", "urgent"),
        ("size", "huge"),
        ("colour", "red"),
    ],
)
async def test_settings_that_make_no_sense_are_refused(hive: OpenHive, field: str, value: str):
    """A bad setting names its field."""
    door = await make(hive)
    error = await refused(
        ErrorCode.INVALID, hive.write(tasks.edit_task, door.id, {field: value}, **BY)
    )
    assert error.details["field"] == field


@pytest.mark.asyncio
async def test_a_task_moves_by_the_steps_of_its_table(hive: OpenHive):
    """A step that is not in the table is refused, and says which are."""
    door = await make(hive, draft=True)
    error = await refused(
        ErrorCode.CONFLICT, hive.write(tasks.set_status, door.id, TaskStatus.DONE, **BY)
    )
    assert "ready" in error.hint
    ready = await hive.write(tasks.edit_task, door.id, {"status": "ready", "size": "small"}, **BY)
    assert (ready.status, ready.size) == ("ready", "small")
    cancelled = await hive.write(tasks.set_status, door.id, TaskStatus.CANCELLED, **BY)
    assert cancelled.completed_at_ms == NOW_MS
    back = await hive.write(tasks.set_status, door.id, TaskStatus.READY, **BY)
    assert back.completed_at_ms is None
    same = await hive.write(tasks.set_status, door.id, TaskStatus.READY, **BY)
    assert same.status == "ready"
    assert (await hive.happened()).count("task_changed") == 3


@pytest.mark.asyncio
async def test_a_draft_that_is_run_moves_on(hive: OpenHive):
    """A task whose attempt starts is in progress, whatever steps nobody saw."""
    door = await make(hive, draft=True)
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt(task_id=door.id))
    assert (await hive.read(tasks.get_task, door.id)).status == "in_progress"
    await alpha.tells(reported.ended(task_id=door.id, outcome=AttemptOutcome.SUCCEEDED))
    found = await hive.read(tasks.get_task, door.id)
    assert (found.status, found.result["attempt_id"]) == ("in_review", uid(10))


@pytest.mark.asyncio
async def test_a_local_task_is_its_nodes_to_edit(hive: OpenHive):
    """Of a node's own task the hive changes nothing but whether it is archived."""
    alpha = await hive.reporting()
    await alpha.tells(reported.local_task())
    for changes in ({"title": "Mine"}, {"status": "cancelled"}, {"archived": True, "title": "x"}):
        await refused(ErrorCode.CONFLICT, hive.write(tasks.edit_task, uid(5), changes, **BY))
    found = await hive.write(tasks.edit_task, uid(5), {"archived": True}, **BY)
    assert (found.archived, found.title) == (True, "Mend the door")


@pytest.mark.asyncio
async def test_a_deleted_task_is_gone_but_not_while_it_runs(hive: OpenHive):
    """A task with a running attempt stays; deleted, it is off the lists and not moved again."""
    door = await make(hive)
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt(task_id=door.id))
    await refused(ErrorCode.CONFLICT, hive.write(tasks.delete_task, door.id, **BY))
    await alpha.tells(reported.ended(task_id=door.id))
    await hive.write(tasks.delete_task, door.id, **BY)
    assert await hive.read(tasks.list_tasks, archived=True) == []
    await refused(ErrorCode.NOT_FOUND, hive.read(tasks.get_task, door.id))
    await alpha.tells(reported.attempt(task_id=door.id))
    assert (await hive.row("task", door.id))["status"] == "in_review"
    assert (await hive.row("attempt", uid(10)))["phase"] == "running"


@pytest.mark.asyncio
async def test_an_edit_of_what_was_edited_since_is_refused(hive: OpenHive):
    """Who edits an old version is told so."""
    door = await make(hive)
    await hive.write(tasks.edit_task, door.id, {"priority": "high"}, version=1, **BY)
    await refused(
        ErrorCode.CONFLICT,
        hive.write(tasks.edit_task, door.id, {"priority": "low"}, version=1, **BY),
    )
