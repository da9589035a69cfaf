"""What agents ask by a tool: put once, whoever asks again, and without secrets."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from node_agent.acp.steps import TurnOver
from node_agent.run_context import open_request
from node_agent.sessions import tool_requests
from node_agent.sessions.shown_text import ShownText
from node_agent.sessions.step_facts import Talk, apply_facts
from node_agent.store import attempts, requests, sessions, turns
from node_agent.store.database import Database
from node_agent.store.turns import Shown
from protocol.agent_tools import AskHuman
from protocol.conversation import AgentRequest, Answer, Session, SessionStatus
from protocol.states import AttemptPhase
from protocol.turn_requests import Turn, TurnStatus
from tests.node_agent.sessions.request_store import EXECUTION, at_work

SECRET = "hunter2-hunter2"


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A node with an attempt at work."""
    async with at_work(tmp_path) as database:
        yield database


async def asked(
    database: Database, key: str, question: str = "Which?", **fields: Any
) -> AgentRequest:
    """The request that a call of the tool becomes."""
    return await database.write(
        tool_requests.ask,
        EXECUTION,
        key,
        AskHuman(question=question, **fields),
        ShownText([SECRET.encode()]),
        open_request,
        2,
    )


@pytest.mark.asyncio
async def test_the_same_question_waits_on(database: Database):
    """Asked again by whoever gave up waiting it is the same request, until it was heard of."""
    first = await asked(database, "1")
    assert await asked(database, "1") == first
    assert await asked(database, "2") == first
    assert (await asked(database, "3", options=["a"])).id != first.id
    assert (await asked(database, "4", "Which one?")).id != first.id
    await database.write(requests.answer, first.id, Answer(text="this", by="ada", at_ms=3))
    again = await asked(database, "5")
    assert again.id == first.id
    heard = await database.write(tool_requests.hand_over, first.id, 4)
    assert heard == {"status": "answered", "by": "ada", "answer": "this"}
    # It was told: to ask now is to ask anew.
    assert (await asked(database, "6")).id != first.id


@pytest.mark.asyncio
async def test_a_question_that_nobody_answered_may_be_put_again(database: Database):
    """What was cancelled or ran out is no answer to who asks once more."""
    first = await asked(database, "1")
    await database.write(requests.cancel, first.id, "no more", 3)
    assert (await asked(database, "2")).id != first.id


@pytest.mark.asyncio
async def test_what_is_asked_is_without_secrets(database: Database):
    """Its text, its options, and every field of its form."""
    form = {"properties": {"n": {"title": SECRET, "maximum": 2**70}}}
    request = await asked(database, "1", SECRET, form=form)
    other = await asked(database, "2", options=[SECRET])
    assert request.form == {"properties": {"n": {"title": "***", "maximum": None}}}
    assert (request.text, other.options[0].name) == ("***", "***")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("stop_reason", "status"), [("cancelled", "cancelled"), ("end_turn", "open")]
)
async def test_a_question_ends_with_the_turn_that_was_interrupted(
    database: Database, stop_reason: str, status: str
):
    """Nobody waits for it any more; behind a turn that ended by itself one may that does."""
    session = Session(id="s", attempt_id="a", executor="acp", status=SessionStatus.OPEN)
    await database.write(sessions.save, session, 1)
    turn = Turn(id="t", attempt_id="a", status=TurnStatus.QUEUED, author="ada", created_at_ms=1)
    await database.write(turns.add, turn, Shown())
    await database.write(turns.begin_next, "a", executions_before=0, head=None, at_ms=1)
    request = await asked(database, "1")
    assert request.turn_id == "t"
    assert (await database.read(attempts.get, "a")).phase is AttemptPhase.AWAITING_INPUT
    await database.write(
        apply_facts,
        Talk("a", "s", "e"),
        ShownText(),
        [TurnOver(turn_id="t", stop_reason=stop_reason)],
        open_request=open_request,
        head=None,
        at_ms=3,
    )
    assert (await database.read(requests.get, request.id)).status == status
    waits = (await database.read(attempts.get, "a")).phase is AttemptPhase.AWAITING_INPUT
    assert waits is (status == "open")


@pytest.mark.asyncio
async def test_an_answer_is_whole_each_time(database: Database):
    """A caller that was cut off asks again: it is told the same, secrets too, while it runs."""
    request = await asked(database, "1")
    given = Answer(text=f"it is {SECRET}", by="ada", at_ms=3)
    shown = msgspec.structs.replace(given, text="it is ***")
    await database.write(requests.answer, request.id, given, shown=shown)
    for _ in range(2):
        heard = await database.write(tool_requests.hand_over, request.id, 4)
        assert heard["answer"] == f"it is {SECRET}"
    await database.write(requests.withdraw_all, "e", "it has ended", 5)
    settled = await database.read(requests.get, request.id)
    assert (settled.status, settled.answer) == ("answered", shown)
    heard = await database.write(tool_requests.hand_over, request.id, 6)
    assert heard["answer"] == "it is ***"
