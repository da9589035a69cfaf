"""A node with a tiny agent to talk to, for tests of conversations."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from node_agent.store import messages, requests, sessions
from node_agent.store.journal import states_of
from protocol.conversation import (
    AgentRequest,
    Answer,
    Message,
    RequestStatus,
    Session,
    TurnState,
)
from protocol.entities import Attempt
from protocol.ops import OpKind
from tests.node_agent.waiting import until
from tests.node_agent.workshop import Workshop

AGENT = Path(__file__).with_name("tiny_agent.py")


def command_of(folder: Path, kind: str = "") -> str:
    """The command line of an agent that keeps its notes in this folder; `kind`: see there."""
    return shlex.join([sys.executable, str(AGENT), str(folder), *filter(None, [kind])])


@dataclass
class Talk:
    """A node, and the folder where its agents leave notes."""

    shop: Workshop
    folder: Path

    async def start(self, prompt: str, *, kind: str = "", **fields: Any) -> Attempt:
        """Begin an attempt of the agent with this prompt."""
        return await self.shop.start(
            command_of(self.folder, kind), executor="acp", prompt=prompt, **fields
        )

    async def run(self, prompt: str, **fields: Any) -> Attempt:
        """Begin an attempt and wait for its end."""
        attempt = await self.start(prompt, **fields)
        return await self.shop.runner.wait_ended(attempt.id)

    @property
    def notes(self) -> list[str]:
        """What the agents noted, in all their processes."""
        file = self.folder / "notes"
        return file.read_text().splitlines() if file.exists() else []

    async def noted(self, note: str) -> None:
        """Wait until an agent has noted this."""

        async def there() -> bool:
            return note in self.notes

        await until(there, f"the agent noted {note}")

    async def session(self, attempt: Attempt) -> Session:
        """The attempt's session."""
        found = await self.shop.database.read(sessions.newest_of, attempt.id)
        assert found is not None
        return found

    async def messages(self, attempt: Attempt) -> list[Message]:
        """The transcript; its numbers have no hole."""
        session = await self.session(attempt)
        found = await self.shop.database.read(messages.page, session.id, limit=1000)
        assert [message.seq for message in found] == list(range(1, len(found) + 1))
        return found

    async def told(self, attempt: Attempt) -> list[tuple[str, str]]:
        """The transcript as role and text."""
        found = await self.messages(attempt)
        return [(one.role.value, one.content.strip()) for one in found]

    async def turns(self) -> list[TurnState]:
        """The turns as the journal tells of them, in the order in which they were made."""
        bodies = await self.shop.database.read(states_of, OpKind.TURN)
        return [msgspec.msgpack.decode(body, type=TurnState) for body in bodies]

    async def request(self, attempt: Attempt) -> AgentRequest:
        """The open request of an attempt, once there is one."""
        found: list[AgentRequest] = []

        async def is_open() -> bool:
            found[:] = await self.shop.database.read(
                requests.page, limit=10, status=RequestStatus.OPEN, attempt_id=attempt.id
            )
            return bool(found)

        await until(is_open, "a request is open")
        return found[0]

    async def answer(self, request: AgentRequest, option: str) -> None:
        """Answer a request as a person does."""
        given = Answer(option=option, by="ada", at_ms=1)
        await self.shop.database.write(requests.answer, request.id, given)
