"""`/api/v1/projects`: the repositories the team works on."""

from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web

from hive.api import replies
from hive.api.context import CONTEXT, HiveContext, now_ms
from hive.api.decoding import InvalidInput, body_of, query_of
from hive.api.middleware import json_response, principal_of
from hive.api.nodes import node_reply
from hive.api.paging import PageQuery, page_of, unpack
from hive.api.texts import check_branches, check_line
from hive.store import catalog
from hive.store.backend import Transaction
from hive.store.catalog import CheckoutRow, ProjectRow, ProjectSettings
from hive.store.nodes import get_node
from protocol.request_rules import rules_of_settings
from protocol.silence import silence_stop_s_of_settings

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
RepoUrl = Annotated[str, msgspec.Meta(max_length=2000)]
Text = Annotated[str, msgspec.Meta(max_length=65536)]
#: Patterns; a node takes no more of them.
CopyFiles = Annotated[
    list[Annotated[str, msgspec.Meta(max_length=1000)]], msgspec.Meta(max_length=100)
]
Policy = Literal["full", "lazy", "metadata"]


class ProjectsQuery(PageQuery, frozen=True, kw_only=True):
    """`archived` lists also those put away."""

    archived: bool = False


class NewProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project; checkouts of `repo_url`, or of that name, are linked to it."""

    name: Name
    repo_url: RepoUrl | None = None
    default_branch: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    sync_policy: Policy = "full"


class EditProject(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; what is not named stays. `version` refuses where another was faster."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    repo_url: RepoUrl | msgspec.UnsetType | None = msgspec.UNSET
    default_branch: str | msgspec.UnsetType | None = msgspec.UNSET
    sync_policy: Policy | msgspec.UnsetType = msgspec.UNSET
    setup_script: Text | msgspec.UnsetType | None = msgspec.UNSET
    cleanup_script: Text | msgspec.UnsetType | None = msgspec.UNSET
    dev_script: Text | msgspec.UnsetType | None = msgspec.UNSET
    copy_files: CopyFiles | msgspec.UnsetType = msgspec.UNSET
    variables: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    keep_worktree: Annotated[str, msgspec.Meta(max_length=20)] | msgspec.UnsetType = msgspec.UNSET
    review: Literal["on", "off"] | msgspec.UnsetType = msgspec.UNSET
    policies: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    archived: bool | msgspec.UnsetType = msgspec.UNSET
    version: int | None = None


class _Whole(msgspec.Struct, frozen=True, kw_only=True):
    row: ProjectRow
    checkouts: list[CheckoutRow]


async def _read_whole(tx: Transaction, project_id: str) -> _Whole:
    row = await catalog.get_project(tx, project_id)
    return _Whole(row=row, checkouts=await catalog.checkouts_of(tx, project_id))


async def _read_page(
    tx: Transaction, after: tuple[str, str] | None, limit: int, *, archived: bool
) -> list[_Whole]:
    rows = await catalog.list_projects(tx, after=after, limit=limit, archived=archived)
    return [_Whole(row=row, checkouts=await catalog.checkouts_of(tx, row.id)) for row in rows]


def _reply(whole: _Whole) -> replies.Project:
    names = set(replies.Project.__struct_fields__) - {"checkouts"}
    values = {name: getattr(whole.row, name) for name in names}
    checkouts = [
        msgspec.convert(row, replies.Checkout, from_attributes=True) for row in whole.checkouts
    ]
    return replies.Project(**values, checkouts=checkouts)


async def project_id_of(request: web.Request) -> str:
    """Return the id of the project that the path names."""
    context = request.app[CONTEXT]
    return await context.database.read(catalog.resolve, "project", request.match_info["project"])


async def _show(context: HiveContext, project_id: str, status: int = 200) -> web.Response:
    return json_response(_reply(await context.database.read(_read_whole, project_id)), status)


async def list_(request: web.Request) -> web.Response:
    """List the projects, by name."""
    query = query_of(request, ProjectsQuery)
    found = await request.app[CONTEXT].database.read(
        _read_page,
        unpack(query.cursor, tuple[str, str]),
        query.limit + 1,
        archived=query.archived,
    )
    page = page_of(found, query.limit, _reply, lambda one: (one.row.name, one.row.id))
    return json_response(page)


async def create(request: web.Request) -> web.Response:
    """Make a project."""
    context = request.app[CONTEXT]
    asked = await body_of(request, NewProject)
    check_line("name", asked.name)
    _check_texts(msgspec.structs.asdict(asked))
    row = await context.database.write(
        catalog.create_project,
        ProjectSettings(
            name=asked.name.strip(),
            repo_url=asked.repo_url,
            default_branch=asked.default_branch,
            sync_policy=asked.sync_policy,
        ),
        actor=principal_of(request).name,
        now_ms=now_ms(),
    )
    return await _show(context, row.id, 201)


async def show(request: web.Request) -> web.Response:
    """Show one project."""
    return await _show(request.app[CONTEXT], await project_id_of(request))


async def edit(request: web.Request) -> web.Response:
    """Change a project."""
    context = request.app[CONTEXT]
    project_id = await project_id_of(request)
    asked = await body_of(request, EditProject)
    changes = {
        name: value
        for name, value in msgspec.structs.asdict(asked).items()
        if value is not msgspec.UNSET and name != "version"
    }
    if "name" in changes:
        check_line("name", changes["name"])
        changes["name"] = changes["name"].strip()
    _check_texts(changes)
    if "policies" in changes:
        _check_policies(changes["policies"])
    if changes:
        await context.database.write(
            catalog.edit_project,
            project_id,
            changes,
            version=asked.version,
            actor=principal_of(request).name,
            now_ms=now_ms(),
        )
    return await _show(context, project_id)


async def delete(request: web.Request) -> web.Response:
    """Delete a project of which nothing runs; what ran stays to be read."""
    context = request.app[CONTEXT]
    project_id = await project_id_of(request)
    await context.database.write(
        catalog.delete_project, project_id, actor=principal_of(request).name, now_ms=now_ms()
    )
    return json_response(replies.Deleted(id=project_id))


async def nodes(request: web.Request) -> web.Response:
    """List the nodes that have a checkout of a project."""
    context = request.app[CONTEXT]
    whole = await context.database.read(_read_whole, await project_id_of(request))
    items = [
        node_reply(context, await context.database.read(get_node, node_id))
        for node_id in dict.fromkeys(checkout.node_id for checkout in whole.checkouts)
    ]
    return json_response(replies.Page(items=items))


def _check_texts(given: dict[str, Any]) -> None:
    check_branches(given)
    if given.get("repo_url") is not None:
        check_line("repo_url", given["repo_url"])
    for number, pattern in enumerate(given.get("copy_files") or []):
        check_line(f"copy_files[{number}]", pattern)


def _check_policies(policies: dict[str, Any]) -> None:
    unknown = sorted(set(policies) - {"requests", "silence_stop_s"})
    if unknown:
        raise InvalidInput(
            f"policies: there is none called {unknown[0][:80]!r}", field=f"policies.{unknown[0]}"
        )
    rules_of_settings(policies)
    silence_stop_s_of_settings(policies)
