"""Sessions and transcripts over the local API, with no hive."""

import pytest

from node_agent.store import messages, sessions
from protocol.conversation import AuthorKind, Message, MessageRole, Session
from tests.node_agent.api.conftest import Ask
from tests.node_agent.operations.conftest import StoredNode


def uid(number: int) -> str:
    """An id, the same for the same number."""
    return f"01920000-0000-7000-8000-{number:012x}"


async def talk(stored: StoredNode, number: int, count: int) -> str:
    """A session of the node's attempt with so many messages; its id."""
    write = stored.stores.database.write
    for place in range(1, count + 1):
        said = Message(
            id=uid(number * 1000 + place),
            session_id=uid(number),
            attempt_id=stored.attempt.id,
            seq=0,
            role=MessageRole.ASSISTANT,
            author_kind=AuthorKind.AGENT,
            content=f"said {place}",
        )
        await write(messages.save, said, 1)
    session = Session(
        id=uid(number), attempt_id=stored.attempt.id, executor="acp", created_at_ms=number
    )
    await write(sessions.save, session, 1)
    return session.id


@pytest.mark.asyncio
async def test_sessions_are_listed(ask: Ask, stored: StoredNode) -> None:
    """Newest first, by pages, of one attempt; each with its count of messages."""
    for number in (1, 2, 3):
        await talk(stored, number, number)
    status, page = await ask("GET", "sessions", limit=2)
    assert status == 200
    assert [(one["id"], one["message_count"]) for one in page["items"]] == [
        (uid(3), 3),
        (uid(2), 2),
    ]
    _, rest = await ask("GET", "sessions", limit=2, cursor=page["next"])
    assert [one["id"] for one in rest["items"]] == [uid(1)]
    assert rest["next"] is None
    _, of_one = await ask("GET", "sessions", attempt=stored.attempt.id)
    assert len(of_one["items"]) == 3
    assert (await ask("GET", "sessions", attempt=uid(77)))[0] == 404


@pytest.mark.asyncio
async def test_transcripts_page_both_ways(ask: Ask, stored: StoredNode) -> None:
    """The newest page, back to the beginning and forth to the end, each message once."""
    session_id = await talk(stored, 5, 7)
    path = f"sessions/{session_id[-12:]}"
    assert (await ask("GET", path))[1]["id"] == session_id
    back: list[int] = []
    query: dict[str, int] = {}
    while True:
        _, page = await ask("GET", f"{path}/messages", limit=3, **query)
        back = [one["seq"] for one in page["items"]] + back
        if page["previous"] is None:
            break
        query = {"before": page["previous"]}
    assert back == [1, 2, 3, 4, 5, 6, 7]
    forth: list[int] = []
    after = 0
    while after is not None:
        _, page = await ask("GET", f"{path}/messages", limit=3, after=after)
        forth += [one["seq"] for one in page["items"]]
        after = page["next"]
    assert forth == back
    _, empty = await ask("GET", f"{path}/messages", after=7)
    assert (empty["items"], empty["next"], empty["message_count"]) == ([], None, 7)
    assert (await ask("GET", "sessions/0192000000ff/messages"))[0] == 404
    assert (await ask("GET", f"{path}/messages", after="x"))[0] == 422
