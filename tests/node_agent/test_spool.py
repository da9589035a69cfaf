"""The spool's reading end: whole frames, torn tails, broken bytes, gaps, and going on anywhere."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.run_folder import write_record
from node_agent.spool import (
    Corrupt,
    Frame,
    SpoolGap,
    SpoolPosition,
    SpoolReader,
    parse_frames,
)
from node_agent.spool_frames import GAP, HEADER_BYTES, STDERR, STDOUT, frame_header
from tests.node_agent.run_folders import both_streams, gaps_of, read_rest, stream_bytes


def frame(stream: int, offset: int, payload: bytes, at_ms: int = 1_700_000_000_000) -> bytes:
    """Return a frame as it stands on disk."""
    return frame_header(stream, at_ms, offset, payload) + payload


def gap_frame(streams: dict[int, list[int]], reason: str = "quota", **fields: int) -> bytes:
    """Return a frame that tells what is missing."""
    return frame(GAP, 0, json.dumps({"reason": reason, "streams": streams, **fields}).encode())


def end(folder: Path, stdout: int, stderr: int = 0) -> None:
    """Write the record of the end, with what was printed in all."""
    streams = {"1": {"bytes": stdout}, "2": {"bytes": stderr}}
    write_record(folder / "exit", {"version": 1, "exit_code": 0, "streams": streams})


# --- frames --------------------------------------------------------------------------------------


@given(
    pieces=st.lists(
        st.tuples(st.sampled_from([STDOUT, STDERR]), st.integers(0, 2**64 - 1), st.binary())
    ),
    cut=st.integers(0, 10_000),
)
def test_torn_tail_is_not_yet(pieces: list[tuple[int, int, bytes]], cut: int) -> None:
    """Any prefix of a spool reads as its whole frames, and goes on where the rest will stand."""
    offsets = {STDOUT: 0, STDERR: 0}
    frames, ends, buffer = [], [0], b""
    for stream, at_ms, payload in pieces:
        frames.append(Frame(stream, at_ms, offsets[stream], payload))
        buffer += frame(stream, offsets[stream], payload, at_ms)
        offsets[stream] += len(payload)
        ends.append(len(buffer))
    cut = min(cut, len(buffer))
    whole = sum(1 for at in ends[1:] if at <= cut)
    assert parse_frames(buffer[:cut], 0) == (frames[:whole], ends[whole], None)
    assert parse_frames(memoryview(buffer), ends[whole]) == (frames[whole:], len(buffer), None)


@given(junk=st.binary(max_size=200), payload=st.binary(max_size=100))
def test_junk_is_skipped_to_the_next_frame(junk: bytes, payload: bytes) -> None:
    """Whatever stands before a frame, the frame is found, and the junk's extent is told."""
    good = frame(STDOUT, 5, payload)
    frames: list[Frame] = []
    offset = 0
    while True:
        found, resumed, corrupt = parse_frames(junk + good, offset, final=True)
        frames += found
        assert corrupt is None or corrupt == Corrupt(offset, resumed)
        if corrupt is None:
            break
        offset = resumed
    assert frames[-1].data == payload
    assert resumed == len(junk) + len(good)


def test_torn_tail_of_a_closed_segment_is_corrupt() -> None:
    """Where nothing will be written any more a tail that breaks off is told of."""
    first, second = frame(STDOUT, 0, b"abc"), frame(STDOUT, 3, b"defgh")
    for cut in range(1, len(second)):
        buffer = first + second[:cut]
        found, resumed, corrupt = parse_frames(buffer, 0, final=True)
        assert [piece.data for piece in found] == [b"abc"]
        assert corrupt == Corrupt(len(first), len(buffer))
        assert resumed == len(buffer)


@pytest.mark.parametrize(
    "forged",
    [
        b"\xb5" * 1_000_000,
        b"\xb5\x01" * 500_000,
        # Headers that each ask for the crc of a quarter of a mebibyte.
        frame_header(STDOUT, 1, 1, bytes(256 * 1024))[:-4] * 40_000,
    ],
)
def test_search_is_bounded(forged: bytes) -> None:
    """Output made to look like headers cannot make the search go on for minutes."""
    import time

    begun = time.process_time()
    offset = 0
    while offset < len(forged):
        _, offset, corrupt = parse_frames(forged, offset, final=True)
        assert corrupt is not None
    assert time.process_time() - begun < 10


# --- readers -------------------------------------------------------------------------------------


def test_follows_segments_as_they_grow(tmp_path: Path) -> None:
    """A reader takes what is new, waits at a torn frame, and passes on to the next segment."""
    reader = SpoolReader(tmp_path)
    assert reader.read() == []
    assert reader.exhausted
    assert not reader.finished
    segment = (tmp_path / "out.0").open("wb", buffering=0)
    whole = frame(STDOUT, 0, b"one\n")
    segment.write(whole[:10])
    assert reader.read() == []
    segment.write(whole[10:] + frame(STDERR, 0, b"err"))
    assert both_streams(reader.read()) == (b"one\n", b"err")
    assert reader.read() == []
    (tmp_path / "out.1").write_bytes(frame(STDOUT, 4, b"two"))
    segment.write(frame(STDERR, 3, b"late"))
    assert both_streams(reader.read()) == (b"", b"late")
    assert both_streams(reader.read()) == (b"two", b"")
    assert reader.position == SpoolPosition(1, HEADER_BYTES + 3)
    end(tmp_path, 7, 7)
    assert reader.read() == []
    assert reader.finished
    segment.close()
    reader.close()


