"""The steps of a conversation in the store: what one commit holds, a restart behind it finds."""

import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.acp.machine import AgentMachine
from node_agent.acp.state import encode_state
from node_agent.acp.steps import Opening, Prompt, Step
from node_agent.run_context import open_request
from node_agent.sessions import conversation_steps as steps
from node_agent.sessions.conversation_steps import Beginning, Committed
from node_agent.sessions.shown_text import ShownText
from node_agent.sessions.step_facts import Talk
from node_agent.store import turns
from node_agent.store.conversations import Reach
from node_agent.store.database import Database
from node_agent.store.turns import Shown
from protocol.errors import ErrorCode, OperationError
from protocol.turn_requests import Turn, TurnStatus
from tests.node_agent.sessions.conversing import Talk as Talked
from tests.node_agent.sessions.request_store import EXECUTION, at_work
from tests.node_agent.workshop import make_repository, open_workshop

SCRIPTED = Path(__file__).resolve().parents[3] / "scripts" / "demonstration" / "agent.py"
TALK = Talk("a", "s", EXECUTION.id)


async def queued(database: Database, turn_id: str) -> Turn:
    """A turn in the queue."""
    turn = Turn(
        id=turn_id,
        attempt_id="a",
        status=TurnStatus.QUEUED,
        prompt="say x",
        author="ada",
        created_at_ms=1,
    )
    return await database.write(turns.add, turn, Shown("say x"))


@pytest.mark.asyncio
async def test_what_is_queued_is_not_given_to_a_process_that_failed(tmp_path: Path):
    """Nothing more is wanted of it, also of whoever takes it up behind the failure's commit."""
    machine = AgentMachine()

    def committed(step: Step) -> Committed:
        return Committed(encode_state(machine.state), Reach(), step)

    async with at_work(tmp_path) as database:
        for turn_id in ("first", "second"):
            await queued(database, turn_id)
        await database.write(turns.begin_next, "a", executions_before=0, head=None, at_ms=1)
        begun = committed(machine.begin(Opening(cwd="/w")))
        beginning = Beginning(None, rotated=False, fork_of=None)
        await database.write(steps.open_conversation, TALK, begun, beginning, at_ms=2)
        machine.prompt(Prompt(turn_id="first", text="say x"))
        failed = committed(machine.receive(b'{"id":0,"error":{"code":1,"message":"no"}}'))
        await database.write(steps.commit_step, TALK, ShownText(), failed, open_request, 3)
        current = await database.read(turns.current, "a")
        assert current is not None
        assert (current.turn.id, current.turn.status) == ("first", TurnStatus.ENDED)
        assert await database.read(steps.next_wish, TALK, 4) is None
        assert [turn.id for turn in await database.read(turns.queued, "a")] == ["second"]


@pytest_asyncio.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talked]:
    """A node with one checkout."""
    async with open_workshop(tmp_path / "data", 11) as shop:
        await shop.add_checkout(make_repository(tmp_path / "project"))
        yield Talked(shop, tmp_path)


@pytest.mark.asyncio
async def test_an_agent_that_does_not_say_whether_it_was_steered(talk: Talked):
    """Nobody waits for its word for ever, and nothing is said twice: people are told instead."""
    attempt = await talk.start("note first\nuntil gate")
    await talk.noted("first")
    turn = await talk.shop.follow_up(attempt, prompt="note left", steer=True)
    await talk.noted("steered")
    await talk.shop.follow_up(attempt, prompt="note second")
    (talk.folder / "gate").touch()
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "succeeded"
    assert "left" not in talk.notes
    assert talk.notes[-1] == "second"
    states = {one.id: one.status for one in await talk.turns()}
    assert states[turn.id] == "dropped"
    told = await talk.told(attempt)
    assert [text for role, text in told if role == "system" and "note left" in text]


@pytest.mark.asyncio
async def test_an_agent_that_ends_before_it_says_whether_it_was_steered(talk: Talked):
    """Its next process is not told the same again: it might be done twice, and people know."""
    attempt = await talk.start("note first\nuntil gate\ncrash")
    await talk.noted("first")
    turn = await talk.shop.follow_up(attempt, prompt="note left", steer=True)
    await talk.noted("steered")
    await talk.shop.follow_up(attempt, prompt="note second")
    (talk.folder / "gate").touch()
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "succeeded"
    assert "left" not in talk.notes
    assert talk.notes[-1] == "second"
    states = {one.id: one.status for one in await talk.turns()}
    assert states[turn.id] == "dropped"
    told = await talk.told(attempt)
    assert len([text for role, text in told if role == "system" and "note left" in text]) == 1


@pytest.mark.asyncio
async def test_an_agent_by_its_command_line_has_no_profile(talk: Talked):
    """Another agent than the one that was asked for is not spoken to in its place."""
    attempt = await talk.run("say hello")
    with pytest.raises(OperationError) as refused:
        await talk.shop.follow_up(attempt, prompt="say more", profile="two")
    assert (refused.value.code, refused.value.details["field"]) == (
        ErrorCode.NOT_AVAILABLE,
        "profile",
    )


@pytest.mark.asyncio
async def test_why_an_agent_failed_is_said_once(talk: Talked):
    """The turn's end says it; what can be done about it stands alone behind that."""
    command = shlex.join([sys.executable, str(SCRIPTED), "--login"])
    attempt = await talk.shop.start(command, executor="acp", prompt="hello")
    ended = await talk.shop.runner.wait_ended(attempt.id)
    assert ended.outcome == "failed"
    told = [text for role, text in await talk.told(attempt) if role == "system"]
    assert [text.count("Authentication required") for text in told] == [1, 0]
    assert told[-1] == "The word: run it without --login"
