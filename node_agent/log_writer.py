"""Writes the log of one execution: from the spool through the cutter into the chunk store.

Owns the order of it: a chunk is committed, then the supervisor may forget what it was made of.
Must not know what an end means, nor send anything.
"""

import asyncio
import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from node_agent.executions import Output, RunningExecution
from node_agent.failpoints import failpoint
from node_agent.log_cutter import CutChunk, LogCutter, SpoolEnd
from node_agent.log_replay import note_cuts
from node_agent.redaction import Redactor
from node_agent.run_context import when_there_is_room
from node_agent.spool import START, Frame, SpoolPosition, SpoolReader
from node_agent.stamps import now_ms
from node_agent.store.contract import ChunkStore, Log
from node_agent.store.errors import LogMoved, NotStored
from node_agent.supervisor_connection import RequestRefusedError, SupervisorUnreachableError
from protocol import limits
from protocol.entities import LogEnd
from protocol.log_chunks import ContentDigest, GapChunk, LogChunk

#: How long a silent execution is waited for at a time.
_IDLE_S: Final = 60.0
#: Several chunks at a time while a program prints fast: they share one commit and one sync.
_READ_BYTES: Final = 2 * 1024 * 1024
_READ_HERE_BYTES: Final = 64 * 1024
#: A log that grows beyond this is shown live no further; see `_hold_until_end`.
LIVE_BYTES_MAX: Final = limits.EXECUTION_LOG_BYTES_MAX // 2
_HELD_TEXT: Final = (
    b"This log is very large. Its end follows once the execution has ended; what does not fit is"
    b" left out of its middle."
)
_HOLD_LOOK_S: Final = 1.0
#: Of a log that goes on, what is read back at a time to know the digest of what it holds.
_REREAD_CHUNKS: Final = 64
_REREAD_BYTES: Final = 4 * 1024 * 1024


