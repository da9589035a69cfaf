"""Chunks hold exactly what was put in, and nothing that arrives can make a reader do more."""

import hashlib
import itertools
import random
import struct
import zlib

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, limits
from protocol.log_chunks import (
    EVENT,
    SEGMENT_HEADER_BYTES,
    STDERR,
    STDOUT,
    BadChunk,
    BlobTooLarge,
    ContentDigest,
    GapChunk,
    LogChunk,
    LogCursor,
    Outcome,
    Segment,
    advance,
    chain,
    check_follows,
    encode_payload,
    entries_begun,
    open_chunk,
    open_payload,
    open_spans,
    seal,
    seal_all,
    through,
)

EXECUTION = "0197-execution"


def one(*segments: Segment, **changes: object) -> LogChunk:
    """Seal segments that fit one chunk, then change what a test wants changed."""
    [chunk] = seal_all(segments, execution_id=EXECUTION)
    return msgspec.structs.replace(chunk, **changes)


def with_blob(blob: bytes, **changes: object) -> LogChunk:
    """Make a chunk that carries this blob with a fitting checksum."""
    return one(Segment(STDOUT, 1, b"a\n"), **({"blob": blob, "crc32": zlib.crc32(blob)} | changes))


def contents(chunks: list[LogChunk]) -> list[tuple[int, int, bytes, bool]]:
    """Read all segments of these chunks as plain tuples."""
    return [
        (s.stream, s.at_ms, bytes(s.data), s.continued)
        for chunk in chunks
        for s in open_chunk(chunk)
    ]


segments_st = st.lists(
    st.builds(
        Segment,
        stream=st.sampled_from([STDOUT, STDERR, EVENT]),
        at_ms=st.integers(0, 2**63),
        data=st.binary(max_size=200) | st.text("ab\n\r", max_size=60).map(str.encode),
        continued=st.booleans(),
    ),
    max_size=20,
).map(
    # Only a pipe continues a line, and only with bytes: the cutter makes no other segment.
    lambda segments: [
        s._replace(continued=s.continued and s.stream != EVENT and bool(s.data)) for s in segments
    ]
)


@given(segments_st)
def test_a_chunk_gives_back_its_segments(segments: list[Segment]) -> None:
    """Streams, times, bytes and flags come back as they went in."""
    assert contents(seal_all(segments, execution_id=EXECUTION)) == [tuple(s) for s in segments]


def test_segments_share_the_memory_of_the_payload() -> None:
    """Reading makes no copy per segment."""
    first, second = open_chunk(one(Segment(STDOUT, 1, b"a\n"), Segment(STDERR, 2, b"b\n")))
    assert isinstance(first.data, memoryview)
    assert first.data.obj is second.data.obj


@pytest.mark.parametrize(
    ("data", "continued", "begun"),
    [
        (b"", False, 0),
        (b"a", False, 1),
        (b"a\n", False, 1),
        (b"a\nb", False, 2),
        (b"\n", False, 1),
        (b"\n\n", False, 2),
        (b"a", True, 0),
        (b"a\n", True, 0),
        (b"\n", True, 0),
        (b"\nb", True, 1),
        (b"a\nb\n", True, 1),
    ],
)
def test_lines_are_counted_where_they_begin(data: bytes, continued: bool, begun: int) -> None:
    """A line counts in the segment that has its first byte, newline alone included."""
    assert entries_begun(b"x\n" + data + b"\ny", 2, 2 + len(data), continued=continued) == begun


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_counting_does_not_depend_on_cuts(data: bytes, cuts: list[int]) -> None:
    """However a stream is cut into segments, the same number of lines begins."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    begun, open_line = 0, False
    for start, end in itertools.pairwise(edges):
        if start == end:
            continue
        begun += entries_begun(data, start, end, continued=open_line)
        open_line = data[end - 1] != 0x0A
    assert begun == entries_begun(data, 0, len(data), continued=False)


def test_a_chunk_says_what_it_holds() -> None:
    """Counts, sizes and times are those of the segments."""
    chunk = one(
        Segment(STDOUT, 5, b"one\ntwo"),
        Segment(EVENT, 9, b"x\ny\n"),
        Segment(STDOUT, 7, b"\n", True),
    )
    assert (chunk.chunk_seq, chunk.first_entry, chunk.entries) == (1, 1, 3)
    assert (chunk.first_ms, chunk.last_ms) == (5, 9)
    assert chunk.raw_bytes == 3 * SEGMENT_HEADER_BYTES + 7 + 4 + 1
    assert chunk.crc32 == zlib.crc32(chunk.blob)


def test_incompressible_content_is_halved_until_it_fits() -> None:
    """A blob over the limit becomes several chunks, numbered on, with nothing lost."""
    noise = random.Random(1).randbytes(700 * 1024)
    chunks = seal_all(
        [Segment(STDOUT, 1, noise), Segment(STDERR, 2, b"end\n")],
        execution_id=EXECUTION,
        chunk_seq=4,
        first_entry=10,
        style=b"\x1b[1m",
    )
    assert [c.chunk_seq for c in chunks] == list(range(4, 4 + len(chunks)))
    assert all(len(c.blob) <= limits.CHUNK_BLOB_BYTES_MAX for c in chunks)
    assert all(c.raw_bytes <= limits.CHUNK_RAW_BYTES_MAX for c in chunks)
    found = contents(chunks)
    assert b"".join(data for stream, _, data, _ in found if stream == STDOUT) == noise
    assert chunks[-1].first_entry + chunks[-1].entries == 10 + noise.count(b"\n") + 1 + 1
    for before, after in itertools.pairwise(chunks):
        assert after.first_entry == before.first_entry + before.entries


def test_seal_refuses_what_does_not_fit() -> None:
    """Too much raw and too much compressed are both told, so that the caller can halve."""
    about = {"execution_id": EXECUTION, "chunk_seq": 1, "first_entry": 1, "entries": 0}
    with pytest.raises(BlobTooLarge, match=str(limits.CHUNK_BLOB_BYTES_MAX)):
        seal([Segment(STDOUT, 1, b"a" * limits.CHUNK_RAW_BYTES_MAX)], **about)
    with pytest.raises(BlobTooLarge) as refused:
        seal([Segment(STDOUT, 1, random.Random(1).randbytes(140 * 1024))], **about)
    assert refused.value.blob_bytes > limits.CHUNK_BLOB_BYTES_MAX


def test_an_event_is_never_halved() -> None:
    """An event is one entry in one segment; one that cannot fit is its maker's mistake."""
    with pytest.raises(ValueError, match="event"):
        seal_all([Segment(EVENT, 1, random.Random(1).randbytes(200 * 1024))], execution_id="e")


