"""The hive's end of a link, driven message by message."""

import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, hive_link, limits
from protocol import messages as m
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.hive_link import (
    Answered,
    Beat,
    CommitChunk,
    CommitOps,
    CommitRecords,
    CommitSkip,
    CommitSnapshot,
    FindAgreed,
    ForkSeen,
    HiveLink,
    Judge,
    NeedAnswered,
    Phase,
    Ponged,
    Said,
)
from protocol.log_chunks import GapChunk, LogChunk
from protocol.ops import EpochState, Op, Record

D = bytes(16)
EPOCHS = (EpochState(1, 4, 9, D), EpochState(2, 1, 3, D))
MARKS = (m.EpochMark(1, 6, D), m.EpochMark(2, 1, D))
CHUNK = LogChunk(
    execution_id="e-1",
    chunk_seq=1,
    first_entry=1,
    entries=1,
    raw_bytes=9,
    crc32=0,
    first_ms=1,
    last_ms=1,
    blob=b"blob",
)
GAP = GapChunk(
    execution_id="e-1", chunk_seq=1, through_seq=3, first_entry=1, entries=1, reason="quota"
)


def hello(epochs: Sequence[EpochState] = EPOCHS) -> m.Hello:
    """Return a hello."""
    return m.Hello(
        node_id="n-1",
        instance=7,
        connect_no=2,
        host="hive.example",
        signature=b"",
        version="0.1.0",
        epochs=list(epochs),
    )


def judging(epochs: Sequence[EpochState] = EPOCHS) -> HiveLink:
    """Return a link whose hello is whole."""
    link = HiveLink("h-1", b"nonce")
    link.receive(hello(epochs))
    link.receive(m.HelloLogs(logs=[], last=True))
    return link


def welcome(
    link: HiveLink, marks: Sequence[m.EpochMark] = MARKS, logs: Sequence[m.LogMark] = ()
) -> list[m.HiveMessage]:
    """Welcome the node."""
    return link.welcomed(
        generation=4,
        link_no=12,
        hive_time_ms=1,
        marks=marks,
        newest=(2, 1),
        snapshot_wanted=True,
        forks=[m.Fork(1, [(6, D)])],
        logs=logs,
        keys={"k-1": b"key"},
    )


def live() -> HiveLink:
    """Return a live link: epoch 1 is finished at 9 and held to 6, epoch 2 is held to 1."""
    link = judging()
    welcome(link)
    return link


def test_features_are_those_of_both() -> None:
    """The welcome names what both ends can do, and nothing that only one can."""
    link = HiveLink("h-1", b"nonce")
    link.receive(msgspec.structs.replace(hello(), features=["live_text", "later"]))
    link.receive(m.HelloLogs(logs=[], last=True))
    first = welcome(link)[0]
    assert isinstance(first, m.Welcome)
    assert first.features == ["live_text"]
    said = m.LiveText(session_id="s", message_id="m", role="assistant", at=0, text="a")
    assert link.receive(said) == [Said(said)]
    names = "a" * (limits.LIVE_TEXT_NAMES_BYTES_MAX + 1)
    for wrong in (
        {"text": "a" * (limits.LIVE_TEXT_BYTES_MAX + 1)},
        {"at": -1},
        {"role": names},
        {"session_id": names},
        {"message_id": names},
    ):
        with pytest.raises(RemoteProtocolError):
            link.receive(msgspec.structs.replace(said, **wrong))


def test_live_text_of_a_node_that_named_no_such_is_refused() -> None:
    """A new kind of frame comes only after both ends named its feature."""
    with pytest.raises(RemoteProtocolError):
        live().receive(m.LiveText(session_id="s", message_id="m", role="user", at=0, text="a"))


def ops(epoch: int, first_seq: int, count: int = 1, body: bytes = b"\x80") -> m.Ops:
    """Return a frame of ops, told apart by their entity ids."""
    made = [Op("task", f"t-{seq}", 1, body) for seq in range(first_seq, first_seq + count)]
    return m.Ops(epoch=epoch, first_seq=first_seq, ops=made)


