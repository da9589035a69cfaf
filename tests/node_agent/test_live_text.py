"""What waits to be shown live: joined, paced, dropped when it is too much."""

from node_agent.live_text import LiveTextQueue
from protocol import limits
from protocol.messages import LiveText


def piece(text: str, at: int = 0, message_id: str = "m-1") -> LiveText:
    """A piece of a message."""
    return LiveText(session_id="s-1", message_id=message_id, role="assistant", at=at, text=text)


def drained(queue: LiveTextQueue) -> list[LiveText]:
    """All that waits, as it is taken in its time."""
    taken, now_s = [], 100.0
    while (due_s := queue.due_in_s(now_s)) is not None:
        now_s += due_s
        one = queue.take(now_s)
        assert one is not None
        taken.append(one)
    return taken


def test_pieces_that_follow_each_other_travel_as_one():
    """A message's next piece joins the one that waits; one of another place or message does not."""
    queue = LiveTextQueue()
    for one in (piece("a"), piece("bc", 1), piece("x", 9), piece("y", 0, "m-2")):
        assert queue.put(one)
    assert drained(queue) == [piece("abc"), piece("x", 9), piece("y", 0, "m-2")]


def test_pieces_are_paced():
    """After one piece the next has to wait its time, however much there is."""
    queue = LiveTextQueue()
    queue.put(piece("a"))
    assert queue.take(0.0) == piece("a")
    queue.put(piece("b", 1))
    assert queue.take(0.0) is None
    wait_s = queue.due_in_s(0.0)
    assert wait_s == 1 / limits.LIVE_TEXT_PER_S_MAX
    assert queue.take(wait_s) == piece("b", 1)
    assert queue.due_in_s(wait_s) is None


def test_no_more_waits_than_may():
    """What has no room is dropped; once some has left there is room again."""
    queue = LiveTextQueue()
    text = "x" * limits.LIVE_TEXT_BYTES_MAX
    fits = limits.LIVE_TEXT_WAITING_BYTES_MAX // len(text)
    taken = [queue.put(piece(text, at=2 * n * len(text))) for n in range(fits + 1)]
    assert taken == [True] * fits + [False]
    assert queue.take(1.0) is not None
    assert queue.put(piece("y"))


def test_a_long_piece_travels_in_parts():
    """No frame is over its bound, whatever characters it has, and the parts join again."""
    queue = LiveTextQueue()
    text = "ä€𝄞z" * 2000
    queue.put(piece(text, at=5))
    parts = drained(queue)
    assert all(len(one.text.encode()) <= limits.LIVE_TEXT_BYTES_MAX for one in parts)
    assert "".join(one.text for one in parts) == text
    assert [one.at for one in parts] == [
        5 + sum(len(before.text) for before in parts[:n]) for n in range(len(parts))
    ]
