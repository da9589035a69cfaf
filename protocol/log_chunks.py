"""Log chunks: segments packed into a payload, compressed once, and read back with a bound.

Owns what a chunk is, how many entries a segment begins, the digests over chunks and over content,
and the rule of what follows a cursor. Must not cut by time, redact, decode text or touch a store:
the node decides when a chunk ends, and readers decide how it is shown.

A payload is segments end to end, each behind a header `(stream u8, flags u8, at_ms u64,
length u32)`, big-endian. A segment is one read of a pipe, or one event; its lines share its time.
"""

import enum
import hashlib
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
import zstandard

from protocol import limits

STDOUT: Final = 1
STDERR: Final = 2
EVENT: Final = 3

DIGEST_BYTES: Final = 16
STYLE_BYTES_MAX: Final = 64
ID_CHARACTERS_MAX: Final = 128
_REASON_CHARACTERS_MAX: Final = 64

_HEADER: Final = struct.Struct(">BBQI")
SEGMENT_HEADER_BYTES: Final = _HEADER.size
_CONTINUED: Final = 1
_STREAMS: Final = frozenset({STDOUT, STDERR, EVENT})
# Level 1: a seventh of what deflate costs for the same ratio; every reader pays for a higher one
# only in the node's CPU, which the agent needs more.
_LEVEL: Final = 1

Count = Annotated[int, msgspec.Meta(ge=0, le=limits.NUMBER_MAX)]
Number = Annotated[int, msgspec.Meta(ge=1, le=limits.NUMBER_MAX)]


class Segment(NamedTuple):
    """Bytes of one stream that share a time.

    `continued`: the first of them go on with the line that stream had begun and not finished.
    """

    stream: int
    at_ms: int
    data: bytes | memoryview
    continued: bool = False


class Span(NamedTuple):
    """A segment inside a decoded payload: where its data begins and ends."""

    stream: int
    at_ms: int
    start: int
    end: int
    continued: bool


class LogChunk(msgspec.Struct, frozen=True, kw_only=True, tag="chunk"):
    """A numbered, compressed group of log entries of one execution.

    `first_entry` is the number of the first entry begun in it (the next to begin, where none is),
    `entries` how many are begun in it, `raw_bytes` the size of the payload, `crc32` that of the
    blob as it travels, `style` the terminal style (SGR codes) in force at its start.
    """

    execution_id: Annotated[str, msgspec.Meta(min_length=1, max_length=ID_CHARACTERS_MAX)]
    chunk_seq: Number
    first_entry: Number
    entries: Count
    raw_bytes: Annotated[int, msgspec.Meta(ge=0, le=limits.CHUNK_RAW_BYTES_MAX)]
    crc32: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    first_ms: Count
    last_ms: Count
    blob: Annotated[bytes, msgspec.Meta(max_length=limits.CHUNK_BLOB_BYTES_MAX)]
    style: Annotated[bytes, msgspec.Meta(max_length=STYLE_BYTES_MAX)] = b""


class GapChunk(msgspec.Struct, frozen=True, kw_only=True, tag="gap"):
    """Stands for chunks `chunk_seq` to `through_seq` that the node cannot send, and says why.

    `reason` is one of quota, power_cut, corrupt, lost_disk, node_restored, purged, disk_full,
    disk_failed, or what a newer node calls it. `bytes` is how much content is missing, where known.
    `entries` is at least one, so that readers can show the gap at a number of its own, unless the
    chunk it stands for is known to begin none.
    """

    execution_id: Annotated[str, msgspec.Meta(min_length=1, max_length=ID_CHARACTERS_MAX)]
    chunk_seq: Number
    through_seq: Number
    first_entry: Number
    entries: Count
    reason: Annotated[str, msgspec.Meta(max_length=_REASON_CHARACTERS_MAX)]
    bytes: Count = 0
    first_ms: Count = 0
    last_ms: Count = 0

    def __post_init__(self) -> None:
        if self.through_seq < self.chunk_seq:
            raise ValueError("a gap ends before it begins")


class BadChunk(Exception):  # noqa: N818  the words of the protocol: a bad chunk is what it is
    """A chunk whose blob is not what the chunk says. Attributes: `reason`, and which chunk."""

    def __init__(self, reason: str, chunk: LogChunk) -> None:
        super().__init__(reason)
        self.reason = reason
        self.execution_id = chunk.execution_id
        self.chunk_seq = chunk.chunk_seq

    def __str__(self) -> str:
        return f"chunk {self.chunk_seq} of execution {self.execution_id}: {self.reason}"


class BlobTooLarge(Exception):  # noqa: N818  not a failure: the caller halves and seals again
    """One chunk cannot hold these segments. Attribute: `blob_bytes`."""

    def __init__(self, blob_bytes: int) -> None:
        super().__init__(blob_bytes)
        self.blob_bytes = blob_bytes

    def __str__(self) -> str:
        return f"a blob of {self.blob_bytes} bytes is over {limits.CHUNK_BLOB_BYTES_MAX}"


