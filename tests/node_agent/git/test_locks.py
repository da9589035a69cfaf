"""One lock per repository."""

import asyncio
import gc
from pathlib import Path

import pytest

from node_agent.git import locks
from node_agent.git.locks import repository_lock


@pytest.mark.asyncio
async def test_one_repository_has_one_lock(tmp_path: Path) -> None:
    """Two ways to write a repository's path lead to the same lock; others have their own."""
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    async with repository_lock(tmp_path / "a"):
        assert repository_lock(tmp_path / "link").locked()
        assert not repository_lock(tmp_path / "b").locked()


@pytest.mark.asyncio
async def test_lock_serialises(tmp_path: Path) -> None:
    """The second change begins after the first ended."""
    order: list[str] = []

    async def change(name: str) -> None:
        async with repository_lock(tmp_path):
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    await asyncio.gather(change("a"), change("b"))
    assert order == ["a begins", "a ends", "b begins", "b ends"]


@pytest.mark.asyncio
async def test_unused_locks_are_forgotten(tmp_path: Path) -> None:
    """A node that saw a thousand repositories does not keep a thousand locks."""
    before = len(locks._LOCKS)
    for number in range(1000):
        async with repository_lock(tmp_path / str(number)):
            pass
    gc.collect()
    assert len(locks._LOCKS) <= before
