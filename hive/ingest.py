"""Takes what nodes report into the store, and tells viewers once it is there.

Owns one order: commit, then acknowledge, then publish. Must not decide what a fact means: that is
`projections`, run by the store inside the commit.
"""

from collections.abc import Callable, Sequence

from hive.failpoints import failpoint
from hive.store.backend import Change, ChunkOutcome, Database, IngestStore
from protocol.log_chunks import GapChunk, LogChunk
from protocol.messages import NeedDone, Records, Skip, Snapshot
from protocol.ops import Op

Publish = Callable[[Sequence[Change]], None]


class Ingest:
    """Commits what came over a link; returns once it may be acknowledged.

    `publish` gets the changes of every commit of `database`, also of those that no link made, in
    the order of their numbers and after the commit's submitters have gone on.
    """

    def __init__(self, store: IngestStore, database: Database, publish: Publish) -> None:
        self._store = store
        self._publish = publish
        database.subscribe(self._on_commit)

    def _on_commit(self, changes: Sequence[Change]) -> None:
        failpoint("hive.ingest.before_publish")
        self._publish(changes)

    async def ops(
        self, node_id: str, link_no: int, epoch: int, first_seq: int, ops: list[Op]
    ) -> int:
        """Commit ops; return the mark to acknowledge."""
        mark = await self._store.commit_ops(node_id, link_no, epoch, first_seq, ops)
        failpoint("hive.ingest.ops_committed")
        return mark

    async def snapshot(self, node_id: str, link_no: int, page: Snapshot) -> None:
        """Commit a page of a snapshot."""
        await self._store.commit_snapshot(node_id, link_no, page)
        failpoint("hive.ingest.snapshot_committed")

    async def skip(self, node_id: str, link_no: int, skip: Skip) -> int:
        """Commit a skip; return the mark to acknowledge."""
        mark = await self._store.commit_skip(node_id, link_no, skip)
        failpoint("hive.ingest.skip_committed")
        return mark

    async def chunks(
        self,
        node_id: str,
        link_no: int,
        chunks: Sequence[LogChunk | GapChunk],
        *,
        fetched: bool = False,
    ) -> list[ChunkOutcome]:
        """Commit chunks; return what became of each and where its log stands."""
        outcomes = await self._store.commit_chunks(node_id, link_no, chunks, fetched=fetched)
        failpoint("hive.ingest.chunks_committed")
        return outcomes

    async def records(self, node_id: str, link_no: int, records: Records) -> None:
        """Commit a page of state that answers a need."""
        await self._store.commit_records(node_id, link_no, records.request_id, records.records)
        failpoint("hive.ingest.records_committed")

    async def need_done(self, node_id: str, link_no: int, done: NeedDone) -> None:
        """Store what became of each id of a need."""
        await self._store.need_done(node_id, link_no, done)
        failpoint("hive.ingest.need_committed")
