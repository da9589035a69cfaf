"""Frames to values and back: msgpack, bounded, and strict about what is not a frame at all."""

from typing import Any, Final

import msgspec

from protocol import limits
from protocol.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from protocol.messages import HiveMessage, NodeMessage

_ENCODER: Final = msgspec.msgpack.Encoder()
_FROM_NODE: Final = msgspec.msgpack.Decoder(NodeMessage)
_FROM_HIVE: Final = msgspec.msgpack.Decoder(HiveMessage)


def encode(message: NodeMessage | HiveMessage) -> bytes:
    """Encode a frame. Raises LocalProtocolError where it is larger than the wire allows."""
    frame = _ENCODER.encode(message)
    if len(frame) > limits.FRAME_BYTES_MAX:
        raise LocalProtocolError(
            ErrorCode.TOO_LARGE,
            f"a frame of {len(frame)} bytes is over the limit of {limits.FRAME_BYTES_MAX}",
            frame_type=type(message).__name__,
        )
    return frame


def decode_from_node(frame: bytes) -> NodeMessage:
    """Decode what a node sent. Raises RemoteProtocolError (close 4400) for anything else."""
    message: NodeMessage = _decode(_FROM_NODE, frame)
    return message


def decode_from_hive(frame: bytes) -> HiveMessage:
    """Decode what a hive sent. Raises RemoteProtocolError (close 4400) for anything else."""
    message: HiveMessage = _decode(_FROM_HIVE, frame)
    return message


def _decode(decoder: msgspec.msgpack.Decoder[Any], frame: bytes) -> Any:
    if len(frame) > limits.FRAME_BYTES_MAX:
        raise RemoteProtocolError(
            ErrorCode.BAD_FRAME, f"a frame of {len(frame)} bytes is over the limit"
        )
    try:
        return decoder.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(
            ErrorCode.BAD_FRAME, "the frame is not a message of skep.v1", reason=str(error)
        ) from error
