"""Requests in the store: opened once, settled once, passed on once, whatever is repeated."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from node_agent.acp.steps import Reply
from node_agent.request_drafts import ANSWER_BYTES_MAX, Draft
from node_agent.store import requests
from node_agent.store.database import Database
from node_agent.store.errors import NotStored
from node_agent.store.journal import SqliteJournal
from node_agent.store.requests import AlreadySettled, RequestChanged
from protocol import limits
from protocol.conversation import (
    AgentRequest,
    Answer,
    FileDiff,
    RequestKind,
    RequestOption,
    RequestStatus,
    ToolCall,
)
from protocol.errors import ErrorCode, SkepError
from protocol.ops import OpKind, encode_body

HOUR_MS = 3_600_000
OPTIONS = (
    RequestOption(id="yes", name="Allow", kind="allow_once"),
    RequestOption(id="no", name="Reject", kind="reject_once"),
)


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A state database with an open epoch."""
    opened = await Database.open(tmp_path / "state.db", "state", on_fatal=lambda _: None)
    await SqliteJournal(opened).open_epoch(1)
    yield opened
    await opened.close()


def draft(key: str = "1", execution: str = "e", **fields: Any) -> Draft:
    """A request for a yes, as the machine of execution `e` makes it."""
    wanted = {"kind": RequestKind.APPROVAL, "title": "Run tests", "options": OPTIONS}
    return Draft(execution_id=execution, key=key, attempt_id="a", **(wanted | fields))


async def opened(database: Database, key: str = "1", at_ms: int = 0, **fields: Any) -> AgentRequest:
    """A request opened at a time, with ten hours to answer."""
    return await database.write(
        requests.open_request, draft(key, **fields), at_ms=at_ms, deadline_ms=at_ms + 10 * HOUR_MS
    )


async def ops_of(database: Database) -> list[AgentRequest]:
    """The requests as the journal tells of them, in order."""
    found = await SqliteJournal(database).ops_after(1, 0, ops_max=1000, bytes_max=1 << 24)
    return [
        msgspec.msgpack.decode(op.body, type=AgentRequest)
        for op in found
        if op.kind == OpKind.REQUEST
    ]


@pytest.mark.asyncio
async def test_a_repeated_step_opens_no_second_request(database: Database):
    """Until it is passed on, a key of an execution is one request; each change is one op."""
    first = await opened(database)
    assert await opened(database, at_ms=7) == first
    assert (await opened(database, execution="e2")).id != first.id
    answered = await database.write(requests.answer, first.id, Answer(option="yes", by="ann"))
    assert await opened(database, at_ms=8) == answered
    assert await database.write(requests.delivered, first.id)
    # The agent has its answer: what it asks under this key now is another question.
    again = await opened(database, at_ms=9)
    assert again.id != first.id
    assert again.status is RequestStatus.OPEN
    told = await ops_of(database)
    assert [(one.id == first.id, one.status.value) for one in told] == [
        (True, "open"),
        (False, "open"),
        (True, "answered"),
        (False, "open"),
    ]


@pytest.mark.asyncio
async def test_of_two_answers_the_first_counts(database: Database):
    """Whoever is later is told what was said, by whom and when; nothing of theirs is kept."""
    request = await opened(database, free_text=True)
    told = await asyncio.gather(
        database.write(requests.answer, request.id, Answer(option="yes", by="ann", at_ms=5)),
        database.write(requests.answer, request.id, Answer(text="no!", by="bob", at_ms=6)),
        return_exceptions=True,
    )
    won, lost = sorted(told, key=lambda one: isinstance(one, AlreadySettled))
    assert isinstance(won, AgentRequest)
    assert isinstance(lost, AlreadySettled)
    assert lost.code is ErrorCode.ALREADY_ANSWERED
    assert lost.details["answer"] == msgspec.to_builtins(won.answer)
    assert lost.details["settled_at_ms"] == won.settled_at_ms
    assert won.answer is not None
    assert won.answer.by in lost.message
    waiting = await database.read(requests.undelivered, "e")
    assert [one.request for one in waiting] == [won]
    assert len(await ops_of(database)) == 2


