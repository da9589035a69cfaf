"""Checkouts: taken up, looked at again, let go."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.checkouts import CheckoutInUse, add_checkout, remove_checkout
from node_agent.git.errors import NotARepository
from node_agent.store import checkouts
from node_agent.store.checkouts import NoCheckout
from protocol.errors import ErrorCode, SkepError
from protocol.messages import ProjectLink
from protocol.ops import OpKind
from tests.node_agent.workshop import Workshop, git, make_repository, open_workshop


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """A node without a checkout."""
    async with open_workshop(tmp_path / "data", 1) as opened:
        yield opened


async def kinds(shop: Workshop) -> list[str]:
    """The kinds of all ops."""
    return [op.kind for op in await shop.journal.ops_after(1, 0, ops_max=99, bytes_max=1 << 20)]


@pytest.mark.asyncio
async def test_what_is_recorded(shop: Workshop, tmp_path: Path):
    """Path, name, identity, default branch, from anywhere inside; nothing is touched."""
    project = make_repository(tmp_path / "project")
    (project / "folder").mkdir()
    checkout = await add_checkout(shop.database, project / "folder")
    assert (checkout.path, checkout.name) == (str(project), "project")
    assert checkout.identity == f"root:{git(project, 'rev-parse', 'HEAD')}"
    assert checkout.default_branch == "main"
    assert git(project, "status", "--porcelain") == ""
    assert await kinds(shop) == ["checkout"]


@pytest.mark.asyncio
async def test_the_same_path_is_the_same_checkout(shop: Workshop, tmp_path: Path):
    """Added again it changes nothing; what changed in it is recorded under the same id."""
    project = make_repository(tmp_path / "project")
    first = await add_checkout(shop.database, project, "Bees")
    assert await add_checkout(shop.database, project) == first
    assert await kinds(shop) == ["checkout"]
    git(project, "remote", "add", "origin", "git@example.org:team/bees.git")
    second = await add_checkout(shop.database, project)
    assert (second.id, second.name) == (first.id, "Bees")
    assert second.identity != first.identity
    assert await kinds(shop) == ["checkout", "checkout"]


@pytest.mark.asyncio
async def test_what_is_no_repository_is_refused(shop: Workshop, tmp_path: Path):
    """With nothing recorded."""
    with pytest.raises(NotARepository):
        await add_checkout(shop.database, tmp_path / "nowhere")
    assert await kinds(shop) == []


@pytest.mark.asyncio
async def test_what_is_no_name_of_a_project_is_refused(shop: Workshop, tmp_path: Path):
    """Given, or the folder's own: a hive lists it in one line."""
    project, odd = make_repository(tmp_path / "project"), make_repository(tmp_path / "a\nb")
    for path, name in ((project, "a\nb"), (project, " "), (project, "x" * 201), (odd, None)):
        with pytest.raises(SkepError) as refused:
            await add_checkout(shop.database, path, name)
        assert refused.value.details == {"field": "project"}
        assert "--project" in refused.value.hint
    assert await kinds(shop) == []
    assert (await add_checkout(shop.database, odd, "\u05d0")).name == "\u05d0"


@pytest.mark.asyncio
async def test_finding_by_what_people_type(shop: Workshop, tmp_path: Path):
    """By id, part of it, name or path; what fits several or none says so."""
    one = await add_checkout(shop.database, make_repository(tmp_path / "one"), "same")
    two = await add_checkout(shop.database, make_repository(tmp_path / "two"), "same")
    three = await add_checkout(shop.database, make_repository(tmp_path / "three"))
    for text in (three.id, three.id[-12:], "three", str(tmp_path / "three")):
        assert await shop.database.read(checkouts.resolve, text) == three
    assert await shop.database.read(checkouts.resolve, two.path) == two
    with pytest.raises(SkepError) as several:
        await shop.database.read(checkouts.resolve, "same")
    assert several.value.code is ErrorCode.INVALID
    assert set(several.value.details["paths"]) == {one.path, two.path}
    with pytest.raises(NoCheckout) as none:
        await shop.database.read(checkouts.resolve, "none")
    assert (none.value.code, "three" in none.value.hint) == (ErrorCode.NO_CHECKOUT, True)


@pytest.mark.asyncio
async def test_letting_go(shop: Workshop, tmp_path: Path):
    """It is gone from every list but not from the record; the same path later is a new one."""
    project = make_repository(tmp_path / "project")
    first = await add_checkout(shop.database, project)
    removed = await remove_checkout(shop.database, "project")
    assert (removed.id, removed.removed) == (first.id, True)
    assert await shop.database.read(checkouts.present) == []
    with pytest.raises(NoCheckout):
        await remove_checkout(shop.database, "project")
    (record,) = (await shop.journal.snapshot())[1]
    assert record.kind == OpKind.CHECKOUT
    assert (await add_checkout(shop.database, project)).id != first.id


@pytest.mark.asyncio
async def test_not_while_attempts_run_on_it(shop: Workshop, tmp_path: Path):
    """It is refused, naming them, until they have ended."""
    await add_checkout(shop.database, make_repository(tmp_path / "project"))
    attempt = await shop.start("sleep 1000")
    with pytest.raises(CheckoutInUse) as refused:
        await remove_checkout(shop.database, "project")
    assert refused.value.details["attempts"] == [attempt.id]
    await shop.runner.stop(attempt.id)
    await shop.runner.wait_ended(attempt.id)
    await remove_checkout(shop.database, "project")


@pytest.mark.asyncio
async def test_projects_of_the_hive(shop: Workshop, tmp_path: Path):
    """What the hive made of a checkout is found by the project's id, and newest word counts."""
    checkout = await add_checkout(shop.database, make_repository(tmp_path / "project"))
    for project_id, name in (("p1", "One"), ("p2", "Two")):
        link = ProjectLink(checkout_id=checkout.id, project_id=project_id, project_name=name)
        await shop.database.write(checkouts.save_links, [link])
    assert await shop.database.read(checkouts.for_project, "p1") == []
    assert await shop.database.read(checkouts.for_project, "p2") == [checkout]
    attempt = await shop.run("true", project_id="p2")
    assert (attempt.project_id, attempt.project_name) == ("p2", "Two")
    with pytest.raises(NoCheckout):
        await shop.start("true", project_id="p1")
