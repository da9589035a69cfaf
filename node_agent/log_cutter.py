"""Cuts an execution's output into numbered chunks, redacted, and remembers where to go on.

Owns the numbers of entries and chunks, when a chunk ends, and the note kept with each chunk
(`SpoolEnd`) from which another process goes on after a kill, without a byte lost or numbered
twice. Pure: reads no clock, no spool and no store; all times are milliseconds of one clock, the
one frames are stamped with. Makes no object per line.

How it is used: give everything a read of the spool returned to `feed`, `gap` or `event`, then
commit what `take` returns, in order. Feed no more while much is waiting: nothing is dropped here.
At the end of all output `take(now, flush=True)`, commit, then `end()`.

To go on after a kill: `SpoolEnd.decode` the note of the newest committed chunk, read the spool
from its `position` with what was `emitted`, and give the cutter the note and
`ContentDigest.resume(committed chunks)`: the digest of a log cannot be stored half way.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from node_agent.redaction import Redactor, RedactorState
from node_agent.terminal_style import style_after
from protocol import limits
from protocol.log_chunks import (
    EVENT,
    SEGMENT_HEADER_BYTES,
    STDERR,
    STDOUT,
    BlobTooLarge,
    ContentDigest,
    GapChunk,
    LogChunk,
    Segment,
    entries_begun,
    seal,
)

#: Reads are redacted in pieces of this size, and chunks end between pieces: only there is it known
#: which raw byte an emitted byte came from. A piece always fits in a chunk, even incompressible;
#: four of them fill the largest.
_PIECE_BYTES: Final = limits.CHUNK_RAW_BYTES_MAX // 4 - SEGMENT_HEADER_BYTES
#: An event is one entry in one segment; longer text stands elsewhere.
EVENT_BYTES_MAX: Final = limits.LINE_SHOWN_BYTES_MAX
#: What the spool's reasons are called in a log.
_GAP_REASONS: Final = {"lost_sync": "power_cut"}

Position = tuple[int, int]


class StreamEnd(msgspec.Struct, frozen=True, array_like=True):
    """How far one stream is emitted: raw bytes, whether inside a line, and the redactor's state."""

    raw: int = 0
    mid_line: bool = False
    before: bytes = b""
    covered: int = 0


class SpoolEnd(msgspec.Struct, frozen=True, array_like=True):
    """Where the log goes on behind a chunk. `position`: read the spool again from there."""

    position: Position = (0, 0)
    stdout: StreamEnd = StreamEnd()
    stderr: StreamEnd = StreamEnd()
    next_chunk: int = 1
    next_entry: int = 1
    style: bytes = b""

    @property
    def emitted(self) -> tuple[int, int]:
        """Raw bytes of stdout and stderr that need not be read again."""
        return self.stdout.raw, self.stderr.raw

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, encoded: bytes) -> "SpoolEnd":
        return msgspec.msgpack.decode(encoded, type=cls)


class CutChunk(NamedTuple):
    """A chunk to commit, and with it, in the same transaction, where the log goes on."""

    chunk: LogChunk | GapChunk
    spool_end: SpoolEnd


class LogTotals(NamedTuple):
    """What a whole log is: for `log_end`."""

    chunks: int
    entries: int
    content_bytes: int
    digest: bytes


class _Piece(NamedTuple):
    """Output that waits to be cut, with what is true once it is. Without content only that."""

    stream: int
    at_ms: int
    content: bytes
    continued: bool
    entries: int
    end: StreamEnd
    position: Position


class _Gap(NamedTuple):
    """A gap that waits to be cut; `ends` of the streams it took bytes from."""

    reason: str
    at_ms: int
    entries: int
    content_bytes: int
    ends: dict[int, StreamEnd]
    position: Position


