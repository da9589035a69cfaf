"""Turns follow each other: at once, from the queue, after an interrupt; never twice, never lost."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from node_agent.attempt_runner import DESCRIPTION_BYTES_MAX, TITLE_CHARACTERS_MAX
from node_agent.attempt_worktree import SessionLost
from node_agent.operations.branch_changes import MERGES_MAX
from node_agent.stamps import new_id
from node_agent.store import attempts, turns
from node_agent.turn_steps import EXECUTIONS_MAX, NodeFull, Running, runs_since
from protocol import limits
from protocol.entities import Attempt, MergeFact
from protocol.errors import ErrorCode, OperationError
from protocol.log_chunks import STDOUT
from protocol.turn_requests import TurnEdit, TurnStatus
from tests.node_agent.waiting import until
from tests.node_agent.workshop import Workshop, git, make_repository, open_workshop


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """A node with one checkout."""
    async with open_workshop(tmp_path / "data", 11) as opened:
        await opened.add_checkout(make_repository(tmp_path / "project"))
        yield opened


async def at_work(shop: Workshop, attempt: Attempt, count: int = 1) -> None:
    """Wait until the agent of an attempt's turn number `count` runs."""

    async def works() -> bool:
        agents = await shop.agents(attempt)
        return len(agents) == count and agents[-1].process is not None

    await until(works, f"turn {count} of the attempt is at work")


@pytest.mark.asyncio
async def test_an_ended_attempt_goes_on(shop: Workshop):
    """A follow-up of an ended attempt runs at once, in the same worktree, and decides its end."""
    attempt = await shop.run("sh -c 'echo one > file; exit 3'")
    assert (attempt.outcome, attempt.reason) == ("failed", "exit_code 3")
    assert attempt.hold_until_ms is not None
    turn = await shop.follow_up(attempt, "sh -c 'cat file; echo two >> file'")
    assert (turn.status, turn.no, turn.position, turn.author) == ("running", 2, None, "tester")
    ended = await shop.runner.wait_ended(attempt.id)
    assert (ended.phase, ended.outcome, ended.reason) == ("ended", "succeeded", None)
    assert ended.hold_until_ms is None
    assert ended.worktree == attempt.worktree
    assert Path(str(ended.worktree), "file").read_text() == "one\ntwo\n"
    first, second = await shop.agents(attempt)
    assert await shop.output(second, STDOUT) == b"one\n"
    assert ended.executions == [first.id, second.id]


@pytest.mark.asyncio
async def test_what_the_journal_tells_of_it(shop: Workshop):
    """While it goes on the attempt has no outcome and no end, and takes its slot again."""
    attempt = await shop.run("true")
    assert await shop.runner.busy_slots() == 0
    await shop.follow_up(attempt, "sleep 60")
    going = await shop.attempt(attempt)
    assert (going.phase, going.outcome, going.ended_at_ms) == ("running", None, None)
    assert await shop.runner.busy_slots() == 1
    await shop.runner.stop(attempt.id, 0)
    assert (await shop.runner.wait_ended(attempt.id)).outcome == "stopped"


@pytest.mark.asyncio
async def test_a_prompt_alone(shop: Workshop):
    """With a prompt alone the attempt's own command runs again, and reads the new prompt."""
    attempt = await shop.run("cat", prompt="first")
    await shop.follow_up(attempt, prompt="second")
    await shop.runner.wait_ended(attempt.id)
    outputs = [await shop.output(one, STDOUT) for one in await shop.agents(attempt)]
    assert outputs == [b"first", b"second"]


@pytest.mark.asyncio
async def test_queued_turns_run_in_order(shop: Workshop, tmp_path: Path):
    """While a turn runs, others wait their turn; the attempt ends after the last of them."""
    gate = tmp_path / "gate"
    attempt = await shop.start(f"sh -c 'while [ ! -e {gate} ]; do sleep 0.05; done'")
    await at_work(shop, attempt)
    queued = [await shop.follow_up(attempt, f"sh -c 'echo {n} >> order'") for n in (2, 3, 4)]
    assert [(turn.status, turn.no, turn.position) for turn in queued] == [
        ("queued", None, 1),
        ("queued", None, 2),
        ("queued", None, 3),
    ]
    gate.touch()
    ended = await shop.runner.wait_ended(attempt.id)
    assert (ended.phase, ended.outcome) == ("ended", "succeeded")
    assert Path(str(ended.worktree), "order").read_text() == "2\n3\n4\n"
    assert len(ended.executions) == 4
    current = await shop.database.read(turns.current, attempt.id)
    assert current is not None
    assert (current.turn.id, current.turn.no, current.turn.status) == (queued[2].id, 4, "ended")


