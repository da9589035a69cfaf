"""Projects, and finding rows by what a person types."""

import contextlib

import pytest

from hive.store import backend, catalog
from hive.store.catalog import ProjectSettings
from protocol.errors import ErrorCode, OperationError
from protocol.states import AttemptOutcome
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS, OTHER, uid
from tests.hive.store.open_hive import OpenHive


async def make(hive: OpenHive, name: str = "shop", **settings):
    """Make a project as a person does."""
    return await hive.write(
        catalog.create_project,
        ProjectSettings(name=name, **settings),
        actor="ann",
        now_ms=NOW_MS,
    )


async def edit(hive: OpenHive, project_id: str, **changes):
    """Edit a project as a person does."""
    version = changes.pop("version", None)
    return await hive.write(
        catalog.edit_project, project_id, changes, actor="ann", now_ms=NOW_MS, version=version
    )


async def refused(code: ErrorCode, work) -> OperationError:
    """The work must be refused with this code; return the error."""
    with pytest.raises(OperationError) as caught:
        await work
    assert caught.value.code is code
    return caught.value


@pytest.mark.asyncio
async def test_a_project_is_made_edited_and_listed(hive: OpenHive):
    """What a person sets is what is shown; lists are by name, in pages."""
    shop = await make(hive, "shop", repo_url="https://example.org/team/shop", review="off")
    for name in ("apple", "zebra"):
        await make(hive, name)
    assert (shop.review, shop.sync_policy, shop.version) == ("off", "full", 1)
    edited = await edit(hive, shop.id, sync_policy="lazy", copy_files=[".env"], version=1)
    assert (edited.sync_policy, edited.copy_files, edited.version) == ("lazy", [".env"], 2)
    assert edited.review == "off"
    first = await hive.read(catalog.list_projects, limit=2)
    assert [project.name for project in first] == ["apple", "shop"]
    rest = await hive.read(catalog.list_projects, after=(first[-1].name, first[-1].id))
    assert [project.name for project in rest] == ["zebra"]
    await edit(hive, shop.id, archived=True)
    assert "shop" not in [one.name for one in await hive.read(catalog.list_projects)]
    assert "shop" in [one.name for one in await hive.read(catalog.list_projects, archived=True)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", " "),
        ("name", "two\nlines"),
        ("name", "x" * 201),
        ("sync_policy", "some"),
        ("review", "maybe"),
        ("size", "huge"),
        ("keep_worktree", "for ever"),
        ("keep_worktree", "0"),
        ("identity", "example.org/other"),
    ],
)
async def test_settings_that_make_no_sense_are_refused(hive: OpenHive, field: str, value: str):
    """A bad setting names its field, and nothing is changed."""
    shop = await make(hive)
    error = await refused(ErrorCode.INVALID, edit(hive, shop.id, **{field: value}))
    assert error.details["field"] == field
    assert (await hive.read(catalog.get_project, shop.id)).version == 1


@pytest.mark.asyncio
async def test_an_edit_of_what_was_edited_since_is_refused(hive: OpenHive):
    """Who edits an old version is told so."""
    shop = await make(hive)
    await edit(hive, shop.id, review="off", version=1)
    await refused(ErrorCode.CONFLICT, edit(hive, shop.id, review="on", version=1))


@pytest.mark.asyncio
async def test_a_name_is_one_projects(hive: OpenHive):
    """A second project of a name is refused, also by renaming."""
    await make(hive, "shop")
    other = await make(hive, "other")
    await refused(ErrorCode.EXISTS, make(hive, "shop"))
    await refused(ErrorCode.EXISTS, edit(hive, other.id, name="shop"))


@pytest.mark.asyncio
async def test_a_checkout_joins_the_project_made_for_it(hive: OpenHive):
    """A project made by a person takes the checkout of its name, and its identity from it."""
    shop = await make(hive, "shop")
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt())
    [found] = await hive.read(catalog.checkouts_of, shop.id)
    assert (found.node_id, found.node_name, found.path) == (NODE, "alpha", "/src/1")
    assert (await hive.read(catalog.get_project, shop.id)).identity == "example.org/team/shop"


@pytest.mark.asyncio
async def test_checkouts_that_waited_are_linked_when_their_project_comes(hive: OpenHive):
    """A project made after its checkout takes it, and the attempts and tasks in it."""
    hive.with_policy(nodes_may_create_projects=False)
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt())
    await hive.heard()
    shop = await make(hive, "shop")
    assert (await hive.row("checkout", uid(1)))["project_id"] == shop.id
    assert (await hive.row("attempt", uid(10)))["project_id"] == shop.id
    assert (await hive.row("task", uid(5)))["project_id"] == shop.id
    assert "node.changed" in [change.kind for change in await hive.heard()]


