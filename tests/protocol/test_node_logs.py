"""Logs at the node's end of a link: cursors, turns, two histories of one log, and holes."""

from collections.abc import Callable

import pytest

from protocol import limits
from protocol import messages as m
from protocol.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from protocol.log_chunks import GapChunk
from protocol.node_effects import (
    Adopt,
    AnswerWanted,
    ChunksWanted,
    Effect,
    LogsAcked,
    Probe,
    Send,
)
from protocol.node_link import NodeLink
from tests.protocol.node_calls import (
    OURS,
    THEIRS,
    D,
    called,
    chunk,
    live,
    log_ack,
    streaming,
    welcome,
)


def settle(
    cursor: m.LogMark, digests: dict[tuple[str, int], bytes | None] | None = None
) -> tuple[NodeLink, list[Effect]]:
    """Return a link with one log of four chunks and what the hive's cursor makes of it."""
    link = called(logs=[m.LogState("e-1", 5, 5, OURS)])
    link.receive(welcome())
    link.receive(m.WelcomeLogs(marks=[cursor], last=True))
    return link, link.settled({}, digests or {})


# --- cursors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cursor", "digests"),
    [
        pytest.param(m.LogMark("e-1", 1, 1, D), {}, id="nothing held"),
        pytest.param(m.LogMark("e-1", 3, 3, OURS), {("e-1", 2): OURS}, id="behind"),
    ],
)
def test_a_log_goes_on_from_the_cursor(
    cursor: m.LogMark, digests: dict[tuple[str, int], bytes | None]
) -> None:
    """What the hive holds is acknowledged, and what it lacks is sent from its cursor on."""
    link, effects = settle(cursor, digests)
    assert effects == [LogsAcked((cursor,))]
    assert link.next_wanted() == ChunksWanted("e-1", cursor.next_chunk, 1_000)


@pytest.mark.parametrize(
    ("next_chunk", "next_entry"),
    [(0, 1), (1, 0), (-1, 1), (limits.NUMBER_MAX + 1, 1), (1, limits.NUMBER_MAX + 1)],
)
def test_a_cursor_that_is_no_number_breaks_the_rules(next_chunk: int, next_entry: int) -> None:
    """A log would be numbered on from there, so 4400 wherever the hive says it."""
    cursor = m.LogMark("e-1", next_chunk, next_entry, THEIRS, agreed=True)
    streams = streaming("e-1")
    said: list[Callable[[], object]] = [
        lambda: settle(cursor),
        lambda: streams.receive(m.LogAck(link_no=12, generation=4, marks=[cursor])),
        lambda: streams.receive(m.LogAgreed(mark=cursor, through=1)),
        lambda: streams.stream(cursor, 5),
    ]
    for say in said:
        with pytest.raises(RemoteProtocolError, match="out of bounds") as caught:
            say()
        assert caught.value.meaning.close_code == 4400


def test_a_log_the_hive_holds_whole_is_not_sent() -> None:
    """A cursor at our end with our digest leaves nothing to send."""
    cursor = m.LogMark("e-1", 5, 5, OURS)
    link, effects = settle(cursor)
    assert effects == [LogsAcked((cursor,))]
    assert link.next_wanted() is None


def test_a_cursor_ahead_that_agrees_is_adopted() -> None:
    """A node with an older disk goes on behind what the hive holds beyond it."""
    cursor = m.LogMark("e-1", 9, 9, THEIRS, agreed=True)
    link, effects = settle(cursor)
    assert effects == [Adopt(cursor, 4)]
    assert link.next_wanted() is None
    link.log_adopted("e-1", next_chunk=10, open_=True)
    assert link.next_wanted() == ChunksWanted("e-1", 9, 1_000)


@pytest.mark.parametrize(
    ("cursor", "digests"),
    [
        pytest.param(m.LogMark("e-1", 9, 9, THEIRS), {}, id="ahead"),
        pytest.param(m.LogMark("e-1", 5, 5, THEIRS), {}, id="as long"),
        pytest.param(m.LogMark("e-1", 3, 3, THEIRS), {("e-1", 2): OURS}, id="behind"),
        pytest.param(m.LogMark("e-1", 3, 3, THEIRS), {("e-1", 2): None}, id="within a gap of ours"),
        pytest.param(
            m.LogMark("e-1", 5, 5, THEIRS, agreed=True), {}, id="as long, whatever it says"
        ),
    ],
)
def test_two_histories_of_a_log_are_probed(
    cursor: m.LogMark, digests: dict[tuple[str, int], bytes | None]
) -> None:
    """Where the two ends hold different logs, nothing of it is sent until that is settled."""
    link, effects = settle(cursor, digests)
    assert effects == [Probe("e-1", 5)]
    assert link.streams("e-1")
    link.log_grew("e-1", next_chunk=6, open_=True)
    assert link.next_wanted() is None