def test_a_bomb_is_refused_before_memory_is_taken() -> None:
    """A blob that declares or holds more than the chunk says is refused by its header."""
    bomb = zstandard.ZstdCompressor(level=1).compress(b"\0" * (64 * 1024 * 1024))
    assert len(bomb) < limits.CHUNK_BLOB_BYTES_MAX
    with pytest.raises(BadChunk, match="67108864"):
        open_payload(with_blob(bomb))
    with pytest.raises(BadChunk, match="over the limit"):
        open_payload(with_blob(bomb, raw_bytes=64 * 1024 * 1024))


def test_a_frame_that_hides_its_size_is_refused() -> None:
    """A frame may leave its size out; ours never do, so such a blob is none of ours."""
    blob = zstandard.ZstdCompressor(write_content_size=False).compress(b"\0" * (1024 * 1024))
    with pytest.raises(BadChunk, match="-1"):
        open_payload(with_blob(blob))


def test_a_lying_header_is_refused() -> None:
    """A frame whose header declares the right size and holds another is refused."""
    good = zstandard.ZstdCompressor(level=1).compress(b"a" * 40)
    long = zstandard.ZstdCompressor(level=1).compress(b"a" * 41)
    assert long[5] == 41
    lying = long[:5] + bytes([40]) + long[6:]
    assert zstandard.frame_content_size(good) == zstandard.frame_content_size(lying) == 40
    with pytest.raises(BadChunk):
        open_payload(with_blob(lying, raw_bytes=40))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x01\x00", "cut off"),
        (struct.pack(">BBQI", 1, 0, 5, 100) + b"short", "longer than the payload"),
        (struct.pack(">BBQI", 9, 0, 5, 1) + b"x", "unknown stream 9"),
        (encode_payload([Segment(STDOUT, 1, b"a\nb\n")]), "2 entries begin"),
    ],
)
def test_garbage_inside_a_sound_blob_is_refused(payload: bytes, reason: str) -> None:
    """A payload that is not segments, or not as many entries as said, is a bad chunk."""
    chunk = with_blob(
        zstandard.ZstdCompressor(level=1).compress(payload), raw_bytes=len(payload), entries=1
    )
    with pytest.raises(BadChunk, match=reason) as bad:
        open_spans(chunk)
    assert bad.value.chunk_seq == 1
    assert bad.value.execution_id == EXECUTION
    assert str(bad.value).startswith("chunk 1 of execution")


def test_every_flipped_bit_is_noticed() -> None:
    """A blob damaged anywhere is refused by its checksum."""
    chunk = one(Segment(STDOUT, 1, b"some words\n" * 20))
    for index in range(len(chunk.blob)):
        blob = bytearray(chunk.blob)
        blob[index] ^= 0x10
        with pytest.raises(BadChunk, match="checksum"):
            open_chunk(msgspec.structs.replace(chunk, blob=bytes(blob)))


@given(st.binary(max_size=400))
def test_any_blob_is_refused_or_read_within_the_bound(blob: bytes) -> None:
    """Whatever a peer sends, the answer is BadChunk or a payload within the bound."""
    chunk = with_blob(blob)
    try:
        segments = open_chunk(chunk)
    except BadChunk:
        return
    assert sum(len(s.data) for s in segments) <= chunk.raw_bytes