class _Codecs(threading.local):
    """zstandard's contexts are reused (making one costs as much as a small chunk), never shared."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(
            level=_LEVEL, write_content_size=True, write_checksum=False
        )
        self.decompressor = zstandard.ZstdDecompressor()


_codecs = _Codecs()


# --- segments and payloads ------------------------------------------------------------------------


def entries_begun(data: bytes, start: int, end: int, *, continued: bool) -> int:
    """Return how many lines begin in `data[start:end]` of stdout or stderr."""
    if start >= end:
        return 0
    # Each newline ends a line; what follows the last one, if anything, is one more begun. The
    # first was begun earlier where the segment is continued.
    unfinished = data[end - 1] != 0x0A
    return data.count(b"\n", start, end) + unfinished - continued


def encode_payload(segments: Iterable[Segment]) -> bytes:
    """Pack segments into a payload; the only copy of the content before it is compressed."""
    parts: list[bytes | memoryview] = []
    for stream, at_ms, content, continued in segments:
        parts.append(
            _HEADER.pack(stream, _CONTINUED if continued else 0, at_ms, len(content)),
        )
        parts.append(content)
    return b"".join(parts)


def _spans(payload: bytes, chunk: LogChunk) -> Iterator[Span]:
    position, size = 0, len(payload)
    while position < size:
        start = position + SEGMENT_HEADER_BYTES
        if start > size:
            raise BadChunk("a segment's header is cut off", chunk)
        stream, flags, at_ms, length = _HEADER.unpack_from(payload, position)
        position = start + length
        if position > size:
            raise BadChunk("a segment is longer than the payload", chunk)
        if stream not in _STREAMS:
            raise BadChunk(f"unknown stream {stream}", chunk)
        yield Span(stream, at_ms, start, position, bool(flags & _CONTINUED))


# --- sealing and opening --------------------------------------------------------------------------


def seal(
    segments: Sequence[Segment],
    *,
    execution_id: str,
    chunk_seq: int,
    first_entry: int,
    entries: int,
    style: bytes = b"",
) -> LogChunk:
    """Seal segments as one chunk. Raises BlobTooLarge where they have to be halved."""
    payload = encode_payload(segments)
    if len(payload) > limits.CHUNK_RAW_BYTES_MAX:
        raise BlobTooLarge(len(payload))
    blob = _codecs.compressor.compress(payload)
    if len(blob) > limits.CHUNK_BLOB_BYTES_MAX:
        raise BlobTooLarge(len(blob))
    return LogChunk(
        execution_id=execution_id,
        chunk_seq=chunk_seq,
        first_entry=first_entry,
        entries=entries,
        raw_bytes=len(payload),
        crc32=zlib.crc32(blob),
        first_ms=min((segment.at_ms for segment in segments), default=0),
        last_ms=max((segment.at_ms for segment in segments), default=0),
        blob=blob,
        style=style,
    )


def seal_all(
    segments: Sequence[Segment],
    *,
    execution_id: str,
    chunk_seq: int = 1,
    first_entry: int = 1,
    style: bytes = b"",
) -> list[LogChunk]:
    """Seal segments as as many chunks as their size takes, each half the one that was too large.

    Counts entries itself. For logs that exist as a whole; a running one is cut by the log cutter.
    """
    entries = sum(_begun(segment) for segment in segments)
    try:
        whole = seal(
            segments,
            execution_id=execution_id,
            chunk_seq=chunk_seq,
            first_entry=first_entry,
            entries=entries,
            style=style,
        )
    except BlobTooLarge:
        first, second = _halve(segments)
    else:
        return [whole]
    chunks = seal_all(
        first,
        execution_id=execution_id,
        chunk_seq=chunk_seq,
        first_entry=first_entry,
        style=style,
    )
    after = chunks[-1]
    return chunks + seal_all(
        second,
        execution_id=execution_id,
        chunk_seq=after.chunk_seq + 1,
        first_entry=after.first_entry + after.entries,
        style=style,
    )


def _begun(segment: Segment) -> int:
    if segment.stream == EVENT:
        return 1
    content = bytes(segment.data)
    return entries_begun(content, 0, len(content), continued=segment.continued)


def _halve(segments: Sequence[Segment]) -> tuple[Sequence[Segment], Sequence[Segment]]:
    if len(segments) > 1:
        middle = len(segments) // 2
        return segments[:middle], segments[middle:]
    stream, at_ms, content, continued = segments[0]
    if stream == EVENT:
        raise ValueError("an event does not fit in one chunk; it is cut where it is made")
    middle = len(content) // 2
    mid_line = content[middle - 1] != 0x0A
    return (
        [Segment(stream, at_ms, content[:middle], continued)],
        [Segment(stream, at_ms, content[middle:], mid_line)],
    )


def open_payload(chunk: LogChunk) -> bytes:
    """Return the decompressed payload. Raises BadChunk; never makes more than the limit allows."""
    if chunk.raw_bytes > limits.CHUNK_RAW_BYTES_MAX:
        raise BadChunk(f"{chunk.raw_bytes} bytes are over the limit", chunk)
    if zlib.crc32(chunk.blob) != chunk.crc32:
        raise BadChunk("the checksum does not fit", chunk)
    try:
        # zstandard allocates what the frame's header says, whatever maximum it is given; so the
        # header is read first. A frame that does not say (-1) is none of ours.
        declared = zstandard.frame_content_size(chunk.blob)
        if declared != chunk.raw_bytes:
            raise BadChunk(f"it holds {declared} bytes and says {chunk.raw_bytes}", chunk)
        # Holding less or more than its header says is an error of zstd's own.
        return _codecs.decompressor.decompress(chunk.blob, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadChunk("it cannot be decompressed", chunk) from error


def open_spans(chunk: LogChunk) -> tuple[bytes, list[Span]]:
    """Return the payload and where its segments lie. Raises BadChunk also for a wrong count."""
    payload = open_payload(chunk)
    spans = list(_spans(payload, chunk))
    begun = 0
    for stream, _, start, end, continued in spans:
        begun += 1 if stream == EVENT else entries_begun(payload, start, end, continued=continued)
    if begun != chunk.entries:
        raise BadChunk(f"{begun} entries begin in it and it says {chunk.entries}", chunk)
    return payload, spans


def open_chunk(chunk: LogChunk) -> list[Segment]:
    """Return the segments of a chunk, their data as views of one payload. Raises BadChunk."""
    payload, spans = open_spans(chunk)
    view = memoryview(payload)
    return [
        Segment(span.stream, span.at_ms, view[span.start : span.end], span.continued)
        for span in spans
    ]


# --- cursors and digests --------------------------------------------------------------------------


class LogCursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far a log is held: what comes next, and the digest of all before. Fresh: nothing held."""

    next_chunk: Number = 1
    next_entry: Number = 1
    digest: bytes = bytes(DIGEST_BYTES)


