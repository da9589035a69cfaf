"""Attempts and executions in the store: guarded changes, pages, and what people type."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from node_agent.store import attempts, node_states, plans, settings
from node_agent.store.attempts import IllegalTransition
from node_agent.store.database import Database
from node_agent.store.errors import NotStored
from node_agent.store.journal import SqliteJournal
from protocol.attempt_requests import StartRequest
from protocol.entities import Attempt, Execution, LogEnd, NodeState
from protocol.errors import ErrorCode, SkepError
from protocol.states import (
    ATTEMPT_TRANSITIONS,
    AttemptOutcome,
    AttemptPhase,
    ExecutionKind,
    ExecutionStatus,
)


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A state database with an open epoch."""
    opened = await Database.open(tmp_path / "state.db", "state", on_fatal=lambda _: None)
    await SqliteJournal(opened).open_epoch(1)
    yield opened
    await opened.close()


def attempt(name: str = "a", **fields: object) -> Attempt:
    """An attempt that was created."""
    wanted = {
        "id": name,
        "task_id": "t",
        "task_title": "t",
        "checkout_id": "c",
        "project_identity": "root:1",
        "project_name": "p",
        "executor": "command",
        "branch": "skep/x",
        "phase": AttemptPhase.CREATED,
        "created_at_ms": 1,
    }
    return Attempt(**(wanted | fields))


