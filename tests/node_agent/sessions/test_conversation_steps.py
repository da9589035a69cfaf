"""The steps of a conversation in the store: what one commit holds, a restart behind it finds."""

from pathlib import Path

import pytest

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
from protocol.turn_requests import Turn, TurnStatus
from tests.node_agent.sessions.request_store import EXECUTION, at_work

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
