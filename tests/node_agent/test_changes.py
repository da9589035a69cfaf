"""Watching: whoever watches is woken, and nobody is kept who no longer does."""

import asyncio

import pytest

from node_agent.changes import Changes


@pytest.mark.asyncio
async def test_watchers_of_a_key_are_woken() -> None:
    """Every watcher of a key is woken by its change, and none of another key."""
    changes = Changes()
    with changes.watch("a") as first, changes.watch("a") as second, changes.watch("b") as other:
        changes.changed("a")
        await asyncio.gather(first.wait(), second.wait())
        assert not other.is_set()


def test_nothing_is_kept_of_those_who_left() -> None:
    """A watcher that leaves is forgotten, and a change that nobody watches costs nothing."""
    changes = Changes()
    with changes.watch("a"), changes.watch("a"):
        pass
    assert changes._watching == {}
    changes.changed("a")