# --- two histories --------------------------------------------------------------------------------


def test_probes_go_back_page_by_page_until_both_agree() -> None:
    """Older digests are sent until the hive knows one; behind that the log is numbered on."""
    link, _ = settle(m.LogMark("e-1", 9, 9, THEIRS))
    page = [(4, OURS), (3, D)]
    assert link.probed("e-1", page) == [Send(m.LogProbe(execution_id="e-1", digests=page))]
    mark = m.LogMark("e-1", 9, 9, THEIRS)
    assert link.receive(m.LogAgreed(mark=mark, through=0)) == [Probe("e-1", 3)]
    link.probed("e-1", [(2, D), (1, D)])
    assert link.receive(m.LogAgreed(mark=mark, through=2)) == [Adopt(mark, 2)]
    link.log_adopted("e-1", next_chunk=12, open_=False)
    assert link.next_wanted() == ChunksWanted("e-1", 9, 1_000)


@pytest.mark.parametrize("pages", [[[(2, D), (1, D)]], [[(4, D), (3, D)], []]])
def test_a_log_with_nothing_in_common_is_numbered_on(pages: list[list[tuple[int, bytes]]]) -> None:
    """Where even our first kept chunk differs, all of ours follows what the hive holds."""
    link, _ = settle(m.LogMark("e-1", 9, 9, THEIRS))
    mark = m.LogMark("e-1", 9, 9, THEIRS)
    effects: list[Effect] = []
    for page in pages:
        link.probed("e-1", page)
        effects = link.receive(m.LogAgreed(mark=mark, through=0))
    assert effects == [Adopt(mark, 0)]


def test_an_answer_to_no_probe_breaks_the_rules() -> None:
    """The hive cannot have a log renumbered that we never asked about."""
    link = streaming("e-1")
    with pytest.raises(RemoteProtocolError, match="never sent"):
        link.receive(m.LogAgreed(mark=m.LogMark("e-1", 9, 9, THEIRS), through=0))


def test_a_need_can_show_another_history() -> None:
    """A log the hello did not name is settled as one that it did, and streams from then on."""
    link = live()
    assert link.log_differs("e-9", 7) == [Probe("e-9", 7)]
    link.probed("e-9", [(6, OURS)])
    mark = m.LogMark("e-9", 8, 8, THEIRS)
    assert link.receive(m.LogAgreed(mark=mark, through=6)) == [Adopt(mark, 6)]
    assert link.streams("e-9")


@pytest.mark.parametrize("told", [[10], [12], [10, 12, 13]])
def test_what_grows_while_a_log_is_numbered_anew_waits(told: list[int]) -> None:
    """Until it is, the store has the numbers of before; what came meanwhile is sent after."""
    link, _ = settle(m.LogMark("e-1", 9, 9, THEIRS, agreed=True))
    for next_chunk in told:
        link.log_grew("e-1", next_chunk=next_chunk, open_=True)
        assert link.next_wanted() is None
    link.log_adopted("e-1", next_chunk=12, open_=True)
    assert link.next_wanted() == ChunksWanted("e-1", 9, 1_000)
    for number in range(9, max(12, *told)):
        link.chunk_read(chunk("e-1", number))
    assert link.next_wanted() is None


def test_a_need_can_let_a_log_stream() -> None:
    """A log asked for past a hole goes over the link by itself from where the hive stands."""
    link = live()
    link.stream(m.LogMark("e-9", 3, 3, OURS), 6)
    assert link.next_wanted() == ChunksWanted("e-9", 3, 1_000)


# --- holes ----------------------------------------------------------------------------------------


def test_behind_a_hole_the_log_goes_on_once_all_before_is_held() -> None:
    """A chunk we lack ends the sending until the hive holds all before it; then it is adopted."""
    link = streaming("e-1")
    link.chunk_read(chunk("e-1", 1))
    assert link.hole_found("e-1") == []
    assert link.next_wanted() is None
    link.log_grew("e-1", next_chunk=6, open_=True)
    assert link.next_wanted() is None
    mark = m.LogMark("e-1", 2, 2, OURS)
    assert link.receive(log_ack("e-1", 2)) == [LogsAcked((mark,)), Adopt(mark, 1)]
    link.log_adopted("e-1", next_chunk=7, open_=True)
    assert link.next_wanted() == ChunksWanted("e-1", 2, 996)


def test_a_hole_within_a_page_ends_what_is_sent_of_it() -> None:
    """What is read at once may have a hole inside: what is behind it waits until it is found."""
    link = streaming("e-1")
    link.log_grew("e-1", next_chunk=5, open_=True)
    assert link.may_begin_chunk(chunk("e-1", 1))
    link.chunk_read(chunk("e-1", 1))
    assert not link.may_begin_chunk(chunk("e-1", 4))
    assert link.next_wanted() == ChunksWanted("e-1", 2, 996)


