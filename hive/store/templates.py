"""Templates: texts that tasks are made from, of one project or of all of them."""

from typing import Any, Final

import msgspec

from hive.projections import EventDraft
from hive.store import events
from hive.store.backend import Change, Row, Transaction
from hive.store.ids import new_id
from protocol.errors import ErrorCode, OperationError

#: More would not be found again by anybody.
TEMPLATES_MAX: Final = 1000
_SELECT = "SELECT * FROM template WHERE id = :id"
_SELECT_PAGE = """
SELECT * FROM template
WHERE (name > :name OR (name = :name AND id > :id))
    AND (:project_id IS NULL OR project_id IS NULL OR project_id = :project_id)
ORDER BY name, id LIMIT :limit
"""
_SELECT_NAMED = """
SELECT * FROM template
WHERE name = :name AND (project_id IS NULL OR project_id = :project_id)
ORDER BY project_id IS NULL LIMIT 1
"""
_SELECT_TAKEN = """
SELECT 1 FROM template
WHERE name = :name AND id <> :id AND coalesce(project_id, '') = coalesce(:project_id, '')
"""
_COUNT = "SELECT count(*) AS number FROM template"
_INSERT = """
INSERT INTO template (id, project_id, name, title, text, version, created_at_ms, updated_at_ms)
VALUES (:id, :project_id, :name, :title, :text, 1, :now_ms, :now_ms)
"""
_UPDATE = """
UPDATE template SET name = :name, title = :title, text = :text, version = version + 1,
    updated_at_ms = :now_ms
WHERE id = :id
"""
_DELETE = "DELETE FROM template WHERE id = :id"


class TemplateRow(msgspec.Struct, frozen=True, kw_only=True):
    """A text to make tasks from. `project_id` None: for tasks of every project."""

    id: str
    project_id: str | None
    name: str
    title: str
    text: str
    version: int
    created_at_ms: int
    updated_at_ms: int


def _template(row: Row) -> TemplateRow:
    return TemplateRow(**{name: row[name] for name in TemplateRow.__struct_fields__})


async def get_template(tx: Transaction, template_id: str) -> TemplateRow:
    """Return one template. Raises NOT_FOUND."""
    row = await tx.fetch_one(_SELECT, {"id": template_id})
    if row is None:
        raise _missing(template_id)
    return _template(row)


async def template_named(tx: Transaction, name: str, project_id: str) -> TemplateRow:
    """Return the template that tasks of a project mean by a name or an id; its own goes first."""
    row = await tx.fetch_one(_SELECT_NAMED, {"name": name, "project_id": project_id})
    if row is None:
        row = await tx.fetch_one(_SELECT, {"id": name})
    if row is None or row["project_id"] not in {None, project_id}:
        raise _missing(name)
    return _template(row)


async def list_templates(
    tx: Transaction, *, after: tuple[str, str] | None, limit: int, project_id: str | None
) -> list[TemplateRow]:
    """Return templates by name: those of a project and of all, or every one."""
    name, template_id = after or ("", "")
    rows = await tx.fetch_all(
        _SELECT_PAGE, {"name": name, "id": template_id, "limit": limit, "project_id": project_id}
    )
    return [_template(row) for row in rows]


async def create_template(
    tx: Transaction,
    *,
    project_id: str | None,
    name: str,
    title: str,
    text: str,
    actor: str,
    now_ms: int,
) -> TemplateRow:
    """Make a template. Raises EXISTS where its name is taken."""
    [count] = await tx.fetch_all(_COUNT)
    if count["number"] >= TEMPLATES_MAX:
        raise OperationError(
            ErrorCode.CONFLICT, f"there are {TEMPLATES_MAX} templates", hint="Delete some first."
        )
    template_id = new_id(now_ms)
    await _check_name(tx, name, template_id, project_id)
    values = {"project_id": project_id, "name": name, "title": title, "text": text}
    await tx.execute(_INSERT, {**values, "id": template_id, "now_ms": now_ms})
    await _changed(tx, "template_created", template_id, project_id, name, actor, now_ms)
    return await get_template(tx, template_id)


async def edit_template(
    tx: Transaction,
    template_id: str,
    changes: dict[str, Any],
    *,
    version: int | None,
    actor: str,
    now_ms: int,
) -> TemplateRow:
    """Change name, title or text. Raises CONFLICT where it has been edited since `version`."""
    before = await get_template(tx, template_id)
    if version is not None and version != before.version:
        raise OperationError(
            ErrorCode.CONFLICT,
            "the template has been edited since",
            hint="Read it again, then edit it.",
            id=template_id,
            version=before.version,
        )
    values = {name: changes.get(name, getattr(before, name)) for name in ("name", "title", "text")}
    await _check_name(tx, values["name"], template_id, before.project_id)
    await tx.execute(_UPDATE, {**values, "id": template_id, "now_ms": now_ms})
    await _changed(
        tx, "template_edited", template_id, before.project_id, values["name"], actor, now_ms
    )
    return await get_template(tx, template_id)


async def delete_template(tx: Transaction, template_id: str, *, actor: str, now_ms: int) -> None:
    """Delete a template; tasks that were made from it keep their text."""
    before = await get_template(tx, template_id)
    await tx.execute(_DELETE, {"id": template_id})
    await _changed(
        tx, "template_deleted", template_id, before.project_id, before.name, actor, now_ms
    )


async def _check_name(tx: Transaction, name: str, template_id: str, project_id: str | None) -> None:
    values = {"name": name, "id": template_id, "project_id": project_id}
    if await tx.fetch_one(_SELECT_TAKEN, values) is not None:
        raise OperationError(
            ErrorCode.EXISTS,
            f"there is a template called {name!r} already",
            hint="Choose another name, or edit that one.",
        )


def _missing(name: str) -> OperationError:
    return OperationError(
        ErrorCode.NOT_FOUND,
        f"there is no template {name[:100]!r} for this project",
        hint="hive templates lists them.",
    )


async def _changed(
    tx: Transaction,
    kind: str,
    template_id: str,
    project_id: str | None,
    name: str,
    actor: str,
    now_ms: int,
) -> None:
    draft = EventDraft(
        kind=kind,
        what="template",
        what_id=template_id,
        to_state=name,
        audit=True,
        actor_kind="user",
        actor=actor,
        project_id=project_id,
    )
    await events.record(tx, draft, now_ms)
    tx.note(Change(kind="template.changed", ids={"template": template_id}))