# --- handshake ------------------------------------------------------------------------------------


def test_a_hello_is_judged_once_all_its_pages_are_there() -> None:
    """The shell gets the hello with the logs of all pages, in order."""
    link = HiveLink("h-1", b"nonce")
    assert link.challenge() == m.Challenge(hive_id="h-1", nonce=b"nonce")
    logs = [m.LogState(f"e-{n}", 1, 1, D) for n in range(3)]
    assert link.receive(hello()) == []
    assert link.receive(m.HelloLogs(logs=logs[:2], last=False)) == []
    assert link.receive(m.HelloLogs(logs=logs[2:], last=True)) == [Judge(hello(), tuple(logs))]
    assert link.phase is Phase.JUDGING


def test_a_hello_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither logs nor epochs of a hello can fill the hive's memory."""
    monkeypatch.setattr(hive_link, "HELLO_LOGS_MAX", 2)
    link = HiveLink("h-1", b"")
    link.receive(hello())
    page = m.HelloLogs(logs=[m.LogState("e", 1, 1, D)], last=False)
    link.receive(page)
    link.receive(page)
    with pytest.raises(RemoteProtocolError, match="too many logs"):
        link.receive(page)
    most = [EpochState(n, 1, 1, D) for n in range(limits.HELLO_EPOCHS_MAX)]
    assert judging(most).phase is Phase.JUDGING
    with pytest.raises(RemoteProtocolError, match="too many epochs"):
        judging([*most, EpochState(0, 1, 1, D)])


@pytest.mark.parametrize(
    ("epochs", "logs"),
    [
        pytest.param([EpochState(1, 1, 1, D), EpochState(1, 1, 1, D)], [], id="an epoch twice"),
        pytest.param([EpochState(-1, 1, 1, D)], [], id="an epoch below 0"),
        pytest.param([EpochState(1, 0, 1, D)], [], id="ops before the first"),
        pytest.param([EpochState(1, 1, -1, D)], [], id="less than no ops"),
        pytest.param([EpochState(1, 1, limits.NUMBER_MAX + 1, D)], [], id="too many ops"),
        pytest.param([], [m.LogState("e", 0, 1, D)], id="chunks before the first"),
        pytest.param([], [m.LogState("e", 1, limits.NUMBER_MAX + 1, D)], id="too many entries"),
        pytest.param([], [m.LogState("e" * 129, 1, 1, D)], id="a long name"),
        pytest.param([], [m.LogState("e", 1, 1, D + b"d")], id="a long digest"),
    ],
)
def test_a_hello_of_impossible_numbers_is_refused(
    epochs: list[EpochState], logs: list[m.LogState]
) -> None:
    """What no store of a node holds is no hello: 4400, before anything of it is looked up."""
    link = HiveLink("h-1", b"nonce")
    link.receive(hello(epochs))
    with pytest.raises(RemoteProtocolError) as caught:
        link.receive(m.HelloLogs(logs=logs, last=True))
    assert caught.value.meaning.close_code == 4400


def test_a_hello_that_does_not_go_on_is_refused() -> None:
    """Each frame gives its caller more time: one that says nothing is not taken."""
    link = HiveLink("h-1", b"nonce")
    link.receive(hello())
    with pytest.raises(RemoteProtocolError, match="without logs"):
        link.receive(m.HelloLogs(logs=[], last=False))


def test_a_message_out_of_turn_breaks_the_rules() -> None:
    """Nothing but the hello is taken before the link is live, and no second hello after."""
    link = HiveLink("h-1", b"")
    with pytest.raises(RemoteProtocolError, match="Heartbeat while the link is await_hello"):
        link.receive(m.Heartbeat(n=1))
    link.receive(hello())
    with pytest.raises(RemoteProtocolError, match="await_hello_logs"):
        link.receive(ops(1, 7))
    link.receive(m.HelloLogs(logs=[], last=True))
    with pytest.raises(RemoteProtocolError, match="judging"):
        link.receive(ops(1, 7))
    welcome(link)
    with pytest.raises(RemoteProtocolError, match="on a live link"):
        link.receive(hello())


