"""Worktrees are removed when someone asks, never with work that is lost by it, and only once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.git.repository import open_repository
from node_agent.git.worktree_removal import remove_worktree
from node_agent.store import plans, removals
from node_agent.turn_steps import Running
from node_agent.worktree_removals import Held, WorktreeRemovals
from node_agent.worktree_upkeep import WorktreeUpkeep
from protocol.entities import Attempt
from protocol.errors import ErrorCode, SkepError
from tests.node_agent.workshop import Workshop, git, make_repository, open_workshop

INNER = (
    "sh -c 'git init -q inner && cd inner && git -c user.name=A -c user.email=a@example.org "
    "commit -q --allow-empty -m only-here'"
)


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """A node with one checkout."""
    async with open_workshop(tmp_path / "data", 11) as opened:
        await opened.add_checkout(make_repository(tmp_path / "project"))
        yield opened


def removals_of(shop: Workshop) -> WorktreeRemovals:
    """What removes this node's worktrees."""
    return WorktreeRemovals(shop.database, shop.context.worktrees_dir)


async def refused(shop: Workshop, attempt: Attempt, **asked: bool) -> SkepError:
    """What a cleanup that must be refused says; nothing has changed by it."""
    wanted = {"save": False, "force": False, **asked}
    before = await shop.attempt(attempt)
    with pytest.raises(SkepError) as caught:
        await removals_of(shop).clean_up(attempt.id, **wanted)
    assert await shop.attempt(attempt) == before
    assert await shop.database.read(removals.planned) == []
    assert Path(str(before.worktree)).is_dir()
    return caught.value


@pytest.mark.asyncio
async def test_a_clean_worktree_goes(shop: Workshop, tmp_path: Path):
    """Its branch stays, and asking again changes nothing."""
    attempt = await shop.run("sh -c 'git commit -q --allow-empty -m mine'")
    done = await removals_of(shop).clean_up(attempt.id, save=False, force=False)
    assert (done.worktree, done.saved_ref, done.hold_until_ms) == (None, None, None)
    assert not Path(str(attempt.worktree)).exists()
    assert git(tmp_path / "project", "rev-parse", attempt.branch) == attempt.head_commit
    assert await removals_of(shop).clean_up(attempt.id, save=False, force=False) == done


@pytest.mark.asyncio
async def test_unsaved_work_is_named_then_saved(shop: Workshop, tmp_path: Path):
    """Without `save` it is refused with the list of what would be lost; with it nothing is."""
    attempt = await shop.run("sh -c 'echo x > new; echo y > README'")
    error = await refused(shop, attempt)
    assert error.code is ErrorCode.UNSAVED_WORK
    assert error.details["unsaved"] == ["README", "new"]
    assert (error.details["unsaved_count"], error.details["commits_off_branch"]) == (2, False)
    done = await removals_of(shop).clean_up(attempt.id, save=True, force=False)
    assert done.worktree is None
    assert git(tmp_path / "project", "show", f"{done.saved_ref}:new") == "x"


@pytest.mark.asyncio
async def test_what_no_ref_can_keep(shop: Workshop):
    """A repository within the worktree is lost by `force` alone, and not by `save`."""
    attempt = await shop.run(INNER)
    for asked in ({}, {"save": True}):
        error = await refused(shop, attempt, **asked)
        assert (error.code, error.details["unsaved"]) == ("unsaved_work", ["inner"])
    done = await removals_of(shop).clean_up(attempt.id, save=False, force=True)
    assert done.worktree is None


@pytest.mark.asyncio
async def test_force_saves_what_can_be_saved(shop: Workshop, tmp_path: Path):
    """Even then no uncommitted work is lost."""
    attempt = await shop.run("sh -c 'echo x > new'")
    done = await removals_of(shop).clean_up(attempt.id, save=False, force=True)
    assert git(tmp_path / "project", "show", f"{done.saved_ref}:new") == "x"


