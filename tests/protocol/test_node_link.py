"""The node's end of a link, driven message by message."""

import contextlib
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, limits, tokens
from protocol import messages as m
from protocol.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from protocol.node_effects import (
    Accepted,
    Adopt,
    AnswerWanted,
    ChunksWanted,
    Compare,
    CompareMarks,
    Effect,
    OpsAcked,
    OpsWanted,
    Probe,
    Received,
    Refork,
    Send,
    SnapshotWanted,
)
from protocol.node_link import NodeLink, Phase
from protocol.ops import EpochState, Record
from tests.protocol.node_calls import (
    CALLER,
    OURS,
    THEIRS,
    D,
    ack,
    called,
    chunk,
    live,
    log_ack,
    op,
    streaming,
    welcome,
)

# --- handshake ------------------------------------------------------------------------------------


def test_a_challenge_is_answered_with_a_signed_hello() -> None:
    """The hello signs the nonce and names what is held; its logs follow on bounded pages."""
    epochs = [EpochState(number, 1, 1, D) for number in range(limits.HELLO_EPOCHS_MAX + 1)]
    logs = [m.LogState(f"e-{n}", 2, 2, D) for n in range(limits.HELLO_LOGS_PER_PAGE_MAX + 1)]
    link = NodeLink(CALLER, epochs, logs)
    first, *pages = link.receive(m.Challenge(hive_id="h-1", nonce=b"nonce"))
    assert isinstance(first, Send)
    hello = first.message
    assert isinstance(hello, m.Hello)
    assert hello.signature == b"signed:" + tokens.hello_bytes(
        "h-1", "hive.example", b"nonce", "n-1", 7, 2
    )
    assert (hello.node_id, hello.connect_no, hello.generation_seen) == ("n-1", 2, 4)
    assert hello.epochs == epochs[1:], "the newest epochs are the ones that are named"
    assert pages == [
        Send(m.HelloLogs(logs=logs[:-1], last=False)),
        Send(m.HelloLogs(logs=logs[-1:], last=True)),
    ]


def test_a_hello_without_logs_has_one_empty_page() -> None:
    """The hive always learns where the hello ends."""
    effects = NodeLink(CALLER, [], []).receive(m.Challenge(hive_id="h-1", nonce=b""))
    assert effects[1:] == [Send(m.HelloLogs(logs=[], last=True))]


def test_another_hive_is_not_greeted() -> None:
    """A challenge of a hive we never joined is not signed, and says what to do about it."""
    link = NodeLink(CALLER, [], [])
    with pytest.raises(RemoteProtocolError) as caught:
        link.receive(m.Challenge(hive_id="h-2", nonce=b""))
    assert caught.value.code is ErrorCode.AUTHENTICATION_FAILED
    assert caught.value.details == {"expected": "h-1", "found": "h-2"}
    assert "join" in caught.value.hint


def test_a_message_out_of_turn_breaks_the_rules() -> None:
    """Each phase of the handshake takes its one message."""
    link = NodeLink(CALLER, [], [])
    with pytest.raises(RemoteProtocolError, match="Welcome while the link is await_challenge"):
        link.receive(welcome())
    link.receive(m.Challenge(hive_id="h-1", nonce=b""))
    with pytest.raises(RemoteProtocolError, match="await_welcome"):
        link.receive(m.Ping(n=1))
    link.receive(welcome())
    with pytest.raises(RemoteProtocolError, match="await_welcome_logs"):
        link.receive(m.Ping(n=1))
    link.receive(m.WelcomeLogs(marks=[], last=True))
    with pytest.raises(RemoteProtocolError, match="settling"):
        link.receive(m.Ping(n=1))
    assert link.next_wanted() is None, "nothing is sent before the link is live"
    link.settled({}, {})
    with pytest.raises(RemoteProtocolError, match="on a live link"):
        link.receive(welcome())


def test_a_closed_link_takes_nothing() -> None:
    """A message after the close is a bug of ours."""
    link = live()
    link.close()
    with pytest.raises(LocalProtocolError):
        link.receive(m.Ping(n=1))
    assert link.next_wanted() is None


