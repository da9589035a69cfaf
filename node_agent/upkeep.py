"""The node's housekeeping: deleting what may go, giving room back, saying when there is little.

Owns when; `store.retention` owns what. Everything here can break off and be run again.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from node_agent.notices import Notices
from node_agent.stamps import now_ms
from node_agent.store import checkouts
from node_agent.store.database import Database
from node_agent.store.journal import SqliteJournal
from node_agent.store.log_chunks import SqliteChunkStore
from node_agent.store.operations import SqliteKeyLedger
from node_agent.store.retention import Standing, logs_to_purge, ops_to_prune
from protocol.errors import ErrorCode, OperationError, SkepError
from protocol.messages import Safe
from protocol.states import SyncPolicy

LOG: Final = logging.getLogger(__name__)
INTERVAL_S: Final = 600.0
#: With less room than this the node takes no new work: what runs already needs it.
ROOM_BYTES_MIN: Final = 64 * 1024 * 1024
#: A write-ahead log this large means that some reader never ends.
WAL_BYTES_ALARM: Final = 256 * 1024 * 1024
_DAY_MS: Final = 24 * 3600 * 1000
_PAGE: Final = 500
#: Pages given back to the disk at a time, between which commits pass.
_PAGES_GIVEN_BACK: Final = 2_000
_LOGS_PER_ROUND_MAX: Final = 5_000


class DiskFull(OperationError):  # noqa: N818  named for what it is
    """There is too little room on the node's disk to begin something new."""

    def __init__(self, folder: Path, free_bytes: int) -> None:
        super().__init__(
            ErrorCode.STORE_FULL,
            f"only {free_bytes // 1024**2} MiB are free where this node keeps its data",
            hint=f"Free space on the disk of {folder}; the node goes on by itself.",
            path=str(folder),
            free_bytes=free_bytes,
        )


def check_room(folder: Path) -> None:
    """Raise DiskFull where there is too little room for new work."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < ROOM_BYTES_MIN:
        raise DiskFull(folder, free_bytes)


class Upkeep:
    """Deletes what may go, every now and then and when the hive says that more is safe."""

    def __init__(
        self,
        *,
        database: Database,
        logs: Database,
        journal: SqliteJournal,
        chunks: SqliteChunkStore,
        ledger: SqliteKeyLedger,
        notices: Notices,
        joined: Callable[[], bool],
        kept_days: float,
        kept_bytes: int,
        keys_kept_days: float,
    ) -> None:
        self._database = database
        self._logs = logs
        self._journal = journal
        self._chunks = chunks
        self._ledger = ledger
        self._notices = notices
        self._joined = joined
        self._kept_days = kept_days
        self._kept_bytes = kept_bytes
        self._keys_kept_days = keys_kept_days
        self._backups: bool | None = None
        self._safe: list[tuple[int, int, bytes]] = []
        self._wake = asyncio.Event()

    async def safe_moved(self, safe: Safe) -> None:
        """Take the hive's word on what its backups hold."""
        self._backups = safe.backups
        self._safe = safe.epochs
        if safe.logs:
            await self._chunks.set_safe(safe.logs)
        self._wake.set()

    async def run(self) -> None:
        """Keep house until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self.round()
            except SkepError as error:
                # A full disk is why rooms are cleared; what could not be now is next time.
                LOG.warning("upkeep broke off: %s", error)
            except Exception:
                # No reason to end the agent: attempts do not need it.
                LOG.exception("upkeep broke off")
            try:
                await asyncio.wait_for(self._wake.wait(), INTERVAL_S)
            except TimeoutError:
                continue

    async def round(self) -> None:
        """Do all of it once."""
        for execution_id in await self._chunks.purges_to_finish():
            await self._chunks.purge(execution_id)
        standing = await self._standing()
        await self._prune_ops(standing)
        await self._purge_logs(standing)
        await self._ledger.expire(now_ms() - round(self._keys_kept_days * _DAY_MS))
        for database in (self._database, self._logs):
            await database.checkpoint()
            await self._watch_wal(database)

    async def _standing(self) -> Standing:
        links = await self._database.read(checkouts.links)
        return Standing(
            joined=self._joined(),
            backups=self._backups,
            safe=await self._safe_here(),
            marks=await self._journal.marks_seen(),
            # Of policy `lazy` the hive may still want a log; until it has it, it is the only copy.
            unstreamed=frozenset(
                link.checkout_id for link in links if link.sync_policy == SyncPolicy.METADATA
            ),
        )

    async def _safe_here(self) -> dict[int, int]:
        """Return what the backups have of this history: a rival's may be as long, and not ours."""
        kept = {held.epoch for held in await self._journal.epochs() if held.first_kept <= held.last}
        return {
            epoch: seq
            for epoch, seq, digest in self._safe
            if epoch in kept and await self._journal.digest_at(epoch, seq) == digest
        }

    async def _prune_ops(self, standing: Standing) -> None:
        old_ms = now_ms() - round(self._kept_days * _DAY_MS)
        for held in await self._journal.epochs():
            if held.first_kept > held.last:
                continue
            older = await self._journal.older_than(held.epoch, old_ms)
            through = ops_to_prune(standing, held.epoch, older)
            if through >= held.first_kept:
                pruned = await self._journal.prune(held.epoch, through)
                LOG.info("pruned %d ops of epoch %d", pruned, held.epoch)

    async def _purge_logs(self, standing: Standing) -> None:
        purged = 0
        after = (-1, "")
        kept_bytes = await self._chunks.blob_bytes()
        old_ms = now_ms() - round(self._kept_days * _DAY_MS)
        while purged < _LOGS_PER_ROUND_MAX:
            page = await self._chunks.closed_logs(after, limit=_PAGE)
            if not page:
                break
            going = logs_to_purge(
                standing,
                page,
                kept_bytes=kept_bytes,
                older_than_ms=old_ms,
                bytes_max=self._kept_bytes,
            )
            for execution_id in going:
                await self._chunks.purge(execution_id)
            purged += len(going)
            gone = frozenset(going)
            kept_bytes -= sum(log.blob_bytes for log in page if log.execution_id in gone)
            last = page[-1]
            if last.closed_at_ms >= old_ms and kept_bytes <= self._kept_bytes:
                break
            after = (last.closed_at_ms, last.execution_id)
        if purged:
            LOG.info("deleted %d logs", purged)
            await self._logs.give_back(_PAGES_GIVEN_BACK)

    async def _watch_wal(self, database: Database) -> None:
        if (wal_bytes := database.wal_bytes()) > WAL_BYTES_ALARM:
            await self._notices.tell(
                "warning",
                "wal_large",
                f"the write-ahead log of {database.path.name} has {wal_bytes // 1024**2} MiB",
                hint="Something reads the node's database without end; restart the node agent.",
            )
