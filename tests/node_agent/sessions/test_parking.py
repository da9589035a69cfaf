"""A turn that meets a usage limit waits for its end and goes on once, whatever happens."""

import asyncio
import datetime as dt
import shlex
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from node_agent.attempt_run import AttemptRun
from node_agent.attempt_runner import StartKey
from node_agent.profiles import Profile
from node_agent.sessions import parking
from node_agent.sessions.rules import CONTINUE_TEXT, SAID_AGAIN_TEXT
from node_agent.sessions.upkeep import SessionUpkeep
from node_agent.stamps import now_ms
from node_agent.store.journal import states_of
from node_agent.turn_steps import runs_since
from protocol.attempt_requests import StartRequest
from protocol.conversation import AuthorKind, MessageRole, SessionStatus
from protocol.entities import Attempt
from protocol.errors import ErrorCode, OperationError
from protocol.ops import OpKind
from protocol.states import ExecutionStatus
from tests.node_agent.sessions.conversing import Talk, command_of
from tests.node_agent.waiting import until
from tests.node_agent.workshop import Workshop, make_repository, open_workshop

HOUR_MS = 3_600_000
LATER = "try again in 5 hours"
SOON = "try again in 1 second"


@pytest_asyncio.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    """A node with one checkout."""
    async with open_workshop(tmp_path / "data", 11) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        yield Talk(shop, tmp_path)


async def parked(shop: Workshop, attempt: Attempt) -> Attempt:
    """Wait until an attempt waits for a limit, and no process of its agent is left."""

    async def there() -> bool:
        waits = (await shop.attempt(attempt)).parked_until_ms is not None
        agents = await shop.agents(attempt)
        return waits and all(one.status is not ExecutionStatus.RUNNING for one in agents)

    await until(there, "the attempt is parked, and its agent's process has ended")
    return await shop.attempt(attempt)


@pytest.mark.asyncio
async def test_the_same_prompt_again(talk: Talk):
    """Where the agent had done nothing: by itself, once, as the same turn, said once by people."""
    prompt = f"once met {SOON}\nsay done"
    ended = await talk.run(prompt)
    assert (ended.outcome, ended.reason, ended.parked_until_ms) == ("succeeded", None, None)
    first = f"prompt once met {SOON}"
    assert talk.notes == ["new", first, "resumed", first]
    told = await talk.told(ended)
    assert [role for role, _ in told] == ["user", "system", "system", "assistant"]
    assert told[0][1] == prompt
    assert "goes on by itself at" in told[1][1]
    assert told[2:] == [("system", SAID_AGAIN_TEXT), ("assistant", "done")]
    (turn,) = await talk.turns()
    assert (turn.no, turn.status, turn.stop_reason) == (1, "ended", "end_turn")
    first_agent, second_agent = await talk.shop.agents(ended)
    assert (first_agent.status, turn.execution_id) == ("succeeded", second_agent.id)
    session = await talk.session(ended)
    assert (session.turn_count, session.parked_until_ms, session.reason) == (1, None, None)


@pytest.mark.asyncio
async def test_in_the_middle(talk: Talk):
    """Where it had begun, it is told to go on, in words that are not a person's and say so."""
    ended = await talk.run(f"write made.txt one\nonce met {SOON}\nsay never")
    assert ended.outcome == "succeeded"
    assert talk.notes == ["new", "prompt write made.txt one", "resumed", f"prompt {CONTINUE_TEXT}"]
    told = await talk.messages(ended)
    assert [one.role.value for one in told] == ["user", "tool", "system", "user"]
    said = told[-1]
    assert (said.role, said.author_kind, said.author) == (
        MessageRole.USER,
        AuthorKind.NODE,
        "Skep",
    )
    assert said.content == CONTINUE_TEXT
    assert said.turn_id == told[0].turn_id
    assert len(await talk.turns()) == 1


@pytest.mark.asyncio
async def test_its_words_are_no_work(talk: Talk):
    """An agent that says only what it then fails with has done nothing: it is asked again."""
    ended = await talk.run(f"say usage limit reached,\nonce met {SOON}\nsay done")
    assert ended.outcome == "succeeded"
    assert talk.notes.count("prompt say usage limit reached,") == 2