def test_the_welcome_asks_for_digests_to_compare() -> None:
    """Digests are asked for at marks and cursors inside what we hold, from all pages."""
    link = called(
        [EpochState(1, 3, 9, OURS), EpochState(2, 1, 4, OURS)],
        [m.LogState("e-1", 5, 5, OURS), m.LogState("e-2", 5, 5, OURS)],
    )
    said = welcome([m.EpochMark(1, 5, D), m.EpochMark(2, 0, D), m.EpochMark(3, 1, D)])
    assert link.receive(said) == []
    first = m.WelcomeLogs(marks=[m.LogMark("e-1", 3, 3, D)], last=False)
    assert link.receive(first) == []
    effects = link.receive(m.WelcomeLogs(marks=[m.LogMark("e-2", 1, 1, D)], last=True))
    assert effects[0] == Accepted(said)
    compare = effects[1]
    assert isinstance(compare, Compare)
    assert (1, 5) in compare.epochs
    assert (3, 1) not in compare.epochs
    assert compare.logs == (("e-1", 2),)
    assert link.credit.left == 1_000


def test_more_cursors_than_logs_break_the_rules() -> None:
    """The hive cannot fill our memory with cursors nobody asked for."""
    link = called()
    link.receive(welcome())
    with pytest.raises(RemoteProtocolError, match="more cursors"):
        link.receive(m.WelcomeLogs(marks=[m.LogMark("e-1", 1, 1, D)], last=False))


def test_a_cursor_for_an_unnamed_log_breaks_the_rules() -> None:
    """A cursor belongs to a log of the hello."""
    link = called(logs=[m.LogState("e-1", 2, 2, OURS)])
    link.receive(welcome())
    link.receive(m.WelcomeLogs(marks=[m.LogMark("e-2", 1, 1, D)], last=True))
    with pytest.raises(RemoteProtocolError, match="not named"):
        link.settled({}, {})


def test_forks_of_the_welcome_are_written_again() -> None:
    """Once released from quarantine, what the hive lacks is written anew and nothing else said."""
    link = called([EpochState(1, 1, 9, OURS)])
    fork = m.Fork(1, [(9, THEIRS)])
    link.receive(welcome(forks=[fork]))
    effects = link.receive(m.WelcomeLogs(marks=[], last=True))
    assert effects[1:] == [Refork(fork)]
    assert link.phase is Phase.FORKED
    assert link.receive(m.Ping(n=1)) == [], "what was sent before the close means nothing any more"
    assert link.next_wanted() is None


@pytest.mark.parametrize("epochs", [[8], [1, 1]])
def test_forks_of_what_is_not_held_break_the_rules(epochs: list[int]) -> None:
    """Only an epoch of the hello can be written again, and only once."""
    link = called([EpochState(1, 1, 9, OURS)])
    link.receive(welcome(forks=[m.Fork(epoch, [(9, THEIRS)]) for epoch in epochs]))
    with pytest.raises(RemoteProtocolError, match="did not name"):
        link.receive(m.WelcomeLogs(marks=[], last=True))


def test_a_different_digest_is_reported() -> None:
    """Where the two histories differ at a mark, the hive is told and nothing is sent."""
    link = called([EpochState(1, 1, 9, OURS)])
    link.receive(welcome([m.EpochMark(1, 5, THEIRS)]))
    link.receive(m.WelcomeLogs(marks=[], last=True))
    assert link.settled({(1, 5): OURS}, {}) == [Send(m.Forked(epoch=1, seq=5, digest=OURS))]
    assert link.phase is Phase.FORKED


def test_a_digest_no_longer_kept_is_no_difference() -> None:
    """What was pruned cannot be compared, so the link goes live."""
    link = called([EpochState(1, 6, 9, OURS)])
    link.receive(welcome([m.EpochMark(1, 5, THEIRS)]))
    link.receive(m.WelcomeLogs(marks=[], last=True))
    link.settled({(1, 5): None}, {})
    assert link.phase is Phase.LIVE


# --- marks, ops and snapshots ---------------------------------------------------------------------


