"""Pages of transcripts both ways, and what external agents send, each once."""

import asyncio

import pytest

from hive.store import message_gaps, messages, sessions
from hive.store.messages import NewMessage, missing_places
from hive.store.sessions import NewSession
from protocol.conversation import AuthorKind, MessageRole
from protocol.errors import ErrorCode, OperationError
from tests.hive import reported
from tests.hive.reported import uid
from tests.hive.store.open_hive import OpenHive


async def external(hive: OpenHive) -> str:
    """An external session; its id."""
    new = NewSession(
        id=uid(90),
        agent_session_id="theirs",
        attempt_id=None,
        task_id=None,
        agent="their agent",
        agent_version=None,
        capabilities=[],
        topic="",
        created_by="them",
    )
    await hive.write(sessions.map_session, new, hive.now_ms)
    return new.id


def sent(number: int, content: str = "yes", sender_id: str = "") -> NewMessage:
    """A message of a person, by a sender who numbers them."""
    return NewMessage(
        id=uid(100_000 + number),
        sender_id=sender_id or f"id-{number}",
        role=MessageRole.USER,
        author_kind=AuthorKind.PERSON,
        author="ann",
        content=content,
    )


def test_missing_places():
    """Runs of numbers that are not held, at either end and between."""
    assert missing_places([2, 3, 6], 1, 8) == [(1, 1), (4, 5), (7, 8)]
    assert missing_places([], 1, 3) == [(1, 3)]
    assert missing_places([], 4, 3) == []
    assert missing_places([1, 2], 1, 2) == []


@pytest.mark.asyncio
async def test_pages_both_ways(hive: OpenHive):
    """The newest page first, then back and forth by number; each says whether there is more."""
    session_id = await external(hive)
    await hive.write(messages.append, session_id, [sent(n) for n in range(1, 11)], hive.now_ms)

    async def page(before: int | None = None, after: int | None = None, limit: int = 4):
        found = await hive.database.read(
            messages.read_page, session_id, before=before, after=after, limit=limit
        )
        assert found.missing == []
        return [item.seq for item in found.items], found.more_before, found.more_after

    assert await page() == ([7, 8, 9, 10], True, False)
    assert await page(before=7) == ([3, 4, 5, 6], True, True)
    assert await page(before=3) == ([1, 2], False, True)
    assert await page(after=0) == ([1, 2, 3, 4], False, True)
    assert await page(after=8) == ([9, 10], True, False)
    assert await page(after=10) == ([], True, False)
    assert await page(after=2, before=5) == ([3, 4], True, True)
    assert await page(before=1) == ([], False, True)
    assert await page(before=0) == ([], False, True)
    assert await page(after=99) == ([], True, False)


@pytest.mark.asyncio
async def test_ten_thousand_messages_page_back_while_live_ones_arrive(hive: OpenHive):
    """Paging back over a long session shows each message once, whatever is said meanwhile."""
    node = await hive.reporting()
    await node.tells(reported.checkout(1), reported.attempt(), reported.session())
    for first in range(1, 10_001, 200):
        await node.tells(*(reported.message(seq) for seq in range(first, first + 200)))
    done = asyncio.Event()
    said = 10_000

    async def go_on() -> None:
        nonlocal said
        while not done.is_set():
            said += 1
            await node.tells(reported.message(said))
            await asyncio.sleep(0)

    talking = asyncio.create_task(go_on())
    try:
        back: list[int] = []
        before = None
        while True:
            page = await hive.database.read(
                messages.read_page, uid(30), before=before, after=None, limit=200
            )
            assert page.missing == []
            back = [item.seq for item in page.items] + back
            if not page.more_before:
                break
            before = page.items[0].seq
    finally:
        done.set()
        await talking
    assert back == list(range(1, back[-1] + 1))
    assert back[-1] >= 10_000
    forth = [item for item in back if item <= 10_000]
    after = back[-1]
    while True:
        page = await hive.database.read(
            messages.read_page, uid(30), before=None, after=after, limit=200
        )
        forth += [item.seq for item in page.items if item.seq > back[-1]]
        if not page.more_after:
            break
        after = page.items[-1].seq
    assert back[-1] + len(forth) - 10_000 == said, "what came meanwhile follows, each once"


