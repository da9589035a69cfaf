"""`log`: entries of an execution's log, straight from the node's own chunks.

Owns how many chunks one page may cost, and the wait for the next line. Must not write.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from node_agent.changes import Changes
from node_agent.operations.asking import Asking, Streamed
from node_agent.store import attempts
from node_agent.store.contract import ChunkStore, Log
from node_agent.store.database import Database
from protocol import limits
from protocol.errors import ErrorCode, OperationError
from protocol.log_chunks import GapChunk, LogChunk
from protocol.log_entries import Entry, EntryGap, EntryPage, PageReading
from protocol.operation_values import StreamHead
from protocol.whole_numbers import WHOLE_NUMBER_MAX
from protocol.work_requests import LogRequest

ENTRIES_MAX: Final = 5_000
WAIT_MS_MAX: Final = 30_000
#: Chunks decoded for one page: what a page of very long lines, or a rare word, may cost.
_CHUNKS_PER_PAGE_MAX: Final = 64
_CHUNKS_PER_READ: Final = 16
_READ_BYTES_MAX: Final = 4 * limits.MIB


class LogPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a log as the API shows it, the hive's too.

    `closed`: nothing follows what is there by now.
    """

    entries: list[Entry]
    gaps: list[EntryGap]
    next: int
    closed: bool
    more: bool
    source: str = "node"


class LogReading:
    """Reads pages of this node's logs."""

    def __init__(self, database: Database, chunks: ChunkStore, changes: Changes) -> None:
        self._database = database
        self._chunks = chunks
        self._changes = changes

    async def run(self, asking: Asking) -> Streamed:
        """Answer a page; with `wait_ms`, as soon as there is a whole line to show."""
        request = asking.request
        assert isinstance(request, LogRequest)  # noqa: S101  the table's own pairing
        _check(request)
        await self._check_belongs(request.execution_id, asking.attempt_id)
        page = await self._awaited(request)
        return Streamed(StreamHead(media_type="application/json"), _pieces(page))

    async def _check_belongs(self, execution_id: str, attempt_id: str) -> None:
        execution = await self._database.read(attempts.find_execution, execution_id)
        # The hive's right is to one attempt; the node's own operator names none.
        if execution is None or attempt_id not in {"", execution.attempt_id}:
            raise OperationError(
                ErrorCode.NOT_FOUND,
                f"there is no execution {execution_id!r}",
                hint="The attempt names its executions.",
            )

    async def _awaited(self, request: LogRequest) -> LogPage:
        wait_s = max(0, min(request.wait_ms, WAIT_MS_MAX)) / 1000
        with self._changes.watch(request.execution_id) as changed:
            try:
                async with asyncio.timeout(wait_s or None):
                    while True:
                        changed.clear()
                        page = await self._page(request)
                        # A line still being written is no news to who has waited for its end.
                        news = page.gaps or any(not entry.open for entry in page.entries)
                        if news or page.closed or page.next > request.after or not wait_s:
                            return page
                        await changed.wait()
            except TimeoutError:
                return await self._page(request)

    async def _page(self, request: LogRequest) -> LogPage:
        log = await self._chunks.log(request.execution_id)
        if log is None:
            # Its program is only just starting.
            return LogPage(entries=[], gaps=[], next=request.after, closed=False, more=False)
        if log.purged:
            raise OperationError(
                ErrorCode.GONE,
                "this log was deleted here",
                hint="The hive has it, if it was joined at the time.",
                execution_id=log.execution_id,
            )
        page = await self._entries(log, request)
        return LogPage(
            entries=page.entries,
            gaps=page.gaps,
            next=page.next,
            closed=log.closed,
            more=page.more,
        )

    async def _entries(self, log: Log, request: LogRequest) -> EntryPage:
        match = request.grep.encode() if request.grep else None
        reading = PageReading(
            request.after, request.limit, match=match, chunks_max=_CHUNKS_PER_PAGE_MAX
        )
        chunks = await self._chunks.chunks_covering(
            log.execution_id, request.after, chunks_max=_CHUNKS_PER_READ, bytes_max=_READ_BYTES_MAX
        )
        while True:
            at_end = not chunks or _following(chunks[-1]) >= log.next_chunk
            wants_more = await asyncio.to_thread(reading.take_all, chunks)
            if at_end or not wants_more:
                # What was committed since the log was looked up is not its end.
                at_end = at_end and wants_more
                return reading.result(at_end=at_end, closed=log.closed and at_end)
            chunks = await self._chunks.chunks_from(
                log.execution_id,
                _following(chunks[-1]),
                chunks_max=_CHUNKS_PER_READ,
                bytes_max=_READ_BYTES_MAX,
            )


def _following(chunk: LogChunk | GapChunk) -> int:
    """Return the number of the chunk after this one."""
    return (chunk.through_seq if isinstance(chunk, GapChunk) else chunk.chunk_seq) + 1


async def _pieces(page: LogPage) -> AsyncIterator[bytes]:
    content = await asyncio.to_thread(msgspec.json.encode, page)
    for start in range(0, len(content), limits.PART_BYTES_MAX):
        yield content[start : start + limits.PART_BYTES_MAX]


def _check(request: LogRequest) -> None:
    """Raise INVALID for numbers that the hive would not take: both ways answer the same."""
    for field, number, least, most in (
        ("after", request.after, 0, WHOLE_NUMBER_MAX),
        ("limit", request.limit, 1, ENTRIES_MAX),
        ("wait_ms", request.wait_ms, 0, WHOLE_NUMBER_MAX),
    ):
        if not least <= number <= most:
            bound = "" if most == WHOLE_NUMBER_MAX else f", and {most} at most"
            raise OperationError(
                ErrorCode.INVALID,
                f"{field}: {number} cannot be used",
                hint=f"Give {least} or more{bound}.",
                field=field,
            )
