"""`log`: pages of the node's own chunks, and waiting for the next line without polling."""

import asyncio
from typing import Any

import pytest

from node_agent.operations.log import LogReading
from protocol.errors import ErrorCode, OperationError
from protocol.log_chunks import EVENT, STDERR, STDOUT, GapChunk, Segment
from protocol.work_requests import LogRequest
from tests.node_agent.operations.conftest import EXECUTION, StoredNode, whole


async def page(stored: StoredNode, attempt_id: str = "", **fields: Any) -> Any:
    """Ask for a page."""
    reading = LogReading(stored.stores.database, stored.stores.chunks, stored.changes)
    request = LogRequest(execution_id=EXECUTION, **fields)
    return await whole(await reading.run(stored.asking("log", request, attempt_id=attempt_id)))


def texts(answer: Any) -> list[str]:
    """The lines of a page."""
    return [entry["text"] for entry in answer["entries"]]


@pytest.mark.asyncio
async def test_pages_from_any_entry(stored: StoredNode) -> None:
    """Entries come in pages of the size asked, with their numbers, times and streams."""
    await stored.printed(Segment(STDOUT, 10, b"one\ntwo\n"), Segment(STDERR, 11, b"three\n"))
    await stored.printed(Segment(EVENT, 12, b"four"), Segment(STDOUT, 13, b"five\n"))
    first = await page(stored, limit=3)
    assert first["entries"] == [
        {"n": 1, "at_ms": 10, "stream": "stdout", "text": "one"},
        {"n": 2, "at_ms": 10, "stream": "stdout", "text": "two"},
        {"n": 3, "at_ms": 11, "stream": "stderr", "text": "three"},
    ]
    assert (first["next"], first["closed"], first["more"]) == (3, False, True)
    second = await page(stored, after=first["next"])
    assert texts(second) == ["four", "five"]
    assert texts(await page(stored, after=second["next"])) == []
    assert texts(await page(stored, grep="e", after=1)) == ["three", "five"]


@pytest.mark.parametrize(
    ("field", "number"), [("after", -1), ("limit", 0), ("limit", 5_001), ("wait_ms", -1)]
)
@pytest.mark.asyncio
async def test_what_the_hive_would_refuse_is_refused_here(
    stored: StoredNode, field: str, number: int
) -> None:
    """A client may change from one to the other at any time."""
    with pytest.raises(OperationError) as refused:
        await page(stored, **{field: number})
    assert (refused.value.code, refused.value.details) == (ErrorCode.INVALID, {"field": field})


@pytest.mark.asyncio
async def test_a_page_takes_only_the_chunks_it_needs(stored: StoredNode) -> None:
    """From the end of a log of many chunks a page reads only the last ones."""
    lines = b"".join(b"line %d\n" % n for n in range(1, 101))
    for _ in range(60):
        await stored.printed(Segment(STDOUT, 1, lines))
    asked: list[int] = []
    original = stored.stores.chunks.chunks_from

    async def counting(execution_id: str, chunk_seq: int, **bounds: int) -> Any:
        asked.append(chunk_seq)
        return await original(execution_id, chunk_seq, **bounds)

    stored.stores.chunks.chunks_from = counting  # type: ignore[method-assign]
    last = await page(stored, after=5_990)
    assert texts(last) == [f"line {n}" for n in range(91, 101)]
    assert asked == []
    everything: list[str] = []
    after = 0
    while after < 6_000:
        answer = await page(stored, after=after, limit=1_700)
        everything += texts(answer)
        after = answer["next"]
    assert everything == [f"line {n}" for n in range(1, 101)] * 60


