"""The newest committed chunks, kept in memory: what is sent right away need not be read back.

Pure, and bounded by bytes. Must be told only of what is committed, and of every log whose chunks
were changed since: it hands out what it was given.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from protocol.log_chunks import GapChunk, LogChunk, through

#: Some windows of a fast link: a link further behind reads the disk.
RECENT_BYTES_MAX: Final = 4 * 1024 * 1024
#: What a chunk takes beside its blob, for bounds: gaps are not free.
CHUNK_OVERHEAD_BYTES: Final = 64


def size_bytes(chunk: LogChunk | GapChunk) -> int:
    """Return what a chunk counts for where chunks are bounded by bytes."""
    return CHUNK_OVERHEAD_BYTES + (len(chunk.blob) if isinstance(chunk, LogChunk) else 0)


class RecentChunks:
    """The newest chunks of all logs together; of each log those at its end."""

    def __init__(self, bytes_max: int = RECENT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        # The log that was longest without a new chunk is the first to lose its oldest.
        self._logs: dict[str, deque[LogChunk | GapChunk]] = {}

    def add(self, chunks: Iterable[LogChunk | GapChunk]) -> None:
        """Take in chunks that were just committed, in the order of their log."""
        for chunk in chunks:
            kept = self._logs.pop(chunk.execution_id, None)
            if kept is None or through(kept[-1]) + 1 != chunk.chunk_seq:
                self._drop(kept or ())
                kept = deque()
            kept.append(chunk)
            self._logs[chunk.execution_id] = kept
            self._bytes += size_bytes(chunk)
        while self._bytes > self._bytes_max:
            longest_silent = next(iter(self._logs))
            kept = self._logs[longest_silent]
            self._drop((kept.popleft(),))
            if not kept:
                del self._logs[longest_silent]

    def forget(self, execution_id: str) -> None:
        """Keep nothing of a log: its chunks are no longer what they were."""
        self._drop(self._logs.pop(execution_id, ()))

    def chunks_from(
        self, execution_id: str, chunk_seq: int, *, chunks_max: int, bytes_max: int
    ) -> list[LogChunk | GapChunk]:
        """Return chunks from exactly `chunk_seq` on, within the bounds; none where it is not here.

        At least one where it is, as the store does.
        """
        found: list[LogChunk | GapChunk] = []
        left = bytes_max
        for chunk in self._logs.get(execution_id, ()):
            if not found and chunk.chunk_seq != chunk_seq:
                continue
            left -= size_bytes(chunk)
            if len(found) == chunks_max or (found and left < 0):
                break
            found.append(chunk)
        return found

    def _drop(self, chunks: Iterable[LogChunk | GapChunk]) -> None:
        self._bytes -= sum(map(size_bytes, chunks))