@pytest.mark.asyncio
async def test_while_it_waits(talk: Talk):
    """All tell until when and why; follow-ups wait behind it; it is not idle; one hurries it."""
    attempt = await talk.start(f"once met {LATER}\nsay one")
    before_ms = now_ms()
    waits = await parked(talk.shop, attempt)
    assert waits.parked_until_ms is not None
    assert before_ms + 5 * HOUR_MS <= waits.parked_until_ms <= now_ms() + 5 * HOUR_MS
    assert (waits.phase, waits.reason) == ("running", f"usage_limit: usage limit reached, {LATER}")
    assert waits.worktree is not None
    assert Path(waits.worktree).is_dir()
    session = await talk.session(attempt)
    assert (session.parked_until_ms, session.reason) == (waits.parked_until_ms, waits.reason)
    follow_up = await talk.shop.follow_up(attempt, prompt="say two")
    assert follow_up.status == "queued"
    upkeep = SessionUpkeep(talk.shop.database, lambda: now_ms() + 100 * HOUR_MS)
    assert await upkeep.round() == 0
    assert (await talk.session(attempt)).status is SessionStatus.OPEN
    with pytest.raises(OperationError) as caught:
        await talk.shop.go_on(attempt, turn=follow_up.id)
    assert caught.value.code is ErrorCode.NO_TURN
    going = await talk.shop.go_on(attempt, key="one key")
    assert (going.no, going.status) == (1, "running")
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "succeeded"
    assert await talk.shop.go_on(attempt, key="one key") == going
    first = f"prompt once met {LATER}"
    assert talk.notes == ["new", first, "resumed", first, "prompt say two"]
    assert [turn.no for turn in await talk.turns()] == [1, 2]
    with pytest.raises(OperationError) as caught:
        await talk.shop.go_on(attempt)
    assert caught.value.code is ErrorCode.NO_TURN


@pytest.mark.parametrize(
    ("environment", "zone"),
    [({}, "Asia/Kathmandu"), ({"TZ": "Asia/Tokyo"}, "Asia/Tokyo")],
    ids=["node's", "agent's"],
)
@pytest.mark.asyncio
async def test_a_time_by_the_agents_clock(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], zone: str
):
    """As Codex says it: the turn waits until the clock where the agent runs shows that."""
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        meant = dt.datetime.now(ZoneInfo(zone)).replace(second=0, microsecond=0)
        meant += dt.timedelta(days=3)
        shown = meant.strftime("%b %dth, %Y %I:%M %p")
        attempt = await talk.start(
            f"once met try again at {shown}.\nsay one", environment=environment
        )
        waits = await parked(talk.shop, attempt)
        assert waits.parked_until_ms == int(meant.timestamp() * 1000)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.asyncio
async def test_it_is_stopped(talk: Talk):
    """The attempt ends as stopped, at once, and with it what waited behind."""
    attempt = await talk.start(f"limit {LATER}")
    await parked(talk.shop, attempt)
    await talk.shop.follow_up(attempt, prompt="say never")
    await talk.shop.runner.stop(attempt.id)
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert (ended.outcome, ended.parked_until_ms) == ("stopped", None)
    first, second = await talk.turns()
    assert (first.status, first.stop_reason, second.status) == ("ended", "cancelled", "dropped")
    session = await talk.session(attempt)
    assert (session.status, session.parked_until_ms) == (SessionStatus.IDLE, None)
    assert talk.notes == ["new", f"prompt limit {LATER}"]


@pytest.mark.asyncio
async def test_it_is_interrupted(talk: Talk):
    """The turn that waits ends, and the next one follows in the same session."""
    attempt = await talk.start(f"limit {LATER}")
    await parked(talk.shop, attempt)
    await talk.shop.follow_up(attempt, prompt="say two")
    await talk.shop.interrupt(attempt)
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert (ended.outcome, ended.reason) == ("succeeded", None)
    first, second = await talk.turns()
    assert (first.stop_reason, second.stop_reason) == ("cancelled", "end_turn")
    assert talk.notes[-2:] == ["resumed", "prompt say two"]
    assert (await talk.session(attempt)).turn_count == 2


