"""Flow control: what a node may send, and how the window follows the link."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import limits
from protocol.credit import CreditGranted, CreditSpent, Pace, PartWindow, cost
from protocol.errors import RemoteProtocolError
from protocol.log_chunks import GapChunk
from protocol.messages import Credit, Fetched, Records
from protocol.ops import Record
from tests.protocol.golden_frames import FROM_NODE
from tests.protocol.node_calls import chunk

FIRST = limits.CREDIT_WINDOW_BYTES_FIRST
LEAST = limits.CREDIT_WINDOW_BYTES_MIN


def test_blobs_and_bodies_cost_and_gaps_are_free() -> None:
    """The same bytes cost the same however they travel."""
    gaps = [message for message in FROM_NODE if isinstance(message, GapChunk)]
    assert [cost(gap) for gap in gaps] == [0]
    assert cost(chunk(blob=b"12345")) == 5
    assert cost(Fetched(request_id="r", chunk=chunk(blob=b"12345"))) == 5
    records = [Record("task", "t", 1, b"12"), Record("task", "u", 1, b"345")]
    assert cost(Records(request_id="r", records=records)) == 5


def test_totals_only_grow() -> None:
    """A late, lower grant takes nothing back."""
    spent = CreditSpent()
    spent.granted(10)
    spent.granted(5)
    spent.spend(12)
    assert spent.left == -2


def test_nothing_may_begin_once_all_is_used() -> None:
    """A whole chunk may begin on the last byte, and none after it; empty ones always may."""
    granted = CreditGranted()
    granted.take(FIRST - 1)
    granted.take(100)
    granted.take(0)
    with pytest.raises(RemoteProtocolError) as caught:
        granted.take(1)
    assert caught.value.details == {"received": FIRST + 99, "granted": FIRST}


def test_a_window_that_was_not_told_does_not_count() -> None:
    """What the node was not yet told it may send is no credit."""
    granted = CreditGranted()
    granted.take(FIRST)
    granted.settle(FIRST, 1.0)
    with pytest.raises(RemoteProtocolError):
        granted.take(1)
    assert granted.next_grant() == Credit(total=2 * FIRST)
    granted.take(1)


def test_small_grants_wait() -> None:
    """A grant is told once it moves by a quarter of the window, or with a heartbeat's reply."""
    granted = CreditGranted()
    granted.settle(FIRST // 4 - 1, 1.0)
    assert granted.next_grant() is None
    assert granted.repeat() == FIRST + FIRST // 4 - 1
    granted.settle(FIRST // 4, 1.0)
    assert granted.next_grant() == Credit(total=FIRST + FIRST // 2 - 1)


@given(
    st.lists(st.tuples(st.integers(1, limits.CHUNK_BLOB_BYTES_MAX), st.sampled_from([0, 0.03, 9])))
)
def test_a_node_that_keeps_the_rule_never_breaks_it(steps: list[tuple[int, float]]) -> None:
    """Whatever the window does, one who sends only on credit is never refused nor left waiting."""
    spent, granted = CreditSpent(), CreditGranted()
    spent.granted(granted.repeat())
    now_s = 100.0
    for nbytes, passed_s in steps:
        now_s += passed_s
        if spent.left > 0:
            spent.spend(nbytes)
            granted.take(nbytes)
        else:
            granted.settle(granted.received - granted.settled, now_s)
            grant = granted.next_grant()
            assert grant is not None
            spent.granted(grant.total)
            assert spent.left > 0


def fed(bytes_per_s: float, round_trip_ms: float, *, commit_s: float = 0.0) -> int:
    """Return a link's window after ten seconds of chunks that are settled as fast as they come.

    With `commit_s` they are settled in groups, one after each such time.
    """
    pace = CreditGranted().pace
    pace.round_trip(round_trip_ms)
    came, settled, committed_s = 0.0, 0.0, 0.0
    for number in range(1, 10_000):
        now_s = number / 1000
        came += bytes_per_s / 1000
        if now_s - committed_s >= commit_s:
            committed_s = now_s
            # A group: one chunk after the other, at one moment.
            for part in (0.25, 0.5, 1.0):
                pace.carried(int(settled + (came - settled) * part), now_s)
            settled = came
    return pace.window


@pytest.mark.parametrize("commit_s", [0.0, 0.002, 0.2])
def test_logs_window_is_what_the_link_carries(commit_s: float) -> None:
    """Commits in groups do not make a slow link look fast."""
    assert fed(100e6, 1, commit_s=commit_s) == limits.CREDIT_WINDOW_BYTES_MAX
    assert LEAST <= fed(1.25e6, 5, commit_s=commit_s) < 1.2 * LEAST
    assert fed(4e6, 20, commit_s=commit_s) == pytest.approx(
        4e6 * 0.080 - limits.CHUNK_BLOB_BYTES_MAX, rel=0.2
    )
    assert fed(50e3, 5, commit_s=commit_s) == LEAST


def test_a_lone_burst_does_not_widen_the_window() -> None:
    """What was settled at one moment, after a long silence, says nothing of the link."""
    pace = CreditGranted().pace
    pace.carried(0, 1.0)
    pace.carried(1_000_000, 1.001)
    assert pace.window == FIRST
    pace.carried(1_000_000, 100.0)
    assert pace.window == LEAST


def test_the_shortest_round_trip_is_the_links_own() -> None:
    """Longer ones are waiting, and widen nothing."""
    pace = Pace(1, narrowest=1, widest=10**9)
    for milliseconds in (40, 20, 900):
        pace.round_trip(milliseconds)
    pace.carried(0, 1.0)
    pace.carried(1_000_000, 2.0)
    assert pace.window == 1_000_000 * (20 + limits.WINDOW_DELAY_MS) // 1000


def carried(window: PartWindow, bytes_per_s: float, seconds: float) -> None:
    """Have a reader take parts as fast as a link brings them."""
    now_s = 100.0
    while now_s < 100.0 + seconds:
        now_s += limits.PART_BYTES_MAX / bytes_per_s
        window.take(limits.PART_BYTES_MAX, now_s)


@pytest.mark.parametrize(
    ("bytes_per_s", "round_trip_ms", "at_least", "at_most"),
    [
        pytest.param(
            100e6, 1, limits.PART_WINDOW_BYTES_MAX, limits.PART_WINDOW_BYTES_MAX, id="lan"
        ),
        pytest.param(1.25e6, 5, 64 * 1024, 96 * 1024, id="10 Mbit/s"),
        pytest.param(50e3, 5, 64 * 1024, 64 * 1024, id="slow"),
        pytest.param(1.25e6, 100, 160 * 1024, 256 * 1024, id="far"),
        pytest.param(1.25e6, None, 64 * 1024, 96 * 1024, id="not measured yet"),
    ],
)
def test_a_streams_window_is_what_the_link_carries(
    bytes_per_s: float, round_trip_ms: float | None, at_least: int, at_most: int
) -> None:
    """Large on a fast link, small on a slow one, and no smaller than it began."""
    window = PartWindow(round_trip_ms)
    carried(window, bytes_per_s, 10.0)
    assert at_least <= window.pace.window <= at_most


@given(
    st.lists(
        st.tuples(st.integers(1, limits.PART_BYTES_MAX), st.floats(0, 10, allow_nan=False)),
        max_size=200,
    )
)
def test_a_stream_never_waits_for_ever(steps: list[tuple[int, float]]) -> None:
    """Whatever the link does, one who has sent all it may is granted more once that is taken."""
    window = PartWindow(5)
    total, sent, now_s = window.told, 0, 0.0
    for nbytes, passed_s in steps:
        now_s += passed_s
        if sent + nbytes > total:
            # It waits; the reader takes what is on its way, in one piece.
            granted = window.take(sent - window.taken, now_s)
            assert granted is not None
            assert granted >= total
            total = granted
        sent += nbytes
        assert sent <= total
        assert total <= window.taken + limits.PART_WINDOW_BYTES_MAX * 2
