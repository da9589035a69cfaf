"""`/api/v1/templates`: texts that tasks are made from."""

from typing import Annotated

import msgspec
from aiohttp import web

from hive.api import replies
from hive.api.context import CONTEXT, now_ms
from hive.api.decoding import body_of, query_of
from hive.api.middleware import json_response, principal_of
from hive.api.paging import PageQuery, page_of, unpack
from hive.api.texts import check_line
from hive.store import catalog, templates
from hive.store.templates import TemplateRow

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Title = Annotated[str, msgspec.Meta(max_length=500)]
Text = Annotated[str, msgspec.Meta(max_length=32_768)]


class TemplatesQuery(PageQuery, frozen=True, kw_only=True):
    """Those that tasks of a project can be made from; or every one."""

    project: str | None = None


class NewTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """A template; without a project, for all of them. `title` is that of its tasks."""

    name: Name
    text: Text
    title: Title = ""
    project: str | None = None


class EditTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; what is not named stays. `version` refuses where another was faster."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    title: Title | msgspec.UnsetType = msgspec.UNSET
    text: Text | msgspec.UnsetType = msgspec.UNSET
    version: int | None = None


def _reply(row: TemplateRow) -> replies.Template:
    return msgspec.convert(row, replies.Template, from_attributes=True)


async def _template_id(request: web.Request) -> str:
    return await request.app[CONTEXT].database.read(
        catalog.resolve, "template", request.match_info["template"]
    )


async def list_(request: web.Request) -> web.Response:
    """List the templates, by name."""
    context = request.app[CONTEXT]
    query = query_of(request, TemplatesQuery)
    project_id = None
    if query.project is not None:
        project_id = await context.database.read(catalog.resolve, "project", query.project)
    rows = await context.database.read(
        templates.list_templates,
        after=unpack(query.cursor, tuple[str, str]),
        limit=query.limit + 1,
        project_id=project_id,
    )
    page = page_of(rows, query.limit, _reply, lambda row: (row.name, row.id))
    return json_response(page)


async def create(request: web.Request) -> web.Response:
    """Make a template."""
    context = request.app[CONTEXT]
    asked = await body_of(request, NewTemplate)
    check_line("name", asked.name)
    check_line("title", asked.title or "none")
    project_id = None
    if asked.project is not None:
        project_id = await context.database.read(catalog.resolve, "project", asked.project)
    row = await context.database.write(
        templates.create_template,
        project_id=project_id,
        name=asked.name,
        title=asked.title,
        text=asked.text,
        actor=principal_of(request).name,
        now_ms=now_ms(),
    )
    return json_response(_reply(row), status=201)


async def show(request: web.Request) -> web.Response:
    """Show one template."""
    row = await request.app[CONTEXT].database.read(
        templates.get_template, await _template_id(request)
    )
    return json_response(_reply(row))


async def edit(request: web.Request) -> web.Response:
    """Change a template; tasks that were made from it keep their text."""
    context = request.app[CONTEXT]
    template_id = await _template_id(request)
    asked = await body_of(request, EditTemplate)
    changes = {
        name: value
        for name, value in msgspec.structs.asdict(asked).items()
        if value is not msgspec.UNSET and name != "version"
    }
    for name in {"name", "title"} & set(changes):
        check_line(name, changes[name] or "none")
    row = await context.database.write(
        templates.edit_template,
        template_id,
        changes,
        version=asked.version,
        actor=principal_of(request).name,
        now_ms=now_ms(),
    )
    return json_response(_reply(row))


async def delete(request: web.Request) -> web.Response:
    """Delete a template; tasks that were made from it stay."""
    template_id = await _template_id(request)
    await request.app[CONTEXT].database.write(
        templates.delete_template,
        template_id,
        actor=principal_of(request).name,
        now_ms=now_ms(),
    )
    return json_response(replies.Deleted(id=template_id))
