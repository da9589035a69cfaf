"""What nodes may delete: what the copies hold, read again when the copies change."""

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from hive.safe_backups import SafeBackups, of_epochs
from hive.store.backups import COUNTED_MS, backup
from protocol.messages import Safe
from tests.hive.api.running import FakeNode, RunningHive, running_hive


@pytest.mark.asyncio
async def test_safe_is_what_every_copy_holds(tmp_path: Path):
    """Nothing without a copy; then the lowest mark of all; a damaged copy does not count."""
    async with running_hive(tmp_path) as running:
        node = await running.node("one")
        config = running.hive.config
        safe = SafeBackups(config.backups, running.hive.context.hive_id)
        assert not (await safe.of_node(node.id, 1)).backups
        first = _history(running, node)
        _copy(running, tmp_path / "first.db", 1)
        held = await safe.of_node(node.id, 2)
        assert held.backups
        assert held.epochs == [first]
        await node.has_attempt()
        _copy(running, tmp_path / "second.db", 3)
        assert (await safe.of_node(node.id, 4)).epochs == [first]
        (tmp_path / "first.db").write_bytes(b"damaged")
        second = _history(running, node)
        assert (await safe.of_node(node.id, 5)).epochs == [second]


@pytest.mark.asyncio
async def test_what_may_not_be_looked_at_holds_all_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Root's timer may leave a copy, or the list of them, that the hive's user cannot read."""

    def forbids(name: str) -> None:
        """Root may read all: the system's answer to another user stands for it here."""
        system = os.access

        def access(path: Path, mode: int) -> bool:
            return not str(path).endswith(name) and system(path, mode)

        monkeypatch.setattr(os, "access", access)

    nothing = Safe(epochs=[], logs=[], backups=True)
    async with running_hive(tmp_path) as running:
        node = await running.node("one")
        config = running.hive.config
        safe = SafeBackups(config.backups, running.hive.context.hive_id)
        _history(running, node)
        _copy(running, tmp_path / "first.db", 1)
        assert (await safe.of_node(node.id, 2)).epochs
        forbids("second.db")
        _copy(running, tmp_path / "second.db", 3)
        assert await safe.of_node(node.id, 4) == nothing
        # Both too old to count: then the newest does, and that is the hidden one.
        assert await safe.of_node(node.id, COUNTED_MS + 10) == nothing
        (tmp_path / "second.db").unlink()
        assert (await safe.of_node(node.id, 5)).epochs
        config.backups.unlink()
        config.backups.mkdir()
        assert await safe.of_node(node.id, 6) == nothing


@pytest.mark.asyncio
async def test_copies_are_not_read_again_while_they_stay_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Reading a copy from end to end is dear: once for all nodes, and once an hour."""
    async with running_hive(tmp_path) as running:
        _copy(running, tmp_path / "first.db", 1)
        safe = SafeBackups(running.hive.config.backups, running.hive.context.hive_id)
        from hive import safe_backups

        reads: list[int] = []
        read = safe_backups.read_safe_marks
        monkeypatch.setattr(
            safe_backups,
            "read_safe_marks",
            lambda listing, hive_id, now_ms: (reads.append(now_ms), read(listing, hive_id, now_ms))[
                1
            ],
        )
        for now_ms in (10_000_000, 10_000_001, 10_000_002):
            await safe.of_node("n", now_ms)
        assert reads == [10_000_000]
        await safe.of_node("n", 10_000_000 + 3_600_000)
        assert len(reads) == 2


def _copy(running: RunningHive, file: Path, at_ms: int) -> None:
    config = running.hive.config
    backup(config.database, file, config.backups, at_ms)


def _history(running: RunningHive, node: FakeNode) -> tuple[int, int, bytes]:
    """The node's epoch, how far the hive has it now, and the digest there."""
    with contextlib.closing(sqlite3.connect(running.hive.config.database)) as live:
        (digest,) = live.execute(
            "SELECT digest FROM op WHERE node_id = ? AND epoch = ? AND seq = ?",
            (node.id, node.epoch, node.seq),
        ).fetchone()
    return (node.epoch, node.seq, digest)


def test_only_the_epochs_that_are_asked_for():
    """Of a node that began anew thousands of times the newest are told, and all of its logs."""
    safe = Safe(epochs=[(1, 9, b"9"), (2, 5, b"5"), (3, 7, b"7")], logs=[("e", b"")], backups=True)
    told = of_epochs(safe, [3, 1, 4])
    assert told == Safe(epochs=[(1, 9, b"9"), (3, 7, b"7")], logs=[("e", b"")], backups=True)