def test_a_hole_where_all_before_is_held_is_passed_at_once() -> None:
    """With nothing under way there is nothing to wait for."""
    link = streaming("e-1")
    assert link.hole_found("e-1") == [Adopt(m.LogMark("e-1", 1, 1, D), 0)]


# --- turns, growth and acknowledgements -----------------------------------------------------------


def test_chunks_are_sent_in_order_and_take_credit() -> None:
    """Each chunk spends its blob; gaps are free; a chunk out of order is a bug of ours."""
    link = streaming("e-1", credit=8)
    first = chunk("e-1", 1, b"1234")
    assert link.chunk_read(first) == first
    assert link.credit.left == 4
    gap = GapChunk(
        execution_id="e-1", chunk_seq=2, through_seq=3, first_entry=2, entries=1, reason="quota"
    )
    link.chunk_read(gap)
    assert link.next_wanted() == ChunksWanted("e-1", 4, 4)
    with pytest.raises(LocalProtocolError, match="chunk 3 where 4 was due"):
        link.chunk_read(chunk("e-1", 3))
    link.chunk_read(chunk("e-1", 4, b"123456"))
    assert link.credit.left == -2, "any credit left allows a whole chunk"
    assert link.next_wanted() is None


def test_without_credit_nothing_is_read() -> None:
    """A log waits for credit and goes on when there is some."""
    link = streaming("e-1", credit=0)
    assert link.next_wanted() is None
    link.receive(m.Credit(total=1))
    assert link.next_wanted() == ChunksWanted("e-1", 1, 1)


def test_logs_take_turns_and_running_ones_go_first() -> None:
    """Logs that rest alternate; one that someone may be watching passes them all."""
    link = streaming("e-1", "e-2")
    wanted = [link.next_wanted() for _ in range(3)]
    assert [w.execution_id for w in wanted if isinstance(w, ChunksWanted)] == ["e-1", "e-2", "e-1"]
    link.log_grew("e-3", next_chunk=2, open_=True)
    assert link.next_wanted() == ChunksWanted("e-3", 1, 1_000)
    link.chunk_read(chunk("e-3", 1))
    assert link.next_wanted() == ChunksWanted("e-2", 1, 996)
    link.log_grew("e-1", next_chunk=6, open_=True)
    assert link.next_wanted() == ChunksWanted("e-1", 1, 996)
    link.log_grew("e-1", next_chunk=6, open_=False)
    assert link.next_wanted() == ChunksWanted("e-2", 1, 996)


def test_logs_and_answers_alternate() -> None:
    """Neither history nor what happens now starves the other."""
    link = streaming("e-1")
    link.receive(m.Need(request_id="r-1", kind="logs", ids=[]))
    assert [type(link.next_wanted()) for _ in range(4)] == [
        AnswerWanted,
        ChunksWanted,
        AnswerWanted,
        ChunksWanted,
    ]


def test_what_grew_during_the_handshake_is_sent() -> None:
    """Growth between hello and welcome is taken after the cursors, not lost and not first."""
    link = called(logs=[m.LogState("e-1", 3, 3, OURS)])
    link.log_grew("e-1", next_chunk=4, open_=True)
    link.receive(welcome())
    link.receive(m.WelcomeLogs(marks=[m.LogMark("e-1", 3, 3, OURS)], last=True))
    link.settled({}, {})
    assert link.next_wanted() == ChunksWanted("e-1", 3, 1_000)


def test_a_log_that_is_gone_is_not_sent() -> None:
    """A deleted log leaves the row, and its acknowledgement may still come."""
    link = streaming("e-1")
    link.log_gone("e-1")
    assert not link.streams("e-1")
    assert link.next_wanted() is None
    assert link.receive(log_ack("e-1", 2)) == [LogsAcked((m.LogMark("e-1", 2, 2, OURS),))]


def test_a_cursor_that_went_down_ends_the_link() -> None:
    """Only a hello rewinds a log, too."""
    link = streaming("e-1")
    for chunk_seq in (1, 2):
        link.chunk_read(chunk("e-1", chunk_seq))
    link.receive(log_ack("e-1", 3))
    with pytest.raises(RemoteProtocolError) as caught:
        link.receive(log_ack("e-1", 2))
    assert caught.value.code is ErrorCode.HOLE


def test_a_cursor_beyond_what_was_sent_ends_the_link() -> None:
    """The hive holds chunks of a life we forgot: nothing is taken for held before a hello."""
    link = streaming("e-1")
    link.chunk_read(chunk("e-1", 1))
    with pytest.raises(RemoteProtocolError, match="unsent") as caught:
        link.receive(log_ack("e-1", 3))
    assert caught.value.code is ErrorCode.HOLE