def execution(name: str = "e", status: str = "running") -> Execution:
    """An execution of attempt `a`."""
    return Execution(
        id=name, attempt_id="a", kind=ExecutionKind.AGENT, status=ExecutionStatus(status)
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("before", list(AttemptPhase))
@pytest.mark.parametrize("after", list(AttemptPhase))
async def test_phases_follow_the_table(
    database: Database, before: AttemptPhase, after: AttemptPhase
):
    """A change the table does not name is refused, and nothing of it is kept."""
    journal = SqliteJournal(database)
    await database.write(attempts.save, attempt(), 1)
    for phase in path_to(before):
        await database.write(attempts.save, attempt(phase=phase), 1)
    last = (await journal.epochs())[0].last
    changed = attempt(phase=after)
    if after == before or after in ATTEMPT_TRANSITIONS[before]:
        await database.write(attempts.save, changed, 2)
        assert await database.read(attempts.get, "a") == changed
        assert (await journal.epochs())[0].last == last + 1
    else:
        with pytest.raises(IllegalTransition):
            await database.write(attempts.save, changed, 2)
        assert (await database.read(attempts.get, "a")).phase == before
        assert (await journal.epochs())[0].last == last


def path_to(phase: AttemptPhase) -> list[AttemptPhase]:
    """The phases from created to this one."""
    way = [
        AttemptPhase.PREPARING,
        AttemptPhase.RUNNING,
        AttemptPhase.AWAITING_INPUT,
        AttemptPhase.FINISHING,
        AttemptPhase.ENDED,
    ]
    return [] if phase is AttemptPhase.CREATED else way[: way.index(phase) + 1]


@pytest.mark.asyncio
async def test_an_attempt_begins_as_created(database: Database):
    """No other phase is a first one; an execution begins as running."""
    with pytest.raises(IllegalTransition):
        await database.write(attempts.save, attempt(phase=AttemptPhase.RUNNING), 1)
    assert await database.read(attempts.find, "a") is None
    with pytest.raises(IllegalTransition):
        await database.write(attempts.save_execution, execution(status="failed"), 1)


@pytest.mark.asyncio
async def test_an_ended_execution_stays_ended(database: Database):
    """The end of a process is a fact."""
    await database.write(attempts.save_execution, execution(), 1)
    await database.write(attempts.save_execution, execution(status="lost"), 2)
    for status in ("running", "succeeded", "failed", "killed"):
        with pytest.raises(IllegalTransition):
            await database.write(attempts.save_execution, execution(status=status), 3)


@pytest.mark.asyncio
async def test_slots_and_unended(database: Database):
    """An attempt takes a slot until it has ended."""
    for number, phase in enumerate(AttemptPhase):
        name = f"a{number}"
        await database.write(attempts.save, attempt(name, created_at_ms=number), 1)
        for step in path_to(phase):
            await database.write(attempts.save, attempt(name, phase=step, created_at_ms=number), 1)
    assert await database.read(attempts.busy_slots) == 5
    assert [one.id for one in await database.read(attempts.unended)] == [
        f"a{number}" for number in range(5)
    ]


@pytest.mark.asyncio
async def test_pages_are_newest_first(database: Database):
    """Each attempt is on one page, also where several were created in one millisecond."""
    for number in range(10):
        wanted = attempt(f"a{number}", created_at_ms=number // 3, task_id=f"t{number % 2}")
        await database.write(attempts.save, wanted, 1)
    seen: list[str] = []
    before = None
    while page := await database.read(attempts.page, limit=4, before=before):
        seen += [one.id for one in page]
        before = (page[-1].created_at_ms, page[-1].id)
    assert seen == [f"a{number}" for number in reversed(range(10))]
    odd = await database.read(attempts.page, limit=99, task_id="t1")
    assert [one.id for one in odd] == ["a9", "a7", "a5", "a3", "a1"]
    assert await database.read(attempts.page, limit=99, phase="ended") == []


@pytest.mark.asyncio
async def test_ids_as_people_type_them(database: Database):
    """The whole id, its first or its last eight characters or more; several or none are named."""
    ids = [
        "0190aaaa-0000-7000-8000-000011112222",
        "0190aaaa-0000-7000-8000-000033334444",
        "0190bbbb-0000-7000-8000-000055556666",
    ]
    for name in ids:
        await database.write(attempts.save, attempt(name), 1)
    assert await database.read(attempts.resolve, ids[0]) == ids[0]
    assert await database.read(attempts.resolve, " 0190BBBB ") == ids[2]
    assert await database.read(attempts.resolve, "33334444") == ids[1]
    with pytest.raises(SkepError) as several:
        await database.read(attempts.resolve, "0190aaaa")
    assert several.value.code is ErrorCode.INVALID
    for text in ("0190bbb", "99998888", "", "%%%%%%%%"):
        with pytest.raises(NotStored):
            await database.read(attempts.resolve, text)


@pytest.mark.asyncio
async def test_executions_in_order(database: Database):
    """An attempt's executions come in the order in which they were begun."""
    await database.write(attempts.save, attempt(executions=["e2", "e1", "missing"]), 1)
    for name in ("e1", "e2"):
        await database.write(attempts.save_execution, execution(name), 1)
    found = await database.read(attempts.executions_of, "a")
    assert [one.id for one in found] == ["e2", "e1"]
    assert await database.read(attempts.agent_runs, "a") == ["e2", "e1"]
    assert await database.read(attempts.agent_runs, "unknown") == []
    end = LogEnd(execution_id="e1", chunks=1, entries=2, bytes=3)
    await database.write(attempts.save_log_end, end, 1)
    assert await database.read(attempts.log_end_of, "e1") == end
    assert await database.read(attempts.log_end_of, "e2") is None


@pytest.mark.asyncio
async def test_plans(database: Database):
    """The first stop and the first decision stay, until the attempt goes on; a hold outlives it."""
    request = StartRequest(command="true", environment={"A": "b"})
    await database.write(plans.save, "a", request)
    assert await database.read(plans.get, "a") == (request, None, None, None, None, None)
    await database.write(plans.ask_stop, "a", 5, None)
    await database.write(plans.ask_stop, "a", 9, 0.5)
    await database.write(plans.decide, "a", AttemptOutcome.STOPPED, None)
    await database.write(plans.decide, "a", AttemptOutcome.FAILED, "late")
    stopped = (request, 5, 0.5, AttemptOutcome.STOPPED, None, None)
    assert await database.read(plans.get, "a") == stopped
    await database.write(plans.hold, "a", 7)
    await database.write(plans.reopen, "a")
    assert await database.read(plans.get, "a") == (request, None, None, None, None, 7)
    with pytest.raises(NotStored):
        await database.read(plans.get, "b")


@pytest.mark.asyncio
async def test_the_node_speaks_of_itself_only_when_something_changed(database: Database):
    """A restart with the same settings writes no op."""
    node = NodeState(id="n", name="one", slots=2)
    assert await database.write(node_states.tell, node, 1)
    assert not await database.write(node_states.tell, node, 2)
    changed = msgspec.structs.replace(node, slots=3)
    assert await database.write(node_states.tell, changed, 3)
    assert await database.read(node_states.find, "n") == changed


@pytest.mark.asyncio
async def test_settings(database: Database):
    """A value is kept under its name until another takes its place."""
    assert await database.read(settings.get, "x") is None
    await database.write(settings.put, "x", b"1")
    await database.write(settings.put, "x", b"2")
    assert await database.read(settings.get, "x") == b"2"
