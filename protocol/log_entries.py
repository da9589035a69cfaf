"""Entries out of chunks: a page of lines as people and scripts read them.

Owns joining lines over chunks and interleaved streams, numbering, cutting long lines, decoding
text, and what a page says about gaps and unfinished lines. Must not fetch chunks: the caller
hands over iterators and only as many are taken from them, and decoded, as the page needs.

Where to begin: with the last chunk whose `first_entry <= after + 1` (highest `chunk_seq`), then
every later chunk in order to the end of the log. Nothing has to be carried from page to page: an
entry belongs to the page it begins on, and what continues a line that began before is left out.
"""

import codecs
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from protocol import limits
from protocol.log_chunks import (
    EVENT,
    STDERR,
    STDOUT,
    BadChunk,
    GapChunk,
    LogChunk,
    Span,
    entries_begun,
    open_spans,
)

STREAM_NAMES: Final = {STDOUT: "stdout", STDERR: "stderr", EVENT: "event"}
#: What is read past a full page to find the end of lines that began on it; a line that goes on
#: beyond is shown as cut, with the bytes seen. A page must not read a whole log because one line
#: never ends; a line that came in small pieces (a row of dots) is cheap to read, and read whole.
FOLLOW_CHUNKS_MAX: Final = 8192
FOLLOW_BYTES_MAX: Final = 256 * limits.MIB
#: Text begun on one page; what is more is the next one's. In JSON a byte takes up to six (a NUL is
#: written `\u0000`), and readers take no reply without end.
PAGE_TEXT_BYTES_MAX: Final = 8 * limits.MIB

#: What lines have to contain. A pattern is run as it is: never take one from an untrusted person.
Match = bytes | re.Pattern[bytes]


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line or event. `bytes` is the line's whole size, given where `cut`.

    Of a line longer than `FOLLOW_BYTES_MAX` it is what was read of it.
    """

    n: int
    at_ms: int
    stream: str
    text: str
    open: bool = False
    cut: bool = False
    bytes: int | msgspec.UnsetType = msgspec.UNSET


class EntryGap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Entries `gap[0]` to `gap[1]` are missing or incomplete, and why; `bytes` where known."""

    gap: tuple[int, int]
    reason: str
    bytes: int = 0


class EntryPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a log. `next` is the `after` of the next one; `more`: there is one now.

    Where the log's last entry is unfinished, `next` stays before it, so that whoever follows gets
    it again with the same `n` once it has grown. An earlier line that is still `open` (the other
    stream has gone on) is read again with `after = n - 1, limit = 1`.
    """

    entries: list[Entry]
    gaps: list[EntryGap]
    next: int
    more: bool = False


class _Line:
    """An entry on the page while its bytes come in."""

    __slots__ = ("at_ms", "damaged", "ended", "n", "parts", "size", "stream")

    def __init__(self, n: int, span: Span, content: bytes, *, ended: bool) -> None:
        self.n = n
        self.stream = span.stream
        self.at_ms = span.at_ms
        # Only what can be shown is kept; the rest is counted.
        self.parts = [content[: limits.LINE_SHOWN_BYTES_MAX]]
        self.size = len(content)
        self.ended = ended
        self.damaged = False

    def add(self, content: bytes) -> None:
        room = limits.LINE_SHOWN_BYTES_MAX - self.size
        if room > 0:
            self.parts.append(content[:room])
        self.size += len(content)

    def shown(self) -> bytes:
        return b"".join(self.parts)


class PageReading:
    """A page in the making: takes chunks, in order, as they are read, and keeps none of them.

    At most `limit` entries numbered above `after`; see the module on where to begin. `match` keeps
    only lines that contain it, as far as they are shown; `next` goes on past those that do not.
    `chunks_max` bounds in how many chunks entries of the page begin; a page it ends is shorter,
    with `next` to go on from.
    """

    def __init__(
        self, after: int, limit: int, *, match: Match | None = None, chunks_max: int | None = None
    ) -> None:
        self._page = _Page(after, limit, match)
        self._chunks_max = chunks_max
        self._taken = 0
        self._followed_chunks = 0
        self._followed_bytes = 0

    def take_all(self, chunks: Iterable[LogChunk | GapChunk]) -> bool:
        """Take chunks in; False, and the rest not read, once the page needs no more."""
        return all(self._take(chunk) for chunk in chunks)

    def _take(self, chunk: LogChunk | GapChunk) -> bool:
        page = self._page
        if self._taken == self._chunks_max:
            page.end()
        if page.full:
            self._followed_chunks += 1
            self._followed_bytes += chunk.raw_bytes if isinstance(chunk, LogChunk) else 0
            if (
                self._followed_chunks > FOLLOW_CHUNKS_MAX
                or self._followed_bytes > FOLLOW_BYTES_MAX
                or not page.may_change_with(chunk)
            ):
                return False
        self._taken += 1
        page.add(chunk)
        return True

    def result(self, *, at_end: bool, closed: bool) -> EntryPage:
        """Close the page. `at_end`: it has taken the last chunk there is; `closed`: for ever."""
        return self._page.result(at_end=at_end, closed=closed)


class _Page:
    def __init__(self, after: int, limit: int, match: Match | None) -> None:
        self._after = after
        self._limit = limit
        self._match = match
        self._lines: list[_Line] = []
        self._gaps: list[EntryGap] = []
        # The line each stream is in the middle of, where it began on this page.
        self._unfinished: dict[int, _Line] = {}
        self._full = False
        self._last = after
        self._newest = 0
        self._text_bytes = 0

    @property
    def full(self) -> bool:
        # For good: a line that then does not match makes no room behind those left out.
        if (
            len(self._lines) + len(self._gaps) >= self._limit
            or self._text_bytes >= PAGE_TEXT_BYTES_MAX
        ):
            self._full = True
        return self._full

    def end(self) -> None:
        """Begin nothing more on this page."""
        self._full = True

    def may_change_with(self, chunk: LogChunk | GapChunk) -> bool:
        """Whether a chunk after a full page still says something about its entries."""
        # A gap in which no entry begins belongs to the entry before it; no later page shows it.
        return bool(self._unfinished) or (isinstance(chunk, GapChunk) and chunk.entries == 0)

    def add(self, chunk: LogChunk | GapChunk) -> None:
        last = chunk.first_entry + chunk.entries - 1
        self._newest = last
        if isinstance(chunk, GapChunk):
            self._add_gap(chunk.first_entry, last, chunk.reason, chunk.bytes)
            return
        if last <= self._after and not self._unfinished:
            return
        try:
            payload, spans = open_spans(chunk)
        except BadChunk:
            # Shown as what it is to the reader: entries that cannot be read.
            self._add_gap(chunk.first_entry, last, "corrupt", 0)
            return
        n = chunk.first_entry
        for span in spans:
            if span.stream == EVENT:
                if n > self._after and not self.full:
                    content = payload[span.start : span.end].removesuffix(b"\n")
                    self._begin_ended(n, span, content)
                n += 1
            else:
                n = self._add_output(payload, span, n)

    def _add_gap(self, first: int, last: int, reason: str, size: int) -> None:
        for line in self._unfinished.values():
            line.damaged = True
        if last >= first:
            if last > self._after and not self.full:
                self._gaps.append(EntryGap(gap=(first, last), reason=reason, bytes=size))
                self._last = last
            return
        # Nothing begins in it: it took bytes from the entry before, if there is one.
        damaged = max(last, 1)
        if damaged > self._after:
            self._gaps.append(EntryGap(gap=(damaged, damaged), reason=reason, bytes=size))

    def _add_output(self, payload: bytes, span: Span, n: int) -> int:
        """Take in a segment of a pipe; `n` numbers the first line begun in it. Returns the next."""
        start, end = span.start, span.end
        if span.continued:
            newline = payload.find(b"\n", start, end)
            unfinished = self._unfinished.get(span.stream)
            if unfinished is not None:
                unfinished.add(payload[start : end if newline < 0 else newline])
            if newline < 0:
                return n
            start = newline + 1
        self._end_line(span.stream)
        begun = entries_begun(payload, start, end, continued=False)
        skip = max(self._after + 1 - n, 0)
        if skip < begun and not self.full:
            self._begin_lines(payload[start:end], span, n, skip)
        return n + begun

    def _begin_lines(self, content: bytes, span: Span, n: int, skip: int) -> None:
        """Begin the lines of `content`, numbered from `n`, but for the first `skip`."""
        room = self._limit - len(self._lines) - len(self._gaps)
        pieces = content.split(b"\n", skip + room if self._match is None else -1)
        # What follows the last split: nothing, or a line not ended, or all that has no room.
        rest = pieces.pop()
        if not isinstance(self._match, bytes) or self._match in content:
            for number, piece in enumerate(pieces[skip:], n + skip):
                if self.full:
                    return
                self._begin_ended(number, span, piece)
        elif len(pieces) > skip:
            self._last = n + len(pieces) - 1
        if rest and not self.full:
            line = _Line(n + len(pieces), span, rest, ended=False)
            self._unfinished[span.stream] = line
            self._add_line(line)
            self._last = line.n

    def _begin_ended(self, n: int, span: Span, content: bytes) -> None:
        self._last = n
        if _matches(self._match, content):
            self._add_line(_Line(n, span, content, ended=True))

    def _add_line(self, line: _Line) -> None:
        self._lines.append(line)
        self._text_bytes += min(line.size, limits.LINE_SHOWN_BYTES_MAX)

    def _end_line(self, stream: int) -> None:
        line = self._unfinished.pop(stream, None)
        if line is not None:
            line.ended = True
            if not _matches(self._match, line.shown()):
                self._lines.remove(line)

    def result(self, *, at_end: bool, closed: bool) -> EntryPage:
        """Close the page. `at_end`: it has seen the last chunk there is."""
        may_grow = at_end and not closed
        entries = [
            _entry(line, may_grow=may_grow, at_end=at_end)
            for line in self._lines
            if line.ended or _matches(self._match, line.shown())
        ]
        following = self._last
        if may_grow and any(
            line.n == self._newest and not line.damaged for line in self._unfinished.values()
        ):
            following = self._newest - 1
        return EntryPage(
            entries=entries,
            gaps=self._gaps,
            next=following,
            more=not at_end or self._newest > self._last,
        )


def _matches(match: Match | None, line: bytes) -> bool:
    if match is None:
        return True
    shown = line[: limits.LINE_SHOWN_BYTES_MAX]
    return match in shown if isinstance(match, bytes) else match.search(shown) is not None


def _entry(line: _Line, *, may_grow: bool, at_end: bool) -> Entry:
    # A line the page stopped reading is shown as cut: there is more of it, and it is not open.
    cut = line.size > limits.LINE_SHOWN_BYTES_MAX or not (line.ended or at_end)
    unfinished = may_grow and not line.ended and not line.damaged
    if cut or unfinished:
        # A decoder that may expect more leaves out the part of a character that a cut left over.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(line.shown())
    else:
        text = line.shown().decode("utf-8", "replace")
    return Entry(
        n=line.n,
        at_ms=line.at_ms,
        stream=STREAM_NAMES[line.stream],
        text=text,
        open=unfinished,
        cut=cut,
        bytes=line.size if cut else msgspec.UNSET,
    )
