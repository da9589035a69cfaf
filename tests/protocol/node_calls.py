"""A node's end of a link brought to where a test begins, and messages that a hive would send it."""

from collections.abc import Sequence
from typing import Any

from protocol import messages as m
from protocol.log_chunks import LogChunk
from protocol.node_link import Caller, NodeLink, Phase
from protocol.ops import EpochState, Op

D = bytes(16)
OURS = b"o" * 16
THEIRS = b"t" * 16
CALLER = Caller(
    node_id="n-1",
    instance=7,
    connect_no=2,
    host="hive.example",
    hive_id="h-1",
    generation_seen=4,
    version="0.1.0",
    sign=lambda signed: b"signed:" + signed,
)


def op(body: bytes = b"\x80") -> Op:
    """Return an op."""
    return Op("task", "t-1", 1, body)


def chunk(execution_id: str = "e-1", number: int = 1, blob: bytes = b"blob") -> LogChunk:
    """Return a chunk of a log."""
    return LogChunk(
        execution_id=execution_id,
        chunk_seq=number,
        first_entry=number,
        entries=1,
        raw_bytes=9,
        crc32=0,
        first_ms=1,
        last_ms=1,
        blob=blob,
    )


def welcome(marks: Sequence[m.EpochMark] = (), **other: Any) -> m.Welcome:
    """Return a welcome of link 12 in generation 4."""
    fields: dict[str, Any] = {
        "hive_id": "h-1",
        "generation": 4,
        "link_no": 12,
        "hive_time_ms": 1,
        "credit": 1_000,
    }
    return m.Welcome(marks=list(marks), **fields | other)


def called(
    epochs: Sequence[EpochState] = (), logs: Sequence[m.LogState] = (), *, singly: bool = False
) -> NodeLink:
    """Return a link that has sent its hello."""
    link = NodeLink(CALLER, epochs, logs, singly=singly)
    link.receive(m.Challenge(hive_id="h-1", nonce=b"nonce"))
    return link


def live(
    epochs: Sequence[EpochState] = (),
    logs: Sequence[m.LogState] = (),
    marks: Sequence[m.EpochMark] = (),
    cursors: Sequence[m.LogMark] = (),
    *,
    singly: bool = False,
    **other: Any,
) -> NodeLink:
    """Return a live link whose two ends agree."""
    link = called(epochs, logs, singly=singly)
    link.receive(welcome(marks, **other))
    link.receive(m.WelcomeLogs(marks=list(cursors), last=True))
    link.settled({}, {})
    assert link.phase is Phase.LIVE
    return link


def streaming(*execution_ids: str, credit: int = 1_000) -> NodeLink:
    """Return a live link with logs of four chunks each, none of which the hive holds."""
    return live(
        logs=[m.LogState(name, 5, 5, OURS) for name in execution_ids],
        cursors=[m.LogMark(name, 1, 1, D) for name in execution_ids],
        credit=credit,
    )


def ack(epoch: int, seq: int, *, link_no: int = 12, generation: int = 4) -> m.Ack:
    """Return an acknowledgement of ops."""
    return m.Ack(link_no=link_no, generation=generation, epoch=epoch, seq=seq)


def log_ack(execution_id: str, next_chunk: int, *, link_no: int = 12) -> m.LogAck:
    """Return an acknowledgement of chunks."""
    mark = m.LogMark(execution_id, next_chunk, next_chunk, OURS)
    return m.LogAck(link_no=link_no, generation=4, marks=[mark])
