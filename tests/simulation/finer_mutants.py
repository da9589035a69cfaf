"""Finer mutants: rules that are kept almost, or but for one case.

As `mutants`, which holds the table that the test runs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from protocol.hive_link import HiveLink
from protocol.log_chunks import GapChunk, LogChunk
from protocol.messages import (
    Ack,
    Credit,
    EpochMark,
    Fetched,
    NeedDone,
    NodeMessage,
    Records,
    Welcome,
)
from protocol.node_effects import Effect
from protocol.node_link import NodeLink
from protocol.ops import Record
from tests.simulation.disk import Answers
from tests.simulation.memory_hive import MemoryHive, Row
from tests.simulation.world import Rules

# --- the hive's end -------------------------------------------------------------------------------


class ReturnsCreditTwice(HiveLink):
    """Gives the credit of what answers a need back when it comes, and when it is settled."""

    def settled(self, nbytes: int, now_s: float) -> Credit | None:
        self.credit.settle(nbytes, now_s)
        return super().settled(nbytes, now_s)


class AcksOneMore(HiveLink):
    """Acknowledges the op behind the last committed, where it came."""

    def ops_committed(self, epoch: int, mark: int, digest: bytes = b"") -> Ack:
        ack = super().ops_committed(epoch, mark, digest)
        return msgspec.structs.replace(ack, seq=min(ack.seq + 1, self._received[epoch]))


class ReleasesTheOther(MemoryHive):
    """Lets on whoever was there last, not whom a person chose."""

    def release(self, node_id: str, instance: int) -> None:
        super().release(node_id, self.nodes[node_id].holder.instance or instance)


class OverwritesWithAnswers(MemoryHive):
    """Takes what answers a need for the newest there is."""

    async def commit_records(
        self, node_id: str, link_no: int, request_id: str, records: Sequence[Record]
    ) -> None:
        await super().commit_records(node_id, link_no, request_id, records)
        node = self.nodes[node_id]
        for record in records:
            row = node.rows.get((record.kind, record.entity_id))
            epoch = node.epochs.get(record.epoch)
            if row is not None and epoch is not None:
                node.rows[record.kind, record.entity_id] = Row(
                    record.body, epoch.rank, record.seq, row.named_by, False, row.place
                )


class AgreesOneMore(MemoryHive):
    """Says that one chunk more is held than is."""

    async def agreed_chunk(
        self, node_id: str, execution_id: str, digests: Sequence[tuple[int, bytes]]
    ) -> int:
        through = await super().agreed_chunk(node_id, execution_id, digests)
        return through + 1 if through else 0


class LosesSkipDigest(MemoryHive):
    """Moves the mark past a skip, and chains what follows to what was before it."""

    async def commit_skip(self, node_id: str, link_no: int, skip: Any) -> int:
        held = self.nodes[node_id].epochs[skip.epoch]
        before = held.digest
        mark = await super().commit_skip(node_id, link_no, skip)
        held.digest = before
        return mark


# --- the node's end -------------------------------------------------------------------------------


class MarkOneMore(NodeLink):
    """Takes one op more for held than the mark says."""

    def _adopt_marks(self, welcome: Welcome) -> None:
        marks = [
            msgspec.structs.replace(mark, mark=mark.mark + 1) if mark.mark else mark
            for mark in welcome.marks
        ]
        super()._adopt_marks(msgspec.structs.replace(welcome, marks=marks))


class ComparesNothingAtHello(NodeLink):
    """Does not compare the digests at the marks of a welcome."""

    def settled(
        self,
        epochs: Mapping[tuple[int, int], bytes | None],
        logs: Mapping[tuple[str, int], bytes | None],
    ) -> list[Effect]:
        return super().settled({}, logs)


class ComparesNothingLater(NodeLink):
    """Does not compare the digests at the marks of heartbeats."""

    def marks_compared(
        self, marks: Sequence[EpochMark], digests: Mapping[tuple[int, int], bytes | None]
    ) -> None:
        return


class ComparesNothing(ComparesNothingAtHello, ComparesNothingLater):
    """Compares no digests of ops at all."""


class StampsLate(NodeLink):
    """Stamps a snapshot with what is written while it is sent."""

    def snapshot_read(
        self,
        snapshot_id: str,
        position: tuple[int, int],
        records: Sequence[Record],
        digests: Mapping[tuple[int, int], bytes | None],
    ) -> list[NodeMessage]:
        late = (position[0], position[1] + 2)
        return super().snapshot_read(snapshot_id, late, records, digests)


class AnswersWhatStreams(NodeLink):
    """Sends in an answer what streams by itself."""

    def answer_read(
        self, message: Fetched | Records | NeedDone
    ) -> Fetched | Records | NeedDone | None:
        if isinstance(message, Fetched):
            self.credit.spend(len(getattr(message.chunk, "blob", b"")))
            return message
        return super().answer_read(message)


class SaysGoneTooEarly(Answers):
    """Says of a log that is closed that it is gone: it is not yet."""

    async def has_log(self, execution_id: str) -> bool:
        log = await self._disk.chunks.log(execution_id)
        return log is not None and not log.closed

    async def tombstone(self, entity_id: str) -> str | None:
        log = await self._disk.chunks.log(entity_id)
        return "purged" if log is not None and log.closed else None

    async def chunks_from(
        self, execution_id: str, chunk_seq: int, *, chunks_max: int, bytes_max: int
    ) -> list[LogChunk | GapChunk]:
        if not await self.has_log(execution_id):
            return []
        return await super().chunks_from(
            execution_id, chunk_seq, chunks_max=chunks_max, bytes_max=bytes_max
        )


class AnswersOneLess(Answers):
    """Leaves out of an answer the first message that is asked for."""

    async def messages_after(
        self, session_id: str, seq: int, limit: int
    ) -> tuple[int, list[Record]]:
        after, records = await super().messages_after(session_id, seq + 1, limit)
        return (after, records) if records else (seq, [])


FINER: Final[dict[str, Rules]] = {
    "credit is returned twice": Rules(hive_link=ReturnsCreditTwice),
    "one op more is acknowledged than committed": Rules(hive_link=AcksOneMore),
    "the other holder is released": Rules(hive_store=ReleasesTheOther),
    "answers overwrite what is newer": Rules(hive_store=OverwritesWithAnswers),
    "one chunk more is agreed": Rules(hive_store=AgreesOneMore),
    "a skip leaves the digest": Rules(hive_store=LosesSkipDigest),
    "one op more than the mark": Rules(node_link=MarkOneMore),
    "a node compares no digests": Rules(node_link=ComparesNothing),
    "a snapshot is stamped late": Rules(node_link=StampsLate),
    "answers hold what streams": Rules(node_link=AnswersWhatStreams),
    "gone is what is closed": Rules(answers=SaysGoneTooEarly),
    "an answer leaves one message out": Rules(answers=AnswersOneLess),
    "safe is not compared": Rules(safe_uncompared=True),
    "safe is what the newest backup holds": Rules(safe_by_newest=True),
}