@pytest.mark.asyncio
async def test_a_restart(tmp_path: Path):
    """It waits on over restarts, and goes on once when its time is over, in the session it was in.

    The agent's session is older than an hour by then: it is not left within a turn.
    """
    async with open_workshop(tmp_path / "data", 11) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        attempt = await talk.start(f"once met {LATER}\nsay done")
        waits = await parked(shop, attempt)
    async with open_workshop(tmp_path / "data", 12) as shop:
        await shop.recover()
        assert await shop.attempt(attempt) == waits
        assert len(await shop.agents(attempt)) == 1
    async with open_workshop(tmp_path / "data", 13, clock=lambda: now_ms() + 6 * HOUR_MS) as shop:
        talk = Talk(shop, tmp_path)
        await shop.recover()
        ended = await shop.runner.wait_ended(attempt.id)
        assert (ended.outcome, ended.parked_until_ms) == ("succeeded", None)
        first = f"prompt once met {LATER}"
        assert talk.notes == ["new", first, "resumed", first]
        assert len(await shop.agents(attempt)) == 2


@pytest.mark.asyncio
async def test_a_limit_again(talk: Talk, monkeypatch: pytest.MonkeyPatch):
    """It waits again, longer than it is told; and not for ever."""
    monkeypatch.setattr(parking, "PARKS_MAX", 2)
    attempt = await talk.start(f"limit {SOON}")

    async def asked_twice() -> bool:
        return talk.notes.count(f"prompt limit {SOON}") == 2

    await until(asked_twice, "it has met the limit again")
    before_ms = now_ms()
    waits = await parked(talk.shop, attempt)
    assert waits.parked_until_ms is not None
    assert waits.parked_until_ms - before_ms > 60_000
    await talk.shop.go_on(attempt)
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "failed"
    assert str(ended.reason).startswith("usage_limit: ")
    assert ended.parked_until_ms is None
    assert talk.notes.count(f"prompt limit {SOON}") == 3
    assert "it waits no more" in (await talk.told(attempt))[-1][1]


@pytest.mark.asyncio
async def test_a_limit_that_has_passed(talk: Talk):
    """An end that lies in the past is waited for shortly, not at all, and not for long."""
    attempt = await talk.start("limit |1700000000")
    before_ms = now_ms()
    waits = await parked(talk.shop, attempt)
    assert waits.parked_until_ms is not None
    assert 0 < waits.parked_until_ms - before_ms < 5 * 60_000
    await talk.shop.runner.stop(attempt.id)
    await talk.shop.runner.wait_ended(attempt.id)


@pytest.mark.asyncio
async def test_an_agent_that_forgets(talk: Talk):
    """One that cannot take its session up again fails at the limit, and it is said why."""
    ended = await talk.run(f"limit {LATER}", kind="forgetful")
    assert (ended.outcome, ended.parked_until_ms) == ("failed", None)
    assert str(ended.reason).startswith("usage_limit: ")
    assert "cannot take its session up again" in (await talk.told(ended))[-1][1]


@pytest.mark.asyncio
async def test_a_session_that_is_lost(talk: Talk):
    """In the middle of its work, an agent without its memory is not told to go on."""
    attempt = await talk.start(f"say half\nonce met {SOON}", kind="losing")
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "failed"
    assert str(ended.reason).startswith("session_lost: ")
    assert [note for note in talk.notes if note.startswith("prompt")] == ["prompt say half"]
    assert talk.notes.count("new") == 1


@pytest.mark.asyncio
async def test_stop_and_limit_meet(talk: Talk):
    """A limit that is met while the attempt is being stopped is not waited for."""
    attempt = await talk.start(f"until gate\nlimit {LATER}")
    await talk.noted("prompt until gate")
    stopping = asyncio.ensure_future(talk.shop.runner.stop(attempt.id))
    (talk.folder / "gate").touch()
    await stopping
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert (ended.outcome, ended.parked_until_ms) == ("stopped", None)