@pytest.mark.asyncio
async def test_a_renamed_project_keeps_its_checkouts(hive: OpenHive):
    """A checkout reported again stays with its project whatever that is called now."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1, identity=""))
    [project] = await hive.rows("SELECT id FROM project")
    await edit(hive, project["id"], name="store")
    await alpha.tells(reported.checkout(1, identity="", path="/moved"))
    assert (await hive.row("checkout", uid(1)))["project_id"] == project["id"]
    assert len(await hive.rows("SELECT id FROM project")) == 1


@pytest.mark.asyncio
async def test_a_deleted_project_stays_deleted(hive: OpenHive):
    """A deleted project is off all lists, frees its name, and no node's word brings it back."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt())
    [project] = await hive.rows("SELECT id FROM project")
    delete = (catalog.delete_project, project["id"])
    await refused(ErrorCode.CONFLICT, hive.write(*delete, actor="ann", now_ms=NOW_MS))
    await alpha.tells(reported.ended(outcome=AttemptOutcome.SUCCEEDED))
    await hive.write(*delete, actor="ann", now_ms=NOW_MS)
    await refused(ErrorCode.NOT_FOUND, hive.read(catalog.get_project, project["id"]))
    assert await hive.read(catalog.list_projects, archived=True) == []
    await alpha.tells(reported.checkout(1, path="/moved"))
    await alpha.tells(reported.ended(outcome=AttemptOutcome.SUCCEEDED, saved_ref="refs/x"))
    await alpha.tells(reported.local_task(6), reported.attempt(11, task_id=uid(6)))
    assert await hive.read(catalog.list_projects) == []
    assert (await hive.row("checkout", uid(1)))["problem"] == "project_deleted"
    assert (await hive.row("attempt", uid(11)))["project_id"] is None
    again = await make(hive, "shop")
    assert (await hive.row("checkout", uid(1)))["project_id"] == again.id
    # What ran in the old one still says so; what had none goes along with its checkout.
    assert (await hive.row("attempt", uid(10)))["project_id"] == project["id"]
    assert (await hive.row("attempt", uid(11)))["project_id"] == again.id
    assert (await hive.row("task", uid(6)))["project_id"] == again.id


# --- finding --------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_rows_are_found_by_id_name_or_part_of_an_id(hive: OpenHive):
    """A whole id, a name, the first digits or the last: all name the row."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt())
    plain = uid(10).replace("-", "")
    for text in (uid(10), uid(10).upper(), uid(10)[:13], plain[:14], plain[-8:], plain[-20:]):
        assert await hive.read(catalog.resolve, "attempt", text) == uid(10)
    assert await hive.read(catalog.resolve, "node", "alpha") == NODE
    assert await hive.read(catalog.resolve, "node", OTHER[:8]) == OTHER
    shop = await hive.read(catalog.resolve, "project", "shop")
    assert (await hive.read(catalog.get_project, shop)).name == "shop"


@pytest.mark.asyncio
async def test_what_is_not_there_or_not_one_is_said(hive: OpenHive):
    """Nothing found is 404 with a hint; more than one is named, never guessed."""
    alpha = await hive.reporting()
    await alpha.tells(reported.attempt(10), reported.attempt(11))
    for text in ("", "shop", "%", "0" * 7, "________", "018bcfe5-%", "g" * 9, uid(99)):
        error = await refused(ErrorCode.NOT_FOUND, hive.read(catalog.resolve, "attempt", text))
        assert "digits" in error.hint
    error = await refused(ErrorCode.INVALID, hive.read(catalog.resolve, "attempt", uid(10)[:8]))
    assert sorted(error.details["candidates"]) == [uid(10), uid(11)]


@pytest.mark.asyncio
@pytest.mark.parametrize("table", ["attempt", "execution", "task", "session", "request"])
async def test_a_part_of_an_id_is_found_without_looking_at_all(hive: OpenHive, table: str):
    """From either end, by an index: what a person types costs the same, however much there is."""
    for text in ("01234567", "0123-4567-89ab"):

        async def look(tx: backend.Transaction, text: str = text) -> None:
            with contextlib.suppress(OperationError):
                await catalog.resolve(tx, table, text)

        steps = await hive.plans(look)
        assert len([step for step in steps if step.startswith("SEARCH")]) == 3
        assert not [step for step in steps if step.startswith("SCAN")], steps
