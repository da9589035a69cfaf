"""A page of entries says exactly what the process printed, however its log was cut."""

import itertools
import re
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import limits, log_entries
from protocol.log_chunks import (
    EVENT,
    STDERR,
    STDOUT,
    GapChunk,
    LogChunk,
    Segment,
    seal_all,
)
from protocol.log_entries import Entry, EntryGap
from tests.protocol.whole_logs import entries_of, raw_stream

NAMES = {STDOUT: "stdout", STDERR: "stderr", EVENT: "event"}


class Log:
    """A log as the cutter would make it: writes become segments, `cut` ends a chunk."""

    def __init__(self) -> None:
        self.chunks: list[LogChunk | GapChunk] = []
        self.waiting: list[Segment] = []
        self.mid_line: dict[int, bool] = {}
        self.at_ms = 0

    def write(self, stream: int, data: bytes) -> "Log":
        """Add one read of a pipe (or an event) with a time of its own."""
        self.at_ms += 1
        if stream == EVENT:
            self.waiting.append(Segment(EVENT, self.at_ms, data))
        elif data:
            self.waiting.append(Segment(stream, self.at_ms, data, self.mid_line.get(stream, False)))
            self.mid_line[stream] = not data.endswith(b"\n")
        return self

    def cut(self) -> "Log":
        """End a chunk."""
        chunk_seq, first_entry = self.next()
        if self.waiting:
            self.chunks += seal_all(
                self.waiting, execution_id="e", chunk_seq=chunk_seq, first_entry=first_entry
            )
        self.waiting = []
        return self

    def gap(self, entries: int, *, reason: str = "quota", fresh: bool = True) -> "Log":
        """End a chunk and put a gap behind it; `fresh`: lines begin anew after it."""
        self.cut()
        chunk_seq, first_entry = self.next()
        self.chunks.append(
            GapChunk(
                execution_id="e",
                chunk_seq=chunk_seq,
                through_seq=chunk_seq + 2,
                first_entry=first_entry,
                entries=entries,
                reason=reason,
                bytes=7,
            )
        )
        if fresh:
            self.mid_line = {}
        return self

    def next(self) -> tuple[int, int]:
        """Number the next chunk and the next entry."""
        if not self.chunks:
            return 1, 1
        last = self.chunks[-1]
        seq = last.through_seq if isinstance(last, GapChunk) else last.chunk_seq
        return seq + 1, last.first_entry + last.entries

    def read(self, after: int = 0, limit: int = 1000, **how: object) -> log_entries.EntryPage:
        """Read a page as a caller does: from the last chunk that may hold entry after + 1."""
        self.cut()
        begin = max((i for i, c in enumerate(self.chunks) if c.first_entry <= after + 1), default=0)
        return entries_of(
            self.chunks[begin:], after, limit, **({"closed": False, "match": None} | how)
        )


def texts(page: log_entries.EntryPage) -> list[tuple[int, str, str]]:
    """Reduce a page to number, stream and text."""
    return [(e.n, e.stream, e.text) for e in page.entries]


def test_lines_come_with_number_time_and_stream() -> None:
    """Lines are numbered as they begin, and events among them."""
    page = Log().write(1, b"a\nb\n").write(2, b"c\n").write(3, b"ev").write(1, b"d\n").read()
    assert page.entries == [
        Entry(n=1, at_ms=1, stream="stdout", text="a"),
        Entry(n=2, at_ms=1, stream="stdout", text="b"),
        Entry(n=3, at_ms=2, stream="stderr", text="c"),
        Entry(n=4, at_ms=3, stream="event", text="ev"),
        Entry(n=5, at_ms=4, stream="stdout", text="d"),
    ]
    assert (page.gaps, page.next, page.more) == ([], 5, False)


def test_the_json_of_an_entry_is_the_contract() -> None:
    """Plain entries have four members; the others stand only where they are true."""
    page = Log().write(1, b"a\nb").read()
    assert msgspec.to_builtins(page.entries) == [
        {"n": 1, "at_ms": 1, "stream": "stdout", "text": "a"},
        {"n": 2, "at_ms": 1, "stream": "stdout", "text": "b", "open": True},
    ]
    gap = EntryGap(gap=(3, 9), reason="quota")
    assert msgspec.json.encode(gap) == b'{"gap":[3,9],"reason":"quota"}'


