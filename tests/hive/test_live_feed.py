"""The live feed: who gets what, in which order, and what becomes of one who does not keep up."""

import asyncio

import pytest

from hive.live_feed import LiveFeed, LivePiece
from hive.store.backend import Change


def change(number: int, kind: str = "attempt.changed", **ids: str) -> Change:
    """A change as a commit makes it."""
    return Change(kind=kind, ids=ids or {"attempt": "a"}, generation=1, change_no=number)


async def numbers(subscription) -> list[int]:
    """The numbers of what a viewer takes next."""
    taken = await subscription.take()
    assert taken is not None
    return [one.change_no for one in taken[0]]


@pytest.mark.asyncio
async def test_a_viewer_gets_its_topics_only():
    """Changes of other attempts pass by; node changes are a topic of their own."""
    feed = LiveFeed(100)
    with feed.subscribe({"attempt:a"}) as viewer, feed.subscribe({"nodes"}) as other:
        feed.publish([change(1), change(2, attempt="b"), change(3, "node.changed", node="n")])
        assert await numbers(viewer) == [1]
        assert await numbers(other) == [3]


@pytest.mark.asyncio
async def test_a_change_in_two_topics_comes_once():
    """One who follows an attempt and its project gets each change once."""
    feed = LiveFeed(100)
    with feed.subscribe({"attempt:a", "project:p"}) as viewer:
        feed.publish([change(1, attempt="a", project="p")])
        assert await numbers(viewer) == [1]


@pytest.mark.asyncio
async def test_the_newest_of_a_kind_stands_for_those_before():
    """A slow viewer of a chatty log waits for one event, not for a thousand; order is kept."""
    feed = LiveFeed(100)
    with feed.subscribe({"attempt:a"}) as viewer:
        feed.publish(
            [change(n, "log.appended", attempt="a", execution="e") for n in range(1, 1000)]
        )
        feed.publish(
            [change(1000, attempt="a"), change(1001, "log.appended", attempt="a", execution="e")]
        )
        assert await numbers(viewer) == [1000, 1001]


@pytest.mark.asyncio
async def test_one_who_does_not_keep_up_is_told():
    """Beyond its bound a queue is emptied and marked: the viewer reads anew."""
    feed = LiveFeed(4)
    with feed.subscribe({"project:p"}) as viewer:
        feed.publish([change(n, attempt=f"a{n}", project="p") for n in range(1, 10)])
        taken = await viewer.take()
        assert taken is not None
        changes, lost = taken
        assert lost
        assert 1 <= len(changes) <= 4
        assert changes[-1].change_no == 9
        feed.publish([change(10, attempt="x", project="p")])
        again = await viewer.take()
        assert again is not None
        assert not again[1]


@pytest.mark.asyncio
async def test_a_viewer_that_left_gets_nothing():
    """Nothing is kept for one who left."""
    feed = LiveFeed(4)
    with feed.subscribe({"nodes"}):
        assert feed.viewers == 1
    assert feed.viewers == 0
    feed.publish([change(1, "node.changed", node="n")])


@pytest.mark.asyncio
async def test_closing_wakes_every_viewer():
    """A stopping hive ends streams that wait, and those that come late."""
    feed = LiveFeed(4)
    with feed.subscribe({"nodes"}) as viewer:
        waiting = asyncio.create_task(viewer.take())
        await asyncio.sleep(0)
        feed.close()
        assert await waiting is None
        with feed.subscribe({"nodes"}) as late:
            assert await late.take() is None


def piece(number: int) -> LivePiece:
    """A piece for eyes alone."""
    return LivePiece(kind="message.delta", fields={"at": number})


@pytest.mark.asyncio
async def test_pieces_go_to_those_who_want_them():
    """A live piece wakes who looks at its topic live, once; nobody else, and no change is lost."""
    feed = LiveFeed(100)
    topics = {"session:s", "attempt:a"}
    with feed.subscribe(topics, live=True) as viewer, feed.subscribe(topics) as waiter:
        feed.say(topics, piece(1))
        feed.publish([change(1)])
        assert await viewer.take() == ([change(1)], False)
        assert viewer.take_pieces() == [piece(1)]
        assert viewer.take_pieces() == []
        assert await waiter.take() == ([change(1)], False)
        assert waiter.take_pieces() == []


@pytest.mark.asyncio
async def test_the_oldest_pieces_make_way():
    """A viewer that takes nothing keeps the newest pieces alone, and loses no change for them."""
    feed = LiveFeed(100)
    with feed.subscribe({"attempt:a"}, live=True) as viewer:
        feed.publish([change(1)])
        for number in range(10_000):
            feed.say({"attempt:a"}, piece(number))
        assert await viewer.take() == ([change(1)], False)
        kept = viewer.take_pieces()
        assert len(kept) < 1000
        assert kept[-1] == piece(9_999)