@pytest.mark.asyncio
async def test_the_queue_can_be_changed(shop: Workshop):
    """What is queued is put into another order, edited and dropped; what runs is not."""
    attempt = await shop.start("sleep 60")
    await at_work(shop, attempt)
    names = [(await shop.follow_up(attempt, f"sh -c 'echo {n} >> order'")).id for n in "abc"]
    items = [
        TurnEdit(id=names[2]),
        TurnEdit(id=names[0], command="sh -c 'echo edited >> order'"),
        TurnEdit(id=names[1]),
    ]
    await shop.database.write(turns.set_queue, attempt.id, items, {}, 1)
    with pytest.raises(OperationError) as caught:
        await shop.database.write(turns.set_queue, attempt.id, items[:2], {}, 1)
    assert caught.value.code is ErrorCode.CONFLICT
    assert caught.value.details["queued"] == [names[2], names[0], names[1]]
    assert await shop.database.write(turns.drop, attempt.id, "why", 1, turn_id=names[1]) == 1
    left = await shop.database.read(turns.queued, attempt.id)
    assert [(turn.id, turn.position) for turn in left] == [(names[2], 1), (names[0], 2)]
    await shop.interrupt(attempt)
    ended = await shop.runner.wait_ended(attempt.id)
    assert Path(str(ended.worktree), "order").read_text() == "c\nedited\n"


@pytest.mark.asyncio
async def test_a_queue_has_an_end(shop: Workshop):
    """More turns than the bound are refused, and nothing of them is kept."""
    attempt = await shop.start("sleep 60")
    for _ in range(turns.QUEUED_MAX):
        await shop.follow_up(attempt, "true")
    with pytest.raises(OperationError) as caught:
        await shop.follow_up(attempt, "true")
    assert caught.value.code is ErrorCode.SLOW_DOWN
    assert len(await shop.database.read(turns.queued, attempt.id)) == turns.QUEUED_MAX
    await shop.runner.stop(attempt.id, 0)
    assert (await shop.runner.wait_ended(attempt.id)).outcome == "stopped"


@pytest.mark.asyncio
async def test_one_key_is_one_turn(shop: Workshop):
    """The same key again is the first answer, and nothing runs a second time."""
    attempt = await shop.run("true")
    first = await shop.follow_up(attempt, "sh -c 'echo x >> times'", key="k")
    ended = await shop.runner.wait_ended(attempt.id)
    assert await shop.follow_up(attempt, "sh -c 'echo x >> times'", key="k") == first
    with pytest.raises(OperationError) as caught:
        await shop.follow_up(attempt, "false", key="k")
    assert caught.value.code is ErrorCode.KEY_REUSED
    assert (await shop.runner.wait_ended(attempt.id)) == ended
    assert Path(str(ended.worktree), "times").read_text() == "x\n"


@pytest.mark.asyncio
async def test_many_follow_ups_at_once(shop: Workshop):
    """However follow-ups meet the end of a turn, each runs once."""
    attempt = await shop.start("true")
    for number in range(12):
        await shop.follow_up(attempt, f"sh -c 'echo {number} >> order'")
        await asyncio.sleep(0.01 * number)
    ended = await shop.runner.wait_ended(attempt.id)
    while (await shop.attempt(attempt)).phase != "ended":
        ended = await shop.runner.wait_ended(attempt.id)
    assert Path(str(ended.worktree), "order").read_text().split() == [str(n) for n in range(12)]


@pytest.mark.asyncio
async def test_slots_are_kept(shop: Workshop):
    """An ended attempt goes on only where a slot is free; queued turns need none of their own."""
    ended = await shop.run("true")
    busy = [await shop.start("sleep 60") for _ in range(2)]
    with pytest.raises(NodeFull):
        await shop.follow_up(ended, "true", key="k")
    assert (await shop.follow_up(busy[0], "true")).position == 1
    await shop.runner.stop(busy[1].id, 0)
    await shop.runner.wait_ended(busy[1].id)
    assert (await shop.follow_up(ended, "true", key="k")).status is TurnStatus.RUNNING
    await shop.runner.wait_ended(ended.id)
    await shop.runner.stop(busy[0].id, 0)
    await shop.runner.wait_ended(busy[0].id)


