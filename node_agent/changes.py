"""Waiting for a change without polling: who watches a key is woken when it changed.

Owns no state but who watches. A watcher looks after it began to watch, so nothing is missed.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Changes:
    """Watchers, by what they watch."""

    def __init__(self) -> None:
        self._watching: dict[str, set[asyncio.Event]] = {}

    def changed(self, key: str) -> None:
        """Wake who watches `key`."""
        for event in self._watching.get(key, ()):
            event.set()

    @contextmanager
    def watch(self, key: str) -> Iterator[asyncio.Event]:
        """Give an event that is set from now on whenever `key` changes; its owner clears it."""
        event = asyncio.Event()
        watchers = self._watching.setdefault(key, set())
        watchers.add(event)
        try:
            yield event
        finally:
            watchers.discard(event)
            if not watchers:
                self._watching.pop(key, None)
