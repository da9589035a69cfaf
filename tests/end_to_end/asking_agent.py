"""Stands for the conversation with an agent: what it asks and is told, in the store of its node.

Works while the node's agent is stopped, as what a conversation leaves behind is all that the rest
of the node and the hive see of it. The clock is the store's: an hour is injected by moving what was
asked an hour back.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from node_agent.acp.steps import Reply
from node_agent.config import load
from node_agent.identity import open_identity
from node_agent.request_drafts import Draft
from node_agent.sessions.request_steps import RequestPolicy
from node_agent.stamps import now_ms
from node_agent.store import attempts, requests
from node_agent.store.transaction import Transaction
from node_agent.stores import open_stores
from protocol.conversation import AgentRequest, RequestKind, RequestOption, ToolCall
from protocol.states import AttemptPhase
from tests.end_to_end.node_program import NodeProgram

T = TypeVar("T")
OPTIONS = (
    RequestOption(id="yes", name="Allow", kind="allow_once"),
    RequestOption(id="no", name="Reject", kind="reject_once"),
)


class AskingAgent:
    """The agent of one attempt of a stopped node."""

    def __init__(self, node: NodeProgram, attempt: str) -> None:
        self.node = node
        self.attempt = attempt

    def ask(self, key: str = "1", **fields: Any) -> str:
        """Ask something under a key, as a step of a conversation does; return the request's id."""
        wanted = {
            "kind": RequestKind.APPROVAL,
            "title": "May I run the tests?",
            "options": OPTIONS,
            "tool": ToolCall(id="t", name="Bash", kind="execute", target="make test"),
        }
        draft = Draft(
            execution_id="of-the-agent", key=key, attempt_id=self.attempt, **(wanted | fields)
        )

        async def step(tx: Transaction) -> AgentRequest:
            request = await RequestPolicy().open(tx, draft, now_ms())
            await self._phase(tx)
            return request

        return self._write(step).id

    def told(self) -> list[tuple[str, Reply]]:
        """Pass on what was settled, as a step does; return it, by the agent's keys."""

        async def step(tx: Transaction) -> list[tuple[str, Reply]]:
            passed = [
                (one.key, one.reply)
                for one in await requests.undelivered(tx, "of-the-agent")
                if await requests.delivered(tx, one.request.id)
            ]
            await self._phase(tx)
            return passed

        return self._write(step)

    def turn_cancelled(self, key: str = "1") -> None:
        """No longer wait for an answer."""

        async def step(tx: Transaction) -> None:
            await requests.withdraw(tx, "of-the-agent", key, "the turn was cancelled", now_ms())
            await self._phase(tx)

        self._write(step)

    def an_hour_passes(self) -> None:
        """Have all that is open been asked an hour earlier than it was."""
        with contextlib.closing(sqlite3.connect(self.node.data_dir / "state.db")) as connection:
            connection.execute(
                "UPDATE request SET opened_at_ms = opened_at_ms - 3600000,"
                " deadline_ms = deadline_ms - 3600000, remind_at_ms = remind_at_ms - 3600000"
            )
            connection.commit()

    async def _phase(self, tx: Transaction) -> None:
        waits = await requests.count_open(tx, self.attempt)
        phase = AttemptPhase.AWAITING_INPUT if waits else AttemptPhase.RUNNING
        attempt = await attempts.get(tx, self.attempt)
        if attempt.phase is not phase:
            await attempts.save(tx, msgspec.structs.replace(attempt, phase=phase), now_ms())

    def _write(self, unit: Callable[[Transaction], Awaitable[T]]) -> T:
        """Do a unit of work in the node's own store."""
        assert not self.node.running

        async def work() -> T:
            config = load(self.node.data_dir, environment={})
            identity = open_identity(config.data_dir)
            async with open_stores(config) as stores:
                await stores.journal.open_epoch(identity.instance)
                return await stores.database.write(unit)  # type: ignore[arg-type]

        return asyncio.run(work())
