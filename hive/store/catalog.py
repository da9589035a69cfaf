"""Projects and their checkouts, and finding any row by what a person types.

Projects are the hive's own; checkouts are their nodes'. A deleted project keeps its row, so that
attempts still say where they ran.
"""

import json
import re
from typing import Any, Final

import msgspec

from hive import variables
from hive.projections import EventDraft
from hive.store import events, linking, sync
from hive.store.backend import Change, Row, Transaction
from hive.store.ids import new_id
from hive.store.linking import PROJECT_DELETED
from protocol.errors import ErrorCode, OperationError
from protocol.one_line import is_one_line
from protocol.profiles import Profile, check_project_profiles
from protocol.states import SyncPolicy

REVIEWS: Final = frozenset({"on", "off"})
KEEP_WORKTREE: Final = re.compile(r"until_done|after_end|[1-9]\d{0,4}")
SIZES: Final = frozenset({"small", "medium", "large"})

_SELECT = "SELECT * FROM project WHERE id = :id AND deleted_at_ms IS NULL"
_SELECT_PAGE = """
SELECT * FROM project
WHERE deleted_at_ms IS NULL AND (name > :name OR (name = :name AND id > :id))
    AND (:archived = 1 OR archived = 0)
ORDER BY name, id LIMIT :limit
"""
_SELECT_NAME = "SELECT 1 FROM project WHERE name = :name AND id <> :id AND deleted_at_ms IS NULL"
_INSERT = """
INSERT INTO project (id, name, repo_url, identity, default_branch, size, sync_policy, setup_script,
    cleanup_script, dev_script, copy_files, keep_worktree, review, policies, profiles, variables,
    recovered, archived, version, created_at_ms, updated_at_ms, deleted_at_ms)
VALUES (:id, :name, :repo_url, '', :default_branch, :size, :sync_policy, :setup_script,
    :cleanup_script, :dev_script, :copy_files, :keep_worktree, :review, :policies, :profiles,
    :variables, 0, 0, 1, :now_ms, :now_ms, NULL)
"""
_UPDATE = """
UPDATE project SET name = :name, repo_url = :repo_url, default_branch = :default_branch,
    size = :size, sync_policy = :sync_policy, setup_script = :setup_script,
    cleanup_script = :cleanup_script, dev_script = :dev_script, copy_files = :copy_files,
    keep_worktree = :keep_worktree, review = :review, policies = :policies,
    profiles = :profiles, variables = :variables,
    archived = :archived, recovered = 0, version = version + 1, updated_at_ms = :now_ms
WHERE id = :id AND version = :version
"""
_DELETE = """
UPDATE project SET deleted_at_ms = :now_ms, updated_at_ms = :now_ms, version = version + 1
WHERE id = :id
"""
_UNLINK = "UPDATE checkout SET problem = :problem WHERE project_id = :id"
_SELECT_RUNNING = """
SELECT 1 FROM attempt
WHERE project_id = :id AND phase <> 'ended' AND forgotten_at_ms IS NULL LIMIT 1
"""
_SELECT_CHECKOUTS = """
SELECT checkout.*, node.name AS node_name FROM checkout
JOIN node ON node.id = checkout.node_id
WHERE checkout.removed = 0 AND checkout.forgotten_at_ms IS NULL AND node.revoked_at_ms IS NULL
    AND (:project_id IS NULL OR (checkout.project_id = :project_id AND checkout.problem = ''))
    AND (:node_id IS NULL OR checkout.node_id = :node_id)
ORDER BY node.name, checkout.path
"""


class ProjectRow(msgspec.Struct, frozen=True, kw_only=True):
    """A repository the team works on, and how it is worked on."""

    id: str
    name: str
    repo_url: str | None
    identity: str
    default_branch: str | None
    size: str | None
    sync_policy: str
    setup_script: str | None
    cleanup_script: str | None
    dev_script: str | None
    copy_files: list[str]
    keep_worktree: str
    review: str
    policies: dict[str, Any]
    profiles: dict[str, Profile]
    variables: dict[str, str]
    recovered: bool
    archived: bool
    version: int
    created_at_ms: int
    updated_at_ms: int


class ProjectSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a person sets of a project."""

    name: str
    repo_url: str | None = None
    default_branch: str | None = None
    size: str | None = None
    sync_policy: str = "full"
    setup_script: str | None = None
    cleanup_script: str | None = None
    dev_script: str | None = None
    copy_files: list[str] = []
    keep_worktree: str = "until_done"
    review: str = "on"
    policies: dict[str, Any] = {}
    profiles: dict[str, Profile] = {}
    variables: dict[str, str] = {}
    archived: bool = False


class CheckoutRow(msgspec.Struct, frozen=True, kw_only=True):
    """A project's path on one node, as the node reports it."""

    id: str
    node_id: str
    node_name: str
    path: str
    name: str
    identity: str
    default_branch: str | None
    project_id: str | None
    problem: str


def _project(row: Row) -> ProjectRow:
    values = {name: row[name] for name in ProjectRow.__struct_fields__}
    for name in ("copy_files", "policies", "variables"):
        values[name] = json.loads(values[name])
    values["profiles"] = msgspec.json.decode(values["profiles"], type=dict[str, Profile])
    for name in ("recovered", "archived"):
        values[name] = bool(values[name])
    return ProjectRow(**values)


# --- reading --------------------------------------------------------------------------------------


async def get_project(tx: Transaction, project_id: str) -> ProjectRow:
    """Return one project. Raises NOT_FOUND."""
    row = await tx.fetch_one(_SELECT, {"id": project_id})
    if row is None:
        raise OperationError(ErrorCode.NOT_FOUND, f"there is no project {project_id}")
    return _project(row)


async def list_projects(
    tx: Transaction,
    *,
    after: tuple[str, str] | None = None,
    limit: int = 50,
    archived: bool = False,
) -> list[ProjectRow]:
    """Return projects by name; `after` is name and id of the last one of the page before."""
    name, project_id = after or ("", "")
    rows = await tx.fetch_all(
        _SELECT_PAGE,
        {"name": name, "id": project_id, "limit": limit, "archived": int(archived)},
    )
    return [_project(row) for row in rows]


async def checkouts_of(
    tx: Transaction, project_id: str | None = None, *, node_id: str | None = None
) -> list[CheckoutRow]:
    """Return the checkouts of a project, or of a node with those that belong to no project."""
    rows = await tx.fetch_all(_SELECT_CHECKOUTS, {"project_id": project_id, "node_id": node_id})
    return [
        CheckoutRow(**{name: row[name] for name in CheckoutRow.__struct_fields__}) for row in rows
    ]


async def project_policy(tx: Transaction, project_id: str | None) -> SyncPolicy:
    """Return how much of a project's logs the hive holds; all, where the project is not known."""
    row = await tx.fetch_one(_SELECT, {"id": project_id})
    return SyncPolicy.FULL if row is None else SyncPolicy(row["sync_policy"])


# --- changing -------------------------------------------------------------------------------------


def check_settings(settings: ProjectSettings) -> None:
    """Raise INVALID, naming the field, where a setting makes no sense."""
    if not is_one_line(settings.name) or len(settings.name) > 200:
        raise _invalid("name", "it has 1 to 200 printable characters")
    if settings.sync_policy not in set(SyncPolicy):
        raise _invalid("sync_policy", f"one of {', '.join(SyncPolicy)}")
    if settings.review not in REVIEWS:
        raise _invalid("review", "on or off")
    if settings.size is not None and settings.size not in SIZES:
        raise _invalid("size", "small, medium or large")
    if KEEP_WORKTREE.fullmatch(settings.keep_worktree) is None:
        raise _invalid("keep_worktree", "until_done, after_end, or a number of hours")
    variables.check(settings.variables)
    check_project_profiles(settings.profiles)


def _invalid(field: str, rule: str) -> OperationError:
    return OperationError(ErrorCode.INVALID, f"{field}: {rule}", field=field)


