"""Pages of a log out of the hive's own chunks: no more of them are read and opened than it takes.

Must not ask nodes: whoever needs what is not here goes through the relay.
"""

import asyncio
from typing import Final

import msgspec

from hive.store import logs
from hive.store.backend import Database, Transaction
from hive.store.logs import LogHead
from protocol import limits
from protocol.log_chunks import GapChunk, LogChunk, through
from protocol.log_entries import EntryPage, PageReading

#: Chunks opened for one page: what a page of very long lines, or of a rare word, may cost.
_CHUNKS_PER_PAGE_MAX: Final = 128
_CHUNKS_PER_READ: Final = 16
_READ_BYTES_MAX: Final = 4 * limits.MIB
#: Fewer than these are opened where we stand; more would hold up other callers.
_CHUNKS_HERE_MAX: Final = 2


class HeldPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of what is held, and how far the log is held. `head` is None where nothing is."""

    page: EntryPage
    head: LogHead | None


async def read_page(
    database: Database, execution_id: str, after: int, limit: int, grep: str | None
) -> HeldPage:
    """Return at most `limit` entries after number `after`."""
    match = grep.encode() if grep else None
    head, chunks = await database.read(_begin, execution_id, after)
    if head is None:
        return HeldPage(page=EntryPage(entries=[], gaps=[], next=after), head=None)
    reading = PageReading(after, limit, match=match, chunks_max=_CHUNKS_PER_PAGE_MAX)
    while True:
        at_end = not chunks or through(chunks[-1]) + 1 >= head.next_chunk
        wants_more = await _take(reading, chunks)
        if at_end or not wants_more:
            at_end = at_end and wants_more
            page = reading.result(at_end=at_end, closed=at_end and head.whole)
            return HeldPage(page=page, head=head)
        chunks = await database.read(
            logs.chunks_from,
            execution_id,
            through(chunks[-1]) + 1,
            chunks_max=_CHUNKS_PER_READ,
            bytes_max=_READ_BYTES_MAX,
        )


async def _begin(
    tx: Transaction, execution_id: str, after: int
) -> tuple[LogHead | None, list[LogChunk | GapChunk]]:
    head = await logs.log_head(tx, execution_id)
    if head is None:
        return None, []
    chunks = await logs.chunks_covering(
        tx, execution_id, after, chunks_max=_CHUNKS_PER_READ, bytes_max=_READ_BYTES_MAX
    )
    return head, chunks


async def _take(reading: PageReading, chunks: list[LogChunk | GapChunk]) -> bool:
    if len(chunks) <= _CHUNKS_HERE_MAX:
        return reading.take_all(chunks)
    return await asyncio.to_thread(reading.take_all, chunks)