def test_extra_bytes_after_the_frame_are_refused() -> None:
    """A second frame or padding behind the first would be content nobody counts."""
    chunk = one(Segment(STDOUT, 1, b"a\n"))
    padded = chunk.blob + b"more"
    with pytest.raises(BadChunk):
        open_chunk(msgspec.structs.replace(chunk, blob=padded, crc32=zlib.crc32(padded)))


def test_chunks_and_gaps_travel_as_frames() -> None:
    """Both are messages of the link and come back equal; sizes are checked as they are decoded."""
    chunk = one(Segment(STDOUT, 1, b"a\n"), style=b"\x1b[31m")
    gap = GapChunk(
        execution_id=EXECUTION, chunk_seq=2, through_seq=4, first_entry=2, entries=9, reason="quota"
    )
    for message in (chunk, gap):
        assert codec.decode_from_node(codec.encode(message)) == message
    frame = msgspec.msgpack.encode(msgspec.structs.replace(chunk, style=b"x" * 65))
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(frame, type=LogChunk)
    backwards = msgspec.msgpack.encode(
        {"type": "gap", **(msgspec.to_builtins(gap) | {"through_seq": 1})}
    )
    with pytest.raises(msgspec.ValidationError, match="ends before"):
        msgspec.msgpack.decode(backwards, type=GapChunk)


def gap_of(chunk_seq: int, through_seq: int, first_entry: int) -> GapChunk:
    """Make a gap of one entry."""
    return GapChunk(
        execution_id=EXECUTION,
        chunk_seq=chunk_seq,
        through_seq=through_seq,
        first_entry=first_entry,
        entries=1,
        reason="quota",
    )


@pytest.mark.parametrize(
    ("chunk_seq", "first_entry", "outcome"),
    [
        (4, 9, Outcome.KNOWN),
        (5, 12, Outcome.STORED),
        (5, 11, Outcome.HOLE),
        (5, 13, Outcome.HOLE),
        (6, 12, Outcome.HOLE),
    ],
)
def test_only_the_next_chunk_follows(chunk_seq: int, first_entry: int, outcome: Outcome) -> None:
    """Both numbers have to be the cursor's; older is known, anything else a hole."""
    cursor = LogCursor(next_chunk=5, next_entry=12)
    chunk = one(Segment(STDOUT, 1, b"a\n"), chunk_seq=chunk_seq, first_entry=first_entry)
    assert check_follows(cursor, chunk) is outcome
    assert check_follows(cursor, gap_of(chunk_seq, chunk_seq, first_entry)) is outcome


def test_a_gap_over_held_chunks_is_a_hole() -> None:
    """A gap may not take back what is held, and one wholly held is known."""
    cursor = LogCursor(next_chunk=5, next_entry=12)
    assert check_follows(cursor, gap_of(3, 6, 12)) is Outcome.HOLE
    assert check_follows(cursor, gap_of(2, 4, 9)) is Outcome.KNOWN
    assert check_follows(cursor, gap_of(5, 8, 12)) is Outcome.STORED
    assert advance(cursor, gap_of(5, 8, 12)).next_chunk == 9
    assert through(gap_of(5, 8, 12)) == 8


def test_the_chain_tells_histories_apart() -> None:
    """Any difference in what was said, or in its order, changes the digest."""
    chunk = one(Segment(STDOUT, 1, b"a\n"))
    other = one(Segment(STDOUT, 1, b"b\n"))
    gap = gap_of(1, 1, 1)
    start = LogCursor().digest
    variants = [
        chain(start, chunk),
        chain(start, other),
        chain(b"\1" * 16, chunk),
        chain(start, msgspec.structs.replace(chunk, chunk_seq=2)),
        chain(start, msgspec.structs.replace(chunk, entries=2)),
        chain(start, msgspec.structs.replace(chunk, first_entry=2)),
        chain(start, gap),
        chain(start, gap_of(1, 2, 1)),
        chain(start, msgspec.structs.replace(gap, reason="corrupt")),
        chain(start, msgspec.structs.replace(gap, bytes=7)),
        chain(chain(start, chunk), other),
        chain(chain(start, other), chunk),
    ]
    assert len(set(variants)) == len(variants)
    assert all(len(digest) == 16 for digest in variants)
    assert advance(LogCursor(), chunk) == LogCursor(next_chunk=2, next_entry=2, digest=variants[0])


@given(segments_st, st.integers(0, 20))
def test_the_content_digest_does_not_depend_on_cuts(segments: list[Segment], cut: int) -> None:
    """One chunk or two, resumed or not: the digest is that of the content bytes in order."""
    whole = b"".join(bytes(s.data) for s in segments)
    chunks = [
        *seal_all(segments[:cut], execution_id=EXECUTION),
        gap_of(2, 2, 1),
        *seal_all(segments[cut:], execution_id=EXECUTION),
    ]
    resumed = ContentDigest.resume(chunks[:1])
    for chunk in chunks[1:]:
        resumed.add(chunk)
    assert resumed.digest() == hashlib.sha256(whole).digest()[:16]
    assert resumed.content_bytes == len(whole)