class _Stream:
    """One pipe on its way through redaction."""

    def __init__(self, stream: int, redactor: Redactor, end: StreamEnd) -> None:
        self.stream = stream
        self.redactor = redactor.another(RedactorState(end.raw, end.before, end.covered))
        self.mid_line = end.mid_line
        #: Its end as of the last piece made of it.
        self.noted = end
        #: Raw bytes fed so far.
        self.fed = end.raw
        # Where reads began that are not wholly consumed: (raw offset, place in the spool).
        self._begun: deque[tuple[int, Position]] = deque()

    def feed(self, content: bytes, position: Position) -> bytes:
        self._begun.append((self.fed, position))
        self.fed += len(content)
        emitted = self.redactor.feed(content)
        consumed = self.redactor.raw_consumed
        if consumed >= self.fed:
            self._begun.clear()
        while len(self._begun) > 1 and self._begun[1][0] <= consumed:
            self._begun.popleft()
        return emitted

    def flush(self) -> bytes:
        self._begun.clear()
        return self.redactor.flush()

    def lose(self, raw_bytes: int) -> None:
        """Bytes are missing here: what comes after them begins anew."""
        self.fed += raw_bytes
        self.redactor = self.redactor.another(RedactorState(self.fed))
        self.mid_line = False
        self.noted = self.end()

    def end(self) -> StreamEnd:
        raw, before, covered = self.redactor.state
        return StreamEnd(raw, self.mid_line, before, covered)

    @property
    def held_from(self) -> Position | None:
        """The place in the spool of the first byte held back; None where none is."""
        return self._begun[0][1] if self._begun else None


