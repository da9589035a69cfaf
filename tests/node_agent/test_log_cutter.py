"""What a process prints is in its log once, whole and redacted, also over kills."""

import hashlib
import itertools
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node_agent.log_cutter import (
    EVENT_BYTES_MAX,
    CutChunk,
    LogCutter,
    LogTotals,
    SpoolEnd,
    StreamEnd,
)
from node_agent.redaction import Redactor
from node_agent.terminal_style import style_after
from protocol import limits
from protocol.log_chunks import (
    EVENT,
    SEGMENT_HEADER_BYTES,
    STDERR,
    STDOUT,
    STYLE_BYTES_MAX,
    ContentDigest,
    GapChunk,
    LogChunk,
    LogCursor,
    Outcome,
    advance,
    check_follows,
    open_chunk,
)
from tests.protocol.whole_logs import entries_of, raw_stream

SECRET = b"s3cr3tvalue"
REDACTOR = Redactor([SECRET])
Frame = tuple[int, int, bytes]


class Spool:
    """Frames with their places, as the supervisor keeps them; read again from any place."""

    def __init__(self, frames: list[Frame]) -> None:
        self.frames: list[tuple[int, int, bytes, tuple[int, int], int]] = []
        printed = {STDOUT: 0, STDERR: 0}
        for number, (stream, at_ms, data) in enumerate(frames):
            place = (number // 3, number % 3)
            self.frames.append((stream, at_ms, data, place, printed[stream]))
            printed[stream] += len(data)

    def feed(self, cutter: LogCutter, start: tuple[int, int] = (0, 0)) -> None:
        """Feed everything from a place on."""
        for stream, at_ms, data, place, offset in self.frames:
            if place >= start:
                cutter.feed(stream, at_ms, data, place, offset)

    def printed(self, stream: int) -> bytes:
        """Join all a stream printed."""
        return b"".join(data for s, _, data, _, _ in self.frames if s == stream)


def redacted(raw: bytes) -> bytes:
    """Redact a whole stream at once."""
    return REDACTOR.whole(raw)


def chunks_of(cuts: list[CutChunk]) -> list[LogChunk | GapChunk]:
    """Reduce cuts to their chunks."""
    return [cut.chunk for cut in cuts]


def stream_of(cuts: list[CutChunk], stream: int) -> bytes:
    """Join one stream out of the chunks."""
    return b"".join(raw_stream(chunks_of(cuts), stream))


def assert_follow(cuts: list[CutChunk]) -> LogCursor:
    """Check that each chunk is the next of its log and each note says what comes next."""
    cursor = LogCursor()
    for chunk, end in cuts:
        assert check_follows(cursor, chunk) is Outcome.STORED
        cursor = advance(cursor, chunk)
        assert (end.next_chunk, end.next_entry) == (cursor.next_chunk, cursor.next_entry)
    return cursor


frames_st = st.lists(
    st.tuples(
        st.sampled_from([STDOUT, STDOUT, STDERR]),
        st.integers(0, 3),
        st.one_of(
            st.sampled_from([SECRET, SECRET[:5], SECRET[5:], b"\n", b"a\nb", b"\x1b[31m"]),
            st.binary(min_size=1, max_size=8),
        ),
    ),
    max_size=15,
).map(
    lambda frames: [
        (stream, at_ms, data)
        for (stream, _, data), at_ms in zip(
            frames, itertools.accumulate(pause for _, pause, _ in frames), strict=True
        )
    ]
)


def test_nothing_is_cut_before_its_time() -> None:
    """A line waits 250 ms for company, and no longer."""
    cutter = LogCutter("e")
    assert cutter.due(1000) is None
    cutter.feed(STDOUT, 1000, b"one\n", (0, 0), 0)
    assert cutter.due(1000) == 250
    assert cutter.take(1249) == []
    cutter.feed(STDERR, 1249, b"two\n", (0, 50), 0)
    assert cutter.due(1249) == 1
    [(chunk, end)] = cutter.take(1250)
    assert isinstance(chunk, LogChunk)
    assert (chunk.entries, chunk.first_ms, chunk.last_ms) == (2, 1000, 1249)
    assert end.emitted == (4, 4)
    assert cutter.due(1250) is None
    assert cutter.waiting_bytes == 0


def test_a_clock_set_back_delays_nothing_for_long() -> None:
    """What was stamped in the future is due 250 ms after it is first asked for."""
    cutter = LogCutter("e")
    cutter.feed(STDOUT, 86_400_000, b"one\n", (0, 0), 0)
    assert cutter.due(1000) == 250
    assert len(cutter.take(1250)) == 1


def test_chunks_grow_with_the_speed_of_output() -> None:
    """64 KiB are cut at once; where more waits, a chunk takes up to 256 KiB."""
    line = b"%063d\n" % 7
    cutter = LogCutter("e")
    cutter.feed(STDOUT, 1, line * 1024, (0, 0), 0)
    assert cutter.due(1) == 0
    [(chunk, _)] = cutter.take(1)
    assert chunk.raw_bytes < 70_000
    cutter.feed(STDOUT, 2, line * 10_000, (0, 1), 65_536)
    sizes = [chunk.raw_bytes for chunk, _ in cutter.take(2)]
    assert len(sizes) == 3
    assert all(size > 0.9 * limits.CHUNK_RAW_BYTES_MAX for size in sizes[:2])
    assert all(size <= limits.CHUNK_RAW_BYTES_MAX for size in sizes)
    assert cutter.waiting_bytes < limits.CHUNK_RAW_BYTES_CUT


def test_only_full_chunks_are_cut_while_more_is_there() -> None:
    """A spool read piece by piece gives the same few large chunks; a gap waits for nothing."""
    cutter = LogCutter("e")
    line, at = b"x" * 99 + b"\n", 0
    cuts: list[CutChunk] = []
    for number in range(40):
        cutter.feed(STDOUT, number, line * 500, (0, at), at)
        at += 50_000
        cuts += cutter.take(10_000 + number * 1_000, more=True)
        assert cutter.waiting_bytes < limits.CHUNK_RAW_BYTES_MAX
    sizes = [cut.chunk.raw_bytes for cut in cuts if isinstance(cut.chunk, LogChunk)]
    assert len(sizes) == 7
    assert min(sizes) > limits.CHUNK_RAW_BYTES_MAX - 50_100
    cutter.gap("quota", 60_000, (0, at), stdout_bytes=5)
    rest = cutter.take(60_000, more=True)
    assert [type(cut.chunk) for cut in rest] == [LogChunk, GapChunk]
    assert cutter.waiting_bytes == 0


def test_what_is_left_waits_its_own_time() -> None:
    """After a full chunk the rest is due 250 ms after it came, not after what was before it."""
    cutter = LogCutter("e")
    most = limits.CHUNK_RAW_BYTES_MAX - 4 * SEGMENT_HEADER_BYTES
    cutter.feed(STDOUT, 1, b"x\n" * (most // 2), (0, 0), 0)
    cutter.feed(STDOUT, 100, b"y\n", (0, 1), most)
    [(chunk, _)] = cutter.take(100)
    assert chunk.entries == most // 2
    assert cutter.due(100) == 250


def test_incompressible_output_is_halved() -> None:
    """No blob is over its limit, and each half has a note of its own to go on from."""
    noise = random.Random(3).randbytes(600_000)
    cutter = LogCutter("e")
    cutter.feed(STDOUT, 1, noise, (0, 0), 0)
    cuts = cutter.take(1, flush=True)
    assert all(len(chunk.blob) <= limits.CHUNK_BLOB_BYTES_MAX for chunk in chunks_of(cuts))
    assert stream_of(cuts, STDOUT) == noise
    assert_follow(cuts)
    emitted = [end.emitted[0] for _, end in cuts]
    assert emitted == sorted(set(emitted))
    assert emitted[-1] == 600_000


def test_a_line_without_end_is_cut_without_waiting_for_it() -> None:
    """100 KB reads of one line become chunks as they come, and one entry."""
    cutter = LogCutter("e")
    cuts = []
    for n in range(30):
        cutter.feed(STDOUT, n, b"x" * 100_000, (0, n), n * 100_000)
        cuts += cutter.take(n)
        assert cutter.waiting_bytes < limits.CHUNK_RAW_BYTES_CUT
    cuts += cutter.take(31, flush=True)
    assert assert_follow(cuts).next_entry == 2
    [entry] = entries_of(chunks_of(cuts), 0, 10, closed=True).entries
    assert (entry.cut, entry.bytes) == (True, 3_000_000)


def test_one_segment_for_one_read() -> None:
    """A read that was redacted in pieces is one segment again, a line of it one entry."""
    cutter = LogCutter("e")
    cutter.feed(STDOUT, 5, b"y" * 200_000, (0, 0), 0)
    [(chunk, _)] = cutter.take(5, flush=True)
    assert [(s.stream, s.at_ms, len(s.data)) for s in open_chunk(chunk)] == [(1, 5, 200_000)]
    assert chunk.entries == 1
    cutter.feed(STDOUT, 6, b"y", (0, 1), 200_000)
    cutter.feed(STDOUT, 7, b"y", (0, 2), 200_001)
    [(chunk, _)] = cutter.take(7, flush=True)
    assert [(s.at_ms, len(s.data)) for s in open_chunk(chunk)] == [(6, 1), (7, 1)]


def test_lines_and_events_are_numbered_as_they_begin() -> None:
    """A line goes on over chunks under its number; an event is one entry whatever is in it."""
    cutter = LogCutter("e")
    cutter.feed(STDOUT, 1, b"a\nb", (0, 0), 0)
    cuts = cutter.take(1, flush=True)
    cutter.event(2, b"started\nsomething")
    cutter.feed(STDERR, 3, b"err", (0, 1), 0)
    cutter.feed(STDOUT, 4, b" goes on\nc\n", (0, 2), 3)
    cuts += cutter.take(4, flush=True)
    page = entries_of(chunks_of(cuts), 0, 10, closed=True)
    assert [(e.n, e.stream, e.text) for e in page.entries] == [
        (1, "stdout", "a"),
        (2, "stdout", "b goes on"),
        (3, "event", "started\nsomething"),
        (4, "stderr", "err"),
        (5, "stdout", "c"),
    ]
    assert cutter.next_entry == 6
    assert cutter.next_chunk == 3


def test_events_are_redacted_and_bounded() -> None:
    """An event shows no secret and fits in one segment."""
    cutter = LogCutter("e", REDACTOR)
    cutter.event(1, b"token " + SECRET)
    cutter.event(1, b"z" * 200_000)
    [(chunk, _)] = cutter.take(1, flush=True)
    first, second = open_chunk(chunk)
    assert bytes(first.data) == b"token ***"
    assert len(second.data) == EVENT_BYTES_MAX
    assert chunk.entries == 2


def test_secrets_are_hidden_by_default_patterns_too() -> None:
    """A cutter that is told of no secrets still knows what tokens look like."""
    cutter = LogCutter("e")
    cutter.feed(STDOUT, 1, b"ghp_" + b"a1B2" * 9 + b"\n", (0, 0), 0)
    assert stream_of(cutter.take(1, flush=True), STDOUT) == b"[redacted:github-token]\n"


def test_what_is_held_back_keeps_its_place_in_the_spool() -> None:
    """The note points at the read in which the first byte not emitted is."""
    cutter = LogCutter("e", REDACTOR)
    cutter.feed(STDOUT, 1, b"x s3c", (0, 0), 0)
    cutter.feed(STDERR, 2, b"err\n", (3, 7), 0)
    [(_, end)] = cutter.take(1000)
    assert (end.position, end.emitted) == ((0, 0), (2, 4))
    cutter.feed(STDOUT, 3, b"r3t", (4, 0), 5)
    cutter.feed(STDERR, 4, b"err\n", (5, 0), 4)
    [(_, end)] = cutter.take(2000)
    assert (end.position, end.emitted) == ((0, 0), (2, 8))
    cutter.feed(STDOUT, 5, b"value!\n", (6, 0), 8)
    [(chunk, end)] = cutter.take(3000)
    assert [bytes(s.data) for s in open_chunk(chunk)] == [b"***!\n"]
    assert (end.position, end.emitted) == ((6, 0), (15, 8))


def test_a_read_that_is_wholly_held_back_is_where_to_go_on() -> None:
    """The place is that of the very read, not of one before it."""
    cutter = LogCutter("e", REDACTOR)
    cutter.feed(STDOUT, 1, b"a s3c", (0, 0), 0)
    cutter.feed(STDOUT, 2, b"s3cr", (1, 0), 5)
    [(_, end)] = cutter.take(1000)
    assert (end.position, end.emitted) == ((1, 0), (5, 0))


def test_a_word_is_one_word_over_a_kill() -> None:
    """What stands before the cut still decides what is a token and what the end of a word."""
    word = b"disk-" + b"a1B2" * 12 + b"\n"
    cutter = LogCutter("e")
    cutter.feed(STDOUT, 1, word[:3], (0, 0), 0)
    cuts = cutter.take(1000)
    assert stream_of(cuts, STDOUT) == b"di"
    end = cuts[0].spool_end
    cutter = LogCutter("e", resume=end, content=ContentDigest.resume(chunks_of(cuts)))
    cutter.feed(STDOUT, 1, word[:3], (0, 0), 0)
    cutter.feed(STDOUT, 2, word[3:], (0, 1), 3)
    assert stream_of(cuts + cutter.take(2, flush=True), STDOUT) == word


def test_the_note_of_a_chunk_can_be_stored() -> None:
    """It comes back from the store equal, whatever is in it."""
    end = SpoolEnd((1, 2), StreamEnd(3, True, b"\xff", 4), StreamEnd(), 5, 6, b"\x1b[1m")
    assert SpoolEnd.decode(end.encode()) == end
    assert SpoolEnd.decode(SpoolEnd().encode()) == SpoolEnd()


def test_gaps_stand_where_output_is_missing() -> None:
    """A gap comes after all before it and before all after it, with its counts."""
    cutter = LogCutter("e", REDACTOR)
    cutter.feed(STDOUT, 1, b"before\nhalf s3cr3t", (0, 0), 0)
    cutter.gap("quota", 2, (0, 9), stdout_bytes=1000, stderr_bytes=500, lines=30)
    assert cutter.due(2) == 0
    cutter.feed(STDOUT, 3, b"rest\nafter\n", (4, 0), 1018)
    cuts = cutter.take(3, flush=True)
    assert_follow(cuts)
    first, gap, last = chunks_of(cuts)
    assert isinstance(gap, GapChunk)
    assert (gap.reason, gap.entries, gap.bytes, gap.first_ms) == ("quota", 30, 1500, 2)
    page = entries_of([first, gap, last], 0, 10, closed=False)
    assert [(e.n, e.text, e.open) for e in page.entries] == [
        (1, "before", False),
        (2, "half s3cr3t", False),
        (33, "rest", False),
        (34, "after", False),
    ]
    assert page.gaps[0].gap == (3, 32)
    assert cuts[1].spool_end.emitted == (1018, 500)
    assert cuts[1].spool_end.position == (0, 9)


def test_a_gap_of_one_stream_leaves_the_other_in_its_line() -> None:
    """What was lost of stderr ends no line of stdout."""
    cutter = LogCutter("e")
    cutter.feed(STDOUT, 1, b"one ", (0, 0), 0)
    cutter.gap("lost_sync", 2, (0, 1), stderr_bytes=10)
    cutter.feed(STDOUT, 3, b"line\n", (0, 2), 4)
    cuts = cutter.take(3, flush=True)
    assert chunks_of(cuts)[1].reason == "power_cut"
    page = entries_of(chunks_of(cuts), 0, 10, closed=True)
    assert [(e.n, e.text) for e in page.entries] == [(1, "one line")]


def test_missing_bytes_nobody_told_of_become_a_gap() -> None:
    """A frame that begins further on than expected is never joined to what came before."""
    cutter = LogCutter("e")
    cutter.feed(STDERR, 1, b"one", (0, 0), 0)
    cutter.feed(STDERR, 2, b"two\n", (0, 1), 10)
    first, gap, last = chunks_of(cutter.take(2, flush=True))
    assert isinstance(gap, GapChunk)
    assert (gap.reason, gap.bytes, gap.entries) == ("corrupt", 7, 1)
    assert b"".join(raw_stream([first, last], STDERR)) == b"onetwo\n"
    assert cutter.waiting_bytes == 0
    cutter.feed(STDERR, 3, b"three\n", (0, 2), 14)
    assert cutter.due(3) == 250


def test_known_bytes_are_skipped() -> None:
    """A frame read again, whole or in part, is not numbered again."""
    cutter = LogCutter("e")
    cutter.feed(STDOUT, 1, b"abc\n", (0, 0), 0)
    cutter.feed(STDOUT, 1, b"abc\n", (0, 0), 0)
    cutter.feed(STDOUT, 2, b"c\ndef\n", (0, 1), 2)
    assert stream_of(cutter.take(2, flush=True), STDOUT) == b"abc\ndef\n"


def test_a_log_goes_on_from_other_numbers_behind_a_gap() -> None:
    """When the store had to put a gap into the log, the cutter numbers on behind it."""
    cutter = LogCutter("e")
    cutter.feed(STDOUT, 1, b"a\n", (0, 0), 0)
    cutter.renumber(7, 100)
    [(chunk, end)] = cutter.take(1, flush=True)
    assert (chunk.chunk_seq, chunk.first_entry) == (7, 100)
    assert (end.next_chunk, end.next_entry) == (8, 101)


def test_the_totals_are_those_of_the_log() -> None:
    """Chunks, entries, bytes and digest of the decoded content, redacted."""
    cutter = LogCutter("e", REDACTOR)
    cutter.feed(STDOUT, 1, b"a " + SECRET + b"\n", (0, 0), 0)
    cutter.event(2, b"ev")
    with pytest.raises(RuntimeError, match="taken"):
        cutter.end()
    cutter.take(2, flush=True)
    digest = hashlib.sha256(b"a ***\nev").digest()[:16]
    assert cutter.end() == LogTotals(chunks=1, entries=2, content_bytes=8, digest=digest)


def test_an_empty_log_has_an_end() -> None:
    """An execution that prints nothing has a log of no chunks."""
    cutter = LogCutter("e")
    assert cutter.take(1, flush=True) == []
    assert cutter.end().chunks == 0


def test_going_on_without_the_digest_is_refused() -> None:
    """A log whose first part is not in the digest would end with a wrong one."""
    with pytest.raises(ValueError, match="digest"):
        LogCutter("e", resume=SpoolEnd(next_chunk=2))


@settings(max_examples=200)
@given(frames_st)
def test_the_log_is_what_was_printed(frames: list[Frame]) -> None:
    """Every stream is in the log whole and redacted, lines numbered as they began."""
    spool = Spool(frames)
    cutter = LogCutter("e", REDACTOR)
    spool.feed(cutter)
    cuts = cutter.take(10**6, flush=True)
    assert_follow(cuts)
    for stream in (STDOUT, STDERR):
        assert stream_of(cuts, stream) == redacted(spool.printed(stream))
    totals = cutter.end()
    page = entries_of(chunks_of(cuts), 0, 10_000, closed=True)
    assert [e.n for e in page.entries] == list(range(1, totals.entries + 1))


def run_with_kills(
    spool: Spool, cut_at: set[int], kill_at: set[int]
) -> tuple[bytes, bytes, LogTotals, list[CutChunk]]:
    """Run a log in which the node is killed after some frames, with chunks cut at some."""
    committed: list[CutChunk] = []
    cutter = LogCutter("e", REDACTOR)
    position = 0
    killed: set[int] = set()
    while position < len(spool.frames):
        stream, at_ms, data, place, offset = spool.frames[position]
        cutter.feed(stream, at_ms, data, place, offset)
        position += 1
        if position in cut_at:
            committed += cutter.take(at_ms + 10_000)
        if position in kill_at - killed:
            killed.add(position)
            cutter, position = revive(spool, committed)
    committed += cutter.take(10**6, flush=True)
    assert_follow(committed)
    return stream_of(committed, STDOUT), stream_of(committed, STDERR), cutter.end(), committed


def revive(spool: Spool, committed: list[CutChunk]) -> tuple[LogCutter, int]:
    """Start again from what is committed: a new cutter and the frame to read from."""
    if not committed:
        return LogCutter("e", REDACTOR), 0
    end = SpoolEnd.decode(committed[-1].spool_end.encode())
    cutter = LogCutter(
        "e", REDACTOR, resume=end, content=ContentDigest.resume(chunks_of(committed))
    )
    start = next(
        (n for n, frame in enumerate(spool.frames) if frame[3] >= end.position), len(spool.frames)
    )
    return cutter, start


@settings(max_examples=300)
@given(frames_st, st.sets(st.integers(1, 15)), st.sets(st.integers(1, 15)))
# The last byte of the fourth secret is covered and held back, and comes to nothing with the fifth
# frame; the note of the chunk cut after the sixth has to know of it.
@example([(1, 0, SECRET)] * 4 + [(1, 0, SECRET[:6]), (2, 0, SECRET)], {6}, {6})
def test_a_kill_anywhere_loses_and_repeats_nothing(
    frames: list[Frame], cut_at: set[int], kill_at: set[int]
) -> None:
    """Killed at any frames, with chunks cut at any others, the log is as if it never was."""
    spool = Spool(frames)
    stdout, stderr, totals, committed = run_with_kills(spool, cut_at, kill_at)
    assert stdout == redacted(spool.printed(STDOUT))
    assert stderr == redacted(spool.printed(STDERR))
    content = ContentDigest.resume(chunks_of(committed))
    assert (totals.content_bytes, totals.digest) == (content.content_bytes, content.digest())
    plain = entries_of(chunks_of(committed), 0, 10_000, closed=True).entries
    for name, printed in (("stdout", stdout), ("stderr", stderr)):
        lines = printed.split(b"\n")
        expected = lines if lines[-1] else lines[:-1]
        assert [e.text for e in plain if e.stream == name] == [
            line.decode("utf-8", "replace") for line in expected
        ]


@settings(max_examples=100)
@given(frames_st, st.integers(0, 14), st.integers(1, 15), st.integers(1, 50))
def test_a_kill_after_a_gap_does_not_repeat_it(
    frames: list[Frame], gap_after: int, kill_after: int, lost: int
) -> None:
    """A gap that was committed is known when the spool is read again over it."""
    shifted = [
        (stream, at_ms, data, place, offset + (lost if n > gap_after and stream == STDOUT else 0))
        for n, (stream, at_ms, data, place, offset) in enumerate(Spool(frames).frames)
    ]
    committed: list[CutChunk] = []
    cutter = LogCutter("e", REDACTOR)
    for n, frame in enumerate(shifted):
        cutter.feed(*frame)
        committed += cutter.take(frame[1] + 10_000)
        if n == kill_after and committed:
            end = committed[-1].spool_end
            resumed = ContentDigest.resume(chunks_of(committed))
            cutter = LogCutter("e", REDACTOR, resume=end, content=resumed)
            for earlier in shifted[: n + 1]:
                if earlier[3] >= end.position:
                    cutter.feed(*earlier)
    committed += cutter.take(10**6, flush=True)
    assert_follow(committed)
    gaps = [chunk for chunk in chunks_of(committed) if isinstance(chunk, GapChunk)]
    behind = any(stream == STDOUT for stream, *_ in shifted[gap_after + 1 :])
    assert [gap.bytes for gap in gaps] == ([lost] if behind else [])


def test_the_style_in_force_stands_at_each_chunk() -> None:
    """A page that begins with any chunk can be drawn in the colours it continues."""
    cutter = LogCutter("e")
    styles = []
    for n, text in enumerate([b"\x1b[1mbold ", b"\x1b[31mred ", b"plain\x1b[0m", b"end"]):
        cutter.feed(STDOUT, n * 1000, text, (0, n), cutter._streams[STDOUT].fed)
        [(chunk, end)] = cutter.take(n * 1000 + 250)
        styles.append(chunk.style)
        assert end.style == cutter._style
    assert styles == [b"", b"\x1b[1m", b"\x1b[1m\x1b[31m", b""]


@pytest.mark.parametrize(
    ("style", "content", "after"),
    [
        (b"\x1b[1m", b"no codes", b"\x1b[1m"),
        (b"\x1b[1m", b"\x1b[2Kline", b"\x1b[1m"),
        (b"\x1b[1m", b"a\x1b[mb", b""),
        (b"\x1b[1m", b"a\x1b[0mb\x1b[4mc", b"\x1b[4m"),
        (b"\x1b[1m", b"a\x1b[0;32mb", b"\x1b[0;32m"),
        (b"\x1b[1m", b"\x1b[31ma\x1b[32mb\x1b[31mc", b"\x1b[1m\x1b[32m\x1b[31m"),
        (b"", b"\x1b[31m\x1b[mx\x1b[0my\x1b[1mz", b"\x1b[1m"),
        (b"", b"\x1b[0mx\x1b[my\x1b[1mz", b"\x1b[1m"),
    ],
)
def test_style_follows_codes_and_resets(style: bytes, content: bytes, after: bytes) -> None:
    """Codes add up from the last reset on."""
    assert style_after(style, content) == after


def test_too_many_codes_lose_the_oldest() -> None:
    """Whole codes are dropped, oldest first, until the rest fits."""
    codes = [b"\x1b[38;5;%dm" % n for n in range(100, 140)]
    assert style_after(b"", b"x".join(codes)) == b"".join(codes[-(STYLE_BYTES_MAX // 11) :])


@given(st.lists(st.sampled_from([b"\x1b[%dm" % n for n in range(40)] + [b"x"]), max_size=80))
def test_style_is_bounded_and_whole(codes: list[bytes]) -> None:
    """However many codes there are, whole ones are kept, the newest first, within the limit."""
    style = style_after(b"", b"".join(codes))
    assert len(style) <= STYLE_BYTES_MAX
    if codes and codes[-1] not in {b"x", b"\x1b[0m"}:
        assert style.endswith(codes[-1])


def test_event_is_a_stream_of_its_own() -> None:
    """An event between two parts of a line does not end it."""
    cutter = LogCutter("e")
    cutter.feed(STDOUT, 1, b"one ", (0, 0), 0)
    cutter.event(2, b"ev\n")
    cutter.feed(STDOUT, 3, b"line\n", (0, 1), 4)
    [(chunk, _)] = cutter.take(3, flush=True)
    assert [s.continued for s in open_chunk(chunk)] == [False, False, True]
    assert [s.stream for s in open_chunk(chunk)] == [STDOUT, EVENT, STDOUT]
