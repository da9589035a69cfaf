"""One value of each message, and the frames as a release wrote them: what `skep.v1` means for ever.

`python -m tests.protocol.golden_frames --write` writes the frames that are not there yet. A frame
that exists is never written again: another release has to read what this one sent.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from protocol import codec
from protocol import messages as m
from protocol.errors import ErrorBody
from protocol.log_chunks import GapChunk, LogChunk
from protocol.ops import EpochState, Op, Record

FOLDER: Final = Path(__file__).parent / "golden"

_DIGEST: Final = bytes(range(16))
_RECORD: Final = Record("attempt", "a-1", 1_700_000_000_000, b"\x80", 3, 7)
_CHUNK: Final = LogChunk(
    execution_id="e-1",
    chunk_seq=4,
    first_entry=9,
    entries=2,
    raw_bytes=30,
    crc32=4_000_000_000,
    first_ms=1_700_000_000_000,
    last_ms=1_700_000_000_250,
    blob=b"\x28\xb5\x2f\xfd",
    style=b"31",
)
_GAP: Final = GapChunk(
    execution_id="e-1",
    chunk_seq=5,
    through_seq=8,
    first_entry=11,
    entries=1,
    reason="quota",
    bytes=1_000,
    first_ms=1_700_000_000_300,
    last_ms=1_700_000_000_400,
)

FROM_NODE: Final[tuple[m.NodeMessage, ...]] = (
    m.Hello(
        node_id="n-1",
        instance=77,
        connect_no=3,
        host="hive.example",
        signature=bytes(64),
        version="0.1.0",
        epochs=[EpochState(1, 5, 9, _DIGEST), EpochState(2, 1, 0, bytes(16))],
        generation_seen=4,
        features=["later"],
    ),
    m.HelloLogs(logs=[m.LogState("e-1", 5, 11, _DIGEST)], last=True),
    m.Forked(epoch=1, seq=7, digest=_DIGEST),
    m.LogProbe(execution_id="e-1", digests=[(4, _DIGEST), (3, bytes(16))]),
    m.Ops(epoch=2, first_seq=1, ops=[Op("attempt", "a-1", 1_700_000_000_000, b"\x80")]),
    m.Snapshot(snapshot_id="s-1", epoch=2, seq=4, records=[_RECORD], last=False),
    m.Skip(epoch=1, through=4, digest=_DIGEST),
    _CHUNK,
    _GAP,
    m.Fetched(request_id="r-1", chunk=_GAP),
    m.Records(request_id="r-1", records=[_RECORD]),
    m.NeedDone(
        request_id="r-1",
        outcomes=[m.NeedOutcome("e-1", "sent", 2), m.NeedOutcome("e-2", "gone", 0, "purged")],
        more=True,
    ),
    m.Result(
        call_id="c-1",
        error=ErrorBody(
            code="not_found", message="gone", hint="look", retryable=True, details={"path": "a"}
        ),
    ),
    m.Opened(call_id="c-1", body=b"\x80"),
    m.Part(call_id="c-1", n=2, data=b"bytes"),
    m.End(call_id="c-1"),
    m.Heartbeat(
        n=6,
        activity="running",
        slots_total=4,
        slots_busy=1,
        outbox=m.OutboxState(ops=1, chunks=2, bytes=300, oldest_ms=1_700_000_000_000),
    ),
    m.LiveText(session_id="s-1", message_id="m-1", role="assistant", at=12, text="Next I "),
    m.NodePong(n=8),
)

FROM_HIVE: Final[tuple[m.HiveMessage, ...]] = (
    m.Challenge(hive_id="h-1", nonce=bytes(range(32))),
    m.Welcome(
        hive_id="h-1",
        generation=4,
        link_no=12,
        hive_time_ms=1_700_000_000_000,
        marks=[m.EpochMark(1, 9, _DIGEST)],
        credit=65_536,
        newest=(1, 9),
        snapshot_wanted=True,
        forks=[m.Fork(1, [(9, _DIGEST), (8, bytes(16))])],
        features=["later"],
        keys={"k-1": bytes(32)},
    ),
    m.WelcomeLogs(marks=[m.LogMark("e-1", 5, 11, _DIGEST, True)], last=True),
    m.Ack(link_no=12, generation=4, epoch=2, seq=1),
    m.LogAck(link_no=12, generation=4, marks=[m.LogMark("e-1", 5, 11, _DIGEST)]),
    m.LogAgreed(mark=m.LogMark("e-1", 5, 11, _DIGEST), through=3),
    m.Credit(total=131_072),
    m.HeartbeatReply(
        n=6, hive_time_ms=1_700_000_000_000, marks=[m.EpochMark(2, 1, _DIGEST)], credit=131_072
    ),
    m.Ping(n=8),
    m.Need(
        request_id="r-1",
        kind="logs",
        ids=["e-1"],
        after=[10],
        from_chunk=[5],
        digests=[_DIGEST],
        max_bytes=1_000,
    ),
    m.Call(
        call_id="c-1",
        operation="stop",
        attempt_id="a-1",
        body=b"\x80",
        capability="a.b.c",
        time_left_ms=30_000,
        idempotency_key="key",
        expected_head="abc",
        expected_execution="e-1",
        fence="f-1",
    ),
    m.PartCredit(call_id="c-1", total=262_144),
    m.Cancel(call_id="c-1"),
    m.Links(
        links=[
            m.ProjectLink(
                checkout_id="k-1", project_id="p-1", project_name="bees", sync_policy="lazy"
            )
        ],
        over=[m.WorktreeOver("a-1", 1_700_000_000_000)],
    ),
    m.Safe(epochs=[(1, 9, _DIGEST)], logs=[("e-1", _DIGEST)], backups=False),
    m.Draining(retry_after_ms=2_000),
)


def path_of(message: m.NodeMessage | m.HiveMessage) -> Path:
    """Return where the golden frame of this message lies."""
    return FOLDER / f"{message.__struct_config__.tag}.bin"


def main() -> int:
    """Write the frames that are not there yet."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--write", action="store_true", required=True)
    parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for message in (*FROM_NODE, *FROM_HIVE):
        path, frame = path_of(message), codec.encode(message)
        if not path.exists():
            path.write_bytes(frame)
        elif path.read_bytes() != frame:
            sys.stderr.write(f"{path} says something else; a golden frame is never rewritten\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
