"""What answers to the hive's needs are read from: both stores seen as one.

Must not send or page: `need_answers` does.
"""

from collections.abc import Sequence

from node_agent.store import attempts, transcripts
from node_agent.store.contract import ChunkStore, JournalStore
from node_agent.store.database import Database
from node_agent.store.errors import NotStored
from protocol.log_chunks import GapChunk, LogChunk
from protocol.ops import OpKind, Record


class StoredAnswers:
    """An `AnswerStore` over the node's two stores."""

    def __init__(self, database: Database, journal: JournalStore, chunks: ChunkStore) -> None:
        self._database = database
        self._journal = journal
        self._chunks = chunks

    async def records(self, kind: str, ids: Sequence[str]) -> list[Record]:
        return await self._journal.records(kind, ids)

    async def executions_of(self, attempt_id: str) -> list[str] | None:
        """Return the ids of an attempt's executions; None where it is not known."""
        try:
            found = await self._database.read(attempts.get, attempt_id)
        except NotStored:
            return None
        return found.executions

    async def messages_after(
        self, session_id: str, seq: int, limit: int
    ) -> tuple[int, list[Record]]:
        """Return messages of a session behind place `seq`, and the place of the last one."""
        places = await self._database.read(
            transcripts.places_after, session_id, after=seq, limit=limit
        )
        ids = [message_id for _, message_id in places]
        last = places[-1][0] if places else seq
        return last, await self._journal.records(OpKind.MESSAGE, ids)

    async def tombstone(self, entity_id: str) -> str | None:
        """Return why something that was here is gone; None where it was never here."""
        log = await self._chunks.log(entity_id)
        return "purged" if log is not None and log.purged else None

    async def has_log(self, execution_id: str) -> bool:
        """Whether the log's chunks are here, be they none."""
        log = await self._chunks.log(execution_id)
        return log is not None and not log.purged

    async def chunks_from(
        self, execution_id: str, chunk_seq: int, *, chunks_max: int, bytes_max: int
    ) -> list[LogChunk | GapChunk]:
        return await self._chunks.chunks_from(
            execution_id, chunk_seq, chunks_max=chunks_max, bytes_max=bytes_max
        )
