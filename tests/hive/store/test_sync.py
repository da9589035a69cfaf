"""What the hive holds of each attempt: complete, partial, backfilling, under each policy."""

import pytest

from hive.store import attempts, catalog
from protocol.log_chunks import LogCursor, advance
from protocol.messages import Need, NeedDone, NeedOutcome
from protocol.states import AttemptOutcome
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS, uid
from tests.hive.store.open_hive import OpenHive, Reporting


async def state(hive: OpenHive) -> str:
    """The sync state of the one attempt."""
    return (await hive.row("attempt", uid(10)))["sync_state"]


async def set_policy(hive: OpenHive, policy: str) -> None:
    """Give the one project another policy."""
    [project] = await hive.rows("SELECT id FROM project")
    await hive.write(
        catalog.edit_project,
        project["id"],
        {"sync_policy": policy},
        actor="ann",
        now_ms=NOW_MS,
    )


async def answer(alpha: Reporting, request_id: str, *outcomes: NeedOutcome) -> None:
    """Have the node answer a need."""
    done = NeedDone(request_id=request_id, outcomes=list(outcomes))
    await alpha.hive.store.need_done(NODE, alpha.link_no, done)


async def ask(hive: OpenHive, request_id: str, kind: str, *ids: str) -> Need | None:
    """Store a need."""
    return await hive.store.store_need(NODE, Need(request_id=request_id, kind=kind, ids=list(ids)))


@pytest.mark.asyncio
async def test_an_attempt_is_complete_as_far_as_is_known(hive: OpenHive):
    """With full policy an open log is complete, whatever may come; an unknown execution is not."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt(executions=[uid(20)]))
    assert await state(hive) == "partial"
    await alpha.tells(reported.execution())
    assert await state(hive) == "complete"
    await alpha.sends(reported.chunk(1))
    await alpha.tells(reported.log_end(chunks=3))
    assert await state(hive) == "partial"
    await alpha.sends(reported.chunk(2))
    assert await state(hive) == "partial"
    await hive.heard()
    await alpha.sends(reported.gap(3, 3, 3, 1))
    assert await state(hive) == "complete"
    assert "sync.changed" in [change.kind for change in await hive.heard()]
    # New activity opens it again.
    await alpha.tells(reported.attempt(executions=[uid(20), uid(21)]))
    assert await state(hive) == "partial"


@pytest.mark.asyncio
async def test_a_log_may_be_whole_before_its_end_is_known(hive: OpenHive):
    """The end that arrives after the last chunk finds nothing lacking."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt(executions=[uid(20)]))
    await alpha.sends(reported.chunk(1))
    await alpha.tells(reported.execution(), reported.log_end(chunks=1))
    assert await state(hive) == "complete"


@pytest.mark.asyncio
async def test_a_log_that_is_as_long_and_a_rivals_is_not_whole(hive: OpenHive):
    """The end of a log names its history; a copy's log of as many chunks is still lacking."""
    alpha = await hive.reporting()
    await alpha.tells(
        reported.checkout(1), reported.attempt(executions=[uid(20)]), reported.execution()
    )
    await alpha.sends(reported.chunk(1))
    await alpha.tells(reported.log_end(chunks=1, chain=b"a copy's history"))
    assert await state(hive) == "partial"
    [lack] = await hive.store.lacking(NODE, 10)
    assert [log.execution_id for log in lack.logs] == [uid(20)]
    held = advance(LogCursor(), reported.chunk(1)).digest
    await alpha.tells(reported.log_end(chunks=1, chain=held))
    assert await state(hive) == "complete"
    assert await hive.store.lacking(NODE, 10) == []


@pytest.mark.asyncio
async def test_what_is_asked_for_is_backfilling(hive: OpenHive):
    """An open need shows; its answer leaves partial or complete; what is gone counts as held."""
    alpha = await hive.reporting()
    await alpha.tells(
        reported.checkout(1),
        reported.attempt(executions=[uid(20)]),
        reported.execution(),
        reported.log_end(chunks=2),
    )
    await ask(hive, "r1", "logs", uid(20))
    assert await state(hive) == "backfilling"
    await alpha.sends(reported.chunk(1))
    await answer(alpha, "r1", NeedOutcome(uid(20), "sent", 1))
    assert await state(hive) == "partial"
    await ask(hive, "r2", "logs", uid(20))
    await answer(alpha, "r2", NeedOutcome(uid(20), "gone", 0, "pruned"))
    assert await state(hive) == "complete"
    found = await hive.read(attempts.get_attempt, uid(10))
    assert found.executions[0].log.gone_reason == "pruned"
    assert found.executions[0].log.whole


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["executions", "full_attempt"])
async def test_executions_that_are_gone_count_as_held(hive: OpenHive, kind: str):
    """A node that lost an attempt's executions says so once, and is not asked again."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt(executions=[uid(20)]))
    await ask(hive, "r1", kind, uid(10))
    assert await state(hive) == "backfilling"
    await answer(alpha, "r1", NeedOutcome(uid(10), "unknown"))
    assert await state(hive) == "complete"
    assert await ask(hive, "r2", kind, uid(10)) is None
    # New activity may be asked for: what was gone is not all there is any more.
    await alpha.tells(reported.attempt(executions=[uid(20), uid(21)]))
    assert await state(hive) == "partial"
    assert await ask(hive, "r3", kind, uid(10)) is not None


@pytest.mark.asyncio
async def test_an_execution_that_its_node_does_not_know_is_not_waited_for(hive: OpenHive):
    """Named by the attempt, asked for by its log, and unknown to the node: it counts as held."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt(executions=[uid(20), uid(21)]))
    await alpha.tells(reported.execution(20))
    await ask(hive, "r1", "logs", uid(21))
    await answer(alpha, "r1", NeedOutcome(uid(21), "unknown"))
    await alpha.tells(reported.attempt(executions=[uid(20), uid(21)], branch="renamed"))
    assert await state(hive) == "complete"