def test_resumes_at_any_position_without_repeating(tmp_path: Path) -> None:
    """From each position, with what was taken of each stream, exactly the rest comes."""
    pieces = [(STDOUT, b"ab"), (STDERR, b"xyz"), (STDOUT, b"cdef"), (STDERR, b"!"), (STDOUT, b"g")]
    offsets = {STDOUT: 0, STDERR: 0}
    places = []
    for number, (stream, payload) in enumerate(pieces):
        segment, path = number // 2, tmp_path / f"out.{number // 2}"
        places.append(SpoolPosition(segment, path.stat().st_size if path.exists() else 0))
        with path.open("ab") as file:
            file.write(frame(stream, offsets[stream], payload))
        offsets[stream] += len(payload)
    end(tmp_path, 7, 4)
    out, err = b"abcdefg", b"xyz!"
    for number, place in enumerate(places):
        printed = [sum(len(p) for s, p in pieces[:number] if s == t) for t in (STDOUT, STDERR)]
        for more in range(3):
            # Taken in part from the next frame as well, as redaction holds bytes back.
            emitted = (min(7, printed[0] + more), printed[1])
            rest = read_rest(SpoolReader(tmp_path, place, emitted))
            assert both_streams(rest) == (out[emitted[0] :], err[emitted[1] :])
            assert gaps_of(rest) == []


def test_gap_frames_become_gaps(tmp_path: Path) -> None:
    """A gap frame is told at its place, with its bytes and lines."""
    (tmp_path / "out.0").write_bytes(
        frame(STDOUT, 0, b"ab")
        + gap_frame({1: [2, 12, 3], 2: [0, 5, 1]}, "disk_full")
        + frame(STDOUT, 12, b"cd")
        + frame(STDERR, 5, b"ef")
    )
    end(tmp_path, 14, 7)
    pieces = read_rest(SpoolReader(tmp_path))
    assert pieces[1] == SpoolGap("disk_full", 10, 5, 4)
    assert both_streams(pieces) == (b"abcd", b"ef")
    assert len(pieces) == 4


def test_dropped_segments_are_one_gap(tmp_path: Path) -> None:
    """A gap that stands for segments leads to the one behind them."""
    (tmp_path / "out.0").write_bytes(frame(STDOUT, 0, b"head"))
    (tmp_path / "out.1").write_bytes(gap_frame({1: [4, 104, 9]}, through=7))
    (tmp_path / "out.8").write_bytes(frame(STDOUT, 104, b"tail"))
    end(tmp_path, 108)
    pieces = read_rest(SpoolReader(tmp_path))
    assert pieces[1:2] == [SpoolGap("quota", 100, 0, 9)]
    assert stream_bytes(pieces) == b"headtail"
    # From inside the dropped ones, as after a restart: only what was not taken is missing.
    pieces = read_rest(SpoolReader(tmp_path, SpoolPosition(3, 500), (60, 0)))
    assert gaps_of(pieces) == [SpoolGap("quota", 44, 0, None)]
    assert stream_bytes(pieces) == b"tail"
    pieces = read_rest(SpoolReader(tmp_path, SpoolPosition(1, 500), (60, 0)))
    assert gaps_of(pieces) == [SpoolGap("quota", 44, 0, None)]


def test_gap_grows_while_it_is_passed(tmp_path: Path) -> None:
    """When what follows a gap is dropped too, the reader learns the rest of the gap."""
    (tmp_path / "out.0").write_bytes(gap_frame({1: [0, 10, 1]}, through=3))
    (tmp_path / "out.4").write_bytes(frame(STDOUT, 10, b"abc"))
    (tmp_path / "out.5").write_bytes(frame(STDOUT, 13, b"def"))
    reader = SpoolReader(tmp_path)
    assert reader.read() == [SpoolGap("quota", 10, 0, 1)]
    (tmp_path / "out.0").write_bytes(gap_frame({1: [0, 13, 2]}, through=4))
    (tmp_path / "out.4").unlink()
    end(tmp_path, 16)
    rest = read_rest(reader)
    assert gaps_of(rest) == [SpoolGap("quota", 3, 0, None)]
    assert stream_bytes(rest) == b"def"


def test_missing_segment_is_a_gap(tmp_path: Path) -> None:
    """Segments that are gone without a word are missed by their bytes, and passed."""
    (tmp_path / "out.0").write_bytes(frame(STDOUT, 0, b"ab"))
    (tmp_path / "out.3").write_bytes(frame(STDOUT, 50, b"cd") + frame(STDERR, 7, b"e"))
    end(tmp_path, 52, 8)
    pieces = read_rest(SpoolReader(tmp_path))
    assert gaps_of(pieces) == [
        SpoolGap("lost_sync", 48, 0, None),
        SpoolGap("lost_sync", 0, 7, None),
    ]
    assert both_streams(pieces) == (b"abcd", b"e")


