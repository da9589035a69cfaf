"""Lines of an agent: whole however they were read, and taken up again where the next one begins."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from node_agent.sessions.agent_lines import AgentLines, Missing
from node_agent.spool import Frame, SpoolGap, SpoolPosition
from node_agent.spool_frames import STDERR, STDOUT


def frames_of(output: bytes, cuts: list[int]) -> list[Frame]:
    """The output in frames that end at these places."""
    places = sorted({min(cut, len(output)) for cut in cuts} | {0, len(output)})
    return [Frame(STDOUT, 0, begin, output[begin:end]) for begin, end in itertools.pairwise(places)]


@given(
    st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=8),
    st.lists(st.integers(0, 200), max_size=8),
    st.integers(0, 8),
)
def test_lines_are_whole(lines: list[bytes], cuts: list[int], restart: int) -> None:
    """Whatever the reads were, and wherever it was taken up again: each line once, in order."""
    output = b"".join(line + b"\n" for line in lines)
    frames = frames_of(output, cuts)
    reader = AgentLines()
    found: list[bytes | Missing] = []
    for number, frame in enumerate(frames):
        if number == restart:
            # As a spool reader does for the next process: from the place, without what it had.
            place = reader.reach
            assert place.segment <= number
            reader = AgentLines(place)
            for old in frames[place.segment : number]:
                known = max(0, place.stdout_bytes - old.stream_offset)
                if known < len(old.data):
                    rest = old._replace(
                        stream_offset=old.stream_offset + known, data=old.data[known:]
                    )
                    position = SpoolPosition(frames.index(old), 0)
                    assert reader.take(position, [rest]) == []
        found += reader.take(SpoolPosition(number, 0), [frame])
    assert found == lines
    assert reader.rest() == []


def test_what_is_no_line() -> None:
    """Stderr is passed over; a gap tears its line, and no other; the last needs no newline."""
    reader = AgentLines()
    place = SpoolPosition(0, 0)
    found = reader.take(
        place,
        [
            Frame(STDOUT, 0, 0, b"one\ntw"),
            Frame(STDERR, 0, 0, b"noise\n"),
            SpoolGap("quota", 10, 3, 1),
            Frame(STDOUT, 0, 16, b"rn\nthree\nfour"),
        ],
    )
    assert found == [b"one", Missing("quota", 14), b"three"]
    assert reader.reach.stderr_bytes == 9
    assert reader.reach.stdout_bytes == 25
    assert reader.rest() == [b"four"]
    assert reader.rest() == []


def test_a_line_that_is_too_long() -> None:
    """It is passed over with its size, however it came; what follows it is read."""
    for pieces in ([b"x" * 30 + b"\nnext\n"], [b"x" * 5, b"x" * 25, b"\nnext\n"]):
        reader = AgentLines(bytes_max=10)
        found: list[bytes | Missing] = []
        at = 0
        for piece in pieces:
            found += reader.take(SpoolPosition(0, 0), [Frame(STDOUT, 0, at, piece)])
            at += len(piece)
        assert found == [Missing("too_long", 30), b"next"]


def test_an_end_that_is_torn_is_told_once() -> None:
    """Whoever takes it up from there again is not told of it a second time."""
    reader = AgentLines()
    reader.take(SpoolPosition(0, 0), [Frame(STDOUT, 0, 0, b"one\ntw"), SpoolGap("quota", 10, 0, 1)])
    assert reader.rest() == [Missing("quota", 12)]
    assert reader.reach.stdout_bytes == 16
    assert AgentLines(reader.reach).rest() == reader.rest() == []


def test_what_nobody_listens_to_is_passed_over() -> None:
    """However many lines it is, the place moves on behind it, and a begun line is dropped."""
    reader = AgentLines()
    assert reader.take(SpoolPosition(0, 0), [Frame(STDOUT, 0, 0, b"beg")]) == []
    pieces = [
        Frame(STDOUT, 0, 3, b"un\ny\ny"),
        Frame(STDERR, 0, 0, b"e"),
        SpoolGap("quota", 5, 2, 0),
    ]
    reader.pass_over(SpoolPosition(1, 7), pieces)
    assert reader.reach == (1, 7, 14, 3)
    assert reader.rest() == []
    assert reader.take(SpoolPosition(1, 9), [Frame(STDOUT, 0, 14, b"on\n")]) == [b"on"]