def test_ops_follow_the_mark_of_the_hive() -> None:
    """What follows the mark is sent, epoch after epoch; marks of unknown epochs mean nothing."""
    link = live(
        [EpochState(1, 1, 9, OURS), EpochState(2, 1, 1, OURS)],
        marks=[m.EpochMark(1, 7, OURS), m.EpochMark(8, 3, D)],
    )
    wanted = link.next_wanted()
    assert wanted == OpsWanted(1, 7, limits.OPS_PER_FRAME_MAX, limits.OPS_FRAME_BYTES_MAX)
    frame = link.ops_read(1, [op(), op()])
    assert (frame.epoch, frame.first_seq, len(frame.ops)) == (1, 8, 2)
    assert link.under_way() == (1, 8)
    wanted = link.next_wanted()
    assert isinstance(wanted, OpsWanted)
    assert (wanted.epoch, wanted.after) == (2, 0)
    link.ops_read(2, [op()])
    assert link.next_wanted() is None
    assert link.receive(ack(1, 9)) == [OpsAcked(1, 9)]
    assert link.under_way() == (2, 1)
    link.receive(ack(2, 1))
    assert link.under_way() is None


def test_a_lowered_mark_is_sent_from_again() -> None:
    """A hive that was restored says a lower mark, and is sent what it lost."""
    link = live([EpochState(1, 1, 9, OURS)], marks=[m.EpochMark(1, 0, D)])
    wanted = link.next_wanted()
    assert isinstance(wanted, OpsWanted)
    assert wanted.after == 0


def test_a_mark_above_ours_asks_for_a_snapshot() -> None:
    """A node restored from an old disk sends its whole state; the higher mark is no rule broken."""
    link = live([EpochState(1, 1, 5, OURS)], marks=[m.EpochMark(1, 9, THEIRS)], newest=(1, 9))
    assert link.next_wanted() == SnapshotWanted(())
    link.snapshot_read("s", (1, 5), [], {})
    assert link.next_wanted() is None
    reply = m.HeartbeatReply(n=1, hive_time_ms=1, marks=[m.EpochMark(1, 9, THEIRS)], credit=1)
    assert link.receive(reply)[0] == Received(reply)


def test_a_mark_that_rises_above_ours_ends_the_link() -> None:
    """Nobody but us writes on this link: what the hive took beyond it is of a life we forgot."""
    link = live([EpochState(1, 1, 5, OURS)], marks=[m.EpochMark(1, 5, OURS)])
    with pytest.raises(RemoteProtocolError) as caught:
        link.receive(ack(1, 6))
    assert caught.value.meaning.close_code == 4410


@pytest.mark.parametrize(
    ("other", "due"),
    [
        ({"newest": (1, 5)}, False),
        ({"newest": (1, 6)}, True),
        ({"newest": (2, 1)}, True),
        ({"snapshot_wanted": True}, True),
    ],
)
def test_a_snapshot_goes_where_the_hive_saw_more_or_wants_one(
    other: dict[str, Any], due: bool
) -> None:
    """The newest position we lack, or half a snapshot at the hive, is answered with a whole one."""
    link = live([EpochState(1, 1, 5, OURS)], marks=[m.EpochMark(1, 5, OURS)], **other)
    assert link.next_wanted() == (SnapshotWanted(()) if due else None)


def test_what_the_hive_knows_beyond_its_mark_is_told_again() -> None:
    """A snapshot told it that: of this process, or of what it was before its machine went back."""
    epochs, marks = [EpochState(1, 1, 5, OURS)], [m.EpochMark(1, 3, OURS)]
    link = live(epochs, marks=marks, newest=(1, 4))
    assert link.next_wanted() == SnapshotWanted(())
    assert isinstance(live(epochs, marks=marks, newest=(1, 3)).next_wanted(), OpsWanted)