def test_only_a_whole_hello_is_welcomed() -> None:
    """A welcome without a hello, or a second one, is a bug of ours."""
    with pytest.raises(LocalProtocolError):
        welcome(HiveLink("h-1", b""))
    with pytest.raises(LocalProtocolError):
        welcome(live())


def test_a_closed_link_takes_nothing() -> None:
    """A message after the close is a bug of ours."""
    link = live()
    link.close()
    with pytest.raises(LocalProtocolError):
        link.receive(m.Heartbeat(n=1))


def test_the_welcome_says_what_is_held() -> None:
    """Marks, newest, forks, keys and the first credit stand in it; cursors follow on pages."""
    link = judging()
    cursors = [m.LogMark(f"e-{n}", 1, 1, D) for n in range(limits.HELLO_LOGS_PER_PAGE_MAX + 1)]
    first, *pages = welcome(link, logs=cursors)
    assert first == m.Welcome(
        hive_id="h-1",
        generation=4,
        link_no=12,
        hive_time_ms=1,
        marks=list(MARKS),
        credit=limits.CREDIT_WINDOW_BYTES_FIRST,
        newest=(2, 1),
        snapshot_wanted=True,
        forks=[m.Fork(1, [(6, D)])],
        keys={"k-1": b"key"},
    )
    assert pages == [
        m.WelcomeLogs(marks=cursors[:-1], last=False),
        m.WelcomeLogs(marks=cursors[-1:], last=True),
    ]
    assert welcome(judging())[1:] == [m.WelcomeLogs(marks=[], last=True)]


# --- ops, snapshots and skips ---------------------------------------------------------------------


def test_exactly_what_follows_the_mark_is_committed() -> None:
    """Known ops are left out, new ones are committed once, and the mark moves before the commit."""
    link = live()
    assert link.receive(ops(2, 2, 2)) == [CommitOps(2, 2, tuple(ops(2, 2, 2).ops))]
    assert link.receive(ops(2, 2, 2)) == []
    assert link.receive(ops(2, 1, 4)) == [CommitOps(2, 4, tuple(ops(2, 4).ops))]
    assert link.ops_committed(2, 4, b"digest") == m.Ack(link_no=12, generation=4, epoch=2, seq=4)


def test_a_hole_closes_the_link() -> None:
    """An op beyond mark + 1 is not taken, and says which was due."""
    with pytest.raises(RemoteProtocolError, match="op 3 where 2 was due") as caught:
        live().receive(ops(2, 3))
    assert caught.value.meaning.close_code == 4410


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        pytest.param(ops(3, 1), "did not name", id="unknown epoch"),
        pytest.param(ops(2, 0), "out of bounds", id="before the first"),
        pytest.param(ops(2, 2, limits.OPS_PER_FRAME_MAX + 1), "out of bounds", id="too many"),
        pytest.param(ops(2, 2, 1, bytes(limits.OP_BODY_BYTES_MAX + 1)), "too large", id="body"),
        pytest.param(ops(1, 7, 4), "beyond the end", id="beyond a finished epoch"),
        pytest.param(
            m.Snapshot(snapshot_id="s", epoch=3, seq=1, records=[], last=True),
            "did not name",
            id="snapshot of an unknown epoch",
        ),
        pytest.param(
            m.Skip(epoch=3, through=1, digest=D), "did not name", id="skip of an unknown epoch"
        ),
        pytest.param(ops(2, limits.NUMBER_MAX, 2), "out of bounds", id="beyond all numbers"),
        pytest.param(
            m.Snapshot(snapshot_id="s", epoch=2, seq=-1, records=[], last=True),
            "out of bounds",
            id="snapshot before the first op",
        ),
        pytest.param(
            m.Snapshot(snapshot_id="s" * 129, epoch=2, seq=1, records=[], last=True),
            "out of bounds",
            id="long name of a snapshot",
        ),
        pytest.param(m.Heartbeat(n=1, activity="a" * 201), "too long", id="activity"),
        pytest.param(
            m.LogProbe(execution_id="e", digests=[(1, D)] * (limits.LOG_PROBE_DIGESTS_MAX + 1)),
            "probe is too large",
            id="probe",
        ),
    ],
)
def test_frames_out_of_bounds_are_refused(frame: m.NodeMessage, reason: str) -> None:
    """A node that breaks a bound is closed with 4400, and nothing of the frame is taken."""
    link = live()
    with pytest.raises(RemoteProtocolError, match=reason) as caught:
        link.receive(frame)
    assert caught.value.meaning.close_code == 4400
    assert link.receive(ops(2, 2)) == [CommitOps(2, 2, tuple(ops(2, 2).ops))]


