"""Tells viewers what changed, after the commit that changed it; bounded for each viewer.

Owns the queue of each viewer. A viewer that does not keep up loses its queue, is told so, and reads
anew. Must not read the store, nor say more than what changed.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, Self

import msgspec

from hive.store.backend import Change

#: Live pieces kept for one viewer; older ones make way, for they are stored as messages anyway.
_PIECES_MAX: Final = 256


class LivePiece(msgspec.Struct, frozen=True, kw_only=True):
    """Something for eyes alone, which is not stored: it has no number, and cannot be resumed."""

    kind: str
    fields: dict[str, Any]


class Subscription:
    """One viewer's queue. Use as a context manager: it is taken off the feed at the end."""

    def __init__(
        self, feed: "LiveFeed", topics: frozenset[str], changes_max: int, *, live: bool
    ) -> None:
        self.topics = topics
        #: Whether it wants live pieces too.
        self.live = live
        self._pieces: deque[LivePiece] = deque(maxlen=_PIECES_MAX)
        self._feed = feed
        self._changes_max = changes_max
        # The newest change of a kind about the same things stands for those before it.
        self._waiting: dict[tuple[str, ...], Change] = {}
        self._overflowed = False
        self._closed = False
        self._came = asyncio.Event()

    def __enter__(self) -> Self:
        self._feed.attach(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._feed.detach(self)

    def put(self, change: Change) -> None:
        """Take a change in; where there is no room, all of them make way for a `reset`."""
        key = (change.kind, *sorted(change.ids.values()))
        # To the end, so that the queue stays in the order of the numbers.
        self._waiting.pop(key, None)
        if len(self._waiting) >= self._changes_max:
            self._waiting.clear()
            self._overflowed = True
        self._waiting[key] = change
        self._came.set()

    def put_piece(self, piece: LivePiece) -> None:
        """Take a live piece in; the oldest makes way where there is no room."""
        self._pieces.append(piece)
        self._came.set()

    def take_pieces(self) -> list[LivePiece]:
        """Return the live pieces that came, in order. Those said before a change come before it."""
        pieces = list(self._pieces)
        self._pieces.clear()
        return pieces

    def close(self) -> None:
        """Have `take` return None from now on."""
        self._closed = True
        self._came.set()

    async def take(self) -> tuple[list[Change], bool] | None:
        """Wait for changes; return them in order, and whether others were lost before them.

        None where the feed has closed.
        """
        await self._came.wait()
        if self._closed:
            return None
        self._came.clear()
        changes, lost = list(self._waiting.values()), self._overflowed
        self._waiting.clear()
        self._overflowed = False
        return changes, lost


class LiveFeed:
    """Hands each change to the viewers whose topics it belongs to."""

    def __init__(self, changes_max: int) -> None:
        self._changes_max = changes_max
        self._by_topic: dict[str, set[Subscription]] = {}
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    @property
    def viewers(self) -> int:
        """How many are subscribed now."""
        return len(self._subscriptions)

    def subscribe(self, topics: Iterable[str], *, live: bool = False) -> Subscription:
        """Return a subscription, to be entered; with `live`, `take` wakes for live pieces too."""
        return Subscription(self, frozenset(topics), self._changes_max, live=live)

    def say(self, topics: Iterable[str], piece: LivePiece) -> None:
        """Hand out a live piece; nothing is kept of it."""
        reached: set[Subscription] = set()
        for topic in topics:
            reached |= self._by_topic.get(topic, set())
        for subscription in reached:
            if subscription.live:
                subscription.put_piece(piece)

    def publish(self, changes: Sequence[Change]) -> None:
        """Hand out the changes of one commit, in order."""
        for change in changes:
            reached: set[Subscription] = set()
            for topic in change.topics:
                reached |= self._by_topic.get(topic, set())
            for subscription in reached:
                subscription.put(change)

    def attach(self, subscription: Subscription) -> None:
        self._subscriptions.add(subscription)
        if self._closed:
            subscription.close()
        for topic in subscription.topics:
            self._by_topic.setdefault(topic, set()).add(subscription)

    def detach(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        for topic in subscription.topics:
            members = self._by_topic[topic]
            members.discard(subscription)
            if not members:
                del self._by_topic[topic]

    def close(self) -> None:
        """End every viewer's stream: the hive is about to stop."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()
