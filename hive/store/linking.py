"""Which project a repository on a node belongs to: found, adopted, or created.

Owns the rows of that decision; the decision itself is `projections.choose_project`.
"""

from typing import Final

import msgspec

from hive import projections
from hive.projections import EventDraft, KnownProject, ProjectChoice
from hive.store import events
from hive.store.backend import Change, IngestPolicy, Transaction
from hive.store.ids import new_id
from protocol import ids

_SELECT_KNOWN = """
SELECT id, name, identity FROM project
WHERE deleted_at_ms IS NULL AND ((identity = :identity AND :identity <> '') OR name = :name)
"""
_SELECT_PROJECT = """
SELECT id, name, identity FROM project WHERE id = :id AND deleted_at_ms IS NULL
"""
_SELECT_ID_TAKEN = "SELECT 1 FROM project WHERE id = :id"
_ADOPT_IDENTITY = "UPDATE project SET identity = :identity WHERE id = :id AND identity = ''"
_INSERT = """
INSERT INTO project (id, name, repo_url, identity, default_branch, size, sync_policy, setup_script,
    cleanup_script, dev_script, copy_files, keep_worktree, review, policies, profiles, variables,
    recovered, archived, version, created_at_ms, updated_at_ms, deleted_at_ms)
VALUES (:id, :name, :repo_url, :identity, :default_branch, NULL, 'full', NULL, NULL, NULL, '[]',
    'until_done', 'on', '{}', '{}', '{}', :recovered, 0, 1, :now_ms, :now_ms, NULL)
"""
_OTHERS_OF_IDENTITY = """
SELECT 1 FROM checkout
WHERE project_id = :project_id AND identity = :identity AND id <> :checkout_id AND removed = 0
"""
_MOVE_IDENTITY = "UPDATE project SET identity = :identity WHERE id = :id"
_IDENTITY_TAKEN = """
SELECT 1 FROM project WHERE identity = :identity AND deleted_at_ms IS NULL
"""


#: The problem of a checkout whose project was deleted.
PROJECT_DELETED: Final = "project_deleted"


class LinkContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision about rows may depend on beside rows."""

    now_ms: int
    policy: IngestPolicy


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """A repository as a node reports it."""

    node_id: str
    identity: str
    name: str
    default_branch: str | None = None


async def link(
    tx: Transaction,
    context: LinkContext,
    repository: Repository,
    *,
    claimed_id: str | None = None,
    recovered: bool = False,
    may_create: bool = True,
) -> ProjectChoice:
    """Return the project of a repository; create it where that is allowed.

    `claimed_id` is the project the node remembers: a hive that lost it makes it anew under the
    same id, so that links and addresses stay true.
    """
    rows = await tx.fetch_all(
        _SELECT_KNOWN, {"identity": repository.identity, "name": repository.name}
    )
    known = [KnownProject(row["id"], row["name"], row["identity"]) for row in rows]
    choice = projections.choose_project(
        repository.identity,
        repository.name,
        known,
        may_create=may_create and context.policy.nodes_may_create_projects,
    )
    if choice.project_id is not None and repository.identity:
        await tx.execute(
            _ADOPT_IDENTITY, {"identity": repository.identity, "id": choice.project_id}
        )
    if not choice.create:
        return choice
    project_id = await _free_id(tx, context, claimed_id)
    return await _create(tx, context, repository, project_id, recovered=recovered)


async def _free_id(tx: Transaction, context: LinkContext, claimed_id: str | None) -> str:
    if claimed_id is not None and ids.is_id(claimed_id):
        taken = await tx.fetch_one(_SELECT_ID_TAKEN, {"id": claimed_id})
        if taken is None:
            return claimed_id
    return new_id(context.now_ms)


async def _create(
    tx: Transaction,
    context: LinkContext,
    repository: Repository,
    project_id: str,
    *,
    recovered: bool,
) -> ProjectChoice:
    await tx.execute(
        _INSERT,
        {
            "id": project_id,
            "name": repository.name,
            "repo_url": _address(repository.identity),
            "identity": repository.identity,
            "default_branch": repository.default_branch,
            "recovered": int(recovered),
            "now_ms": context.now_ms,
        },
    )
    tx.note(Change(kind="project.changed", ids={"project": project_id}))
    draft = EventDraft(
        kind="project_recovered" if recovered else "project_created",
        what="project",
        what_id=project_id,
        to_state=repository.name,
        why="a node reported the repository",
        node_id=repository.node_id,
        project_id=project_id,
    )
    await events.record(tx, draft, context.now_ms)
    return ProjectChoice(project_id=project_id)


def _address(identity: str) -> str | None:
    # A normalised origin holds a host and a path; a root commit neither.
    return f"https://{identity}" if "/" in identity and "://" not in identity else None


async def link_checkout(
    tx: Transaction,
    context: LinkContext,
    repository: Repository,
    *,
    checkout_id: str,
    linked_id: str | None,
    identity_before: str,
) -> ProjectChoice:
    """Return the project of a checkout; the one it is linked to, as long as that holds."""
    linked = None
    if linked_id is not None:
        linked = await tx.fetch_one(_SELECT_PROJECT, {"id": linked_id})
    if linked is None:
        choice = await link(tx, context, repository, may_create=linked_id is None)
        if choice.problem and linked_id is not None:
            # Someone deleted its project: what a node says does not bring that back.
            return ProjectChoice(project_id=linked_id, problem=PROJECT_DELETED)
        return choice
    if linked["identity"] in {"", repository.identity} or not repository.identity:
        if repository.identity:
            await tx.execute(_ADOPT_IDENTITY, {"identity": repository.identity, "id": linked["id"]})
        return ProjectChoice(project_id=linked["id"])
    if linked["identity"] != identity_before:
        return await link(tx, context, repository)
    # Its repository got another identity (an origin was added, or moved). The project goes along
    # unless other checkouts still are what the project was.
    stays = await tx.fetch_one(
        _OTHERS_OF_IDENTITY,
        {"project_id": linked["id"], "identity": identity_before, "checkout_id": checkout_id},
    ) or await tx.fetch_one(_IDENTITY_TAKEN, {"identity": repository.identity})
    if stays is not None:
        return await link(tx, context, repository)
    await tx.execute(_MOVE_IDENTITY, {"identity": repository.identity, "id": linked["id"]})
    return ProjectChoice(project_id=linked["id"])


# --- projects that changed ------------------------------------------------------------------------

_SELECT_UNLINKED = """
SELECT id, node_id, name, identity, default_branch, project_id FROM checkout
WHERE problem <> '' AND removed = 0
"""
_SET_LINK = "UPDATE checkout SET project_id = :project_id, problem = :problem WHERE id = :id"
_FOLLOW_LINK = """
UPDATE attempt SET project_id = :project_id WHERE checkout_id = :id AND project_id IS NULL
"""
_FOLLOW_TASK = """
UPDATE task SET project_id = :project_id WHERE project_id IS NULL
    AND (checkout_id = :id OR id IN (SELECT task_id FROM attempt WHERE checkout_id = :id))
"""


async def relink(tx: Transaction, now_ms: int) -> list[str]:
    """Link checkouts that had a problem, now that projects changed; return their nodes."""
    context = LinkContext(now_ms=now_ms, policy=IngestPolicy(nodes_may_create_projects=False))
    moved = []
    for row in await tx.fetch_all(_SELECT_UNLINKED):
        repository = Repository(
            node_id=row["node_id"],
            identity=row["identity"],
            name=row["name"],
            default_branch=row["default_branch"],
        )
        choice = await link(tx, context, repository)
        if choice.project_id is None:
            continue
        values = {"id": row["id"], "project_id": choice.project_id, "problem": ""}
        await tx.execute(_SET_LINK, values)
        await tx.execute(_FOLLOW_LINK, values)
        await tx.execute(_FOLLOW_TASK, values)
        tx.note(
            Change(kind="node.changed", ids={"node": row["node_id"], "project": choice.project_id})
        )
        moved.append(row["node_id"])
    return moved
