"""Worktrees go when their hold has passed, and never with work that is nowhere else."""

from pathlib import Path

import msgspec
import pytest

from node_agent import worktree_upkeep
from node_agent.git import worktree_removal
from node_agent.git.folders import remove_folder
from node_agent.notices import Notices
from node_agent.store import attempts
from node_agent.worktree_upkeep import WorktreeUpkeep
from protocol.entities import Attempt
from tests.node_agent.workshop import Workshop, git, make_repository, open_workshop


def upkeep_of(shop: Workshop) -> WorktreeUpkeep:
    """The upkeep of this node's worktrees."""
    return WorktreeUpkeep(shop.database, Notices(shop.database), shop.context.worktrees_dir)


async def after_its_hold(
    shop: Workshop, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> Attempt:
    """Look after the worktrees once the attempt's hold has passed."""
    assert attempt.hold_until_ms is not None
    over = attempt.hold_until_ms + 1
    monkeypatch.setattr(worktree_upkeep, "now_ms", lambda: over)
    await upkeep_of(shop).round()
    return await shop.database.read(attempts.get, attempt.id)


@pytest.mark.asyncio
async def test_a_failed_attempts_worktree_goes_and_its_work_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it left uncommitted is in a ref before the folder is removed."""
    repository = make_repository(tmp_path / "repository")
    async with open_workshop(tmp_path / "node", 1) as shop:
        await shop.add_checkout(repository)
        attempt = await shop.run("sh -c 'echo precious > left.txt; exit 3'")
        worktree = Path(str(attempt.worktree))
        await upkeep_of(shop).round()
        assert (worktree / "left.txt").exists()
        after = await after_its_hold(shop, attempt, monkeypatch)
        assert not worktree.exists()
        assert after.worktree is None
        assert after.saved_ref is not None
        assert git(repository, "show", f"{after.saved_ref}:left.txt") == "precious"


@pytest.mark.asyncio
async def test_a_successful_attempts_worktree_stays(tmp_path: Path) -> None:
    """It has no hold: its work waits for a review."""
    repository = make_repository(tmp_path / "repository")
    async with open_workshop(tmp_path / "node", 1) as shop:
        await shop.add_checkout(repository)
        attempt = await shop.run("true")
        assert attempt.hold_until_ms is None
        await upkeep_of(shop).round()
        assert Path(str(attempt.worktree)).is_dir()


@pytest.mark.asyncio
async def test_work_that_is_nowhere_else_keeps_its_worktree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository within the worktree cannot be saved, so the worktree is held on and told of."""
    repository = make_repository(tmp_path / "repository")
    script = (
        "git init -q inner && cd inner && git -c user.name=A -c user.email=a@example.org "
        "commit -q --allow-empty -m only-here; exit 3"
    )
    async with open_workshop(tmp_path / "node", 1) as shop:
        await shop.add_checkout(repository)
        attempt = await shop.run(f"sh -c '{script}'")
        after = await after_its_hold(shop, attempt, monkeypatch)
        assert Path(str(after.worktree)).is_dir()
        assert after.hold_until_ms > attempt.hold_until_ms
        # Everything but the hold is as it was.
        assert msgspec.structs.replace(after, hold_until_ms=attempt.hold_until_ms) == attempt


@pytest.mark.asyncio
async def test_a_folder_that_may_not_be_deleted_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a container that left files of root's: what it is in is tried again, the rest goes."""
    repository = make_repository(tmp_path / "repository")
    async with open_workshop(tmp_path / "node", 1) as shop:
        await shop.add_checkout(repository)
        first = await shop.run("sh -c 'exit 3'")
        second = await shop.run("sh -c 'exit 3'")

        def refuse(path: Path) -> None:
            if first.id in path.name and path.exists():
                raise PermissionError(13, "not permitted", str(path))
            remove_folder(path)

        monkeypatch.setattr(worktree_removal, "remove_folder", refuse)
        for _ in range(2):
            after = await after_its_hold(shop, second, monkeypatch)
        assert after.worktree is None
        kept = await shop.database.read(attempts.get, first.id)
        assert kept.worktree is not None
        monkeypatch.setattr(worktree_removal, "remove_folder", remove_folder)
        await upkeep_of(shop).round()
        assert (await shop.database.read(attempts.get, first.id)).worktree is None
