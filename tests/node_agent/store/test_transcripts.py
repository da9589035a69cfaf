"""Sessions and messages as they are looked for."""

from pathlib import Path

import pytest

from node_agent.need_answers import answer
from node_agent.store import messages, sessions, transcripts
from node_agent.store.answers import StoredAnswers
from node_agent.store.errors import NotStored
from node_agent.store.journal import forget
from node_agent.store.transaction import Transaction
from protocol.conversation import AuthorKind, Message, MessageRole, Session
from protocol.messages import Need, NeedDone, NeedOutcome, Records
from protocol.ops import OpKind, decode_body
from tests.node_agent.workshop import Workshop, open_workshop


def uid(number: int) -> str:
    """An id, the same for the same number."""
    return f"01920000-0000-7000-8000-{number:012x}"


async def talk(shop: Workshop, number: int = 1, count: int = 0) -> Session:
    """A session with messages."""
    session = Session(
        id=uid(number), attempt_id=uid(99), executor="acp", created_at_ms=1_000 + number
    )
    await shop.database.write(sessions.save, session, 1)
    for place in range(1, count + 1):
        said = Message(
            id=uid(number * 10_000 + place),
            session_id=session.id,
            attempt_id=session.attempt_id,
            seq=0,
            role=MessageRole.ASSISTANT,
            author_kind=AuthorKind.AGENT,
            content=f"said {place}",
        )
        await shop.database.write(messages.save, said, 1)
    return session


@pytest.mark.asyncio
async def test_pages_both_ways(tmp_path: Path):
    """The newest, those before and those after a number; always in order."""
    async with open_workshop(tmp_path / "data", 3) as shop:
        session = await talk(shop, count=7)

        async def page(**place: int | None) -> list[int]:
            asked = {"after": None, "limit": 3, **place}
            found = await shop.database.read(transcripts.page, session.id, **asked)
            return [message.seq for message in found]

        assert await page() == [5, 6, 7]
        assert await page(before=5) == [2, 3, 4]
        assert await page(after=0) == [1, 2, 3]
        assert await page(after=6) == [7]
        assert await page(after=1, before=3) == [2]


@pytest.mark.asyncio
async def test_finding_sessions(tmp_path: Path):
    """Newest first, of one attempt, by pages; one by its last digits."""
    async with open_workshop(tmp_path / "data", 3) as shop:
        for number in (1, 2, 3):
            await talk(shop, number)
        read = shop.database.read
        found = await read(transcripts.newest, attempt_id=uid(99), before=None, limit=2)
        assert [session.id for session in found] == [uid(3), uid(2)]
        place = (found[-1].created_at_ms, found[-1].id)
        found = await read(transcripts.newest, attempt_id=None, before=place, limit=2)
        assert [session.id for session in found] == [uid(1)]
        assert await read(transcripts.newest, attempt_id=uid(98), before=None, limit=2) == []
        assert await read(transcripts.resolve_session, "000000000002") == uid(2)
        for text in ("0000000000ff", "2", "%%%%%%%%", "not one at all"):
            with pytest.raises(NotStored):
                await read(transcripts.resolve_session, text)


@pytest.mark.asyncio
async def test_a_need_for_messages(tmp_path: Path):
    """The session, then what follows a number; one that is not known says so."""
    async with open_workshop(tmp_path / "data", 3) as shop:
        session = await talk(shop, count=120)
        answers = StoredAnswers(shop.database, shop.journal, shop.chunks)
        need = Need(request_id="r", kind="messages", ids=[session.id, uid(7)], after=[100, 0])
        *pages, done = [frame async for frame in answer(need, answers)]
        assert isinstance(done, NeedDone)
        assert done.outcomes == [
            NeedOutcome(session.id, "sent", len(pages)),
            NeedOutcome(uid(7), "unknown"),
        ]
        records = [record for page in pages if isinstance(page, Records) for record in page.records]
        assert records[0].kind == OpKind.SESSION
        told = [decode_body(record.kind, record.body) for record in records[1:]]
        assert [message.seq for message in told] == list(range(101, 121))
        assert {record.epoch for record in records} == {3}


@pytest.mark.asyncio
async def test_messages_behind_many_that_are_damaged_are_sent(tmp_path: Path):
    """What the hive is not sent it takes for lost: the answer goes to the session's very end."""
    async with open_workshop(tmp_path / "data", 3) as shop:
        session = await talk(shop, count=120)

        async def damaged(tx: Transaction) -> None:
            for place in range(2, 110):
                await forget(tx, OpKind.MESSAGE, uid(10_000 + place))

        await shop.database.write(damaged)
        answers = StoredAnswers(shop.database, shop.journal, shop.chunks)
        need = Need(request_id="r", kind="messages", ids=[session.id], after=[0])
        frames = [frame async for frame in answer(need, answers)]
        records = [row for page in frames if isinstance(page, Records) for row in page.records]
        told = [decode_body(record.kind, record.body) for record in records[1:]]
        assert [message.seq for message in told] == [1, *range(110, 121)]