@pytest.mark.asyncio
async def test_an_answer_is_passed_on_once(database: Database):
    """What is undelivered stays so over a restart, and is gone once it was passed on."""
    for key in ("1", "2", "3"):
        await opened(database, key, free_text=True)
    second, first = (await database.read(requests.page, limit=9))[1:]
    await database.write(requests.answer, second.id, Answer(text="so", by="ann", at_ms=5))
    await database.write(requests.cancel, first.id, "the attempt is over", 6)
    waiting = await database.read(requests.undelivered, "e")
    assert [(one.key, one.reply) for one in waiting] == [
        ("2", Reply(text="so")),
        ("1", Reply(cancelled=True)),
    ]
    assert await database.read(requests.undelivered, "other") == []
    assert await database.write(requests.delivered, second.id)
    assert not await database.write(requests.delivered, second.id)
    assert [one.key for one in await database.read(requests.undelivered, "e")] == ["1"]


@pytest.mark.asyncio
async def test_what_others_may_not_see_is_told_to_the_agent_alone(database: Database):
    """The answer goes on as it was given; ops have what is shown of it, and so has the store."""
    request = await opened(database, free_text=True)
    given = Answer(text="hunter2", by="ann", at_ms=5)
    await database.write(
        requests.answer, request.id, given, shown=msgspec.structs.replace(given, text="***")
    )
    (waiting,) = await database.read(requests.undelivered, "e")
    assert waiting.reply == Reply(text="hunter2")
    assert all(b"hunter2" not in encode_body(one) for one in await ops_of(database))
    await database.write(requests.delivered, request.id)

    async def rows(tx: Any) -> list[Any]:
        return [tuple(row) for row in await tx.fetch_all("SELECT * FROM request")]

    assert "hunter2" not in repr(await database.read(rows))


@pytest.mark.asyncio
async def test_what_the_agent_withdraws_is_not_passed_on(database: Database):
    """An open one is cancelled; an answer on its way stays, and says that it came too late."""
    request = await opened(database)
    withdrawn = await database.write(requests.withdraw, "e", "1", "the turn was cancelled", 5)
    assert withdrawn is not None
    assert (withdrawn.status, withdrawn.reason) == (
        RequestStatus.CANCELLED,
        "the turn was cancelled",
    )
    with pytest.raises(AlreadySettled) as late:
        await database.write(requests.answer, request.id, Answer(option="yes", by="ann"))
    assert late.value.code is ErrorCode.CANCELLED
    second = await opened(database, "2")
    await database.write(requests.answer, second.id, Answer(option="yes", by="ann", at_ms=5))
    assert await database.write(requests.withdraw_all, "e", "its process ended", 6) == 1
    found = await database.read(requests.get, second.id)
    assert found.status is RequestStatus.ANSWERED
    assert found.reason == "the agent did not wait for the answer: its process ended"
    assert await database.read(requests.undelivered, "e") == []
    assert await database.write(requests.withdraw, "e", "2", "again", 7) is None
    assert await database.write(requests.cancel, second.id, "again", 7) == found


@pytest.mark.asyncio
async def test_reminders_and_the_deadline(database: Database):
    """At half and at nine tenths of the time people are reminded; then it expires, unanswered."""
    request = await opened(database)
    assert await database.read(requests.next_due_ms) == 5 * HOUR_MS
    assert await database.write(requests.remind_due, 5 * HOUR_MS - 1, 9) == []
    (reminded,) = await database.write(requests.remind_due, 5 * HOUR_MS, 9)
    assert (reminded.id, reminded.reminded_at_ms) == (request.id, 5 * HOUR_MS)
    assert await database.read(requests.next_due_ms) == 9 * HOUR_MS
    assert len(await database.write(requests.remind_due, 9 * HOUR_MS, 9)) == 1
    assert await database.write(requests.remind_due, 10 * HOUR_MS, 9) == []
    assert await database.write(requests.expire_due, 10 * HOUR_MS - 1, 10 * HOUR_MS, 9) == []
    (expired,) = await database.write(requests.expire_due, 10 * HOUR_MS, 10 * HOUR_MS, 9)
    assert (expired.status, expired.answer) == (RequestStatus.EXPIRED, None)
    assert await database.read(requests.next_due_ms) is None
    (waiting,) = await database.read(requests.undelivered, "e")
    assert waiting.reply == Reply(cancelled=True)
    with pytest.raises(AlreadySettled) as late:
        await database.write(requests.answer, request.id, Answer(option="yes", by="ann"))
    assert late.value.code is ErrorCode.EXPIRED