def _values(settings: ProjectSettings) -> dict[str, Any]:
    values = msgspec.structs.asdict(settings)
    values["copy_files"] = json.dumps(settings.copy_files)
    values["policies"] = json.dumps(settings.policies)
    values["profiles"] = msgspec.json.encode(settings.profiles).decode()
    values["variables"] = json.dumps(settings.variables)
    values["archived"] = int(settings.archived)
    return values


async def create_project(
    tx: Transaction, settings: ProjectSettings, *, actor: str, now_ms: int
) -> ProjectRow:
    """Make a project; checkouts of its name that belong nowhere become its. Raises EXISTS."""
    check_settings(settings)
    project_id = new_id(now_ms)
    await _check_name(tx, settings.name, project_id)
    values = {**_values(settings), "id": project_id, "now_ms": now_ms}
    await tx.execute(_INSERT, values)
    await _changed(tx, "project_created", project_id, settings.name, actor, now_ms)
    await linking.relink(tx, now_ms)
    return await get_project(tx, project_id)


async def edit_project(
    tx: Transaction,
    project_id: str,
    changes: dict[str, Any],
    *,
    actor: str,
    now_ms: int,
    version: int | None = None,
) -> ProjectRow:
    """Change settings of a project. `version`: raise CONFLICT where it has been edited since."""
    before = await get_project(tx, project_id)
    if version is not None and version != before.version:
        raise _edited_since("project", project_id, before.version)
    unknown = sorted(set(changes) - set(ProjectSettings.__struct_fields__))
    if unknown:
        raise _invalid(unknown[0], "a project has no such setting")
    present = {name: getattr(before, name) for name in ProjectSettings.__struct_fields__}
    settings = ProjectSettings(**{**present, **changes})
    check_settings(settings)
    if settings.name != before.name:
        await _check_name(tx, settings.name, project_id)
    values = {**_values(settings), "id": project_id, "version": before.version}
    await tx.execute(_UPDATE, {**values, "now_ms": now_ms})
    if settings.sync_policy != before.sync_policy:
        await sync.refresh_project(tx, project_id)
    if settings.name != before.name:
        await linking.relink(tx, now_ms)
    edited = ", ".join(sorted(changes))
    await _changed(tx, "project_edited", project_id, settings.name, actor, now_ms, edited)
    return await get_project(tx, project_id)


async def delete_project(tx: Transaction, project_id: str, *, actor: str, now_ms: int) -> None:
    """Take a project off all lists. What ran in it stays to be read by id.

    Raises CONFLICT while an attempt of it has not ended.
    """
    project = await get_project(tx, project_id)
    if await tx.fetch_one(_SELECT_RUNNING, {"id": project_id}) is not None:
        raise OperationError(
            ErrorCode.CONFLICT,
            f"attempts of {project.name} are still running",
            hint="Stop them first, or archive the project instead.",
        )
    await tx.execute(_DELETE, {"id": project_id, "now_ms": now_ms})
    await tx.execute(_UNLINK, {"id": project_id, "problem": PROJECT_DELETED})
    await _changed(tx, "project_deleted", project_id, project.name, actor, now_ms)


async def _check_name(tx: Transaction, name: str, project_id: str) -> None:
    if await tx.fetch_one(_SELECT_NAME, {"name": name, "id": project_id}) is not None:
        raise OperationError(
            ErrorCode.EXISTS,
            f"there is a project called {name!r} already",
            hint="Choose another name, or use that project.",
        )


def _edited_since(what: str, entity_id: str, version: int) -> OperationError:
    return OperationError(
        ErrorCode.CONFLICT,
        f"the {what} has been edited since",
        hint="Read it again, then edit it.",
        id=entity_id,
        version=version,
    )


async def _changed(
    tx: Transaction,
    kind: str,
    project_id: str,
    name: str,
    actor: str,
    now_ms: int,
    why: str = "",
) -> None:
    draft = EventDraft(
        kind=kind,
        what="project",
        what_id=project_id,
        to_state=name,
        why=why,
        audit=True,
        actor_kind="user",
        actor=actor,
        project_id=project_id,
    )
    await events.record(tx, draft, now_ms)
    tx.note(Change(kind="project.changed", ids={"project": project_id}))


