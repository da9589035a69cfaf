"""The frame of the spool: what stands before each read of a pipe on disk.

Shared by the supervisor (writes) and `spool` (reads). Imports the standard library only; no I/O.
"""

import struct
import zlib
from typing import Final

STDOUT: Final = 1
STDERR: Final = 2
#: A frame of this stream tells what is missing at its place, as JSON: `{reason, streams: {stream:
#: [from, to, newlines]}, through?}`; `through` where the file stands for whole segments.
GAP: Final = 0

FRAME_MAGIC: Final = 0xB5
#: Magic, stream, at_ms, offset of the payload in its stream, length of the payload.
_HEAD: Final = struct.Struct("<BBQQI")
#: crc32 of all of the frame but itself.
_CRC: Final = struct.Struct("<I")
HEADER_BYTES: Final = _HEAD.size + _CRC.size
#: The largest payload: one read of a pipe. A header that says more is no header.
PAYLOAD_BYTES_MAX: Final = 256 * 1024


def frame_header(stream: int, at_ms: int, offset: int, payload: bytes | memoryview) -> bytes:
    """Return the header that goes before `payload`."""
    head = _HEAD.pack(FRAME_MAGIC, stream, at_ms, offset, len(payload))
    return head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head)))


def read_header(buffer: memoryview, at: int) -> tuple[int, int, int, int] | None:
    """Return stream, at_ms, offset and length of the header at `at`; None if it cannot be one."""
    magic, stream, at_ms, offset, length = _HEAD.unpack_from(buffer, at)
    if magic != FRAME_MAGIC or stream > STDERR or length > PAYLOAD_BYTES_MAX:
        return None
    return stream, at_ms, offset, length


def crc_holds(buffer: memoryview, at: int, length: int) -> bool:
    """Whether the frame at `at`, wholly in the buffer, is as it was written."""
    head_end = at + _HEAD.size
    payload = buffer[at + HEADER_BYTES : at + HEADER_BYTES + length]
    found: int = _CRC.unpack_from(buffer, head_end)[0]
    return zlib.crc32(payload, zlib.crc32(buffer[at:head_end])) == found