class LogCutter:
    """Cuts the log of one execution; see the module."""

    def __init__(
        self,
        execution_id: str,
        redactor: Redactor | None = None,
        *,
        resume: SpoolEnd | None = None,
        content: ContentDigest | None = None,
    ) -> None:
        self._execution_id = execution_id
        self._redactor = redactor if redactor is not None else Redactor()
        start = resume if resume is not None else SpoolEnd()
        if content is None:
            if start.next_chunk > 1:
                raise ValueError("a log that goes on needs the digest of what it holds")
            content = ContentDigest()
        self._content = content
        self._streams = {
            STDOUT: _Stream(STDOUT, self._redactor, start.stdout),
            STDERR: _Stream(STDERR, self._redactor, start.stderr),
        }
        self._position = start.position
        # What is cut, as of the last chunk taken.
        self._ends = {STDOUT: start.stdout, STDERR: start.stderr}
        self._next_chunk = start.next_chunk
        self._next_entry = start.next_entry
        self._style = start.style
        # What is not.
        self._waiting: deque[_Piece | _Gap] = deque()
        self._waiting_bytes = 0
        self._waiting_since_ms = 0
        self._gaps_waiting = 0

    @property
    def waiting_bytes(self) -> int:
        """Payload bytes fed and not yet taken."""
        return self._waiting_bytes

    @property
    def next_chunk(self) -> int:
        return self._next_chunk

    @property
    def next_entry(self) -> int:
        return self._next_entry

    @property
    def content_bytes(self) -> int:
        """Bytes of content in the chunks taken so far."""
        return self._content.content_bytes

    def renumber(self, next_chunk: int, next_entry: int) -> None:
        """Go on from these numbers: a gap was put into the log that this cutter did not cut."""
        self._next_chunk = next_chunk
        self._next_entry = next_entry

    # --- in -------------------------------------------------------------------------------------

    def feed(
        self, stream: int, at_ms: int, data: bytes, spool_position: Position, stream_offset: int
    ) -> None:
        """Take in a frame of the spool.

        `spool_position` is where it, or the read that returned it, begins. What was already
        emitted is skipped; what is missing before it becomes a gap.
        """
        source = self._streams[stream]
        missing = stream_offset - source.fed
        if missing > 0:
            out, err = (missing, 0) if stream == STDOUT else (0, missing)
            self.gap("corrupt", at_ms, spool_position, stdout_bytes=out, stderr_bytes=err)
        elif missing < 0:
            data = data[-missing:]
        self._position = spool_position
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data if len(data) <= _PIECE_BYTES else data[start : start + _PIECE_BYTES]
            self._wait_for_output(source, at_ms, source.feed(piece, spool_position))

    def event(self, at_ms: int, text: bytes) -> None:
        """Add an event of the node's own: one entry, redacted as a text of its own."""
        content = self._redactor.whole(text)[:EVENT_BYTES_MAX]
        piece = _Piece(EVENT, at_ms, content, False, 1, StreamEnd(), self._restart())
        self._wait(piece, at_ms, len(content))

    def gap(
        self,
        reason: str,
        at_ms: int,
        spool_position: Position,
        *,
        stdout_bytes: int = 0,
        stderr_bytes: int = 0,
        lines: int | None = None,
    ) -> None:
        """Record that output is missing here: how many bytes of each stream, how many lines.

        A gap counts at least one entry, so that it has a number of its own to be shown at.
        """
        self._position = spool_position
        ends: dict[int, StreamEnd] = {}
        for source, lost_bytes in (
            (self._streams[STDOUT], stdout_bytes),
            (self._streams[STDERR], stderr_bytes),
        ):
            if lost_bytes:
                # What was held back for bytes that will not come is all there is.
                self._wait_for_output(source, at_ms, source.flush())
                source.lose(lost_bytes)
                ends[source.stream] = source.noted
        gap = _Gap(
            _GAP_REASONS.get(reason, reason),
            at_ms,
            max(lines or 0, 1),
            stdout_bytes + stderr_bytes,
            ends,
            self._restart(),
        )
        self._gaps_waiting += 1
        self._wait(gap, at_ms, 0)

    def _wait_for_output(self, source: _Stream, at_ms: int, content: bytes) -> None:
        continued = source.mid_line
        if content:
            source.mid_line = content[-1] != 0x0A
        end = source.end()
        # The rest of a secret whose marker is out comes to nothing, and yet it is consumed: a
        # restart would begin in the wrong place without a note of that.
        if end == source.noted:
            return
        source.noted = end
        entries = entries_begun(content, 0, len(content), continued=continued)
        piece = _Piece(source.stream, at_ms, content, continued, entries, end, self._restart())
        self._wait(piece, at_ms, len(content))

    def _wait(self, waiting: _Piece | _Gap, at_ms: int, size: int) -> None:
        if not self._waiting:
            self._waiting_since_ms = at_ms
        self._waiting.append(waiting)
        self._waiting_bytes += size + SEGMENT_HEADER_BYTES

    def _restart(self) -> Position:
        """Return from where the spool would have to be read again if all so far were cut."""
        position = self._position
        for source in self._streams.values():
            if source.held_from is not None:
                position = min(position, source.held_from)
        return position

    # --- out ------------------------------------------------------------------------------------

    def due(self, now_ms: int) -> int | None:
        """Return in how many milliseconds `take` will have something; None: not by itself."""
        if not self._waiting:
            return None
        if self._waiting_bytes >= limits.CHUNK_RAW_BYTES_CUT or self._gaps_waiting:
            return 0
        # The clock may have been set back; nothing waits longer for that.
        self._waiting_since_ms = min(self._waiting_since_ms, now_ms)
        return max(0, self._waiting_since_ms + limits.CHUNK_CUT_MS - now_ms)

    def take(self, now_ms: int, *, flush: bool = False, more: bool = False) -> list[CutChunk]:
        """Return the chunks that are due, in order. `flush`: all output has ended.

        `more`: what comes next is there to be fed at once. Then only what is full is due, so that a
        program that prints fast makes few chunks, and large ones.
        """
        if flush:
            for source in self._streams.values():
                self._wait_for_output(source, now_ms, source.flush())
        cut: list[CutChunk] = []
        while self._waiting and (flush or self._is_due(now_ms, more=more)):
            first = self._waiting[0]
            if isinstance(first, _Gap):
                cut.append(self._cut_gap(first))
            else:
                cut.extend(self._cut(self._next_pieces()))
            if self._waiting:
                # What did not fit waits for company, however old it is: a spool that is read
                # late would else be cut into a full chunk and a tiny one, over and over.
                self._waiting_since_ms = now_ms
        return cut

    def take_to(self, end: SpoolEnd) -> CutChunk | None:
        """Cut what waits up to just where `end` says; None where, as yet, nothing ends there."""
        ends = dict(self._ends)
        for count, piece in enumerate(self._waiting, 1):
            if isinstance(piece, _Gap) or piece.stream == EVENT:
                return None
            ends[piece.stream] = piece.end
            if (ends[STDOUT], ends[STDERR]) == (end.stdout, end.stderr):
                pieces = [self._waiting.popleft() for _ in range(count)]
                taken = [one for one in pieces if isinstance(one, _Piece)]
                self._waiting_bytes -= sum(len(one.content) + SEGMENT_HEADER_BYTES for one in taken)
                cut = self._cut(taken)
                return cut[0] if len(cut) == 1 else None
        return None

    def _is_due(self, now_ms: int, *, more: bool) -> bool:
        if more and not self._gaps_waiting:
            return self._waiting_bytes >= limits.CHUNK_RAW_BYTES_MAX
        return self.due(now_ms) == 0

    def end(self) -> LogTotals:
        """Return what the whole log is, once everything is taken."""
        if self._waiting:
            raise RuntimeError("a log ends when all of it is taken")
        return LogTotals(
            self._next_chunk - 1,
            self._next_entry - 1,
            self._content.content_bytes,
            self._content.digest(),
        )

    def _next_pieces(self) -> list[_Piece]:
        """Take off the queue what fits in one chunk, up to a gap."""
        pieces: list[_Piece] = []
        room = limits.CHUNK_RAW_BYTES_MAX
        while self._waiting:
            piece = self._waiting[0]
            if isinstance(piece, _Gap):
                break
            size = len(piece.content) + SEGMENT_HEADER_BYTES
            if size > room and pieces:
                break
            room -= size
            self._waiting_bytes -= size
            pieces.append(piece)
            self._waiting.popleft()
        return pieces

    def _cut(self, pieces: Sequence[_Piece]) -> list[CutChunk]:
        segments = _segments([piece for piece in pieces if piece.content or piece.stream == EVENT])
        if not segments:
            self._note(pieces)
            return []
        entries = sum(piece.entries for piece in pieces)
        try:
            chunk = seal(
                segments,
                execution_id=self._execution_id,
                chunk_seq=self._next_chunk,
                first_entry=self._next_entry,
                entries=entries,
                style=self._style,
            )
        except BlobTooLarge:
            middle = len(pieces) // 2
            if not middle:
                raise
            return self._cut(pieces[:middle]) + self._cut(pieces[middle:])
        for segment in segments:
            content = bytes(segment.data)
            self._content.update(content)
            if segment.stream != EVENT:
                self._style = style_after(self._style, content)
        self._note(pieces)
        return [self._committed(chunk, entries, pieces[-1].position)]

    def _note(self, pieces: Sequence[_Piece]) -> None:
        for piece in pieces:
            if piece.stream != EVENT:
                self._ends[piece.stream] = piece.end

    def _cut_gap(self, gap: _Gap) -> CutChunk:
        self._waiting.popleft()
        self._waiting_bytes -= SEGMENT_HEADER_BYTES
        self._gaps_waiting -= 1
        self._ends.update(gap.ends)
        chunk = GapChunk(
            execution_id=self._execution_id,
            chunk_seq=self._next_chunk,
            through_seq=self._next_chunk,
            first_entry=self._next_entry,
            entries=gap.entries,
            reason=gap.reason,
            bytes=gap.content_bytes,
            first_ms=gap.at_ms,
            last_ms=gap.at_ms,
        )
        return self._committed(chunk, gap.entries, gap.position)

    def _committed(self, chunk: LogChunk | GapChunk, entries: int, position: Position) -> CutChunk:
        self._next_chunk += 1
        self._next_entry += entries
        end = SpoolEnd(
            position,
            self._ends[STDOUT],
            self._ends[STDERR],
            self._next_chunk,
            self._next_entry,
            self._style,
        )
        return CutChunk(chunk, end)


def _segments(pieces: Sequence[_Piece]) -> list[Segment]:
    """Make segments of pieces; those of one read, cut for redaction only, become one again."""
    segments: list[Segment] = []
    parts: list[bytes] = []
    for index, piece in enumerate(pieces):
        parts.append(piece.content)
        if index + 1 < len(pieces) and piece.stream != EVENT:
            following = pieces[index + 1]
            if (following.stream, following.at_ms) == (piece.stream, piece.at_ms):
                continue
        first = pieces[index + 1 - len(parts)]
        content = parts[0] if len(parts) == 1 else b"".join(parts)
        segments.append(Segment(first.stream, first.at_ms, content, first.continued))
        parts = []
    return segments