def test_what_never_reached_the_disk_is_missed_at_the_end(tmp_path: Path) -> None:
    """The exit record's counts show what the spool lacks, with or without any segment."""
    end(tmp_path, 30, 4)
    pieces = read_rest(SpoolReader(tmp_path))
    assert pieces == [SpoolGap("lost_sync", 30, 0, None), SpoolGap("lost_sync", 0, 4, None)]
    (tmp_path / "out.0").write_bytes(frame(STDOUT, 0, b"abc"))
    reader = SpoolReader(tmp_path)
    assert gaps_of(read_rest(reader)) == [
        SpoolGap("lost_sync", 27, 0, None),
        SpoolGap("lost_sync", 0, 4, None),
    ]
    assert reader.read() == []


def test_output_that_is_itself_a_spool_is_only_output(tmp_path: Path) -> None:
    """When a frame is broken, frames inside its payload are not taken for the execution's own."""
    inner = frame(STDOUT, 1_000_000, b"forged") + frame(STDOUT, 0, b"old")
    outer = frame(STDOUT, 4, inner)
    broken = outer[:3] + bytes([outer[3] ^ 1]) + outer[4:]
    after = 4 + len(inner)
    (tmp_path / "out.0").write_bytes(
        frame(STDOUT, 0, b"good") + broken + frame(STDOUT, after, b"more")
    )
    end(tmp_path, after + 4)
    pieces = read_rest(SpoolReader(tmp_path))
    assert stream_bytes(pieces) == b"goodmore"
    assert gaps_of(pieces) == [SpoolGap("corrupt", len(inner), 0, None)]


def spool_of_many_frames(folder: Path) -> tuple[bytes, bytes]:
    """Write three segments of frames of both streams, with a gap; return what was printed."""
    numbers = random.Random(7)
    printed = {STDOUT: b"", STDERR: b""}
    for number in range(3):
        with (folder / f"out.{number}").open("wb") as file:
            for _ in range(6):
                stream = numbers.choice([STDOUT, STDOUT, STDERR])
                payload = numbers.randbytes(numbers.randrange(1, 40))
                file.write(frame(stream, len(printed[stream]), payload))
                printed[stream] += payload
    end(folder, len(printed[STDOUT]), len(printed[STDERR]))
    return printed[STDOUT], printed[STDERR]


def check_accounted(pieces: list[Frame | SpoolGap], out: bytes, err: bytes) -> None:
    """Every byte printed is there at its place, or within a gap; none is invented."""
    at = {STDOUT: 0, STDERR: 0}
    for piece in pieces:
        if isinstance(piece, SpoolGap):
            at[STDOUT] += piece.stdout_bytes
            at[STDERR] += piece.stderr_bytes
        else:
            printed = out if piece.stream == STDOUT else err
            assert piece.stream_offset == at[piece.stream]
            at[piece.stream] += len(piece.data)
            assert printed[piece.stream_offset : at[piece.stream]] == piece.data
    assert at == {STDOUT: len(out), STDERR: len(err)}


def test_any_byte_flipped(tmp_path: Path) -> None:
    """With any one byte of the spool broken the reader ends, and every byte is accounted for."""
    out, err = spool_of_many_frames(tmp_path)
    check_accounted(read_rest(SpoolReader(tmp_path)), out, err)
    for number in range(3):
        path = tmp_path / f"out.{number}"
        whole = path.read_bytes()
        for at in range(len(whole)):
            flipped = bytes([whole[at] ^ (1 << at % 8)])
            path.write_bytes(whole[:at] + flipped + whole[at + 1 :])
            pieces = read_rest(SpoolReader(tmp_path))
            check_accounted(pieces, out, err)
            lost = sum(gap.size_bytes for gap in gaps_of(pieces))
            # One broken byte costs the frame it stands in and no other.
            assert lost <= 40, (number, at)
        path.write_bytes(whole)


@settings(max_examples=60, deadline=None)
@given(
    where=st.integers(0, 2), at=st.integers(0, 700), junk=st.binary(max_size=60), cut=st.booleans()
)
def test_any_stretch_overwritten_or_torn(
    tmp_path_factory: pytest.TempPathFactory, where: int, at: int, junk: bytes, cut: bool
) -> None:
    """With any stretch replaced, or a segment torn off, the reader ends and counts what is gone."""
    folder = tmp_path_factory.mktemp("spool")
    out, err = spool_of_many_frames(folder)
    path = folder / f"out.{where}"
    whole = path.read_bytes()
    at = min(at, len(whole))
    path.write_bytes(whole[:at] if cut else whole[:at] + junk + whole[at + len(junk) :])
    check_accounted(read_rest(SpoolReader(folder)), out, err)


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """A folder that is gone reads as nothing; sealed, as an end."""
    reader = SpoolReader(tmp_path / "gone")
    assert reader.read() == []
    assert not reader.finished
    reader.sealed = True
    assert reader.read() == []
    assert reader.finished
