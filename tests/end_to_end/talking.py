"""Conversations put into a node's own stores while its agent is away, as an agent's driver would.

Owns the epoch it writes in. Only what the stores themselves offer is used.
"""

import asyncio

import msgspec

from node_agent.config import load
from node_agent.stamps import new_id, now_ms
from node_agent.store import messages, sessions
from node_agent.stores import open_stores
from protocol.conversation import AuthorKind, Message, MessageRole, Session, SessionStatus
from tests.end_to_end.node_program import NodeProgram


class Talk:
    """A session of an attempt, and what was said in it so far."""

    def __init__(self, node: NodeProgram, attempt_id: str) -> None:
        self._node = node
        self.session = Session(
            id=new_id(),
            attempt_id=attempt_id,
            executor="acp",
            agent="scripted",
            topic="Mend the door",
            created_at_ms=now_ms(),
        )
        self.said: list[str] = []

    def say(self, count: int, *, closed: bool = False) -> None:
        """Have so many messages more be said, while the node's agent is stopped."""
        assert not self._node.running
        asyncio.run(self._say(count, closed=closed))

    async def _say(self, count: int, *, closed: bool) -> None:
        config = load(self._node.data_dir, environment={})
        async with open_stores(config) as stores:
            await stores.journal.open_epoch(now_ms())
            for _ in range(count):
                text = f"said {len(self.said) + 1}"
                self.said.append(text)
                await stores.database.write(messages.save, self._message(text), now_ms())
            status = SessionStatus.CLOSED if closed else SessionStatus.IDLE
            await stores.database.write(sessions.save, _with_status(self.session, status), now_ms())

    def _message(self, text: str) -> Message:
        return Message(
            id=new_id(),
            session_id=self.session.id,
            attempt_id=self.session.attempt_id,
            seq=0,
            role=MessageRole.ASSISTANT,
            author_kind=AuthorKind.AGENT,
            author="scripted",
            content=text,
        )


def _with_status(session: Session, status: SessionStatus) -> Session:
    return msgspec.structs.replace(session, status=status)