@pytest.mark.asyncio
async def test_holes_are_told(hive: OpenHive):
    """What the node has and the hive does not stands in a page as missing."""
    node = await hive.reporting()
    await node.tells(reported.checkout(1), reported.attempt(), reported.session(message_count=9))
    assert await hive.database.read(message_gaps.settled_through, uid(30)) == 0
    await node.tells(*(reported.message(seq) for seq in (1, 2, 5, 6)))
    assert await hive.database.read(message_gaps.settled_through, uid(30)) == 2

    async def missing(**place: int | None):
        asked = {"before": None, "after": None, "limit": 3, **place}
        page = await hive.database.read(messages.read_page, uid(30), **asked)
        return [item.seq for item in page.items], page.missing, page.more_before, page.more_after

    assert await missing() == ([2, 5, 6], [(3, 4), (7, 9)], True, False)
    assert await missing(limit=9) == ([1, 2, 5, 6], [(3, 4), (7, 9)], False, False)
    assert await missing(after=2) == ([5, 6], [(3, 4), (7, 9)], True, False)
    assert await missing(after=6) == ([], [(7, 9)], True, False)
    assert await missing(after=0, limit=2) == ([1, 2], [], False, True)
    assert await missing(before=5) == ([1, 2], [(3, 4)], False, True)


@pytest.mark.asyncio
async def test_the_same_id_is_one_message(hive: OpenHive):
    """Yes said twice is two messages; the same message sent again by a retry is one."""
    session_id = await external(hive)
    kept = await hive.write(messages.append, session_id, [sent(1), sent(2)], hive.now_ms)
    assert [(one.seq, one.duplicate) for one in kept] == [(1, False), (2, False)]
    again = await hive.write(
        messages.append, session_id, [sent(3, sender_id="id-2"), sent(4)], hive.now_ms
    )
    assert [(one.seq, one.duplicate) for one in again] == [(2, True), (3, False)]
    assert again[0].message_id == kept[1].message_id
    session = await hive.row("session", session_id)
    assert (session["message_count"], session["topic"]) == (3, "yes")


@pytest.mark.asyncio
async def test_an_id_that_was_another_message_is_refused(hive: OpenHive):
    """One id for two texts is a mistake of the sender's; nothing of its request is kept."""
    session_id = await external(hive)
    await hive.write(messages.append, session_id, [sent(1)], hive.now_ms)
    with pytest.raises(OperationError) as caught:
        await hive.write(
            messages.append,
            session_id,
            [sent(2), sent(3, content="no", sender_id="id-1")],
            hive.now_ms,
        )
    assert caught.value.code is ErrorCode.CONFLICT
    assert (await hive.row("session", session_id))["message_count"] == 1


@pytest.mark.asyncio
async def test_a_closed_session_takes_nothing_new(hive: OpenHive):
    """What was sent before it closed is still known; what is new is refused."""
    session_id = await external(hive)
    await hive.write(messages.append, session_id, [sent(1)], hive.now_ms)
    await hive.write(sessions.close, session_id, "over", hive.now_ms)
    [known] = await hive.write(messages.append, session_id, [sent(1)], hive.now_ms)
    assert known.duplicate
    with pytest.raises(OperationError) as caught:
        await hive.write(messages.append, session_id, [sent(2)], hive.now_ms)
    assert caught.value.code is ErrorCode.CONFLICT


@pytest.mark.asyncio
@pytest.mark.parametrize("after", [None, (7, uid(30), 3)])
@pytest.mark.parametrize("name", ["session_id", "attempt_id", "task_id", "project_id"])
async def test_no_list_reads_all_messages(
    hive: OpenHive, name: str, after: tuple[int, str, int] | None
):
    """However many there are: each is found by its place in a session that is found first."""
    node = await hive.reporting()
    await node.tells(reported.checkout(1), reported.attempt(), reported.session())
    for role in (None, "question"):
        steps = await hive.plans(
            messages.list_messages, after=after, limit=50, role=role, **{name: uid(10)}
        )
        found = [step for step in steps if "message" in step.split()[1]]
        assert found == ["SEARCH message USING INDEX message_by_place (session_id=?)"]
        scanned = [step for step in steps if step.startswith("SCAN")]
        # Of a project each session is looked at, by its age, until the page is full.
        assert all(name == "project_id" and "session_by_age" in step for step in scanned), steps
