"""Attempts and executions as viewers read them: whole, in pages, filtered."""

import pytest

from hive.store import attempts, executions, statistics
from protocol.errors import ErrorCode, OperationError
from protocol.states import AttemptOutcome
from tests.hive import reported
from tests.hive.reported import NODE, OTHER, uid
from tests.hive.store.open_hive import OpenHive


async def many(hive: OpenHive) -> None:
    """Attempts of two tasks on two nodes."""
    alpha = await hive.reporting()
    beta = await hive.reporting(OTHER)
    await alpha.tells(
        reported.checkout(1),
        *(reported.attempt(number, task_id=uid(5 + number % 2)) for number in range(10, 15)),
        reported.ended(12, AttemptOutcome.FAILED, task_id=uid(5)),
        reported.execution(),
    )
    await beta.tells(reported.checkout(2), reported.attempt(15, checkout_id=uid(2)))
    await alpha.sends(reported.chunk(1))


@pytest.mark.asyncio
async def test_attempts_are_listed_newest_first(hive: OpenHive):
    """Pages continue after the last one, without a gap or a double."""
    await many(hive)
    seen = []
    before = None
    while page := await hive.read(attempts.list_attempts, before=before, limit=4):
        seen += [row.id for row in page]
        before = (page[-1].created_at_ms, page[-1].id)
    assert seen == [uid(number) for number in (15, 14, 13, 12, 11, 10)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"task_id": uid(6)}, [13, 11]),
        ({"node_id": OTHER}, [15]),
        ({"status": "failed"}, [12]),
        ({"status": "running", "node_id": NODE}, [14, 13, 11, 10]),
        ({"sync_state": "partial"}, []),
        ({"start_key": "k"}, []),
    ],
)
async def test_lists_are_narrowed(hive: OpenHive, filters: dict[str, str], found: list[int]):
    """Each filter keeps what fits it."""
    await many(hive)
    rows = await hive.read(attempts.list_attempts, **filters)
    assert [row.id for row in rows] == [uid(number) for number in found]


@pytest.mark.asyncio
async def test_a_status_that_is_none_is_refused(hive: OpenHive):
    """A misspelt status says which there are."""
    with pytest.raises(OperationError) as caught:
        await hive.read(attempts.list_attempts, status="runing")
    assert caught.value.code is ErrorCode.INVALID
    assert "running" in caught.value.hint


@pytest.mark.asyncio
async def test_an_attempt_is_shown_whole(hive: OpenHive):
    """With its node's name, its executions, and how far their logs are held."""
    await many(hive)
    found = await hive.read(attempts.get_attempt, uid(10))
    assert (found.node_name, found.project_name, found.sync_policy) == ("alpha", "shop", "full")
    [execution] = found.executions
    assert (execution.id, execution.argv, execution.log.next_entry) == (uid(20), ["true"], 2)
    assert await hive.read(executions.get_execution, uid(20)) == execution
    assert await hive.read(attempts.exists, uid(10))
    assert not await hive.read(attempts.exists, uid(99))
    for read in (attempts.get_attempt, executions.get_execution):
        with pytest.raises(OperationError) as caught:
            await hive.read(read, uid(99))
        assert caught.value.code is ErrorCode.NOT_FOUND


@pytest.mark.asyncio
async def test_the_newest_attempt_of_a_task(hive: OpenHive):
    """By-task calls act on the newest; a task without attempts has none."""
    await many(hive)
    newest = await hive.read(attempts.newest_attempt, uid(6))
    assert (newest.id, newest.superseded) == (uid(13), False)
    assert await hive.read(attempts.newest_attempt, uid(99)) is None


@pytest.mark.asyncio
async def test_totals_count_what_there_is(hive: OpenHive):
    """The totals are those of the tables they do not count."""
    await many(hive)
    found = await hive.read(statistics.totals)
    assert (found.nodes, found.attempts, found.ops, found.chunks) == (2, 6, 10, 1)
    assert found.ops_aside == 0
    assert found.log_bytes == len(reported.chunk(1).blob)


@pytest.mark.asyncio
async def test_the_search_for_what_lacks_uses_its_index(hive: OpenHive):
    """Looking for partial attempts must not read all that are complete."""
    plan = await hive.rows(
        "EXPLAIN QUERY PLAN SELECT attempt.id FROM attempt "
        "LEFT JOIN project ON project.id = attempt.project_id "
        "WHERE attempt.node_id = 'x' AND attempt.sync_state = 'partial' "
        "ORDER BY attempt.created_at_ms DESC, attempt.id DESC LIMIT 5"
    )
    assert "attempt_partial" in plan[0]["detail"]
    assert not any("TEMP B-TREE" in row["detail"] for row in plan)
