"""`rename_session` as an operation: another topic, once, and nothing else of the session."""

import msgspec
import pytest

from node_agent.operations.sessions import SessionOperations
from node_agent.store import sessions
from node_agent.store.errors import NotStored
from protocol.conversation import Session, SessionStatus
from protocol.errors import ErrorCode, OperationError
from protocol.session_requests import RenameSessionRequest
from tests.node_agent.operations.conftest import StoredNode

SESSION = "01920000-0000-7000-8000-0000000005e5"


async def session_of(stored: StoredNode, *statuses: SessionStatus) -> Session:
    """A session of the attempt, which went through these statuses."""
    session = Session(
        id=SESSION, attempt_id=stored.attempt.id, executor="acp", topic="First line", reason="why"
    )
    session = await stored.stores.database.write(sessions.save, session, 5)
    for at_ms, status in enumerate(statuses, 6):
        moved = msgspec.structs.replace(session, status=status, reason="why")
        session = await stored.stores.database.write(sessions.save, moved, at_ms)
    return session


def operations_of(stored: StoredNode) -> SessionOperations:
    """The operation of this node, which knows one secret."""
    return SessionOperations(stored.stores.database, lambda: [b"hunter2-hunter2"])


async def ops_of(stored: StoredNode) -> int:
    """How many ops there are."""
    return (await stored.stores.journal.epochs())[-1].last


@pytest.mark.asyncio
async def test_a_topic_is_given_once_by_its_key(stored: StoredNode) -> None:
    """The same key is the first answer, whatever the topic is by now; no other request may be."""
    await session_of(stored)
    rename = operations_of(stored).rename
    first = RenameSessionRequest(session_id=SESSION, topic="  Sort the shelves ")
    asking = stored.asking("rename_session", first, key="k", actor="ada")
    assert (await rename(asking)).topic == "Sort the shelves"
    other = RenameSessionRequest(session_id=SESSION, topic="Another")
    assert (await rename(stored.asking("rename_session", other, key="k2"))).topic == "Another"
    before = await ops_of(stored)
    assert (await rename(asking)).topic == "Sort the shelves"
    assert await ops_of(stored) == before
    assert (await stored.stores.database.read(sessions.get, SESSION)).topic == "Another"
    with pytest.raises(OperationError) as caught:
        await rename(stored.asking("rename_session", first, key="k2"))
    assert caught.value.code is ErrorCode.KEY_REUSED


@pytest.mark.asyncio
async def test_nothing_else_of_it_changes(stored: StoredNode) -> None:
    """A closed session stays closed since when it was, and a later turn keeps the topic."""
    closed = await session_of(stored, SessionStatus.CLOSED)
    asked = RenameSessionRequest(session_id=SESSION, topic="Shelves")
    renamed = await operations_of(stored).rename(stored.asking("rename_session", asked, key="k"))
    assert renamed == msgspec.structs.replace(closed, topic="Shelves")
    opened = msgspec.structs.replace(renamed, status=SessionStatus.OPEN)
    assert (await stored.stores.database.write(sessions.save, opened, 99)).topic == "Shelves"


@pytest.mark.asyncio
async def test_a_secret_in_a_topic_is_hidden(stored: StoredNode) -> None:
    """A topic is seen by all: a secret of the node in it is not, nor one of its attempt."""
    await session_of(stored)
    await stored.started_with({"API_KEY": "open-sesame-4711"})
    asked = RenameSessionRequest(session_id=SESSION, topic="hunter2-hunter2 open-sesame-4711")
    renamed = await operations_of(stored).rename(stored.asking("rename_session", asked, key="k"))
    assert renamed.topic == "*** ***"


@pytest.mark.parametrize("topic", [" ", "two\nlines", "a\x1b[31m", "a\u2028b"])
@pytest.mark.asyncio
async def test_a_topic_is_one_line(stored: StoredNode, topic: str) -> None:
    """What is blank, or has ends of lines or control characters, is refused, naming the field."""
    await session_of(stored)
    asked = RenameSessionRequest(session_id=SESSION, topic=topic)
    with pytest.raises(OperationError) as caught:
        await operations_of(stored).rename(stored.asking("rename_session", asked, key="k"))
    assert (caught.value.code, caught.value.details["field"]) == (ErrorCode.INVALID, "topic")
    assert (await stored.stores.database.read(sessions.get, SESSION)).topic == "First line"


@pytest.mark.asyncio
async def test_only_a_session_of_its_own_attempt_and_project(stored: StoredNode) -> None:
    """What is asked for another attempt or project, or of no session, renames nothing."""
    await session_of(stored)
    asked = RenameSessionRequest(session_id=SESSION, topic="x")
    for more in ({"attempt_id": "other"}, {"project_id": "p2"}):
        with pytest.raises((NotStored, OperationError)) as caught:
            await operations_of(stored).rename(
                stored.asking("rename_session", asked, key="k", **more)
            )
        assert caught.value.code is ErrorCode.NOT_FOUND
    unknown = RenameSessionRequest(session_id="none", topic="x")
    with pytest.raises(NotStored):
        await operations_of(stored).rename(stored.asking("rename_session", unknown, key="k"))
    assert (await stored.stores.database.read(sessions.get, SESSION)).topic == "First line"
