"""What one release sends, every other of the same subprotocol reads."""

import sys
import typing

import msgspec
import pytest

from protocol import codec, messages
from protocol.errors import RemoteProtocolError
from protocol.messages import HiveMessage, NodeMessage
from tests.protocol import golden_frames
from tests.protocol.golden_frames import FROM_HIVE, FROM_NODE, path_of

MEMBERS = [*typing.get_args(NodeMessage), *typing.get_args(HiveMessage)]


def _name(message: NodeMessage | HiveMessage) -> str:
    return type(message).__name__


@pytest.mark.parametrize("message", FROM_NODE, ids=_name)
def test_hive_reads_golden_frame(message: NodeMessage) -> None:
    """The hive reads a node's golden frame as the same value, and writes it as the same bytes."""
    frame = path_of(message).read_bytes()
    assert codec.decode_from_node(frame) == message
    assert codec.encode(message) == frame


@pytest.mark.parametrize("message", FROM_HIVE, ids=_name)
def test_node_reads_golden_frame(message: HiveMessage) -> None:
    """The node reads a hive's golden frame as the same value, and writes it as the same bytes."""
    frame = path_of(message).read_bytes()
    assert codec.decode_from_hive(frame) == message
    assert codec.encode(message) == frame


def test_each_message_has_a_golden_frame() -> None:
    """No member of either union is without a golden frame, and no frame is without its message."""
    values = (*FROM_NODE, *FROM_HIVE)
    assert {type(value) for value in FROM_NODE} == set(typing.get_args(NodeMessage))
    assert {type(value) for value in FROM_HIVE} == set(typing.get_args(HiveMessage))
    assert set(golden_frames.FOLDER.iterdir()) == {path_of(value) for value in values}


def test_golden_frame_is_never_rewritten(
    tmp_path: typing.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command writes what is missing and refuses where a frame says something else."""
    monkeypatch.setattr(golden_frames, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["golden_frames", "--write"])
    assert golden_frames.main() == 0
    assert len(list(tmp_path.iterdir())) == len(MEMBERS)
    (tmp_path / "ping.bin").write_bytes(b"of another release")
    (tmp_path / "safe.bin").unlink()
    assert golden_frames.main() == 1
    assert (tmp_path / "ping.bin").read_bytes() == b"of another release"


@pytest.mark.parametrize("message", [*FROM_NODE, *FROM_HIVE], ids=_name)
def test_unknown_fields_are_ignored(message: NodeMessage | HiveMessage) -> None:
    """A field of a newer release changes nothing for an older reader."""
    fields = msgspec.msgpack.decode(path_of(message).read_bytes())
    frame = msgspec.msgpack.encode({**fields, "of_a_newer_release": [1, {"a": b"b"}]})
    decoded: NodeMessage | HiveMessage = (
        codec.decode_from_node(frame) if message in FROM_NODE else codec.decode_from_hive(frame)
    )
    assert decoded == message


@pytest.mark.parametrize("tag", ["of_a_newer_release", *sorted(messages.RESERVED_TAGS)])
def test_unknown_tags_are_refused(tag: str) -> None:
    """A message of a tag that means nothing here is refused by both ends."""
    frame = msgspec.msgpack.encode({"type": tag, "n": 1})
    with pytest.raises(RemoteProtocolError):
        codec.decode_from_node(frame)
    with pytest.raises(RemoteProtocolError):
        codec.decode_from_hive(frame)


def test_tags_are_used_once_and_reserved_ones_never() -> None:
    """Each tag names one message, and none that is reserved."""
    tags = [member.__struct_config__.tag for member in MEMBERS]
    assert len(set(tags)) == len(tags)
    assert not set(tags) & messages.RESERVED_TAGS


def test_a_message_of_the_wrong_direction_is_refused() -> None:
    """Neither end takes what only the other may say."""
    for message in FROM_HIVE:
        with pytest.raises(RemoteProtocolError):
            codec.decode_from_node(path_of(message).read_bytes())
    for sent in FROM_NODE:
        with pytest.raises(RemoteProtocolError):
            codec.decode_from_hive(path_of(sent).read_bytes())
