"""What nodes may delete: read from the backups themselves, and read again only when they change.

Must not make backups, nor trust the list of them: what is not whole on disk holds nothing.
"""

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hive.store.backups import SafeMarks, list_backups, read_safe_marks
from protocol.messages import Safe

log = logging.getLogger(__name__)

#: A copy that was whole an hour ago may be on a disk that has failed since.
_LOOKED_AT_MS: Final = 3_600_000
_Signature = tuple[tuple[str, int, int], ...]


class SafeBackups:
    """Answers for each node what every verified copy holds."""

    def __init__(self, listing: Path, hive_id: str) -> None:
        self._listing = listing
        self._hive_id = hive_id
        self._signature: _Signature | None = None
        self._marks = SafeMarks(counted=0, marks={}, whole_logs={})
        self._read_at_ms = 0
        self._reading = asyncio.Lock()

    async def of_node(self, node_id: str, now_ms: int) -> Safe:
        """Return what is safe of one node."""
        async with self._reading:
            try:
                await self._look(now_ms)
            except OSError as error:
                # There may be copies: as long as nobody can tell, nodes keep all they have.
                log.warning("the list of backups cannot be read: %s", error)
                return Safe(epochs=[], logs=[], backups=True)
        marks = self._marks
        return Safe(
            epochs=marks.epochs_of(node_id),
            logs=marks.logs_of(node_id),
            backups=marks.counted > 0,
        )

    async def _look(self, now_ms: int) -> None:
        signature = await asyncio.to_thread(_signature, self._listing)
        if signature != self._signature or now_ms - self._read_at_ms >= _LOOKED_AT_MS:
            self._marks = await asyncio.to_thread(
                read_safe_marks, self._listing, self._hive_id, now_ms
            )
            self._signature, self._read_at_ms = signature, now_ms


def of_epochs(safe: Safe, epochs: Iterable[int]) -> Safe:
    """Return what is safe of these epochs alone: all that a node ever had may be too many."""
    named = set(epochs)
    kept = [one for one in safe.epochs if one[0] in named]
    return Safe(epochs=kept, logs=safe.logs, backups=safe.backups)


def _signature(listing: Path) -> _Signature:
    found = []
    for record in list_backups(listing):
        try:
            state = Path(record.path).stat()
        except FileNotFoundError:
            continue
        except OSError:
            found.append((record.path, 0, 0))
            continue
        found.append((record.path, state.st_mtime_ns, state.st_size))
    return tuple(found)