def test_the_largest_frames_are_taken() -> None:
    """Exactly at each bound a frame is fine."""
    link = live()
    assert len(link.receive(ops(2, 2, limits.OPS_PER_FRAME_MAX))) == 1
    assert len(link.receive(ops(1, 7, 3, bytes(limits.OP_BODY_BYTES_MAX)))) == 1


def test_a_skip_stands_behind_a_whole_snapshot() -> None:
    """Ops are given up only once their state is whole, and then what follows the skip is next."""
    link = live()
    skip = m.Skip(epoch=1, through=3, digest=D)
    page = m.Snapshot(snapshot_id="s", epoch=2, seq=1, records=[], last=False)
    with pytest.raises(RemoteProtocolError, match="no snapshot"):
        link.receive(skip)
    assert link.receive(page) == [CommitSnapshot(page)]
    with pytest.raises(RemoteProtocolError, match="no snapshot"):
        link.receive(skip)
    last = msgspec.structs.replace(page, last=True)
    assert link.receive(last) == [CommitSnapshot(last)]
    # Another begins; the whole one is still there.
    link.receive(page)
    assert link.receive(skip) == [CommitSkip(skip)]
    assert len(link.receive(ops(1, 7))) == 1, "a skip behind the mark does not lower it"
    with pytest.raises(RemoteProtocolError, match="no snapshot"):
        link.receive(m.Skip(epoch=1, through=4, digest=D))


def test_a_skip_without_its_digest_is_refused() -> None:
    """Ops are chained to it: with any other bytes there the node would seem to be two."""
    link = live()
    link.receive(m.Snapshot(snapshot_id="s", epoch=2, seq=1, records=[], last=True))
    with pytest.raises(RemoteProtocolError, match="without its digest"):
        link.receive(m.Skip(epoch=1, through=3, digest=b""))


def test_a_skip_raises_the_mark() -> None:
    """After a skip beyond the mark, the op that follows it is next."""
    link = judging()
    welcome(link, [m.EpochMark(1, 1, D), m.EpochMark(2, 1, D)])
    link.receive(m.Snapshot(snapshot_id="s", epoch=2, seq=1, records=[], last=True))
    link.receive(m.Skip(epoch=1, through=3, digest=D))
    assert link.receive(ops(1, 4)) == [CommitOps(1, 4, tuple(ops(1, 4).ops))]


# --- chunks, answers and credit -------------------------------------------------------------------


def test_chunks_are_committed_and_acknowledged() -> None:
    """A chunk, a gap and a fetched chunk go to the store; their logs' marks and a grant go back."""
    link = live()
    assert link.receive(CHUNK) == [CommitChunk(CHUNK)]
    assert link.receive(GAP) == [CommitChunk(GAP)]
    assert link.receive(m.Fetched(request_id="r", chunk=CHUNK)) == [CommitChunk(CHUNK, "r")]
    mark = m.LogMark("e-1", 4, 2, D)
    log_ack = m.LogAck(link_no=12, generation=4, marks=[mark])
    assert link.chunks_committed([mark], 8, 1.0) == [log_ack]
    quarter = limits.CREDIT_WINDOW_BYTES_FIRST // 4
    total = limits.CREDIT_WINDOW_BYTES_FIRST + 8 + quarter
    assert link.chunks_committed([mark], quarter, 1.0) == [log_ack, m.Credit(total=total)]


