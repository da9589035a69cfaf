"""Scripts run beside an attempt's turns, once for each key, and are found again."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.script_runs import WantedScript
from node_agent.store.attempts import find_execution as find
from node_agent.turn_steps import Running, done_record
from node_agent.worktree_removals import WorktreeRemovals
from protocol.entities import Execution
from protocol.log_chunks import STDOUT
from tests.node_agent.waiting import until
from tests.node_agent.workshop import Workshop, make_repository, open_workshop


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """A node with one checkout."""
    async with open_workshop(tmp_path / "data", 11) as opened:
        await opened.add_checkout(make_repository(tmp_path / "project"))
        yield opened


async def ended(shop: Workshop, execution: Execution) -> Execution:
    """The execution once it has ended."""
    await shop.runner.scripts.wait_ended(execution.id)
    found = await shop.database.read(find, execution.id)
    assert found is not None
    return found


@pytest.mark.asyncio
async def test_a_script_of_an_ended_attempt(shop: Workshop):
    """It runs in the worktree with the attempt's environment; the attempt stays as it ended."""
    attempt = await shop.run("sh -c 'echo made > file'", environment={"OWN": "x"})
    begun = await shop.script(attempt, "cat file; echo $OWN $SKEP_ATTEMPT_ID; exit 5")
    assert (begun.kind, begun.script, begun.status) == ("script", "setup", "running")
    done = await ended(shop, begun)
    assert (done.status, done.exit_code) == ("failed", 5)
    assert await shop.output(done, STDOUT) == f"made\nx {attempt.id}\n".encode()
    after = await shop.attempt(attempt)
    assert (after.phase, after.outcome) == ("ended", "succeeded")
    assert after.executions == [*attempt.executions, begun.id]
    assert await shop.log_end(done) is not None


@pytest.mark.asyncio
async def test_a_worktree_that_is_gone(shop: Workshop):
    """It is made again for the script, with what was saved, and held for a while."""
    attempt = await shop.run("sh -c 'echo made > file'")
    removals = WorktreeRemovals(shop.database, shop.context.worktrees_dir)
    await removals.clean_up(attempt.id, save=True, force=False)
    done = await ended(shop, await shop.script(attempt, "cat file"))
    assert done.status == "succeeded"
    after = await shop.attempt(attempt)
    assert after.worktree == attempt.worktree
    assert after.hold_until_ms is not None


@pytest.mark.asyncio
async def test_what_may_run_beside_what(shop: Workshop):
    """`dev` runs beside a turn and beside another script, once; others want the worktree alone."""
    attempt = await shop.start("sleep 60")

    async def works() -> bool:
        return (await shop.attempt(attempt)).phase == "running"

    await until(works, "the attempt runs")
    with pytest.raises(Running):
        await shop.script(attempt, "true")
    dev = await shop.script(attempt, "sleep 60", name="dev")
    with pytest.raises(Running):
        await shop.script(attempt, "true", name="dev")
    await shop.interrupt(attempt)
    await shop.runner.wait_ended(attempt.id)
    assert (await ended(shop, await shop.script(attempt, "true"))).status == "succeeded"
    await shop.runner.stop(attempt.id, 0)
    assert (await ended(shop, dev)).status == "killed"


@pytest.mark.asyncio
async def test_one_key_is_one_script(shop: Workshop):
    """The same key again answers the first execution."""
    attempt = await shop.run("true")
    first = await shop.script(attempt, "echo x >> times", key="k")
    await ended(shop, first)
    assert await shop.script(attempt, "echo x >> times", key="k") == first
    assert Path(str(attempt.worktree), "times").read_text() == "x\n"


@pytest.mark.asyncio
async def test_a_script_outlives_its_node(tmp_path: Path):
    """The next node agent finds it running, follows its log, and can stop it."""
    async with open_workshop(tmp_path / "data", 11) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        attempt = await shop.run("true")
        dev = await shop.script(attempt, "echo up; exec sleep 60", name="dev")

        async def works() -> bool:
            found = await shop.database.read(find, dev.id)
            return found is not None and found.process is not None

        await until(works, "the script runs")
        found = await shop.database.read(find, dev.id)
        assert found is not None
        assert found.process is not None
        pid = found.process.pid
    async with open_workshop(tmp_path / "data", 12) as shop:
        await shop.recover()
        os.kill(pid, 0)
        await shop.runner.stop(attempt.id, 0)
        done = await ended(shop, dev)
        assert (done.status, done.signal) == ("killed", signal.SIGINT)
        assert await shop.output(done, STDOUT) == b"up\n"
        assert (await shop.attempt(attempt)).outcome == "succeeded"


@pytest.mark.asyncio
async def test_a_program_with_its_input(shop: Workshop):
    """What is no shell script runs as it is, with input and variables of its own."""
    attempt = await shop.run("true")
    wanted = WantedScript(
        name="review",
        argv=["sh", "-c", "cat; echo $SKEP_REVIEW_WHAT"],
        stdin=b"look\n",
        environment={"SKEP_REVIEW_WHAT": "base"},
    )
    record = done_record("review", "k", attempt.id, "tester")
    reply = await shop.runner.scripts.start(attempt.id, wanted, record, "hash")
    done = await ended(shop, reply.execution)
    assert await shop.output(done, STDOUT) == b"look\nbase\n"