class LogWriter:
    """The log of one execution, open for writing. Made by `open`."""

    def __init__(
        self,
        chunks: ChunkStore,
        execution_id: str,
        cutter: LogCutter,
        resumed: SpoolEnd | None,
        *,
        has_output: bool,
        live_bytes_max: int,
        folder: Path | None,
    ) -> None:
        self._chunks = chunks
        self._execution_id = execution_id
        self._cutter = cutter
        self._resumed = resumed
        self._told_segment = 0
        self._live_bytes_max = live_bytes_max
        self._folder = folder
        self._live = True
        self._prints_fast = False
        #: By how many chunks and entries the log moved on under what is cut ahead.
        self._ahead_by = (0, 0)
        #: Whether anything was in the log when it was opened.
        self.has_output = has_output

    @classmethod
    async def open(
        cls,
        chunks: ChunkStore,
        execution_id: str,
        hidden: list[bytes],
        *,
        live_bytes_max: int = LIVE_BYTES_MAX,
        folder: Path | None = None,
    ) -> "LogWriter":
        """Go on with a log from where its newest chunk ends, hiding these values in it.

        `folder`: where each cut is noted.
        """
        log = await chunks.log(execution_id)
        if log is None:
            raise NotStored("log", execution_id)
        resumed = None if log.spool_end is None else SpoolEnd.decode(log.spool_end)
        cutter = LogCutter(
            execution_id,
            Redactor(hidden),
            resume=resumed,
            content=await _content_of(chunks, log),
        )
        # The log may have been numbered on since that chunk, behind a gap of its own.
        cutter.renumber(log.next_chunk, log.next_entry)
        return cls(
            chunks,
            execution_id,
            cutter,
            resumed,
            has_output=log.next_chunk > 1,
            live_bytes_max=live_bytes_max,
            folder=folder,
        )

    @property
    def position(self) -> SpoolPosition:
        """Where in the spool the log goes on."""
        return START if self._resumed is None else SpoolPosition(*self._resumed.position)

    @property
    def emitted(self) -> tuple[int, int] | None:
        """What of stdout and stderr is in the log already, in bytes."""
        return None if self._resumed is None else self._resumed.emitted

    async def follow(self, running: RunningExecution) -> bool:
        """Write what the execution prints until its end; False where nobody knows its end."""
        while True:
            if self._outgrew_live:
                await self._hold_until_end(running)
            due_ms = self._cutter.due(now_ms())
            wait_s = _IDLE_S if due_ms is None else due_ms / 1000
            output = await running.wait_output(wait_s)
            if output is Output.LOST:
                return False
            if output is Output.ENDED:
                return True
            if output is Output.GREW:
                await self._write_out(running.reader, running)
            else:
                await self._commit(self._cutter.take(now_ms()), running=running)

    async def drain(self, reader: SpoolReader) -> None:
        """Write the rest of the output of an execution that no longer runs."""
        try:
            while not reader.finished:
                await self._write_out(reader)
                if reader.exhausted:
                    break
        finally:
            reader.close()

    async def event(self, text: bytes) -> None:
        """Write an event of the node's own into the log."""
        self._cutter.event(now_ms(), text)

    async def close(self) -> LogEnd:
        """Write what is left, close the log, and return what the whole of it is."""
        await self._commit(self._cutter.take(now_ms(), flush=True))
        log = await when_there_is_room(lambda: self._chunks.close_log(self._execution_id))
        totals = self._cutter.end()
        return LogEnd(
            execution_id=self._execution_id,
            chunks=totals.chunks,
            entries=totals.entries,
            bytes=totals.content_bytes,
            digest=totals.digest,
            chain=log.digest,
        )

    async def _hold_until_end(self, running: RunningExecution) -> None:
        """Leave the rest to the spool, which keeps its head and tail, until the execution ends.

        What is in the log cannot be taken out of its middle any more; what is in the spool can.
        """
        self._live = False
        self._cutter.event(now_ms(), _HELD_TEXT)
        # As of later: whatever waits is due.
        await self._commit(self._cutter.take(now_ms() + 2 * limits.CHUNK_CUT_MS))
        while running.exit_record() is None:
            try:
                await running.status()
            except SupervisorUnreachableError:
                return
            await asyncio.sleep(_HOLD_LOOK_S)

    # --- inside -------------------------------------------------------------------------------

    @property
    def _outgrew_live(self) -> bool:
        return self._live and self._cutter.content_bytes > self._live_bytes_max

    async def _write_out(
        self, reader: SpoolReader, running: RunningExecution | None = None
    ) -> None:
        """Commit what there is to read: a few chunks, or all of it where a program prints fast."""
        if not self._prints_fast:
            self._read(reader, _READ_HERE_BYTES)
            if reader.exhausted:
                await self._commit(self._cutter.take(now_ms()), running=running)
                return
        # The program prints fast. Compressing and hashing leave the interpreter to others, so the
        # loop goes on sending meanwhile, and the disk is not waited for.
        ahead = self._read_on(reader)
        while True:
            cuts = _renumbered(await _whole(ahead), *self._ahead_by)
            self._ahead_by = (0, 0)
            self._prints_fast = not reader.exhausted
            if reader.exhausted or self._outgrew_live:
                await self._commit(cuts, running=running)
                return
            ahead = self._read_on(reader)
            try:
                await self._commit(cuts, ahead, running=running)
            except BaseException:
                # Nobody may close the reader while it is read.
                await _whole(ahead)
                raise

    def _read_on(self, reader: SpoolReader) -> asyncio.Future[list[CutChunk]]:
        return asyncio.get_running_loop().run_in_executor(None, self._read_and_take, reader)

    def _read_and_take(self, reader: SpoolReader) -> list[CutChunk]:
        self._read(reader, _READ_BYTES)
        return self._cutter.take(now_ms(), more=not reader.exhausted)

    def _read(self, reader: SpoolReader, bytes_max: int) -> None:
        position = reader.position
        for item in reader.read(bytes_max):
            if isinstance(item, Frame):
                self._cutter.feed(item.stream, item.at_ms, item.data, position, item.stream_offset)
            else:
                self._cutter.gap(
                    item.reason,
                    now_ms(),
                    position,
                    stdout_bytes=item.stdout_bytes,
                    stderr_bytes=item.stderr_bytes,
                    lines=item.newlines,
                )

    async def _commit(
        self,
        cuts: Sequence[CutChunk],
        ahead: asyncio.Future[list[CutChunk]] | None = None,
        *,
        running: RunningExecution | None = None,
    ) -> None:
        """Commit chunks; then their supervisor, if it runs, may forget what they were made of.

        `ahead`: what is being cut meanwhile, behind them.
        """
        if not cuts:
            return
        while True:
            stored = [(cut.chunk, cut.spool_end.encode()) for cut in cuts]
            failpoint("node.log.before_commit")
            try:
                await when_there_is_room(functools.partial(self._chunks.commit, stored))
                break
            except LogMoved:
                by, entries_by = await self._moved_by(cuts[0].chunk)
                if ahead is not None:
                    # It takes its numbers from the cutter; nothing does while they change.
                    await _whole(ahead)
                    self._ahead_by = (self._ahead_by[0] + by, self._ahead_by[1] + entries_by)
                cuts = _renumbered(cuts, by, entries_by)
                cutter = self._cutter
                cutter.renumber(cutter.next_chunk + by, cutter.next_entry + entries_by)
        failpoint("node.log.after_commit")
        if self._folder is not None:
            note_cuts(self._folder, cuts)
        segment = cuts[-1].spool_end.position[0]
        if running is not None and segment > self._told_segment:
            await self._tell_consumed(running, segment)

    async def _moved_by(self, first: LogChunk | GapChunk) -> tuple[int, int]:
        """Return how many chunks and entries a chunk is to move to follow the log as it is now."""
        log = await self._chunks.log(self._execution_id)
        if log is None:
            raise NotStored("log", self._execution_id)
        by, entries_by = log.next_chunk - first.chunk_seq, log.next_entry - first.first_entry
        if by == entries_by == 0:
            raise LogMoved(self._execution_id, log.next_chunk, first.chunk_seq)
        return by, entries_by

    async def _tell_consumed(self, running: RunningExecution, segment: int) -> None:
        # One that does not answer keeps the segment; the next word frees it too. Not said again
        # before: a supervisor whose program has ended has gone, and much may be left to read.
        self._told_segment = segment
        with contextlib.suppress(SupervisorUnreachableError, RequestRefusedError):
            await running.consumed(segment)


