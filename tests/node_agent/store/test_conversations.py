"""What is still to be said to an agent is kept by its place in all the input, until it is taken."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.store import conversations
from node_agent.store.conversations import Reach
from node_agent.store.database import Database


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A store."""
    fatal: list[Exception] = []
    opened = await Database.open(tmp_path / "state.db", "state", on_fatal=fatal.append)
    yield opened
    await opened.close()
    assert not fatal


async def step(
    database: Database, machine: bytes, reach: Reach, *lines: bytes, at_ms: int = 1
) -> int:
    """Write down a step of the conversation."""
    return await database.write(conversations.step, "e", machine, reach, lines, at_ms=at_ms)


@pytest.mark.asyncio
async def test_a_silence_is_kept(database: Database) -> None:
    """How long nothing was heard, and since when; the next step begins it anew."""
    await database.write(conversations.begin, "e", "s", b"")
    await step(database, b"", Reach(), at_ms=70)
    await database.write(conversations.count_silence, "e", 900)
    stored = await database.read(conversations.find, "e")
    assert stored is not None
    assert (stored.heard_at_ms, stored.silent_ms) == (70, 900)
    await step(database, b"", Reach(), at_ms=80)
    stored = await database.read(conversations.find, "e")
    assert stored is not None
    assert (stored.heard_at_ms, stored.silent_ms) == (80, 0)


@pytest.mark.asyncio
async def test_input_until_it_is_taken(database: Database) -> None:
    """Lines follow each other without a hole; a line that is taken in part stays whole."""
    await database.write(conversations.begin, "e", "s", b"m0")
    reach = Reach(1, 2, 3, 4)
    assert await step(database, b"m1", reach, b"one\n", b"two\n") == 8
    assert await step(database, b"m2", reach) == 8
    assert await step(database, b"m3", reach, b"three\n") == 14
    assert await database.read(conversations.unsaid, "e") == (0, b"one\ntwo\nthree\n")
    await database.write(conversations.taken, "e", 6)
    assert await database.read(conversations.unsaid, "e") == (4, b"two\nthree\n")
    await database.write(conversations.taken, "e", 14)
    assert await database.read(conversations.unsaid, "e") is None
    stored = await database.read(conversations.find, "e")
    assert stored is not None
    assert (stored.machine, stored.reach, stored.input_bytes) == (b"m3", reach, 14)
    assert (stored.ready, stored.closing) == (False, None)


@pytest.mark.asyncio
async def test_the_first_reason_to_close_stays(database: Database) -> None:
    """What ended the conversation is not overwritten by what followed; then all is forgotten."""
    await database.write(conversations.begin, "e", "s", b"")
    await database.write(conversations.close, "e", "failed")
    await database.write(conversations.close, "e", "done")
    stored = await database.read(conversations.find, "e")
    assert stored is not None
    assert stored.closing == "failed"
    await step(database, b"", Reach(), b"left\n")
    await database.write(conversations.forget, "e")
    assert await database.read(conversations.find, "e") is None
    assert await database.read(conversations.unsaid, "e") is None