@pytest.mark.parametrize(
    "changed",
    [
        {"raw_bytes": limits.CHUNK_RAW_BYTES_MAX + 1},
        {"blob": bytes(limits.CHUNK_BLOB_BYTES_MAX + 1)},
        {"chunk_seq": 0},
        {"entries": -1},
        {"first_entry": 0},
    ],
)
def test_a_chunk_out_of_bounds_is_refused(changed: dict[str, Any]) -> None:
    """The machine does not rely on the codec for a chunk's bounds, and takes no credit for it."""
    link = live()
    with pytest.raises(RemoteProtocolError) as caught:
        link.receive(msgspec.structs.replace(CHUNK, **changed))
    assert caught.value.meaning.close_code == 4400
    assert link.credit.received == 0


def test_a_gap_that_ends_before_it_begins_is_refused() -> None:
    """A gap of no chunks would not move the log on."""
    gap = msgspec.structs.replace(GAP)
    # Neither its constructor nor the codec lets one through.
    msgspec.structs.force_setattr(gap, "through_seq", 0)
    with pytest.raises(RemoteProtocolError, match="ends before it begins"):
        live().receive(gap)


def test_a_chunk_without_credit_breaks_the_rules() -> None:
    """A node that sends on after its credit is spent is closed; gaps are free."""
    link = live()
    large = msgspec.structs.replace(CHUNK, blob=bytes(limits.CREDIT_WINDOW_BYTES_FIRST))
    link.receive(large)
    link.receive(GAP)
    with pytest.raises(RemoteProtocolError, match="no credit left"):
        link.receive(CHUNK)
    records = m.Records(request_id="r", records=[Record("task", "t", 1, b"1")])
    with pytest.raises(RemoteProtocolError, match="no credit left"):
        link.receive(records)


