"""Which worktrees are over by their project's rule: those of successes that nobody holds."""

from typing import Any

import pytest

from hive.store import catalog, tasks, worktrees
from protocol.messages import WorktreeOver
from protocol.states import AttemptOutcome
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS, OTHER, uid
from tests.hive.store.open_hive import OpenHive

BY = {"actor": "ann", "now_ms": NOW_MS}
HOUR_MS = 3_600_000
OVER = [WorktreeOver(uid(10), NOW_MS)]


async def over(hive: OpenHive, node_id: str = NODE, now_ms: int = NOW_MS) -> list[WorktreeOver]:
    """What the node is told of."""
    return await hive.read(worktrees.over, node_id, now_ms=now_ms, limit=10)


async def work(hive: OpenHive, **attempt: Any) -> None:
    """An attempt of a shared task that has ended with a worktree; the task waits for its review."""
    alpha = await hive.reporting()
    ended = {"worktree": "/w/10", "outcome": AttemptOutcome.SUCCEEDED, **attempt}
    await alpha.tells(reported.checkout(1), reported.attempt(10), reported.ended(10, **ended))


async def set_rule(hive: OpenHive, rule: str) -> None:
    """Give the only project another rule."""
    [project] = await hive.rows("SELECT id FROM project")
    await hive.write(catalog.edit_project, project["id"], {"keep_worktree": rule}, **BY)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("change", "is_over"),
    [
        ({"status": "done"}, True),
        ({"status": "ready"}, False),
        ({"archived": True}, True),
        ({"title": "Another"}, False),
    ],
)
async def test_a_worktree_is_kept_while_its_task_is_not_over(
    hive: OpenHive, change: dict[str, Any], is_over: bool
):
    """By default: until the task is done or put away; what else becomes of it keeps it."""
    await work(hive)
    assert await over(hive) == []
    await hive.write(tasks.edit_task, uid(5), change, **BY)
    assert await over(hive) == (OVER if is_over else [])
    assert await over(hive, OTHER) == []


@pytest.mark.asyncio
async def test_a_cancelled_and_a_deleted_task_are_over(hive: OpenHive):
    """Whoever cancels or deletes a task wants no more of its worktrees."""
    await work(hive)
    await hive.write(tasks.edit_task, uid(5), {"status": "ready"}, **BY)
    await hive.write(tasks.edit_task, uid(5), {"status": "cancelled"}, **BY)
    assert await over(hive) == OVER
    await hive.write(tasks.edit_task, uid(5), {"status": "ready"}, **BY)
    assert await over(hive) == []
    await hive.write(tasks.delete_task, uid(5), **BY)
    assert await over(hive) == OVER
    assert await hive.read(worktrees.nodes_of_task, uid(5)) == [NODE]
    assert await hive.read(worktrees.nodes_of_task, uid(6)) == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "kept",
    [
        {"outcome": AttemptOutcome.FAILED},
        {"hold_until_ms": NOW_MS + HOUR_MS},
        {"worktree": None},
    ],
)
async def test_what_the_rule_is_not_for(hive: OpenHive, kept: dict[str, Any]):
    """Failed attempts are held by their node; held ones by a person; without a worktree, none."""
    await work(hive, **kept)
    await set_rule(hive, "after_end")
    assert await over(hive) == []


@pytest.mark.asyncio
async def test_after_its_end_and_hours_later(hive: OpenHive):
    """The other rules look at the attempt alone."""
    await work(hive, outcome=AttemptOutcome.SUCCEEDED_WITH_WARNING)
    await set_rule(hive, "after_end")
    assert await over(hive) == OVER
    await set_rule(hive, "2")
    assert await over(hive, now_ms=NOW_MS + 2 * HOUR_MS) == []
    assert await over(hive, now_ms=NOW_MS + 2 * HOUR_MS + 1) == OVER


@pytest.mark.asyncio
async def test_an_attempt_that_goes_on_is_not_over(hive: OpenHive):
    """A follow-up of a done task: what is told next is its new end."""
    await work(hive)
    await hive.write(tasks.edit_task, uid(5), {"archived": True}, **BY)
    alpha = await hive.reporting(instance=2, at=2)
    again = {"worktree": "/w/10"}
    await alpha.tells(reported.attempt(10, **again))
    assert await over(hive) == []
    await alpha.tells(reported.ended(10, **again))
    assert await over(hive) == OVER


@pytest.mark.asyncio
async def test_the_look_for_worktrees_uses_its_index(hive: OpenHive):
    """It must not read every attempt a node ever made."""
    statement = f"EXPLAIN QUERY PLAN {worktrees._SELECT_OVER}"
    names = dict.fromkeys(("node_id", "ended", "succeeded", "warned", "done", "cancelled"), "x")
    rows = await hive.rows(
        statement, **names, until_done="u", after_end="a", hour_ms=1, now_ms=1, limit=1
    )
    assert any("attempt_with_worktree" in row["detail"] for row in rows)