@pytest.mark.asyncio
async def test_a_lazy_project_holds_what_was_opened(hive: OpenHive):
    """Under lazy an open log is not held, and nothing is asked for unasked."""
    alpha = await hive.reporting()
    await alpha.tells(
        reported.checkout(1), reported.attempt(executions=[uid(20)]), reported.execution()
    )
    await set_policy(hive, "lazy")
    assert await state(hive) == "partial"
    assert await hive.store.lacking(NODE, 10) == []
    await alpha.tells(reported.log_end(chunks=1))
    assert await state(hive) == "partial"
    node_id, lack = await hive.read(attempts.lack_of, uid(10))
    assert (node_id, [log.execution_id for log in lack.logs]) == (NODE, [uid(20)])
    await alpha.sends(reported.chunk(1))
    assert await state(hive) == "complete"
    assert await hive.read(attempts.lack_of, uid(10)) is None


@pytest.mark.asyncio
async def test_a_metadata_project_holds_no_logs(hive: OpenHive):
    """Under metadata chunks are settled and not kept, and the attempt is complete by its state."""
    alpha = await hive.reporting()
    await alpha.tells(
        reported.checkout(1),
        reported.attempt(executions=[uid(20)]),
        reported.execution(),
        reported.log_end(chunks=1),
    )
    assert await state(hive) == "partial"
    await set_policy(hive, "metadata")
    assert await state(hive) == "complete"
    assert await alpha.sends(reported.chunk(1)) == ["known"]
    assert await hive.rows("SELECT chunk_seq FROM chunk") == []
    assert await hive.read(attempts.lack_of, uid(10)) is None
    await set_policy(hive, "full")
    assert await state(hive) == "partial"
    assert await alpha.sends(reported.chunk(1)) == ["stored"]


@pytest.mark.asyncio
async def test_the_newest_word_of_an_attempt_is_dated(hive: OpenHive):
    """`synced_through_ms` is the time of the newest thing heard: op or chunk."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt(), reported.execution())
    found = await hive.read(attempts.get_attempt, uid(10))
    assert found.synced_through_ms == NOW_MS
    await alpha.sends(reported.chunk(1), reported.chunk(2))
    found = await hive.read(attempts.get_attempt, uid(10))
    assert found.synced_through_ms == NOW_MS + 2


@pytest.mark.asyncio
async def test_one_bad_id_spoils_nothing(hive: OpenHive):
    """An answer about ids that mean nothing here settles the need all the same."""
    alpha = await hive.reporting()
    await ask(hive, "r1", "logs", uid(50), "not an id at all")
    await answer(alpha, "r1", NeedOutcome("not an id at all", "unknown"))
    assert await hive.store.open_needs(NODE) == []


@pytest.mark.asyncio
async def test_answered_needs_are_not_kept_for_ever(hive: OpenHive):
    """A week after its answer a need is deleted, but for what is gone."""
    alpha = await hive.reporting()
    await ask(hive, "r1", "logs", uid(20), uid(21))
    await answer(
        alpha, "r1", NeedOutcome(uid(20), "sent", 1), NeedOutcome(uid(21), "gone", 0, "pruned")
    )
    await ask(hive, "r2", "logs", uid(22))
    await answer(alpha, "r2", NeedOutcome(uid(22), "sent", 1))
    hive.now_ms += 8 * 86_400_000
    await ask(hive, "r3", "logs", uid(23))
    rows = await hive.rows("SELECT request_id, id FROM need_item ORDER BY request_id")
    assert [tuple(row) for row in rows] == [("r1", uid(21)), ("r3", uid(23))]
    assert await ask(hive, "r4", "logs", uid(21)) is None


@pytest.mark.asyncio
async def test_an_attempt_forgotten_by_its_node_keeps_its_facts(hive: OpenHive):
    """What a restored node no longer knows is marked beside its last words."""
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.ended(outcome=AttemptOutcome.SUCCEEDED))
    restored = await hive.reporting(instance=2, at=2)
    await restored.snapshot()
    found = await hive.read(attempts.get_attempt, uid(10))
    assert (found.phase, found.outcome) == ("ended", "succeeded")
    assert found.forgotten_at_ms == NOW_MS
