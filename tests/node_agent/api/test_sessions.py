"""Sessions and transcripts over the local API, with no hive."""

import asyncio

import msgspec
import pytest

from node_agent.store import messages, sessions, turns
from node_agent.store.turns import Shown, TurnEnd
from protocol.conversation import (
    AuthorKind,
    Message,
    MessageRole,
    Session,
    SessionStatus,
    Usage,
)
from protocol.turn_requests import Turn, TurnEdit, TurnStatus
from tests.node_agent.api.conftest import Ask
from tests.node_agent.operations.conftest import StoredNode


def uid(number: int) -> str:
    """An id, the same for the same number."""
    return f"01920000-0000-7000-8000-{number:012x}"


async def talk(stored: StoredNode, number: int, count: int) -> str:
    """A session of the node's attempt with so many messages; its id."""
    for place in range(1, count + 1):
        await say(stored, uid(number), place)
    session = Session(
        id=uid(number), attempt_id=stored.attempt.id, executor="acp", created_at_ms=number
    )
    await stored.stores.database.write(sessions.save, session, 1)
    return session.id


async def say(stored: StoredNode, session_id: str, place: int, content: str = "") -> None:
    """Write a message of a session, or what it has become."""
    said = Message(
        id=uid(int(session_id[-12:]) * 1000 + place),
        session_id=session_id,
        attempt_id=stored.attempt.id,
        seq=0,
        role=MessageRole.ASSISTANT,
        author_kind=AuthorKind.AGENT,
        content=content or f"said {place}",
    )
    await stored.stores.database.write(messages.save, said, 1)


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


@pytest.mark.asyncio
async def test_what_is_stored_counts_and_pages_at_once(ask: Ask, stored: StoredNode) -> None:
    """A message counts from its own commit on, though nothing happened to its session since."""
    session_id = await talk(stored, 5, 3)
    await say(stored, session_id, 4)
    await say(stored, session_id, 5)
    assert (await ask("GET", f"sessions/{session_id}"))[1]["message_count"] == 5
    assert (await ask("GET", "sessions"))[1]["items"][0]["message_count"] == 5
    _, page = await ask("GET", f"sessions/{session_id}/messages", after=2, limit=2)
    assert ([one["seq"] for one in page["items"]], page["next"]) == ([3, 4], 4)


@pytest.mark.asyncio
async def test_what_changed_is_told_once(ask: Ask, stored: StoredNode) -> None:
    """Behind a change come new messages and changed ones, whole, in the order they changed."""
    session_id = await talk(stored, 5, 3)
    other = await talk(stored, 6, 2)
    path = f"sessions/{session_id}/messages"
    _, page = await ask("GET", path, limit=2)
    since = page["changes"]
    await say(stored, other, 9)
    _, nothing = await ask("GET", path, changed_after=since)
    assert (nothing["items"], nothing["changes"]) == ([], since)
    await say(stored, session_id, 4)
    await say(stored, session_id, 1, content="said otherwise")
    await say(stored, session_id, 1, content="said otherwise")
    _, changed = await ask("GET", path, changed_after=since, limit=1)
    assert [one["seq"] for one in changed["items"]] == [4]
    _, rest = await ask("GET", path, changed_after=changed["changes"])
    assert [(one["seq"], one["content"]) for one in rest["items"]] == [(1, "said otherwise")]
    _, nothing = await ask("GET", path, changed_after=rest["changes"])
    assert (nothing["items"], nothing["changes"]) == ([], rest["changes"])


