"""`/api/v1/tasks`: the wanted work, and the start of its runs."""

from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web

from hive.api import replies
from hive.api.context import CONTEXT, HiveContext, now_ms
from hive.api.decoding import InvalidInput, body_of, query_of
from hive.api.middleware import json_response, principal_of
from hive.api.paging import PageQuery, page_of, unpack
from hive.api.texts import check_branches, check_line
from hive.store import catalog, tasks, templates
from hive.store.backend import Transaction
from hive.store.tasks import TaskRow, TaskSettings
from hive.store.variables import check_parent
from protocol.states import TaskStatus

Title = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Description = Annotated[str, msgspec.Meta(max_length=32_768)]
Branch = Annotated[str, msgspec.Meta(min_length=1, max_length=181)]
Type = Literal["feature", "bugfix", "test", "docs"]
Priority = Literal["high", "normal", "low"]
Size = Literal["small", "medium", "large"]
Labels = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=100)]], msgspec.Meta(max_length=50)
]

Variables = dict[str, str]


class TasksQuery(PageQuery, frozen=True, kw_only=True):
    """Narrows the list; `archived` lists also those put away."""

    project: str | None = None
    status: TaskStatus | None = None
    archived: bool = False


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task. `draft` saves it to the backlog.

    With a `template`, by name or id, title and description are its own where none are given.
    """

    project: str
    title: Title | None = None
    description: Description | None = None
    template: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    type: Type = "feature"
    priority: Priority = "normal"
    size: Size | None = None
    base_branch: Branch | None = None
    target_branch: Branch | None = None
    labels: Labels = []
    parent_id: str | None = None
    variables: Variables = {}
    draft: bool = False


class EditTask(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; what is not named stays. `version` refuses where another was faster."""

    title: Title | msgspec.UnsetType = msgspec.UNSET
    description: Description | msgspec.UnsetType = msgspec.UNSET
    type: Type | msgspec.UnsetType = msgspec.UNSET
    priority: Priority | msgspec.UnsetType = msgspec.UNSET
    size: Size | msgspec.UnsetType | None = msgspec.UNSET
    status: TaskStatus | msgspec.UnsetType = msgspec.UNSET
    base_branch: Branch | msgspec.UnsetType | None = msgspec.UNSET
    target_branch: Branch | msgspec.UnsetType | None = msgspec.UNSET
    labels: Labels | msgspec.UnsetType = msgspec.UNSET
    parent_id: str | msgspec.UnsetType | None = msgspec.UNSET
    variables: Variables | msgspec.UnsetType = msgspec.UNSET
    archived: bool | msgspec.UnsetType = msgspec.UNSET
    version: int | None = None


def task_reply(row: TaskRow) -> replies.Task:
    """Return a task as the API shows it."""
    return msgspec.convert(row, replies.Task, from_attributes=True)


async def task_id_of(request: web.Request) -> str:
    """Return the id of the task the path names."""
    return await request.app[CONTEXT].database.read(
        catalog.resolve, "task", request.match_info["task"]
    )


async def list_(request: web.Request) -> web.Response:
    """List the tasks, newest first."""
    context = request.app[CONTEXT]
    query = query_of(request, TasksQuery)
    project_id = None
    if query.project is not None:
        project_id = await context.database.read(catalog.resolve, "project", query.project)
    before = unpack(query.cursor, tuple[int, str])

    async def read(tx: Transaction) -> list[TaskRow]:
        return await tasks.list_tasks(
            tx,
            before=before,
            limit=query.limit + 1,
            project_id=project_id,
            status=None if query.status is None else query.status.value,
            archived=query.archived,
        )

    rows = await context.database.read(read)
    page = page_of(rows, query.limit, task_reply, lambda row: (row.created_at_ms, row.id))
    return json_response(page)


async def create(request: web.Request) -> web.Response:
    """Make a task."""
    context = request.app[CONTEXT]
    asked = await body_of(request, NewTask)
    if asked.title is not None:
        check_title(asked.title)
    elif asked.template is None:
        raise InvalidInput("title: it is missing", field="title")
    check_branches(msgspec.structs.asdict(asked))
    project_id = await context.database.read(catalog.resolve, "project", asked.project)
    row = await context.database.write(
        _create, project_id, asked, actor=principal_of(request).name, at_ms=now_ms()
    )
    return json_response(task_reply(row), status=201)


async def _create(
    tx: Transaction, project_id: str, asked: NewTask, *, actor: str, at_ms: int
) -> TaskRow:
    values = msgspec.structs.asdict(asked)
    del values["project"], values["template"]
    draft = values.pop("draft")
    title, description = asked.title, asked.description
    if asked.template is not None:
        template = await templates.template_named(tx, asked.template, project_id)
        title = title or template.title or template.name
        description = template.text if description is None else description
    if asked.parent_id is not None:
        values["parent_id"] = await catalog.resolve(tx, "task", asked.parent_id)
        await check_parent(tx, values["parent_id"], project_id)
    values |= {"title": title, "description": description or ""}
    return await tasks.create_task(
        tx, project_id, TaskSettings(**values), draft=draft, actor=actor, now_ms=at_ms
    )


async def show(request: web.Request) -> web.Response:
    """Show one task."""
    return await _show(request.app[CONTEXT], await task_id_of(request))


async def _show(context: HiveContext, task_id: str) -> web.Response:
    return json_response(task_reply(await context.database.read(tasks.get_task, task_id)))


async def edit(request: web.Request) -> web.Response:
    """Change a task."""
    context = request.app[CONTEXT]
    task_id = await task_id_of(request)
    asked = await body_of(request, EditTask)
    changes: dict[str, Any] = {
        name: value.value if isinstance(value, TaskStatus) else value
        for name, value in msgspec.structs.asdict(asked).items()
        if value is not msgspec.UNSET and name != "version"
    }
    if "title" in changes:
        check_title(changes["title"])
    check_branches(changes)
    if changes:
        await context.database.write(
            _edit,
            task_id,
            changes,
            version=asked.version,
            actor=principal_of(request).name,
            at_ms=now_ms(),
        )
    return await _show(context, task_id)


async def _edit(
    tx: Transaction,
    task_id: str,
    changes: dict[str, Any],
    *,
    version: int | None,
    actor: str,
    at_ms: int,
) -> None:
    if changes.get("parent_id") is not None:
        task = await tasks.get_task(tx, task_id)
        changes["parent_id"] = await catalog.resolve(tx, "task", changes["parent_id"])
        await check_parent(tx, changes["parent_id"], task.project_id, task_id)
    await tasks.edit_task(tx, task_id, changes, version=version, actor=actor, now_ms=at_ms)


async def delete(request: web.Request) -> web.Response:
    """Delete a task of which nothing runs; what ran stays to be read."""
    context = request.app[CONTEXT]
    task_id = await task_id_of(request)
    await context.database.write(
        tasks.delete_task, task_id, actor=principal_of(request).name, now_ms=now_ms()
    )
    return json_response(replies.Deleted(id=task_id))


def check_title(title: str) -> None:
    """Raise InvalidInput where a title is not one line."""
    check_line("title", title, hint="The rest goes into the description.")
