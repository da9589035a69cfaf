"""A worktree that is gone is made again, with all that was in it."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.git.repository import open_repository
from node_agent.git.worktrees import create_worktree
from node_agent.worktree_removals import WorktreeRemovals
from protocol.entities import Attempt, Notice
from protocol.ops import OpKind, decode_body
from tests.node_agent.workshop import Workshop, git, make_repository, open_workshop

WORK = (
    "sh -c 'echo mine > committed; git add committed; git commit -qm mine; "
    'echo changed > README; echo new > untracked; mkdir -p deep; echo x > "deep/a b"\''
)


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """A node with one checkout."""
    async with open_workshop(tmp_path / "data", 11) as opened:
        await opened.add_checkout(make_repository(tmp_path / "project"))
        yield opened


async def cleaned_up(shop: Workshop, attempt: Attempt) -> Attempt:
    """The attempt once its worktree was removed."""
    removals = WorktreeRemovals(shop.database, shop.context.worktrees_dir)
    after = await removals.clean_up(attempt.id, save=True, force=False)
    assert after.worktree is None
    assert not Path(str(attempt.worktree)).exists()
    return after


async def followed_up(shop: Workshop, attempt: Attempt, command: str = "true") -> Attempt:
    """The attempt after one more turn."""
    await shop.follow_up(attempt, command)
    return await shop.runner.wait_ended(attempt.id)


@pytest.mark.asyncio
async def test_a_cleaned_up_attempt_finds_its_files_again(shop: Workshop):
    """What was committed, changed and new is there; it is saved no more, and setup ran again."""
    attempt = await shop.run(WORK, setup_script="echo x >> ../setups")
    worktree = Path(str(attempt.worktree))
    before = git(worktree, "status", "--porcelain")
    after = await cleaned_up(shop, attempt)
    assert after.saved_ref is not None
    ended = await followed_up(shop, attempt, "sh -c 'test -e committed && cat README untracked'")
    assert (ended.outcome, ended.worktree, ended.saved_ref) == ("succeeded", str(worktree), None)
    assert git(worktree, "status", "--porcelain") == before
    assert (worktree / "deep" / "a b").read_text() == "x\n"
    assert (worktree.parent / "setups").read_text() == "x\nx\n"
    kinds = [one.kind.value for one in await shop.executions(attempt)]
    assert kinds == ["setup", "agent", "setup", "agent"]


@pytest.mark.asyncio
async def test_what_was_reverted_stays_reverted(shop: Workshop):
    """Work that was put back and then undone does not come back a second time."""
    attempt = await shop.run("sh -c 'echo changed > README; exit 1'")
    await cleaned_up(shop, attempt)
    await followed_up(shop, attempt, "git checkout -q -- README")
    await cleaned_up(shop, attempt)
    ended = await followed_up(shop, attempt)
    assert Path(str(ended.worktree), "README").read_text() == "hello\n"


@pytest.mark.asyncio
async def test_a_folder_someone_deleted(shop: Workshop):
    """The commits are there again; what was uncommitted went with the folder."""
    attempt = await shop.run(WORK)
    shutil.rmtree(str(attempt.worktree))
    ended = await followed_up(shop, attempt, "cat committed")
    assert ended.outcome == "succeeded"
    assert git(Path(str(ended.worktree)), "status", "--porcelain") == ""


@pytest.mark.asyncio
async def test_a_branch_someone_deleted(shop: Workshop, tmp_path: Path):
    """The branch begins again where the work stood, with what was saved on top of it."""
    attempt = await shop.run(WORK)
    await cleaned_up(shop, attempt)
    git(tmp_path / "project", "branch", "-D", attempt.branch)
    ended = await followed_up(shop, attempt, "cat committed untracked")
    assert ended.outcome == "succeeded"
    assert git(tmp_path / "project", "rev-parse", attempt.branch) == attempt.head_commit


@pytest.mark.asyncio
async def test_a_crash_before_saved_work_is_back(shop: Workshop, tmp_path: Path):
    """A worktree that was made again and not filled is filled before anything runs in it."""
    attempt = await shop.run(WORK)
    await cleaned_up(shop, attempt)
    await create_worktree(
        await open_repository(tmp_path / "project"),
        shop.context.worktrees_dir,
        attempt_id=attempt.id,
        branch=attempt.branch,
        base=attempt.base_commit,
    )
    ended = await followed_up(shop, attempt, "cat untracked")
    assert ended.outcome == "succeeded"


@pytest.mark.asyncio
async def test_a_branch_that_moved_on(shop: Workshop, tmp_path: Path):
    """What was saved of another commit is not laid over this one: it is told where it is."""
    attempt = await shop.run(WORK)
    after = await cleaned_up(shop, attempt)
    project = tmp_path / "project"
    git(project, "update-ref", f"refs/heads/{attempt.branch}", "main")
    ended = await followed_up(shop, attempt, "test ! -e untracked")
    assert (ended.outcome, ended.saved_ref) == ("succeeded", after.saved_ref)
    ops = await shop.journal.ops_after(11, 0, ops_max=1000, bytes_max=1 << 24)
    (notice,) = [decode_body(op.kind, op.body) for op in ops if op.kind == OpKind.NOTICE]
    assert isinstance(notice, Notice)
    assert (notice.code, notice.attempt_id) == ("saved_work_left", attempt.id)
    assert str(after.saved_ref) in notice.message