def test_a_line_is_joined_over_chunks_and_the_other_stream() -> None:
    """A line keeps its number and time while stderr and events come between its parts."""
    log = Log().write(1, b"one").cut().write(2, b"err\n").cut().write(1, b" and").cut()
    page = log.write(3, b"ev").write(1, b" two\nlast\n").read()
    assert texts(page) == [
        (1, "stdout", "one and two"),
        (2, "stderr", "err"),
        (3, "event", "ev"),
        (4, "stdout", "last"),
    ]
    assert page.entries[0].at_ms == 1


def test_exactly_one_newline_is_taken_off() -> None:
    """Carriage returns, blanks and empty lines stay as they were printed."""
    page = Log().write(1, b"a\r\n\n  b \n10%\r20%\r\n").write(3, b"ev\n\n").read()
    assert [e.text for e in page.entries] == ["a\r", "", "  b ", "10%\r20%\r", "ev\n"]


def test_bytes_are_decoded_only_for_show() -> None:
    """Bytes that are no text are replaced in a line and exact in the stream."""
    odd = b"\xff\x00\xed\xa0\x80 \xe2\x82\n\x1b[31m\xe2\x82\xac\n"
    log = Log().write(1, odd)
    page = log.read()
    assert [e.text for e in page.entries] == [
        odd.split(b"\n")[0].decode("utf-8", "replace"),
        "\x1b[31m€",
    ]
    msgspec.json.encode(page)
    assert b"".join(raw_stream(log.chunks, STDOUT)) == odd


def test_only_the_last_line_of_a_running_log_is_open() -> None:
    """An unfinished line is open while the log is, and whole once the log is closed."""
    log = Log().write(1, b"a\n$ ").write(2, b"b\nc")
    page = log.read()
    assert [(e.text, e.open) for e in page.entries] == [
        ("a", False),
        ("$ ", True),
        ("b", False),
        ("c", True),
    ]
    closed = log.read(closed=True)
    assert not any(e.open for e in closed.entries)
    assert (closed.next, closed.more) == (4, False)


def test_half_a_character_at_the_end_of_an_open_line_is_not_shown_broken() -> None:
    """A character whose rest may still come is left out of an open line, shown in a closed one."""
    log = Log().write(1, "preis 5 €".encode()[:-1])
    assert log.read().entries[0].text == "preis 5 "
    assert log.read(closed=True).entries[0].text == "preis 5 �"


def test_a_follower_gets_an_open_last_line_again() -> None:
    """`next` stays before an open last line, and the pager is told that nothing more is there."""
    log = Log().write(1, b"a\nDownloading")
    first = log.read()
    assert (first.next, first.more) == (1, False)
    log.write(1, b" done\n")
    second = log.read(first.next)
    assert texts(second) == [(2, "stdout", "Downloading done")]
    assert (second.next, second.more) == (2, False)


def test_a_pager_never_stands_still() -> None:
    """An open line that is not the last does not hold `next` back."""
    log = Log().write(1, b"open").write(2, b"a\nb\n")
    first = log.read(0, 1)
    assert (texts(first), first.entries[0].open) == ([(1, "stdout", "open")], True)
    assert (first.next, first.more) == (1, True)
    assert texts(log.read(first.next, 1)) == [(2, "stderr", "a")]


