"""What of a simulated node survives a kill: its stores, and what its work still has to do.

Beside the stores stands the truth: every op and chunk that was ever committed here, whatever was
pruned or purged since. Only the judge reads it. A copy is an image: what a backup of the disk
holds, and what a restored or cloned node starts from.
"""

from typing import Any

from protocol.log_chunks import GapChunk, LogChunk
from protocol.ops import Op, OpKind, Record
from tests.simulation.memory_node import MemoryChunks, MemoryJournal

#: The checkout whose logs the hive fetches itself, when a person looks.
LAZY = "lazy"


class Disk:
    """One disk."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.chunks = MemoryChunks()
        #: Attempts that run, with their execution.
        self.running: dict[str, str] = {}
        #: Messages of each session, by their place from 1.
        self.sessions: dict[str, tuple[str, ...]] = {}
        #: Ops of each epoch as they were committed, from number 1.
        self.epochs: dict[int, list[Op]] = {}
        #: Content of logs that were purged since, in order.
        self.purged: dict[str, list[bytes]] = {}

    def copy(self) -> "Disk":
        """Return an image of this disk."""
        image = Disk()
        image.journal = self.journal.copy()
        image.chunks = self.chunks.copy()
        image.running = dict(self.running)
        image.sessions = dict(self.sessions)
        image.epochs = {epoch: list(ops) for epoch, ops in self.epochs.items()}
        image.purged = dict(self.purged)
        return image


class Answers:
    """What the answers to needs are read from."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def records(self, kind: str, ids: list[str]) -> list[Record]:
        return await self._disk.journal.records(kind, ids)

    async def executions_of(self, attempt_id: str) -> list[str] | None:
        found = await self._disk.journal.records(OpKind.ATTEMPT, [attempt_id])
        return [execution_of(attempt_id)] if found else None

    async def messages_after(
        self, session_id: str, seq: int, limit: int
    ) -> tuple[int, list[Record]]:
        said = self._disk.sessions.get(session_id, ())[seq : seq + limit]
        return seq + len(said), await self._disk.journal.records(OpKind.MESSAGE, said)

    async def tombstone(self, entity_id: str) -> str | None:
        log = await self._disk.chunks.log(entity_id)
        return "purged" if log is not None and log.purged else None

    async def has_log(self, execution_id: str) -> bool:
        log = await self._disk.chunks.log(execution_id)
        return log is not None and not log.purged

    async def chunks_from(
        self, execution_id: str, chunk_seq: int, *, chunks_max: int, bytes_max: int
    ) -> list[LogChunk | GapChunk]:
        return await self._disk.chunks.chunks_from(
            execution_id, chunk_seq, chunks_max=chunks_max, bytes_max=bytes_max
        )


def execution_of(attempt_id: str) -> str:
    """Return the id of an attempt's one execution."""
    return f"{attempt_id}/e"


def session_of(attempt_id: str) -> str:
    """Return the id of an attempt's one session."""
    return f"{attempt_id}/s"


def is_lazy(entity_id: str) -> bool:
    """Whether an attempt or execution is of the checkout whose logs do not stream."""
    return entity_id.split("/")[1].startswith(LAZY)


def blobs(chunks: Any) -> list[bytes]:
    """Return the content of chunks, in order."""
    return [chunk.blob for chunk in chunks if isinstance(chunk, LogChunk)]