@pytest.mark.asyncio
async def test_one_with_no_deadline_waits(database: Database):
    """Nothing reminds of it, and nothing ends it."""
    await database.write(requests.open_request, draft(), at_ms=0, deadline_ms=None)
    assert await database.read(requests.next_due_ms) is None
    assert await database.write(requests.expire_due, 1 << 60, 1 << 60, 9) == []
    assert await database.write(requests.remind_due, 1 << 60, 9) == []


@pytest.mark.asyncio
async def test_a_request_fits_into_its_op(database: Database):
    """Long texts are cut; what cannot be cut is not asked of people at all."""
    diffs = [FileDiff(path=f"{n}" * 400, old_text="ä" * 9000, new_text="b" * 9000) for n in "123"]
    tool = ToolCall(
        id="t",
        name="n" * 9000,
        target="t" * 9000,
        input="i" * 99_000,
        output="o" * 99_000,
        diffs=diffs,
        locations=["l" * 4000] * 99,
    )
    long = await opened(
        database,
        title="t" * 9000,
        text="x" * 99_000,
        tool=tool,
        form={"properties": {"a": {"description": "d" * 7000}}},
        options=[RequestOption(id=f"{n}", name="o" * 400) for n in range(12)],
        free_text=True,
    )
    assert long.status is RequestStatus.OPEN
    answered = await database.write(
        requests.answer, long.id, Answer(text="y" * ANSWER_BYTES_MAX, by="b" * 200)
    )
    assert len(encode_body(answered)) < limits.OP_BODY_BYTES_MAX
    refused = await opened(database, "2", form={"title": "f" * 10_000})
    assert refused.status is RequestStatus.CANCELLED
    assert "form has 100" in (refused.reason or "")
    waiting = {one.key: one.reply for one in await database.read(requests.undelivered, "e")}
    assert waiting["2"] == Reply(cancelled=True)


@pytest.mark.asyncio
async def test_lists_and_what_people_type(database: Database):
    """Newest first, by status and attempt; a request is named by its id or a part of it."""
    ids = [(await opened(database, f"{n}")).id for n in range(5)]
    await database.write(requests.cancel, ids[1], "not needed", 5)
    page = await database.read(requests.page, limit=2)
    rest = await database.read(requests.page, limit=9, before=page[-1].id)
    assert sorted(one.id for one in (*page, *rest)) == sorted(ids)
    waiting = await database.read(requests.page, limit=9, status=RequestStatus.OPEN)
    assert {one.id for one in waiting} == {*ids} - {ids[1]}
    assert await database.read(requests.page, limit=9, attempt_id="b") == []
    assert await database.read(requests.count_open) == 4
    assert await database.read(requests.count_open, "b") == 0
    assert await database.read(requests.resolve, ids[2].upper()) == ids[2]
    assert await database.read(requests.resolve, ids[2].replace("-", "")[-10:]) == ids[2]
    # Ids made within a minute or so begin alike; of five, two at least do.
    ((shared, _),) = Counter(one[:8] for one in ids).most_common(1)
    with pytest.raises(SkepError) as several:
        await database.read(requests.resolve, shared)
    assert several.value.code is ErrorCode.INVALID
    for text in ("99998888", "", ids[0][:7]):
        with pytest.raises(NotStored):
            await database.read(requests.resolve, text)


@pytest.mark.asyncio
async def test_listeners_hear_of_each_change(database: Database):
    """Whoever waits for an answer is woken by its commit, and not by what was rolled back."""
    heard: list[RequestChanged] = []
    database.listen(lambda events: heard.extend(e for e in events if isinstance(e, RequestChanged)))
    request = await opened(database)
    await database.write(requests.answer, request.id, Answer(option="yes", by="ann"))
    with pytest.raises(AlreadySettled):
        await database.write(requests.answer, request.id, Answer(option="no", by="bob"))
    assert [(one.request_id, one.execution_id, one.status.value) for one in heard] == [
        (request.id, "e", "open"),
        (request.id, "e", "answered"),
    ]