@pytest.mark.asyncio
async def test_what_runs_or_is_held_stays(shop: Workshop):
    """A running attempt, a running script and a hold each keep the worktree."""
    attempt = await shop.run("true")
    await shop.follow_up(attempt, "sleep 60")
    with pytest.raises(Running):
        await removals_of(shop).clean_up(attempt.id, save=True, force=True)
    await shop.runner.stop(attempt.id, 0)
    attempt = await shop.runner.wait_ended(attempt.id)
    script = await shop.script(attempt, "sleep 60")
    with pytest.raises(Running):
        await removals_of(shop).clean_up(attempt.id, save=True, force=True)
    await shop.runner.stop(attempt.id, 0)
    await shop.runner.scripts.wait_ended(script.id)
    await shop.database.write(plans.hold, attempt.id, 1 << 50)
    assert isinstance(await refused(shop, attempt), Held)
    done = await removals_of(shop).clean_up(attempt.id, save=False, force=True)
    assert done.worktree is None


@pytest.mark.asyncio
async def test_a_crash_after_the_decision(shop: Workshop):
    """What was decided is done at the next look, however far it had come."""
    attempt = await shop.run("sh -c 'echo x > new'")
    await shop.database.write(removals.plan, attempt.id, lose_nested=False, at_ms=1)
    await WorktreeUpkeep(shop.database, shop.context.notices, shop.context.worktrees_dir).round()
    after = await shop.attempt(attempt)
    assert (after.worktree, after.saved_ref) == (None, f"refs/skep/saved/{attempt.id}")
    assert await shop.database.read(removals.planned) == []


@pytest.mark.asyncio
async def test_a_crash_before_the_record(shop: Workshop, tmp_path: Path):
    """With the folder gone and nothing recorded, the record says where its work was saved."""
    attempt = await shop.run("sh -c 'echo x > new'")
    await shop.database.write(removals.plan, attempt.id, lose_nested=False, at_ms=1)
    repository = await open_repository(tmp_path / "project")
    await remove_worktree(repository, shop.context.worktrees_dir, attempt.id)
    settled = await removals_of(shop).settle(attempt.id)
    assert (settled.worktree, settled.saved_ref) == (None, f"refs/skep/saved/{attempt.id}")


@pytest.mark.asyncio
async def test_a_crash_before_the_decision(shop: Workshop):
    """Nothing was removed, and nothing is: whoever asked asks again."""
    attempt = await shop.run("true")
    with pytest.raises(SkepError) as caught:
        await removals_of(shop).settle(attempt.id)
    assert caught.value.code is ErrorCode.CANCELLED
    assert Path(str(attempt.worktree)).is_dir()


@pytest.mark.asyncio
async def test_a_follow_up_takes_the_plan_back(shop: Workshop):
    """Whoever wants the worktree again before it is removed keeps it."""
    attempt = await shop.run("sh -c 'echo x > new'")
    await shop.database.write(removals.plan, attempt.id, lose_nested=False, at_ms=1)
    await shop.follow_up(attempt, "cat new")
    ended = await shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "succeeded"
    after = await removals_of(shop).carry_out(attempt.id)
    assert after == ended
    assert Path(str(after.worktree), "new").exists()


@pytest.mark.asyncio
async def test_removals_and_follow_ups_at_once(shop: Workshop):
    """Whichever comes first, the turn finds its files, and the worktree is there after it."""
    attempt = await shop.run("sh -c 'echo x > new'")
    for _ in range(4):
        await shop.database.write(removals.plan, attempt.id, lose_nested=False, at_ms=1)
        done = removals_of(shop).carry_out(attempt.id)
        turn = shop.follow_up(attempt, "cat new")
        await asyncio.gather(done, turn)
        ended = await shop.runner.wait_ended(attempt.id)
        assert ended.outcome == "succeeded"
        assert Path(str(ended.worktree), "new").exists()
