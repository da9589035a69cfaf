"""Reading logs: only the chunks that cover what was asked, as they came, within bounds."""

import pytest

from hive.store import logs
from protocol.log_chunks import GapChunk
from tests.hive import reported
from tests.hive.reported import uid
from tests.hive.store.open_hive import OpenHive, Reporting
from tests.protocol.whole_logs import entries_of


async def filled(hive: OpenHive, chunks: int = 40, lines: int = 10) -> Reporting:
    """A log of many chunks."""
    alpha = await hive.reporting()
    await alpha.tells(reported.attempt(), reported.execution())
    sent = [reported.chunk(seq, lines=lines) for seq in range(1, chunks + 1)]
    assert set(await alpha.sends(*sent)) == {"stored"}
    return alpha


@pytest.mark.asyncio
@pytest.mark.parametrize("after", [0, 1, 9, 10, 11, 199, 395, 399])
async def test_reading_begins_at_the_chunk_that_holds_the_entry(hive: OpenHive, after: int):
    """Whatever entry is asked for, the first chunk read is the one it begins in."""
    await filled(hive)
    found = await hive.read(logs.chunks_covering, uid(20), after, chunks_max=2, bytes_max=1_000_000)
    first = found[0]
    assert first.first_entry <= after + 1 < first.first_entry + first.entries
    assert len(found) <= 2
    page = entries_of(found, after, 5, closed=True)
    assert page.entries[0].n == after + 1
    assert page.entries[0].text == f"line {after + 1}"


@pytest.mark.asyncio
async def test_past_the_end_there_is_the_last_chunk(hive: OpenHive):
    """Whoever asks for what is not there yet gets where it will be, or nothing of no log."""
    await filled(hive, chunks=2)
    found = await hive.read(logs.chunks_covering, uid(20), 500, chunks_max=5, bytes_max=10**6)
    assert [chunk.chunk_seq for chunk in found] == [2]
    assert await hive.read(logs.chunks_covering, uid(77), 0, chunks_max=5, bytes_max=10**6) == []


@pytest.mark.asyncio
async def test_a_page_of_chunks_is_bounded(hive: OpenHive):
    """Neither count nor bytes go over what was asked, but one chunk always comes."""
    await filled(hive)
    one = await hive.read(logs.chunks_from, uid(20), 3, chunks_max=10, bytes_max=1)
    assert [chunk.chunk_seq for chunk in one] == [3]
    size = len(one[0].blob)
    some = await hive.read(logs.chunks_from, uid(20), 3, chunks_max=10, bytes_max=4 * size)
    assert 2 <= len(some) <= 5
    rest = await hive.read(logs.chunks_from, uid(20), 38, chunks_max=10, bytes_max=10**9)
    assert [chunk.chunk_seq for chunk in rest] == [38, 39, 40]


@pytest.mark.asyncio
async def test_an_entry_in_a_gap_leads_to_the_gap(hive: OpenHive):
    """Numbers that a gap covers are answered by the gap; gaps are listed by themselves."""
    alpha = await hive.reporting()
    sent = [reported.chunk(1), reported.gap(2, 5, 2, 100), reported.chunk(6, first_entry=102)]
    await alpha.sends(*sent)
    found = await hive.read(logs.chunks_covering, uid(20), 50, chunks_max=9, bytes_max=10**6)
    assert found == sent[1:]
    assert await hive.read(logs.gaps, uid(20)) == [sent[1]]
    assert await hive.read(logs.gaps, uid(20), after=2) == []
    # Asked from a number within the gap, what comes is what follows it.
    assert await hive.read(logs.chunks_from, uid(20), 4, chunks_max=9, bytes_max=10**6) == sent[2:]


@pytest.mark.asyncio
async def test_chunks_in_which_no_entry_begins_are_passed_over(hive: OpenHive):
    """Where one long line goes through several chunks, reading begins where the entry begins."""
    alpha = await hive.reporting()
    empty = [
        GapChunk(
            execution_id=uid(20),
            chunk_seq=seq,
            through_seq=seq,
            first_entry=2,
            entries=0,
            reason="power_cut",
        )
        for seq in (2, 3)
    ]
    sent = [reported.chunk(1), *empty, reported.chunk(4, first_entry=2)]
    assert await alpha.sends(*sent) == ["stored"] * 4
    found = await hive.read(logs.chunks_covering, uid(20), 1, chunks_max=9, bytes_max=10**6)
    assert found == sent[3:]


@pytest.mark.asyncio
async def test_the_head_tells_how_far_a_log_is_held(hive: OpenHive):
    """Cursor, sizes and end are summed up in one row; whole is closed and held to its end."""
    alpha = await filled(hive, chunks=2)
    head = await hive.read(logs.log_head, uid(20))
    assert (head.next_chunk, head.next_entry, head.closed, head.whole) == (3, 21, False, False)
    await alpha.tells(reported.log_end(chunks=3, entries=30))
    head = await hive.read(logs.log_head, uid(20))
    assert (head.closed, head.whole, head.end_entries) == (True, False, 30)
    await alpha.sends(reported.gap(3, 3, 21, 10))
    head = await hive.read(logs.log_head, uid(20))
    assert (head.whole, head.gap_bytes) == (True, 100)
    sent = [reported.chunk(seq, lines=10) for seq in (1, 2)]
    assert head.raw_bytes == sum(chunk.raw_bytes for chunk in sent)
    assert head.blob_bytes == sum(len(chunk.blob) for chunk in sent)
    assert await hive.read(logs.log_head, uid(77)) is None


@pytest.mark.asyncio
async def test_appends_are_told_once_for_each_commit(hive: OpenHive):
    """Many chunks of one log in one commit are one change."""
    await filled(hive)
    heard = [change for change in await hive.heard() if change.kind == "log.appended"]
    assert len(heard) == 1
    assert heard[0].ids["execution"] == uid(20)
    assert f"attempt:{uid(10)}" in heard[0].topics


@pytest.mark.asyncio
async def test_an_end_that_is_older_does_not_overwrite(hive: OpenHive):
    """After a node numbered a log on, the old end, told again, changes nothing."""
    alpha = await filled(hive, chunks=1)
    await alpha.tells(reported.log_end(chunks=1), reported.log_end(chunks=2))
    records = [reported.record(reported.log_end(chunks=1), epoch=1, seq=3)]
    await hive.store.commit_records(alpha.node_id, alpha.link_no, "r", records)
    assert (await hive.read(logs.log_head, uid(20))).end_chunks == 2
