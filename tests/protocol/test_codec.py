"""Whatever arrives is a message or a broken rule, and nothing too large leaves."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, limits
from protocol.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from protocol.log_chunks import GapChunk, LogChunk
from protocol.messages import Part, Ping
from tests.protocol.golden_frames import FROM_HIVE, FROM_NODE

CHUNK = LogChunk(
    execution_id="e",
    chunk_seq=1,
    first_entry=1,
    entries=1,
    raw_bytes=1,
    crc32=0,
    first_ms=1,
    last_ms=1,
    blob=b"",
)
GAP = GapChunk(execution_id="e", chunk_seq=1, through_seq=1, first_entry=1, entries=1, reason="")
FRAMES = [codec.encode(message) for message in (*FROM_NODE, *FROM_HIVE)]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"\x01",
        b"text, not msgpack",
        codec.encode(Ping(n=1)) + b"\x00",
        msgspec.msgpack.encode({"n": 1}),
        msgspec.msgpack.encode({"type": "ping"}),
        msgspec.msgpack.encode({"type": "ping", "n": "one"}),
        b"\x82\xa4type\xa4ping\xa1n\xa2\xff\xfe",
        b"\x91" * 100_000,
        msgspec.msgpack.encode({"type": "ping", "n": 2**63}),
        msgspec.msgpack.encode({"type": "pong", "n": 2**64 - 1}),
        msgspec.msgpack.encode(
            {"type": "ops", "epoch": 1, "first_seq": 1, "ops": [["node", "n", 2**63, b""]]}
        ),
        *(
            msgspec.msgpack.encode({**msgspec.to_builtins(CHUNK), name: limits.NUMBER_MAX + 1})
            for name in ("chunk_seq", "first_entry", "entries", "first_ms", "last_ms")
        ),
        *(
            msgspec.msgpack.encode({**msgspec.to_builtins(GAP), name: limits.NUMBER_MAX + 1})
            for name in ("chunk_seq", "through_seq", "first_entry", "entries", "bytes", "last_ms")
        ),
        msgspec.msgpack.encode(
            {"type": "records", "request_id": "r", "records": [["node", "n", 1, b"", 1, 2**63]]}
        ),
    ],
)
def test_garbage_is_a_broken_rule(frame: bytes) -> None:
    """What is no message closes the link with 4400, at either end."""
    for decode in (codec.decode_from_hive, codec.decode_from_node):
        with pytest.raises(RemoteProtocolError) as caught:
            decode(frame)
        assert caught.value.meaning.close_code == 4400


@given(st.binary(max_size=300))
def test_any_bytes_raise_nothing_else(frame: bytes) -> None:
    """No bytes make a decoder raise anything but RemoteProtocolError."""
    for decode in (codec.decode_from_hive, codec.decode_from_node):
        with contextlib.suppress(RemoteProtocolError):
            decode(frame)


@given(st.sampled_from(FRAMES), st.data())
def test_a_damaged_frame_raises_nothing_else(frame: bytes, draw: st.DataObject) -> None:
    """A frame with one byte changed or its end cut off is read or refused, never worse."""
    place = draw.draw(st.integers(0, len(frame) - 1))
    changed = bytes([draw.draw(st.integers(0, 255))])
    for damaged in (frame[:place] + changed + frame[place + 1 :], frame[:place]):
        for decode in (codec.decode_from_hive, codec.decode_from_node):
            with contextlib.suppress(RemoteProtocolError):
                decode(damaged)


def test_a_frame_over_the_limit_is_not_read() -> None:
    """An oversize frame is refused for its size, before anything of it is decoded."""
    over = Part(call_id="c", n=0, data=bytes(limits.FRAME_BYTES_MAX))
    with pytest.raises(RemoteProtocolError, match="over the limit"):
        codec.decode_from_node(msgspec.msgpack.encode(over))


def test_a_frame_at_the_limit_passes() -> None:
    """The largest frame that is allowed goes out and comes in; one byte more does not go out."""
    empty = len(codec.encode(Part(call_id="c", n=0, data=bytes(70_000)))) - 70_000
    largest = Part(call_id="c", n=0, data=bytes(limits.FRAME_BYTES_MAX - empty))
    frame = codec.encode(largest)
    assert len(frame) == limits.FRAME_BYTES_MAX
    assert codec.decode_from_node(frame) == largest
    with pytest.raises(LocalProtocolError) as caught:
        codec.encode(Part(call_id="c", n=0, data=largest.data + b"."))
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert caught.value.details == {"frame_type": "Part"}