def test_a_long_line_is_cut_where_it_is_shown() -> None:
    """At 64 KiB text ends, between characters, with the size of the whole line."""
    euros = "€" * 70_000
    log = Log().write(1, b"x" + euros.encode() + b"\nnext\n")
    page = log.read()
    shown = page.entries[0]
    assert (shown.cut, shown.bytes, shown.open) == (True, 210_001, False)
    assert shown.text == "x" + "€" * ((limits.LINE_SHOWN_BYTES_MAX - 1) // 3)
    assert page.entries[1] == Entry(n=2, at_ms=1, stream="stdout", text="next")


def test_a_line_of_exactly_the_limit_is_whole() -> None:
    """The limit itself is not a cut."""
    log = Log().write(1, b"x" * limits.LINE_SHOWN_BYTES_MAX + b"\n")
    assert not log.read().entries[0].cut


def test_a_line_in_many_small_pieces_is_whole() -> None:
    """A row of dots is read to its end, however few chunks a page may begin lines in."""
    log = Log()
    for _ in range(200):
        log.write(1, b".").cut()
    [entry] = log.read(chunks_max=3).entries
    assert (entry.text, entry.cut) == ("." * 200, False)
    log.write(1, b"\nnext\n").cut()
    page = log.read(chunks_max=3)
    assert texts(page) == [(1, "stdout", "." * 200)]
    assert (page.next, page.more) == (1, True)
    assert texts(log.read(page.next, chunks_max=3)) == [(2, "stdout", "next")]


def test_a_line_without_end_is_followed_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page stops reading for it after so many chunks or bytes, and says that there is more."""
    monkeypatch.setattr(log_entries, "FOLLOW_CHUNKS_MAX", 20)
    log = Log().write(1, b"begin ")
    for _ in range(30):
        log.cut().write(1, b"x" * 100)
    log.write(1, b"\nlast\n").cut()
    taken = []

    def counted() -> Iterator[LogChunk | GapChunk]:
        for chunk in log.chunks:
            taken.append(chunk.chunk_seq)
            yield chunk

    page = entries_of(counted(), 0, 1, closed=True)
    assert len(taken) == 22
    assert page.entries[0].cut
    assert page.entries[0].bytes == 6 + 100 * 20
    assert page.next == 1
    monkeypatch.setattr(log_entries, "FOLLOW_BYTES_MAX", 1000)
    [entry] = log.read(limit=1).entries
    assert (entry.cut, entry.bytes) == (True, 6 + 100 * 8)
    assert texts(log.read(1, 10)) == [(2, "stdout", "last")]


def test_a_page_of_a_long_log_decodes_only_what_it_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand entries out of a million lines open two chunks, also from chunk 1 on."""
    log = Log()
    for n in range(1000):
        log.write(1, b"".join(b"line %d\n" % i for i in range(n * 1000, n * 1000 + 1000))).cut()
    opened: list[int] = []
    real = log_entries.open_spans

    def counting(chunk: LogChunk) -> object:
        opened.append(chunk.chunk_seq)
        return real(chunk)

    monkeypatch.setattr(log_entries, "open_spans", counting)
    page = log.read(700_500, 1000)
    assert opened == [701, 702]
    assert [page.entries[0].text, page.entries[-1].text] == ["line 700500", "line 701499"]
    assert (len(page.entries), page.next, page.more) == (1000, 701_500, True)
    opened.clear()
    assert entries_of(log.chunks, 700_500, 1000, closed=True) == page
    assert opened == [701, 702]


def test_a_page_of_long_lines_is_no_larger_than_readers_take() -> None:
    """Bytes that JSON writes sixfold fill a page before its lines do; more is the next one's."""
    log = Log()
    for _ in range(4000):
        log.write(1, b"\0" * 4999 + b"\n")
    log.write(1, b"last, and not ended").cut()
    found, after, more, pages = [], 0, True, 0
    while more:
        page = log.read(after, 5000)
        assert len(msgspec.json.encode(page)) < 64 * limits.MIB
        assert page.next > after
        found += [entry.n for entry in page.entries]
        after, more, pages = page.next, page.more, pages + 1
    assert found == list(range(1, 4002))
    assert pages == 3


def test_gaps_stand_in_the_page() -> None:
    """A gap is told with its range and reason, and numbering goes on behind it."""
    log = Log().write(1, b"a\nhalf").gap(10).write(1, b"rest\nb\n")
    page = log.read()
    assert texts(page) == [
        (1, "stdout", "a"),
        (2, "stdout", "half"),
        (13, "stdout", "rest"),
        (14, "stdout", "b"),
    ]
    assert page.gaps == [EntryGap(gap=(3, 12), reason="quota", bytes=7)]
    assert b"".join(raw_stream(log.chunks, STDOUT)) == b"a\nhalfrest\nb\n"
    assert not page.entries[1].open


def test_a_line_a_gap_broke_off_is_not_open() -> None:
    """With nothing behind the gap the line before it will not grow any more."""
    page = Log().write(1, b"half").gap(2).read()
    assert [(e.text, e.open) for e in page.entries] == [("half", False)]
    assert page.next == 3


def test_a_gap_inside_a_line_names_that_line() -> None:
    """A gap in which nothing begins is reported with the entry it took bytes from."""
    log = Log().write(1, b"a\nbegin ").gap(0, fresh=False).write(1, b" end\nlast\n")
    for page in (log.read(), log.read(0, 2), log.read(1, 1)):
        assert page.gaps == [EntryGap(gap=(2, 2), reason="quota", bytes=7)]
        assert (2, "stdout", "begin  end") in texts(page)


def test_a_gap_in_which_nothing_begins_is_never_left_out() -> None:
    """It is told on the page of the entry before it, also when that page is full."""
    log = Log().write(1, b"a\n").gap(0).write(1, b"b\n")
    assert log.read(0, 1).gaps == [EntryGap(gap=(1, 1), reason="quota", bytes=7)]
    assert Log().gap(0).read().gaps == [EntryGap(gap=(1, 1), reason="quota", bytes=7)]
    assert log.gap(0).read(2).gaps == []


def test_a_page_that_is_full_tells_of_no_later_gap() -> None:
    """A gap behind a full page is told on the next one, though the page looks past its end."""
    log = Log().write(1, b"half").gap(3).write(1, b"b\n")
    first = log.read(0, 1)
    assert (texts(first), first.gaps) == ([(1, "stdout", "half")], [])
    assert log.read(first.next, 1).gaps == [EntryGap(gap=(2, 4), reason="quota", bytes=7)]


def test_what_continues_a_lost_line_is_not_shown_as_another() -> None:
    """A line begun in a gap belongs to the gap; its end is no entry of its own."""
    log = Log().write(1, b"a\n")
    log.write(1, b"lost").cut()
    lost = log.chunks.pop()
    log.chunks.append(
        GapChunk(
            execution_id="e",
            chunk_seq=lost.chunk_seq,
            through_seq=lost.chunk_seq,
            first_entry=1,
            entries=2,
            reason="corrupt",
        )
    )
    page = log.write(1, b" end\nb\n").read()
    assert texts(page) == [(3, "stdout", "b")]


def test_gaps_count_towards_a_page() -> None:
    """A log of gaps does not make a page without end, and pages lose none."""
    log = Log()
    for _ in range(10):
        log.write(1, b"x\n").gap(2)
    seen: list[tuple[int, int]] = []
    after, more = 0, True
    while more:
        page = log.read(after, 3)
        assert len(page.entries) + len(page.gaps) <= 3
        seen += [(e.n, e.n) for e in page.entries] + [g.gap for g in page.gaps]
        after, more = page.next, page.more
    assert sorted(seen) == [
        edge for k in range(10) for edge in ((3 * k + 1, 3 * k + 1), (3 * k + 2, 3 * k + 3))
    ]


def test_a_damaged_chunk_reads_as_a_gap() -> None:
    """A chunk that cannot be opened costs its own entries only."""
    log = Log().write(1, b"a\n").cut().write(1, b"b\nc\n").cut().write(1, b"d\n").cut()
    log.chunks[1] = msgspec.structs.replace(log.chunks[1], crc32=1)
    page = log.read()
    assert texts(page) == [(1, "stdout", "a"), (4, "stdout", "d")]
    assert page.gaps == [EntryGap(gap=(2, 3), reason="corrupt")]


@pytest.mark.parametrize("match", [b"need", re.compile(rb"ne+d$")])
def test_only_matching_lines_are_kept(match: bytes | re.Pattern[bytes]) -> None:
    """Searching keeps numbers, joins lines first, and `next` passes what did not match."""
    log = Log().write(1, b"a need\nb\nne").cut().write(2, b"no\n").write(1, b"ed\nc\nd\n").cut()
    log.write(2, b"x\ny\n").write(1, b"open need").cut()
    page = log.read(match=match)
    assert texts(page) == [
        (1, "stdout", "a need"),
        (3, "stdout", "need"),
        (9, "stdout", "open need"),
    ]
    assert page.next == 8
    first = log.read(0, 2, match=match)
    assert [e.n for e in first.entries] == [1, 3]
    assert [e.n for e in log.read(first.next, 2, match=match).entries] == [9]


def test_a_search_stops_in_the_middle_of_a_segment() -> None:
    """A full page leaves later matches of the same read to the next page."""
    log = Log().write(1, b"x1\ny\nx2\nx3\nx4")
    first = log.read(0, 2, match=b"x")
    assert (texts(first), first.next) == ([(1, "stdout", "x1"), (3, "stdout", "x2")], 3)
    assert [e.n for e in log.read(first.next, 2, match=b"x").entries] == [4, 5]


def test_a_full_page_stays_full() -> None:
    """A line that fills the page and then does not match leaves nothing out behind it."""
    log = Log().write(1, b"a\nb").write(2, b"a").write(1, b"\na")
    first = log.read(0, 2, match=b"a")
    assert ([e.n for e in first.entries], first.next) == ([1], 2)
    assert [e.n for e in log.read(first.next, 2, match=b"a").entries] == [3, 4]


def test_a_search_without_hits_ends() -> None:
    """Pages that match nothing move on, in steps of as many chunks as the caller allows."""
    log = Log()
    for _ in range(10):
        log.write(1, b"hay\n" * 5).cut()
    page = log.read(match=b"needle")
    assert (page.entries, page.next, page.more) == ([], 50, False)
    after, pages, more = 0, 0, True
    while more:
        page = log.read(after, match=b"needle", chunks_max=3)
        after, more, pages = page.next, page.more, pages + 1
    assert (after, pages) == (50, 4)


def test_a_line_the_page_stopped_reading_is_cut_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that follows a line no further cannot know whether it is finished."""
    monkeypatch.setattr(log_entries, "FOLLOW_CHUNKS_MAX", 0)
    log = Log().write(1, b"begin").cut().write(1, b" end\n").cut()
    [entry] = log.read(chunks_max=1).entries
    assert (entry.text, entry.open, entry.cut, entry.bytes) == ("begin", False, True, 5)


pieces_st = st.lists(
    st.tuples(
        st.sampled_from([STDOUT, STDOUT, STDERR, EVENT]),
        st.text("ab\n\n\r", max_size=12).map(str.encode) | st.binary(max_size=6),
        st.booleans(),
    ),
    max_size=25,
)


def model(writes: list[tuple[int, bytes, bool]]) -> list[list[object]]:
    """Number lines one byte at a time: [stream, bytes, ended], in order of beginning."""
    lines: list[list[object]] = []
    current: dict[int, list[object]] = {}
    for stream, data, _ in writes:
        if stream == EVENT:
            lines.append([EVENT, data.removesuffix(b"\n"), True])
            continue
        for value in data:
            line = current.get(stream)
            if line is None:
                line = current[stream] = [stream, b"", False]
                lines.append(line)
            if value == 0x0A:
                line[2] = True
                del current[stream]
            else:
                line[1] += bytes([value])
    return lines


@given(pieces_st, st.integers(1, 7), st.booleans())
def test_pages_of_any_size_over_any_cuts_show_the_same_log(
    writes: list[tuple[int, bytes, bool]], limit: int, closed: bool
) -> None:
    """Page by page, every entry comes once, in order, whole, whatever was cut where."""
    log = Log()
    for stream, data, cut in writes:
        log.write(stream, data)
        if cut:
            log.cut()
    lines = model(writes)
    entries: list[Entry] = []
    after, more = 0, True
    for _ in range(len(lines) + 2):
        page = log.read(after, limit, closed=closed)
        entries += page.entries
        after, more = page.next, page.more
        if not more:
            break
    assert not more
    expected = [
        (n, NAMES[stream], line, not ended and not closed)
        for n, (stream, line, ended) in enumerate(lines, 1)
    ]
    assert [(e.n, e.stream, e.open) for e in entries] == [(n, s, o) for n, s, _, o in expected]
    for entry, (_, _, line, is_open) in zip(entries, expected, strict=True):
        if not is_open:
            assert entry.text == line.decode("utf-8", "replace")
    for stream in (STDOUT, STDERR):
        whole = b"".join(data for s, data, _ in writes if s == stream)
        assert b"".join(raw_stream(log.chunks, stream)) == whole


@given(pieces_st, st.integers(0, 20), st.sampled_from([b"a", b"ab", b"b"]))
def test_a_search_finds_what_filtering_the_whole_log_finds(
    writes: list[tuple[int, bytes, bool]], after: int, sought: bytes
) -> None:
    """Skipping segments that cannot match never loses a line, for bytes and patterns alike."""
    log = Log()
    for stream, data, cut in writes:
        log.write(stream, data)
        if cut:
            log.cut()
    expected = [
        n for n, (_, line, _) in enumerate(model(writes), 1) if sought in line and n > after
    ]
    for match, limit in itertools.product((sought, re.compile(re.escape(sought))), (1000, 2)):
        found: list[int] = []
        at, more = after, True
        while more:
            page = log.read(at, limit, closed=True, match=match)
            found += [e.n for e in page.entries]
            at, more = page.next, page.more
        assert found == expected