# --- finding --------------------------------------------------------------------------------------

#: Tables a person may name rows of: their word, and the column of a name where there is one.
_NAMED: Final = {
    "node": "name",
    "project": "name",
    "token": "name",
    "template": "name",
    "task": None,
    "attempt": None,
    "execution": None,
    "checkout": None,
    "session": None,
    "request": None,
}
_STANDING: Final = {
    "node": "",
    "project": "AND deleted_at_ms IS NULL",
    "task": "AND deleted_at_ms IS NULL",
}
_PART: Final = re.compile(r"[0-9a-f]{8,32}")
_CANDIDATES_MAX: Final = 5
#: So much of an id's end has an index, where a table is large: as much as people see of it.
_END_DIGITS: Final = 8


async def resolve(
    tx: Transaction, table: str, text: str, *, within_project: str | None = None
) -> str:
    """Return the id of the row that `text` names: an id, a name, or 8 or more digits of an id.

    Digits count from either end: people see the last eight. Raises NOT_FOUND; INVALID where more
    than one row fits. `within_project`: for whoever may not know that others have tasks at all.
    """
    name_column = _NAMED[table]
    standing = _STANDING.get(table, "")
    if within_project is not None:
        standing += " AND project_id = :project_id"
    row = await tx.fetch_one(
        f"SELECT id FROM {table} WHERE id = :text {standing}",  # noqa: S608  our own names
        {"text": text.lower(), "project_id": within_project},
    )
    if row is not None:
        return str(row["id"])
    if name_column is not None:
        rows = await tx.fetch_all(
            f"SELECT id FROM {table} WHERE {name_column} = :text {standing} "  # noqa: S608  same
            f"ORDER BY id LIMIT {_CANDIDATES_MAX}",
            {"text": text, "project_id": within_project},
        )
        if rows:
            return _only(table, text, rows)
    return await _resolve_part(tx, table, text, standing, within_project)


async def _resolve_part(
    tx: Transaction, table: str, text: str, standing: str, within_project: str | None
) -> str:
    digits = text.lower().replace("-", "")
    if _PART.fullmatch(digits) is None:
        raise _not_found(table, text)
    begin = _dashed(digits)
    values = {
        "begin": begin,
        # Behind all digits.
        "beyond": f"{begin}g",
        "last": digits[-_END_DIGITS:],
        "suffix": f"%{digits}",
        "project_id": within_project,
    }
    # Both ways by an index: looked through, a hive's attempts take seconds.
    rows = await tx.fetch_all(
        f"SELECT id FROM {table} WHERE id >= :begin AND id < :beyond {standing} "  # noqa: S608  own
        f"UNION SELECT id FROM {table} WHERE substr(id, -{_END_DIGITS}) = :last "
        f"AND replace(id, '-', '') LIKE :suffix {standing} ORDER BY id LIMIT {_CANDIDATES_MAX}",
        values,
    )
    if not rows:
        raise _not_found(table, text)
    return _only(table, text, rows)


def _dashed(digits: str) -> str:
    """Return the beginning of an id with its dashes where they stand in one."""
    pieces, at = [], 0
    for size in (8, 4, 4, 4, 12):
        pieces.append(digits[at : at + size])
        at += size
    return "-".join(piece for piece in pieces if piece)


def _only(table: str, text: str, rows: list[Row]) -> str:
    if len(rows) == 1:
        return str(rows[0]["id"])
    raise OperationError(
        ErrorCode.INVALID,
        f"{text!r} is more than one {table}",
        hint="Give more digits of its id.",
        candidates=[row["id"] for row in rows],
    )


def _not_found(table: str, text: str) -> OperationError:
    names = ", or a name" if _NAMED[table] else ""
    return OperationError(
        ErrorCode.NOT_FOUND,
        f"there is no {table} {text!r}",
        hint=f"Give an id, 8 or more digits of one{names}.",
    )