def test_a_snapshot_and_a_skip_stand_for_pruned_ops() -> None:
    """Where ops after the mark were pruned, their state goes first, then a skip, then the rest."""
    link = live(
        [EpochState(1, 4, 5, OURS), EpochState(2, 1, 1, OURS)],
        marks=[m.EpochMark(1, 1, D), m.EpochMark(2, 1, OURS)],
    )
    assert link.next_wanted() == SnapshotWanted(((1, 3),))
    records = [Record("task", f"t-{n}", 1, b"\x80") for n in range(limits.RECORDS_PER_PAGE_MAX + 1)]
    frames = link.snapshot_read("s", (2, 1), records, {(1, 3): OURS})
    assert frames == [
        m.Snapshot(snapshot_id="s", epoch=2, seq=1, records=records[:-1], last=False),
        m.Snapshot(snapshot_id="s", epoch=2, seq=1, records=records[-1:], last=True),
        m.Skip(epoch=1, through=3, digest=OURS),
    ]
    wanted = link.next_wanted()
    assert isinstance(wanted, OpsWanted)
    assert (wanted.epoch, wanted.after) == (1, 3)


def test_a_skip_whose_digest_is_no_longer_kept_ends_the_link() -> None:
    """What was pruned since the hello makes no skip: without its digest it would be a fork."""
    link = live([EpochState(1, 4, 9, OURS)], marks=[m.EpochMark(1, 1, D)])
    assert link.next_wanted() == SnapshotWanted(((1, 3),))
    with pytest.raises(LocalProtocolError) as caught:
        link.snapshot_read("s", (1, 9), [], {(1, 3): None})
    assert caught.value.meaning.close_code == 4410


def test_a_heartbeat_may_come_before_the_skip_is_taken() -> None:
    """While a snapshot is on its way the hive's mark is the one of before, and no lower one."""
    link = live([EpochState(1, 4, 5, OURS)], marks=[m.EpochMark(1, 1, D)])
    link.snapshot_read("s", (1, 5), [], {(1, 3): OURS})
    reply = m.HeartbeatReply(n=1, hive_time_ms=1, marks=[m.EpochMark(1, 1, D)], credit=1)
    assert link.receive(reply)[0] == Received(reply)
    link.receive(m.Ack(link_no=link.link_no, generation=link.generation, epoch=1, seq=3))
    with pytest.raises(RemoteProtocolError, match="went down"):
        link.receive(reply)


def test_ops_in_flight_are_bounded() -> None:
    """No more ops are read while as many bytes as allowed await their acknowledgement."""
    link = live([EpochState(1, 1, 3, OURS)], marks=[m.EpochMark(1, 0, D)])
    half = limits.OPS_IN_FLIGHT_BYTES_MAX // 2
    link.ops_read(1, [op(bytes(half))])
    wanted = link.next_wanted()
    assert isinstance(wanted, OpsWanted)
    assert wanted.bytes_max == limits.OPS_IN_FLIGHT_BYTES_MAX - half - 64
    link.ops_read(1, [op(bytes(half))])
    assert link.next_wanted() is None
    link.receive(ack(1, 1))
    assert isinstance(link.next_wanted(), OpsWanted)


def test_singly_sends_one_op_and_waits() -> None:
    """While a refused op is sought, nothing goes beside the one op under way."""
    link = live(
        [EpochState(1, 1, 3, OURS)],
        [m.LogState("e-1", 5, 5, OURS)],
        [m.EpochMark(1, 0, D)],
        [m.LogMark("e-1", 1, 1, D)],
        singly=True,
    )
    wanted = link.next_wanted()
    assert isinstance(wanted, OpsWanted)
    assert wanted.ops_max == 1
    link.ops_read(1, [op()])
    assert link.next_wanted() is None
    link.receive(ack(1, 1))
    assert isinstance(link.next_wanted(), OpsWanted)


def test_ops_pruned_under_the_link_end_it() -> None:
    """A hole of our own making is mended by the next hello."""
    link = live([EpochState(1, 1, 3, OURS)], marks=[m.EpochMark(1, 0, D)])
    with pytest.raises(LocalProtocolError) as caught:
        link.ops_read(1, [])
    assert caught.value.meaning.close_code == 4410