def test_records_take_credit_until_they_are_settled() -> None:
    """State that answers a need is flow-controlled as chunks are."""
    link = live()
    body = bytes(limits.CREDIT_WINDOW_BYTES_FIRST // 4)
    records = m.Records(request_id="r", records=[Record("task", "t", 1, body)])
    assert link.receive(records) == [CommitRecords(records)]
    assert link.credit.received == len(body)
    assert link.settled(len(body) - 1, 1.0) is None
    assert link.settled(1, 1.0) == m.Credit(total=limits.CREDIT_WINDOW_BYTES_FIRST + len(body))


# --- what is handed on ----------------------------------------------------------------------------

DONE = m.NeedDone(request_id="r", outcomes=[])
FORKED = m.Forked(epoch=1, seq=6, digest=D)
PROBE = m.LogProbe(execution_id="e", digests=[(1, D)] * limits.LOG_PROBE_DIGESTS_MAX)


@pytest.mark.parametrize(
    ("message", "effect"),
    [
        (DONE, NeedAnswered(DONE)),
        (FORKED, ForkSeen(FORKED)),
        (PROBE, FindAgreed(PROBE)),
        (m.NodePong(n=3), Ponged(3)),
        (m.Heartbeat(n=3), Beat(m.Heartbeat(n=3))),
        (m.Result(call_id="c"), Answered(m.Result(call_id="c"))),
        (m.Opened(call_id="c", body=b""), Answered(m.Opened(call_id="c", body=b""))),
        (m.Part(call_id="c", n=0, data=b""), Answered(m.Part(call_id="c", n=0, data=b""))),
        (m.End(call_id="c"), Answered(m.End(call_id="c"))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_for_the_shell_reaches_it(message: m.NodeMessage, effect: hive_link.Effect) -> None:
    """Each message becomes the one effect that stands for it."""
    assert live().receive(message) == [effect]


def test_a_probe_is_answered() -> None:
    """The answer says what both have and where the log stands."""
    mark = m.LogMark("e-1", 9, 9, D)
    assert live().agreed(mark, 3) == m.LogAgreed(mark=mark, through=3)


def test_a_heartbeat_is_answered_with_marks_and_credit() -> None:
    """The reply repeats what was committed, or what the store was just read to hold."""
    link = live()
    link.ops_committed(2, 3, b"digest")
    window = limits.CREDIT_WINDOW_BYTES_FIRST
    assert link.heartbeat_reply(5, 77) == m.HeartbeatReply(
        n=5, hive_time_ms=77, marks=[MARKS[0], m.EpochMark(2, 3, b"digest")], credit=window
    )
    link.settled(10, 1.0)
    stored = [m.EpochMark(n, 1, D) for n in range(10)]
    assert link.heartbeat_reply(6, 78, stored) == m.HeartbeatReply(
        n=6, hive_time_ms=78, marks=stored[-8:], credit=window + 10
    )


def test_a_link_that_carries_much_is_granted_more() -> None:
    """The window grows with what was settled in the time since; a far link's more than a near's."""
    windows = []
    for round_trip_ms in (1, 100):
        link = live()
        link.round_trip(round_trip_ms)
        assert link.settled(0, 1.0) is None
        link.settled(400_000, 1.1)
        windows.append(link.credit.pace.window)
    assert limits.CREDIT_WINDOW_BYTES_FIRST < windows[0] < windows[1]


# --- whatever a node says -------------------------------------------------------------------------

NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 7, 9, 10, limits.NUMBER_MAX, 2**63 - 1])
SHORT = st.sampled_from([b"", b"\x80", D])
STATES = st.lists(st.builds(EpochState, NUMBERS, NUMBERS, NUMBERS, SHORT), max_size=3)
RECORDS = st.lists(
    st.builds(Record, st.just("task"), st.just("t"), NUMBERS, SHORT, NUMBERS, NUMBERS), max_size=2
)
FRAMES = st.one_of(
    st.builds(lambda epochs: msgspec.structs.replace(hello(), epochs=epochs), STATES),
    st.builds(
        m.HelloLogs,
        logs=st.lists(st.builds(m.LogState, st.just("e"), NUMBERS, NUMBERS, SHORT), max_size=2),
        last=st.booleans(),
    ),
    st.builds(
        m.Ops,
        epoch=NUMBERS,
        first_seq=NUMBERS,
        ops=st.lists(st.builds(Op, st.just("task"), st.just("t"), NUMBERS, SHORT), max_size=3),
    ),
    st.builds(
        m.Snapshot,
        snapshot_id=st.just("s"),
        epoch=NUMBERS,
        seq=NUMBERS,
        records=RECORDS,
        last=st.booleans(),
    ),
    st.builds(m.Skip, epoch=NUMBERS, through=NUMBERS, digest=SHORT),
    st.builds(m.Records, request_id=st.just("r"), records=RECORDS),
    st.builds(m.Forked, epoch=NUMBERS, seq=NUMBERS, digest=SHORT),
    st.builds(m.NodePong, n=NUMBERS),
    st.sampled_from([CHUNK, GAP, DONE, PROBE, m.Fetched(request_id="r", chunk=CHUNK)]),
)


def carried_out(link: HiveLink, effects: list[hive_link.Effect]) -> None:
    """Do what the link asks for as a hive would, that has nothing yet; its answers fit frames."""
    for effect in effects:
        match effect:
            case Judge():
                for frame in welcome(
                    link, [m.EpochMark(e.epoch, 0, D) for e in effect.hello.epochs]
                ):
                    codec.encode(frame)
            case CommitOps(epoch, first_seq, new):
                assert first_seq >= 1
                codec.encode(link.ops_committed(epoch, first_seq + len(new) - 1))
            case CommitSkip(skip):
                codec.encode(link.ops_committed(skip.epoch, skip.through))
            case CommitChunk():
                link.settled(4, 1.0)


@given(st.lists(FRAMES, max_size=12), st.booleans())
def test_whatever_a_node_says_breaks_a_rule_or_none(frames: list[Any], fast: bool) -> None:
    """No frames in any order bring out anything but a broken rule; a mark only goes up."""
    link = live() if fast else HiveLink("h-1", b"nonce")
    with contextlib.suppress(RemoteProtocolError):
        for frame in frames:
            before = dict(link._received)
            carried_out(link, link.receive(codec.decode_from_node(codec.encode(frame))))
            assert all(link._received[epoch] >= mark for epoch, mark in before.items())
            codec.encode(link.heartbeat_reply(1, 1))
