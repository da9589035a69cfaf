"""`IngestStore` on any `Database`: each promise of the contract is one unit of work.

Owns what has to be written down although the caller is refused: quarantines and audit entries.
"""

from collections.abc import Sequence

from hive.failpoints import failpoint
from hive.store import facts, journal, link_checks, links, logs, needs, nodes, sync
from hive.store.backend import (
    ChunkKind,
    ChunkOutcome,
    Clock,
    Database,
    IngestPolicy,
    JournalState,
    Lacking,
)
from hive.store.link_checks import Refused
from hive.store.linking import LinkContext
from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.log_chunks import GapChunk, LogChunk
from protocol.messages import (
    EpochMark,
    Heartbeat,
    Hello,
    LogMark,
    LogState,
    Need,
    NeedDone,
    Skip,
    Snapshot,
)
from protocol.ops import EpochState, Op, Record


class SqliteIngestStore:
    """What links, ingest and backfill use. `clock` gives wall-clock milliseconds, for people."""

    def __init__(
        self, database: Database, *, clock: Clock, policy: IngestPolicy | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._policy = policy or IngestPolicy()

    def _context(self) -> LinkContext:
        return LinkContext(now_ms=self._clock(), policy=self._policy)

    async def apply_unknown(self) -> int:
        """At a start, before any link: apply what was kept because its kind was unknown."""
        return await self._database.write(facts.apply_unknown, self._context())

    # --- links --------------------------------------------------------------------------------

    async def node_key(self, node_id: str) -> bytes:
        return await self._database.read(link_checks.node_key, node_id)

    async def accept_link(self, hello: Hello, *, challenged_at: int, accepted_at: int) -> int:
        failpoint("hive.commit.before_accept_link")
        verdict = await self._database.write(
            links.accept,
            hello,
            challenged_at=challenged_at,
            accepted_at=accepted_at,
            now_ms=self._clock(),
        )
        if isinstance(verdict, Refused):
            raise verdict.error()
        return verdict

    async def journal_state(
        self, node_id: str, link_no: int, epochs: list[EpochState]
    ) -> JournalState:
        state = await self._database.write(
            journal.journal_state, node_id, link_no, epochs, self._clock()
        )
        if isinstance(state, Refused):
            raise state.error()
        return state

    async def marks(self, node_id: str, epochs: list[int]) -> list[EpochMark]:
        return await self._database.read(journal.marks, node_id, epochs)

    async def fork_seen(self, node_id: str, epoch: int, seq: int, digest: bytes) -> bool:
        verdict = await self._database.write(
            journal.fork_seen, node_id, epoch, seq, digest, self._clock()
        )
        if isinstance(verdict, Refused):
            raise verdict.error()
        return verdict

    async def log_marks(self, node_id: str, log_states: Sequence[LogState]) -> list[LogMark]:
        try:
            return await self._database.read(logs.log_marks, node_id, log_states)
        except RemoteProtocolError as error:
            await self._audit(node_id, error)
            raise

    async def agreed_chunk(
        self, node_id: str, execution_id: str, digests: Sequence[tuple[int, bytes]]
    ) -> int:
        try:
            return await self._database.read(logs.agreed_chunk, node_id, execution_id, digests)
        except RemoteProtocolError as error:
            await self._audit(node_id, error)
            raise

    async def beat(self, node_id: str, link_no: int, heartbeat: Heartbeat) -> None:
        await self._database.write(nodes.beat, node_id, link_no, heartbeat, self._clock())

    # --- commits ------------------------------------------------------------------------------

    async def commit_ops(
        self, node_id: str, link_no: int, epoch: int, first_seq: int, ops: list[Op]
    ) -> int:
        failpoint("hive.commit.before_ops")
        try:
            return await self._database.write(
                journal.commit_ops, self._context(), node_id, link_no, epoch, first_seq, ops
            )
        except RemoteProtocolError as error:
            await self._audit(node_id, error)
            raise

    async def commit_snapshot(self, node_id: str, link_no: int, page: Snapshot) -> None:
        failpoint("hive.commit.before_snapshot")
        try:
            await self._database.write(
                journal.commit_snapshot, self._context(), node_id, link_no, page
            )
        except RemoteProtocolError as error:
            await self._audit(node_id, error)
            raise

    async def commit_skip(self, node_id: str, link_no: int, skip: Skip) -> int:
        failpoint("hive.commit.before_skip")
        return await self._database.write(
            journal.commit_skip, self._context(), node_id, link_no, skip
        )

    async def commit_chunks(
        self,
        node_id: str,
        link_no: int,
        chunks: Sequence[LogChunk | GapChunk],
        *,
        fetched: bool = False,
    ) -> list[ChunkOutcome]:
        # A chunk that answers a need is a chunk: its log takes it as if it had streamed.
        del fetched
        failpoint("hive.commit.before_chunks")
        outcomes = await self._database.write(logs.commit_chunks, node_id, link_no, chunks)
        for chunk, outcome in zip(chunks, outcomes, strict=True):
            if outcome.kind == ChunkKind.FOREIGN:
                await self._audit(node_id, link_checks.foreign("log", chunk.execution_id))
        return outcomes

    async def commit_records(
        self, node_id: str, link_no: int, request_id: str, records: Sequence[Record]
    ) -> None:
        failpoint("hive.commit.before_records")
        try:
            await self._database.write(
                journal.commit_records, self._context(), node_id, link_no, request_id, records
            )
        except RemoteProtocolError as error:
            await self._audit(node_id, error)
            raise

    async def _audit(self, node_id: str, error: RemoteProtocolError) -> None:
        if error.code is not ErrorCode.FORBIDDEN:
            return
        await self._database.write(
            links.audit_refusal,
            node_id,
            error.message,
            str(error.details.get("named", "")),
            self._clock(),
        )

    # --- backfill -----------------------------------------------------------------------------

    async def store_need(self, node_id: str, need: Need) -> Need | None:
        failpoint("hive.needs.before_store")
        stored = await self._database.write(needs.store_need, node_id, need, self._clock())
        failpoint("hive.needs.stored")
        return stored

    async def open_needs(self, node_id: str) -> list[Need]:
        return await self._database.read(needs.open_needs, node_id)

    async def need_done(self, node_id: str, link_no: int, done: NeedDone) -> None:
        failpoint("hive.needs.before_done")
        try:
            await self._database.write(needs.need_done, node_id, link_no, done, self._clock())
        except RemoteProtocolError as error:
            await self._audit(node_id, error)
            raise

    async def lacking(self, node_id: str, limit: int) -> list[Lacking]:
        return await self._database.read(sync.lacking, node_id, limit)