@pytest.mark.asyncio
async def test_waiting_for_what_is_said(ask: Ask, stored: StoredNode) -> None:
    """Whoever waits is answered at the next message, and at once of a session that is closed."""
    session_id = await talk(stored, 5, 1)
    path = f"sessions/{session_id}/messages"
    since = (await ask("GET", path))[1]["changes"]
    waiting = asyncio.create_task(ask("GET", path, changed_after=since, wait_ms=30_000))
    await say(stored, await talk(stored, 6, 1), 2)
    await say(stored, session_id, 2)
    _, page = await asyncio.wait_for(waiting, 30)
    assert [one["seq"] for one in page["items"]] == [2]
    waiting = asyncio.create_task(ask("GET", path, changed_after=page["changes"], wait_ms=30_000))
    session = await stored.stores.database.read(sessions.get, session_id)
    closed = msgspec.structs.replace(session, status=SessionStatus.CLOSED)
    await stored.stores.database.write(sessions.save, closed, 9)
    _, page = await asyncio.wait_for(waiting, 30)
    assert (page["items"], page["status"]) == ([], "closed")


@pytest.mark.asyncio
async def test_a_session_is_renamed(ask: Ask, stored: StoredNode) -> None:
    """By part of its id, once by the key."""
    session_id = await talk(stored, 5, 1)
    path = f"sessions/{session_id[-12:]}"
    status, renamed = await ask("PATCH", path, {"topic": "Shelves"}, key="k")
    assert (status, renamed["id"], renamed["topic"]) == (200, session_id, "Shelves")
    status, wrong = await ask("PATCH", path, {"topic": "Other"}, key="k")
    assert (status, wrong["error"]["code"]) == (409, "key_reused")
    assert (await ask("GET", path))[1]["topic"] == "Shelves"
    assert (await ask("PATCH", path, {"topic": ""}, key="k2"))[0] == 422
    assert (await ask("PATCH", path, {"topic": "x" * 121}, key="k2"))[0] == 422
    assert (await ask("PATCH", "sessions/0192000000ff", {"topic": "x"}, key="k3"))[0] == 404


@pytest.mark.asyncio
async def test_turns_of_a_session(ask: Ask, stored: StoredNode) -> None:
    """Those that have begun, then the queue as it is ordered now; of the newest session alone."""
    older, session_id = await talk(stored, 5, 1), await talk(stored, 6, 1)
    write, attempt_id = stored.stores.database.write, stored.attempt.id

    async def add(name: str) -> None:
        turn = Turn(id=name, attempt_id=attempt_id, status=TurnStatus.QUEUED, author="ann")
        await write(turns.add, turn, Shown(f"do {name}"))

    async def begin(session: str) -> None:
        begun = await write(
            turns.begin_next, attempt_id, executions_before=0, head="a" * 40, at_ms=7
        )
        await write(turns.prompted, begun.id, session, "e1", 7)
        end = TurnEnd("succeeded", "end_turn", Usage(input_tokens=5), "b" * 40)
        await write(turns.end, attempt_id, end, 8)

    for name in ("one", "two", "three", "four"):
        await add(name)
    await begin(older)
    await begin(session_id)
    edits = [TurnEdit(id="four"), TurnEdit(id="three", prompt="do otherwise")]
    shown = {"three": Shown("do otherwise")}
    await write(turns.set_queue, attempt_id, edits, shown, 9)
    path = f"sessions/{session_id}/turns"
    _, page = await ask("GET", path, limit=2)
    _, rest = await ask("GET", path, limit=2, cursor=page["next"])
    listed = page["items"] + rest["items"]
    assert [(one["no"], one["status"], one["prompt"]) for one in listed] == [
        (2, "ended", "do two"),
        (None, "queued", "do four"),
        (None, "queued", "do otherwise"),
    ]
    assert rest["next"] is None
    assert (listed[0]["stop_reason"], listed[0]["author"]) == ("end_turn", "ann")
    assert (listed[0]["head_before"], listed[0]["head_after"]) == ("a" * 40, "b" * 40)
    assert listed[0]["usage"]["input_tokens"] == 5
    _, others = await ask("GET", f"sessions/{older}/turns")
    assert [one["id"] for one in others["items"]] == ["one"]
    assert (await ask("GET", path, cursor="x.y"))[0] == 422