def test_the_journal_grows_under_the_link() -> None:
    """New ops are sent, of a known epoch and of a new one; growth never goes back."""
    link = live([EpochState(1, 1, 3, OURS)], marks=[m.EpochMark(1, 3, OURS)])
    assert link.next_wanted() is None
    link.journal_grew(1, 4)
    link.journal_grew(1, 2)
    wanted = link.next_wanted()
    assert isinstance(wanted, OpsWanted)
    assert (wanted.epoch, wanted.after) == (1, 3)
    link.ops_read(1, [op()])
    assert link.next_wanted() is None
    link.journal_grew(2, 1)
    wanted = link.next_wanted()
    assert isinstance(wanted, OpsWanted)
    assert (wanted.epoch, wanted.after) == (2, 0)


def test_acks_of_another_link_mean_nothing() -> None:
    """An acknowledgement of another link or an older generation changes nothing."""
    link = live([EpochState(1, 1, 3, OURS)], marks=[m.EpochMark(1, 0, D)])
    link.ops_read(1, [op()])
    assert link.receive(ack(1, 1, link_no=11)) == []
    assert link.receive(ack(1, 1, generation=3)) == []
    assert link.under_way() == (1, 1)
    assert link.receive(log_ack("e-1", 2, link_no=11)) == []
    assert link.receive(ack(9, 1)) == [OpsAcked(9, 1)], "an epoch long pruned here"


def test_a_mark_that_went_down_ends_the_link() -> None:
    """Only a hello rewinds: a hive that lost what it had acknowledged is called anew."""
    link = live([EpochState(1, 1, 3, OURS)], marks=[m.EpochMark(1, 2, OURS)])
    lowered = m.HeartbeatReply(n=1, hive_time_ms=1, marks=[m.EpochMark(1, 1, D)], credit=1)
    with pytest.raises(RemoteProtocolError) as caught:
        link.receive(lowered)
    assert caught.value.code is ErrorCode.HOLE


def test_an_ack_of_what_was_never_sent_breaks_the_rules() -> None:
    """A hive cannot hold what we have and did not send."""
    link = live([EpochState(1, 1, 3, OURS)], marks=[m.EpochMark(1, 0, D)])
    with pytest.raises(RemoteProtocolError, match="unsent") as caught:
        link.receive(ack(1, 2))
    assert caught.value.code is ErrorCode.BAD_FRAME


# --- what the hive says on a live link ------------------------------------------------------------


def test_pings_and_heartbeats_are_answered() -> None:
    """A ping gets its pong, and a heartbeat's reply raises marks and credit."""
    link = live([EpochState(1, 1, 3, OURS)], marks=[m.EpochMark(1, 0, D)])
    link.ops_read(1, [op()])
    assert link.receive(m.Ping(n=5)) == [Send(m.NodePong(n=5))]
    reply = m.HeartbeatReply(n=1, hive_time_ms=1, marks=[m.EpochMark(1, 1, D)], credit=5_000)
    assert link.receive(reply)[0] == Received(reply)
    assert link.credit.left == 5_000
    assert link.under_way() is None
    assert link.receive(m.Credit(total=6_000)) == []
    assert link.credit.left == 6_000