@pytest.mark.asyncio
async def test_a_rare_word_costs_a_bounded_page(stored: StoredNode) -> None:
    """A page that finds nothing in very many chunks ends early and says where to go on."""
    for _ in range(70):
        await stored.printed(Segment(STDOUT, 1, b"hay\n" * 10))
    await stored.printed(Segment(STDOUT, 1, b"needle\n"))
    first = await page(stored, grep="needle")
    assert texts(first) == []
    assert first["more"]
    assert 0 < first["next"] < 701
    second = await page(stored, grep="needle", after=first["next"])
    assert [(entry["n"], entry["text"]) for entry in second["entries"]] == [(701, "needle")]


@pytest.mark.asyncio
async def test_gaps_and_the_end(stored: StoredNode) -> None:
    """Gaps stand beside the entries, and the end of a closed log is told."""
    await stored.printed(Segment(STDOUT, 1, b"one\n"))
    gap = GapChunk(
        execution_id=EXECUTION, chunk_seq=2, through_seq=2, first_entry=2, entries=5, reason="quota"
    )
    await stored.stores.chunks.commit([(gap, b"")])
    await stored.printed(Segment(STDOUT, 1, b"seven\nunfinished"))
    open_page = await page(stored)
    assert [(gap["gap"], gap["reason"]) for gap in open_page["gaps"]] == [([2, 6], "quota")]
    assert [entry.get("open", False) for entry in open_page["entries"]] == [False, False, True]
    await stored.stores.chunks.close_log(EXECUTION)
    closed = await page(stored, after=open_page["next"])
    assert closed["closed"]
    assert closed["entries"] == [
        {"n": 8, "at_ms": 1, "stream": "stdout", "text": "unfinished"},
    ]


@pytest.mark.asyncio
async def test_waiting_ends_with_the_next_line(stored: StoredNode) -> None:
    """A waiting page is answered when a whole line is committed, not by an unfinished one."""
    await stored.printed(Segment(STDOUT, 1, b"one\n"))
    waiting = asyncio.create_task(page(stored, after=1, wait_ms=20_000))
    await asyncio.sleep(0.1)
    await stored.printed(Segment(STDOUT, 2, b"tw"))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await stored.printed(Segment(STDOUT, 3, b"o\n", continued=True))
    assert texts(await asyncio.wait_for(waiting, 30)) == ["two"]


@pytest.mark.asyncio
async def test_waiting_ends_with_the_log_and_with_its_time(stored: StoredNode) -> None:
    """A waiting page is answered when the log is closed, and empty when its time is up."""
    await stored.printed(Segment(STDOUT, 1, b"one\n"))
    late = await asyncio.wait_for(page(stored, after=1, wait_ms=30), 5)
    assert (texts(late), late["closed"]) == ([], False)
    waiting = asyncio.create_task(page(stored, after=1, wait_ms=20_000))
    await asyncio.sleep(0.05)
    await stored.stores.chunks.close_log(EXECUTION)
    assert (await asyncio.wait_for(waiting, 30))["closed"]


@pytest.mark.asyncio
async def test_a_log_that_is_not_there_yet_or_any_more(stored: StoredNode) -> None:
    """Before its first chunk a log is empty; once deleted it is gone."""
    assert (texts(await page(stored)), (await page(stored))["closed"]) == ([], False)
    await stored.printed(Segment(STDOUT, 1, b"one\n"))
    await stored.stores.chunks.close_log(EXECUTION)
    await stored.stores.chunks.purge(EXECUTION)
    with pytest.raises(OperationError) as caught:
        await page(stored)
    assert caught.value.code is ErrorCode.GONE


@pytest.mark.asyncio
async def test_another_attempts_log_is_not_found(stored: StoredNode) -> None:
    """A right to one attempt opens no other's log; an unknown execution is not found."""
    await stored.printed(Segment(STDOUT, 1, b"one\n"))
    assert texts(await page(stored, attempt_id=stored.attempt.id)) == ["one"]
    with pytest.raises(OperationError) as caught:
        await page(stored, attempt_id="01920000-0000-7000-8000-0000cafef00d")
    assert caught.value.code is ErrorCode.NOT_FOUND