@pytest.mark.asyncio
async def test_a_secret_that_is_gone_meanwhile(tmp_path: Path):
    """The turn ends and says what is missing and what to do; one for another profile still runs."""
    argv = shlex.split(command_of(tmp_path))
    profiles = {
        "bare": Profile(agent="custom", arguments=argv),
        "kept": Profile(agent="custom", arguments=argv, environment={"TOKEN": "secret:token"}),
    }
    secrets = {"token": "abc"}
    async with open_workshop(
        tmp_path / "data", 11, profiles=profiles, secrets_by_name=lambda: secrets
    ) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        talk = Talk(shop, tmp_path)
        request = StartRequest(executor="acp", profile="kept", prompt=f"limit {LATER}")
        attempt = (await shop.runner.start(request, StartKey("k", "h", "tester"))).attempt
        await parked(shop, attempt)
        for prompt, profile in (("note two", None), ("note three", "bare")):
            await shop.follow_up(attempt, prompt=prompt, profile=profile)
        secrets.clear()
        await shop.go_on(attempt)
        ended = await shop.runner.wait_ended(attempt.id)
        assert ended.outcome == "succeeded"
        first, second, third = await talk.turns()
        assert first.stop_reason == second.stop_reason
        assert str(first.stop_reason).startswith("executor_unavailable: the profile's TOKEN wants")
        assert "`node-agent secrets set token`" in str(first.stop_reason)
        assert [one.status for one in (first, second, third)] == ["ended"] * 3
        assert third.stop_reason == "end_turn"
        assert "three" in talk.notes
        assert "two" not in talk.notes
        assert await shop.database.read(states_of, OpKind.NOTICE) == []


@pytest.mark.asyncio
async def test_runs_of_one_turn_count_as_one(talk: Talk):
    """Who saw a turn before it waited saw all of it: its next run is no other work."""
    attempt = await talk.run(f"once met {SOON}\nsay one")
    first, again = [one.id for one in await talk.shop.agents(attempt)]
    seen = partial(talk.shop.database.read, runs_since, attempt.id)
    assert (await seen(first), await seen(again)) == ([first], [first, again])
    await talk.shop.follow_up(attempt, prompt=f"once then {SOON}\nsay two", asked_for=again)
    await talk.shop.runner.wait_ended(attempt.id)
    assert len(await talk.shop.agents(attempt)) == 4
    assert await seen(again) == [first, again]
    assert first not in (await seen(first))[-1:]


@pytest.mark.asyncio
async def test_a_run_that_could_not_go_on_is_no_other_work(talk: Talk):
    """It ended before the turn's prompt was so much as wanted of it, and has done nothing."""
    agent = talk.folder / "agent"
    agent.symlink_to(sys.executable)
    command = shlex.join([str(agent), *shlex.split(command_of(talk.folder))[1:]])
    attempt = await talk.shop.start(command, executor="acp", prompt=f"limit {LATER}")
    await parked(talk.shop, attempt)
    agent.unlink()
    await talk.shop.go_on(attempt)
    assert (await talk.shop.runner.wait_ended(attempt.id)).outcome == "failed"
    first, second = [one.id for one in await talk.shop.agents(attempt)]
    (turn,) = await talk.turns()
    assert turn.execution_id is None
    seen = partial(talk.shop.database.read, runs_since, attempt.id)
    assert await seen(first) == [first]
    agent.symlink_to(sys.executable)
    await talk.shop.follow_up(attempt, prompt="say two")
    await talk.shop.runner.wait_ended(attempt.id)
    *_, third = [one.id for one in await talk.shop.agents(attempt)]
    assert await seen(first) == [first, second, third]


@pytest.mark.asyncio
async def test_a_run_for_another_turn_is_other_work(talk: Talk):
    """Also where the turn before it waited and was ended in no process."""
    attempt = await talk.start(f"limit {LATER}")
    await parked(talk.shop, attempt)
    await talk.shop.follow_up(attempt, prompt="say two")
    await talk.shop.interrupt(attempt)
    await talk.shop.runner.wait_ended(attempt.id)
    runs = [one.id for one in await talk.shop.agents(attempt)]
    assert len(runs) == 2
    assert await talk.shop.database.read(runs_since, attempt.id, runs[0]) == runs


@pytest.mark.asyncio
async def test_a_script_that_begins_as_the_agent_ends(talk: Talk):
    """A program that runs beside the turn that waits does not decide how that ends."""
    attempt = await talk.start(f"once met {LATER}\nsay done")
    await parked(talk.shop, attempt)
    await talk.shop.script(attempt, "true", name="dev")
    # What the run that saw the agent end does next.
    await AttemptRun(talk.shop.context, attempt.id)._turn_over()
    (turn,) = await talk.turns()
    assert turn.status == "running"
    await talk.shop.go_on(attempt)
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "succeeded"