@pytest.mark.asyncio
async def test_a_stop_drops_what_is_queued(shop: Workshop, tmp_path: Path):
    """Whoever stops an attempt wants nothing more of it; a follow-up after that is meant."""
    ready, gate = tmp_path / "ready", tmp_path / "gate"
    ending = f"until [ -e {gate} ]; do sleep 0.05; done; exit 0"
    waiting = f'trap "{ending}" INT; : > {ready}; while :; do sleep 0.1; done'
    attempt = await shop.start(f"sh -c '{waiting}'")
    await at_work(shop, attempt)
    await until(lambda: asyncio.sleep(0, ready.exists()), "it takes its end well")
    dropped = await shop.follow_up(attempt, "sh -c 'echo dropped >> order'")
    await shop.runner.stop(attempt.id, 60)
    meant = await shop.follow_up(attempt, "sh -c 'echo meant >> order'")
    gate.touch()
    assert dropped.position == meant.position == 1
    ended = await shop.runner.wait_ended(attempt.id)
    assert (ended.phase, ended.outcome) == ("ended", "succeeded")
    assert Path(str(ended.worktree), "order").read_text() == "meant\n"


@pytest.mark.asyncio
async def test_an_interrupt(shop: Workshop):
    """It reaches the turn that runs and no other; the next one follows, or the attempt ends."""
    with pytest.raises(OperationError) as caught:
        await shop.interrupt(await shop.run("true"))
    assert caught.value.code is ErrorCode.NO_TURN
    attempt = await shop.start("sleep 60")
    await at_work(shop, attempt)
    queued = await shop.follow_up(attempt, "sh -c 'sleep 60'")
    with pytest.raises(OperationError):
        await shop.interrupt(attempt, turn=queued.id)
    first = await shop.interrupt(attempt, key="k")
    assert (first.no, first.status) == (1, "running")
    await at_work(shop, attempt, 2)
    # Asked again under its key it is answered, and interrupts nothing.
    assert await shop.interrupt(attempt, key="k") == first
    second = await shop.interrupt(attempt, turn=queued.id)
    assert (second.no, second.id) == (2, queued.id)
    ended = await shop.runner.wait_ended(attempt.id)
    assert (ended.outcome, ended.reason) == ("failed", "interrupted: signal 2")
    assert [one.signal for one in await shop.agents(attempt)] == [2, 2]


@pytest.mark.asyncio
async def test_an_agent_that_takes_an_interrupt_well(shop: Workshop, tmp_path: Path):
    """One that ends as it should after an interrupt has succeeded."""
    ready = tmp_path / "ready"
    waiting = f'trap "exit 0" INT; : > {ready}; while :; do sleep 0.1; done'
    attempt = await shop.start(f"sh -c '{waiting}'")
    await at_work(shop, attempt)
    await until(lambda: asyncio.sleep(0, ready.exists()), "it takes interrupts")
    await shop.interrupt(attempt)
    ended = await shop.runner.wait_ended(attempt.id)
    assert (ended.outcome, ended.reason) == ("succeeded", None)


@pytest.mark.asyncio
async def test_a_failed_setup_drops_the_queue(shop: Workshop, tmp_path: Path):
    """Where the agent could not begin, what is queued behind it is dropped, with the reason."""
    gate = tmp_path / "gate"
    setup = f"until [ -e {gate} ]; do sleep 0.05; done; exit 4"
    attempt = await shop.start("true", setup_script=setup)
    turn = await shop.follow_up(attempt, "true")
    gate.touch()
    ended = await shop.runner.wait_ended(attempt.id)
    assert (ended.outcome, ended.reason) == ("failed", "setup: exit_code 4")
    assert await shop.database.read(turns.queued, attempt.id) == []
    with pytest.raises(OperationError) as caught:
        await shop.database.read(turns.resolve, attempt.id, turn.id)
    assert caught.value.code is ErrorCode.NO_TURN


@pytest.mark.asyncio
async def test_the_cleanup_script_runs_after_each_end(shop: Workshop):
    """An attempt that goes on ends as others do: leftovers committed, cleanup run, anew."""
    attempt = await shop.run(
        "sh -c 'echo 1 > one'", cleanup_script="echo x >> ../cleanups", commit_leftovers=True
    )
    await shop.follow_up(attempt, "sh -c 'echo 2 > two'")
    ended = await shop.runner.wait_ended(attempt.id)
    worktree = Path(str(ended.worktree))
    assert (worktree.parent / "cleanups").read_text() == "x\nx\n"
    assert git(worktree, "status", "--porcelain") == ""
    assert git(worktree, "rev-parse", "HEAD") == ended.head_commit
    assert git(worktree, "rev-list", "--count", "main..HEAD") == "2"
    kinds = [one.kind.value for one in await shop.executions(attempt)]
    assert kinds == ["agent", "cleanup", "agent", "cleanup"]