def _renumbered(cuts: Sequence[CutChunk], by: int, entries_by: int) -> list[CutChunk]:
    """Return the same chunks, so many chunks and entries further on."""
    if by == entries_by == 0:
        return list(cuts)
    moved = []
    for chunk, end in cuts:
        numbers = {
            "chunk_seq": chunk.chunk_seq + by,
            "first_entry": chunk.first_entry + entries_by,
        }
        if isinstance(chunk, GapChunk):
            numbers["through_seq"] = chunk.through_seq + by
        moved.append(
            CutChunk(
                msgspec.structs.replace(chunk, **numbers),
                msgspec.structs.replace(
                    end,
                    next_chunk=end.next_chunk + by,
                    next_entry=end.next_entry + entries_by,
                ),
            )
        )
    return moved


async def _whole(reading: asyncio.Future[list[CutChunk]]) -> list[CutChunk]:
    """Return what a read in another thread found; one who is cancelled waits for it too.

    Nobody may close the reader, or use the cutter, while it goes on.
    """
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        await asyncio.wait({reading})
        raise


async def _content_of(chunks: ChunkStore, log: Log) -> ContentDigest:
    """Return the digest of what a log holds: it cannot be stored half way."""
    content = ContentDigest()
    following = 1
    while following < log.next_chunk:
        page = await chunks.chunks_from(
            log.execution_id, following, chunks_max=_REREAD_CHUNKS, bytes_max=_REREAD_BYTES
        )
        if not page:
            break
        for chunk in page:
            following = (chunk.through_seq if isinstance(chunk, GapChunk) else chunk.chunk_seq) + 1
        # Megabytes to decompress: other attempts go on meanwhile.
        await asyncio.to_thread(_take_in, content, page)
    return content


def _take_in(content: ContentDigest, page: Sequence[LogChunk | GapChunk]) -> None:
    for chunk in page:
        content.add(chunk)
