"""A silent agent is told of, and stopped where its project says so; never while one is asked."""

from dataclasses import replace
from pathlib import Path

import pytest

from node_agent.sessions.silence_watch import SilenceWatch
from node_agent.sessions.step_facts import Talk as Talked
from node_agent.stamps import now_ms
from node_agent.store import conversations, sessions
from protocol.entities import Attempt
from protocol.states import ExecutionStatus
from tests.node_agent.sessions.conversing import Talk
from tests.node_agent.waiting import until
from tests.node_agent.workshop import make_repository, open_workshop


async def is_told_silent(talk: Talk, attempt: Attempt) -> None:
    """Wait until the attempt says that its agent is silent."""

    async def there() -> bool:
        return (await talk.shop.attempt(attempt)).silent_since_ms is not None

    await until(there, "the silence is told of")


async def has_used_a_tool(talk: Talk, attempt: Attempt) -> None:
    """Wait until the agent has used a tool, and the transcript shows it."""

    async def there() -> bool:
        session = await talk.shop.database.read(sessions.newest_of, attempt.id)
        return session is not None and "tool" in [role for role, _ in await talk.told(attempt)]

    await until(there, "the agent has used a tool")


async def count_systems(talk: Talk, attempt: Attempt) -> int:
    """How many messages are the node's own."""
    return [role for role, _ in await talk.told(attempt)].count("system")


@pytest.mark.asyncio
async def test_it_is_stopped(tmp_path: Path):
    """The turn ends with the reason, the process too, and what was queued is not run into it."""
    async with open_workshop(tmp_path / "data", 11, silence_s=0) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        attempt = await talk.start("hang", silence_stop_s=1.0)
        await shop.follow_up(attempt, prompt="say never")
        ended = await shop.runner.wait_ended(attempt.id)
        why = "it said nothing for 1 seconds, and its project has such agents stopped"
        assert (ended.outcome, ended.reason) == ("failed", f"silent: {why}")
        assert ended.silent_since_ms is None
        first, second = await talk.turns()
        assert (first.status, first.stop_reason, second.status) == ("ended", "silent", "dropped")
        assert ("system", f"The agent is stopped: {why}.") in await talk.told(attempt)
        (agent,) = await shop.agents(attempt)
        assert agent.status is not ExecutionStatus.RUNNING


@pytest.mark.asyncio
async def test_it_stays_deaf(tmp_path: Path):
    """An agent that hears neither the interrupt nor the end of its input is ended all the same."""
    async with open_workshop(tmp_path / "data", 11, silence_s=0) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        ended = await talk.run("deaf", silence_stop_s=1.0)
        assert str(ended.reason).startswith("silent: ")
        (agent,) = await shop.agents(ended)
        assert agent.status is not ExecutionStatus.RUNNING


@pytest.mark.asyncio
async def test_while_a_person_is_asked(tmp_path: Path):
    """It waits for as long as the person takes; its silence begins with the answer."""
    now = [1_900_000_000.0]
    async with open_workshop(tmp_path / "data", 11) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        attempt = await talk.start("ask May I?\nuntil gate")
        request = await talk.request(attempt)
        (agent,) = await shop.agents(attempt)
        talked = Talked(attempt.id, (await talk.session(attempt)).id, agent.id)
        # One with a clock of its own, that asks the store as the conversation's does.
        context = replace(shop.context, silence_s=80.0, clock=lambda: int(now[0] * 1000))
        watch = SilenceWatch(context, 120.0)
        await watch.take_up(talked, 0)

        async def is_to_stop(*, asked: bool = False) -> bool:
            now[0] += 40
            return await watch.look(talked, asked=asked)

        assert [await is_to_stop() for _ in range(20)] == [False] * 20
        await talk.answer(request, "yes")
        await talk.noted("answered yes")
        assert [await is_to_stop() for _ in range(3)] == [False] * 3
        assert await is_to_stop()
        # What the agent asks by its own protocol counts as well.
        watch.begin()
        assert [await is_to_stop(asked=True) for _ in range(20)] == [False] * 20
        assert sum("said nothing" in text for _, text in await talk.told(attempt)) == 1
        (talk.folder / "gate").touch()
        assert (await shop.runner.wait_ended(attempt.id)).outcome == "succeeded"


@pytest.mark.asyncio
async def test_a_machine_that_slept(tmp_path: Path):
    """Hours on the clock in which nobody was awake are no silence of the agent."""
    ahead_ms = 0

    def clock() -> int:
        return now_ms() + ahead_ms

    async with open_workshop(tmp_path / "data", 11, silence_s=1800, clock=clock) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        attempt = await talk.start("say one\nuntil gate\nsay two", silence_stop_s=3600.0)
        await talk.noted("prompt say one")
        ahead_ms = 8 * 3_600_000
        # What wakes the conversation has it look at the clock.
        await shop.follow_up(attempt, prompt="say three")
        (talk.folder / "gate").touch()
        ended = await shop.runner.wait_ended(attempt.id)
        assert (ended.outcome, ended.reason) == ("succeeded", None)
        assert not any("said nothing" in text for _, text in await talk.told(attempt))


@pytest.mark.asyncio
async def test_it_speaks_again(tmp_path: Path):
    """What the attempt says of the silence is taken back, also by the next node agent."""
    async with open_workshop(tmp_path / "data", 11, silence_s=0.2) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        attempt = await talk.start(
            "write one.txt one\nuntil gate\nsay two\nuntil door", silence_stop_s=3600.0
        )
        # Before that, its process may have taken long to begin.
        await has_used_a_tool(talk, attempt)
        await is_told_silent(talk, attempt)
        systems = await count_systems(talk, attempt)
        (agent,) = await shop.agents(attempt)
        stored = await shop.database.read(conversations.find, agent.id)
        assert stored is not None
        assert 200 <= stored.silent_ms < 3_600_000
        told_ms = (await shop.attempt(attempt)).silent_since_ms
        assert told_ms is not None
        assert told_ms <= now_ms()
    async with open_workshop(tmp_path / "data", 12, silence_s=3600) as shop:
        talk = Talk(shop, tmp_path)
        await shop.recover()
        assert (await shop.attempt(attempt)).silent_since_ms == told_ms
        (talk.folder / "gate").touch()

        async def taken_back() -> bool:
            return (await shop.attempt(attempt)).silent_since_ms is None

        await until(taken_back, "it is told no more")
        (talk.folder / "door").touch()
        ended = await shop.runner.wait_ended(attempt.id)
        assert ended.outcome == "succeeded"
        assert await count_systems(talk, attempt) == systems