@pytest.mark.asyncio
async def test_a_script_wants_the_worktree_for_itself(shop: Workshop):
    """While setup runs a follow-up is refused; beside `dev` it runs."""
    attempt = await shop.run("true")
    setup = await shop.script(attempt, "sleep 60")
    with pytest.raises(Running):
        await shop.follow_up(attempt, "true")
    await shop.runner.stop(attempt.id, 0)
    await shop.runner.scripts.wait_ended(setup.id)
    dev = await shop.script(attempt, "sleep 60", name="dev")
    await shop.follow_up(attempt, "true")
    assert (await shop.runner.wait_ended(attempt.id)).outcome == "succeeded"
    assert await shop.database.read(attempts.running_of, attempt.id) != []
    await shop.runner.stop(attempt.id, 0)
    await shop.runner.scripts.wait_ended(dev.id)


@pytest.mark.asyncio
async def test_nothing_to_go_on_from(shop: Workshop, tmp_path: Path):
    """With worktree, branch and commits gone it is `session_lost`, and nothing has changed."""
    attempt = await shop.run("sh -c 'git commit -q --allow-empty -m mine'")
    project = tmp_path / "project"
    git(project, "worktree", "remove", "--force", "--force", str(attempt.worktree))
    git(project, "update-ref", "-d", f"refs/heads/{attempt.branch}")
    git(project, "checkout", "-q", "--orphan", "other")
    git(project, "commit", "-q", "--allow-empty", "-m", "another history")
    git(project, "branch", "-D", "main")
    git(project, "reflog", "expire", "--expire=now", "--all")
    git(project, "gc", "-q", "--prune=now")
    with pytest.raises(SessionLost) as caught:
        await shop.follow_up(attempt, "true")
    assert caught.value.code is ErrorCode.SESSION_LOST
    assert await shop.attempt(attempt) == attempt


@pytest.mark.asyncio
async def test_an_attempt_that_has_run_very_often(shop: Workshop):
    """Its op has room for all it may still run, with the longest texts; no more are taken in."""
    attempt = await shop.run("true")
    fact = MergeFact(
        commit="c" * 40, head="h" * 40, target="日" * 80, strategy="squash", at_ms=2**40
    )
    ran = [new_id() for _ in range(EXECUTIONS_MAX - 3)]
    worn = msgspec.structs.replace(
        attempt,
        task_title="日" * TITLE_CHARACTERS_MAX,
        task_description="x" * DESCRIPTION_BYTES_MAX,
        reason="日" * 500,
        executions=ran,
        merges=[fact] * MERGES_MAX,
    )
    await shop.database.write(attempts.save, worn, 1)
    await shop.follow_up(attempt, "true")
    ended = await shop.runner.wait_ended(attempt.id)
    assert (ended.outcome, len(ended.executions)) == ("succeeded", len(ran) + 1)
    with pytest.raises(OperationError) as caught:
        await shop.follow_up(attempt, "true")
    assert (caught.value.code, caught.value.details) == (
        ErrorCode.CONFLICT,
        {"executions": len(ran) + 1},
    )
    full = msgspec.structs.replace(ended, reason="日" * 500, executions=[*ran, *ran[:3]])
    assert len(msgspec.msgpack.encode(full)) <= limits.OP_BODY_BYTES_MAX


@pytest.mark.asyncio
async def test_follow_ups_that_waited_together_follow_each_other(shop: Workshop):
    """A run begun for one of them does not count against the next; any other run does."""
    attempt = await shop.run("true")
    (first,) = [one.id for one in await shop.agents(attempt)]
    seen = partial(shop.database.read, runs_since, attempt.id)
    assert await seen(first) == [first]
    await shop.follow_up(attempt, "true", asked_for=first)
    await shop.runner.wait_ended(attempt.id)
    *_, second = [one.id for one in await shop.agents(attempt)]
    assert await seen(first) == [first]
    assert await seen(second) == [first, second]
    assert await seen(None) == [first, second]
    await shop.follow_up(attempt, "true", asked_for=first)
    await shop.runner.wait_ended(attempt.id)
    assert await seen(first) == [first]
    await shop.follow_up(attempt, "true")
    await shop.runner.wait_ended(attempt.id)
    assert len(await seen(first)) == 4
    assert await shop.database.read(runs_since, "none", first) == []
