"""Messages are numbered within their session without holes; what is said again is no new op."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.store import messages
from node_agent.store.database import Database
from node_agent.store.journal import SqliteJournal
from node_agent.store.messages import Place
from protocol.conversation import AuthorKind, Message, MessageRole


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A store with an open epoch."""
    fatal: list[Exception] = []
    opened = await Database.open(tmp_path / "state.db", "state", on_fatal=fatal.append)
    await SqliteJournal(opened).open_epoch(1)
    yield opened
    await opened.close()
    assert not fatal


def message(message_id: str, content: str, session_id: str = "s") -> Message:
    """A message of the agent."""
    return Message(
        id=message_id,
        session_id=session_id,
        attempt_id="a",
        seq=0,
        role=MessageRole.ASSISTANT,
        author_kind=AuthorKind.AGENT,
        content=content,
    )


@pytest.mark.asyncio
async def test_numbers_have_no_hole(database: Database) -> None:
    """One that is only shown live has an id and no number; a change keeps number and beginning."""
    live = await database.write(messages.id_of, Place("s", "e", "t1"))
    assert await database.write(messages.id_of, Place("s", "e", "t1")) == live
    assert await database.read(messages.known_id, "e", "t2") is None
    first = await database.write(messages.save, message("m1", "one"), 10)
    other = await database.write(messages.save, message("m2", "one", "other"), 10)
    second = await database.write(messages.save, message(live, "two"), 20)
    changed = await database.write(messages.save, message("m1", "one more"), 30)
    assert [one.seq for one in (first, other, second, changed)] == [1, 1, 2, 1]
    assert (changed.created_at_ms, changed.updated_at_ms) == (10, 30)
    found = await database.read(messages.page, "s", limit=10)
    assert [(one.seq, one.content) for one in found] == [(1, "one more"), (2, "two")]
    assert await database.read(messages.page, "s", after=1, limit=10) == [second]


@pytest.mark.asyncio
async def test_the_same_again_is_no_op(database: Database) -> None:
    """A message that did not change is not told again."""
    await database.write(messages.save, message("m1", "one"), 10)
    journal = SqliteJournal(database)
    before = await journal.ops_after(1, 0, ops_max=10, bytes_max=1 << 20)
    again = await database.write(messages.save, message("m1", "one"), 20)
    assert again.updated_at_ms == 10
    assert await journal.ops_after(1, 0, ops_max=10, bytes_max=1 << 20) == before