@pytest.mark.parametrize(
    "message",
    [
        m.Cancel(call_id="c"),
        m.PartCredit(call_id="c", total=1),
        m.Links(links=[]),
        m.Safe(epochs=[]),
        m.Draining(retry_after_ms=1),
        m.Call(
            call_id="c",
            operation="stop",
            attempt_id="a",
            body=b"",
            capability="",
            time_left_ms=1,
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_is_for_the_shell_reaches_it(message: m.HiveMessage) -> None:
    """Messages the machine does not judge are handed on as they came."""
    (received,) = live().receive(message)
    assert isinstance(received, Received)
    assert received.message == message


def test_a_need_is_taken_once_and_needs_are_bounded() -> None:
    """A need that is asked again while it is worked on is one need, and there is a most of them."""
    link = live()
    for n in range(limits.NEEDS_OPEN_MAX):
        need = m.Need(request_id=f"r-{n}", kind="logs", ids=[])
        assert link.receive(need) == [Received(need)]
        assert link.receive(need) == []
    with pytest.raises(RemoteProtocolError, match="too many needs"):
        link.receive(m.Need(request_id="one more", kind="logs", ids=[]))


def test_needs_take_turns_and_end() -> None:
    """Frames of several answers alternate, and an answer that is done is asked for no more."""
    link = live()
    for name in ("r-1", "r-2"):
        link.receive(m.Need(request_id=name, kind="logs", ids=[]))
    assert [link.next_wanted() for _ in range(3)] == [
        AnswerWanted("r-1"),
        AnswerWanted("r-2"),
        AnswerWanted("r-1"),
    ]
    done = m.NeedDone(request_id="r-1", outcomes=[])
    assert link.answer_read(done) == done
    assert link.next_wanted() == AnswerWanted("r-2")


def test_answers_take_credit() -> None:
    """Fetched chunks and records spend credit, and nothing is read once it is spent."""
    link = live(credit=6)
    link.log_grew("e-1", next_chunk=2, open_=True)
    link.receive(m.Need(request_id="r-1", kind="logs", ids=[]))
    fetched = m.Fetched(request_id="r-1", chunk=chunk("e-9", blob=b"1234"))
    assert link.answer_read(fetched) == fetched
    assert link.may_begin_chunk(chunk())
    records = m.Records(request_id="r-1", records=[Record("task", "t", 1, b"12")])
    assert link.answer_read(records) == records
    assert not link.may_begin_chunk(chunk())
    assert link.next_wanted() is None


def test_an_answer_leaves_out_what_streams() -> None:
    """A chunk of a log that streams over this link goes there alone, and takes no credit here."""
    link = streaming("e-1")
    assert link.streams("e-1")
    assert link.answer_read(m.Fetched(request_id="r", chunk=chunk("e-1"))) is None
    assert link.credit.left == 1_000


def test_marks_of_a_heartbeat_are_compared_once() -> None:
    """The hive's digests at marks within what we hold; at each of them once."""
    link = live(
        [EpochState(1, 1, 5, OURS), EpochState(2, 1, 3, OURS)],
        marks=[m.EpochMark(1, 5, OURS), m.EpochMark(2, 3, OURS)],
    )
    ours = [m.EpochMark(1, 5, OURS), m.EpochMark(2, 3, OURS)]
    others = [m.EpochMark(3, 1, D), m.EpochMark(4, 0, D)]
    reply = m.HeartbeatReply(n=1, hive_time_ms=1, marks=ours + others, credit=1)
    assert link.receive(reply) == [Received(reply), CompareMarks(tuple(ours))]
    # One is pruned: nothing is known of it, and it is not asked about again.
    link.marks_compared(ours, {(1, 5): OURS})
    assert link.receive(reply) == [Received(reply)]


def test_a_hive_that_holds_other_ops_is_found_out() -> None:
    """Without that, only the next hello would tell, and a link lives for hours."""
    link = live([EpochState(1, 1, 5, OURS)], marks=[m.EpochMark(1, 5, OURS)])
    theirs = [m.EpochMark(1, 5, THEIRS)]
    reply = m.HeartbeatReply(n=1, hive_time_ms=1, marks=theirs, credit=1)
    assert link.receive(reply)[1:] == [CompareMarks(tuple(theirs))]
    with pytest.raises(RemoteProtocolError, match="other ops") as caught:
        link.marks_compared(theirs, {(1, 5): OURS})
    assert caught.value.code is ErrorCode.HOLE


# --- whatever a hive says -------------------------------------------------------------------------

NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 4, 5, 9, 12, limits.NUMBER_MAX, 2**63 - 1])
DIGESTS = st.sampled_from([b"", D, OURS, THEIRS])
EPOCH_MARKS = st.lists(st.builds(m.EpochMark, NUMBERS, NUMBERS, DIGESTS), max_size=3)
LOG_MARK = st.builds(
    m.LogMark, st.sampled_from(["e-1", "e-2"]), NUMBERS, NUMBERS, DIGESTS, st.booleans()
)
FRAMES = st.one_of(
    st.builds(
        lambda marks, newest, forks: welcome(marks, newest=newest, forks=forks),
        EPOCH_MARKS,
        st.none() | st.tuples(NUMBERS, NUMBERS),
        st.lists(st.builds(m.Fork, NUMBERS, st.lists(st.tuples(NUMBERS, DIGESTS))), max_size=1),
    ),
    st.builds(m.WelcomeLogs, marks=st.lists(LOG_MARK, max_size=2), last=st.booleans()),
    st.builds(m.Ack, link_no=st.just(12), generation=st.just(4), epoch=NUMBERS, seq=NUMBERS),
    st.builds(
        m.LogAck, link_no=st.just(12), generation=st.just(4), marks=st.lists(LOG_MARK, max_size=2)
    ),
    st.builds(m.LogAgreed, mark=LOG_MARK, through=NUMBERS),
    st.builds(m.Credit, total=NUMBERS),
    st.builds(m.HeartbeatReply, n=NUMBERS, hive_time_ms=NUMBERS, marks=EPOCH_MARKS, credit=NUMBERS),
    st.builds(
        m.Need, request_id=st.sampled_from(["r-1", "r-2"]), kind=st.just("logs"), ids=st.just([])
    ),
    st.builds(m.Challenge, hive_id=st.just("h-1"), nonce=DIGESTS),
    st.sampled_from([m.Ping(n=1), m.Cancel(call_id="c"), m.Links(links=[])]),
)


def told(link: NodeLink, effects: list[Effect]) -> None:
    """Do what the link asks for as a node would that holds what its hello names."""
    waiting = deque(effects)
    while waiting:
        match waiting.popleft():
            case Compare() as compare:
                ours = dict.fromkeys(compare.epochs, OURS)
                waiting.extend(link.settled(ours, dict.fromkeys(compare.logs, OURS)))
            case CompareMarks(marks):
                link.marks_compared(marks, {(mark.epoch, mark.mark): OURS for mark in marks})
            case Probe(execution_id, below):
                places = [(below - 1, OURS)] if below > 1 else []
                waiting.extend(link.probed(execution_id, places))
            case Adopt(mark):
                assert 1 <= mark.next_chunk <= limits.NUMBER_MAX, "a log is numbered on from there"
                link.log_adopted(mark.execution_id, next_chunk=mark.next_chunk + 1, open_=True)
            case Send(message):
                codec.encode(message)


def send_all(link: NodeLink) -> None:
    """Send what is next, a few times over."""
    for _ in range(6):
        match link.next_wanted():
            case OpsWanted(epoch, after):
                assert after >= 0
                codec.encode(link.ops_read(epoch, [op()]))
            case SnapshotWanted(skips):
                for frame in link.snapshot_read("s", (1, 9), [], dict.fromkeys(skips, OURS)):
                    codec.encode(frame)
            case ChunksWanted(execution_id, number):
                link.may_begin_chunk(chunk(execution_id, number))
                codec.encode(link.chunk_read(chunk(execution_id, number)))
            case AnswerWanted(request_id):
                link.answer_read(m.NeedDone(request_id=request_id, outcomes=[]))


@given(st.lists(FRAMES, max_size=12), st.booleans())
def test_whatever_a_hive_says_breaks_a_rule_or_none(frames: list[Any], fast: bool) -> None:
    """No frames in any order bring out anything but a broken rule, while all there is is sent."""
    epochs = [EpochState(1, 4, 9, OURS), EpochState(2, 1, 3, OURS)]
    logs = [m.LogState("e-1", 5, 5, OURS), m.LogState("e-2", 5, 5, OURS)]
    link = NodeLink(CALLER, epochs, logs)
    if fast:
        link = called(epochs, logs)
        link.receive(welcome([m.EpochMark(1, 6, OURS), m.EpochMark(2, 0, D)]))
        cursors = [m.LogMark("e-1", 2, 2, OURS), m.LogMark("e-2", 9, 9, THEIRS)]
        told(link, link.receive(m.WelcomeLogs(marks=cursors, last=True)))
    with contextlib.suppress(RemoteProtocolError):
        for frame in frames:
            told(link, link.receive(codec.decode_from_hive(codec.encode(frame))))
            send_all(link)