class Outcome(enum.Enum):
    """What to do with a chunk that arrived."""

    STORED = "stored"
    KNOWN = "known"
    HOLE = "hole"


def check_follows(cursor: LogCursor, chunk: LogChunk | GapChunk) -> Outcome:
    """Return what the chunk is to one who holds the log up to `cursor`."""
    last = through(chunk)
    if last < cursor.next_chunk:
        return Outcome.KNOWN
    # A gap that begins among what is held would take back numbers that were given out.
    if chunk.chunk_seq == cursor.next_chunk and chunk.first_entry == cursor.next_entry:
        return Outcome.STORED
    return Outcome.HOLE


def advance(cursor: LogCursor, chunk: LogChunk | GapChunk) -> LogCursor:
    """Return the cursor after a chunk that follows it."""
    return LogCursor(
        next_chunk=through(chunk) + 1,
        next_entry=chunk.first_entry + chunk.entries,
        digest=chain(cursor.digest, chunk),
    )


def through(chunk: LogChunk | GapChunk) -> int:
    """Return the last chunk number this chunk stands for."""
    return chunk.through_seq if isinstance(chunk, GapChunk) else chunk.chunk_seq


def chain(digest: bytes, chunk: LogChunk | GapChunk) -> bytes:
    """Return the running digest of a log after `chunk`, given the one before it.

    Over what was said, not over what it decodes to: no reader has to decompress to compare. The
    first 16 bytes of SHA-256, for the reason that `ContentDigest` gives.
    """
    running = hashlib.sha256(digest)
    if isinstance(chunk, GapChunk):
        reason = chunk.reason.encode()
        running.update(
            b"gap %d %d %d %d %d|"
            % (chunk.chunk_seq, chunk.through_seq, chunk.first_entry, chunk.entries, chunk.bytes)
        )
        running.update(reason)
    else:
        running.update(
            b"chunk %d %d %d %d|"
            % (chunk.chunk_seq, chunk.first_entry, chunk.entries, len(chunk.blob))
        )
        running.update(chunk.blob)
    return running.digest()[:DIGEST_BYTES]


class ContentDigest:
    """Running digest and size of a log's decoded content: segment data only, in order.

    The first 16 bytes of SHA-256: processors compute it themselves, at twice BLAKE2b's speed, and
    this is the one digest that sees every byte an agent prints. It does not depend on where chunks
    were cut. Its state cannot be stored, so one who goes on with a log after a restart reads the
    committed chunks again: `ContentDigest.resume(chunks)`.
    """

    def __init__(self) -> None:
        self._running = hashlib.sha256()
        self.content_bytes = 0

    @classmethod
    def resume(cls, chunks: Iterable[LogChunk | GapChunk]) -> "ContentDigest":
        """Take in the chunks committed so far. Raises BadChunk."""
        content = cls()
        for chunk in chunks:
            content.add(chunk)
        return content

    def update(self, content: bytes | memoryview) -> None:
        self._running.update(content)
        self.content_bytes += len(content)

    def add(self, chunk: LogChunk | GapChunk) -> None:
        """Take in a chunk; a gap has no content. Raises BadChunk."""
        if isinstance(chunk, LogChunk):
            for segment in open_chunk(chunk):
                self.update(segment.data)

    def digest(self) -> bytes:
        return self._running.digest()[:DIGEST_BYTES]
