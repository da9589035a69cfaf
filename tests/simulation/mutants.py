"""Mutants: each breaks one rule of the protocol, and each must be found out by some history.

A mutant that survives says that the world is too kind, or that the judge looks away.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from protocol import holders
from protocol.hive_link import CommitOps, HiveLink
from protocol.hive_link import Effect as HiveEffect
from protocol.log_chunks import GapChunk, LogChunk
from protocol.messages import (
    EpochMark,
    Hello,
    LogAgreed,
    LogMark,
    Need,
    NodeMessage,
    Ops,
    Skip,
    Snapshot,
    Welcome,
)
from protocol.node_effects import Effect
from protocol.node_link import NodeLink
from protocol.node_logs import NodeLogs
from protocol.ops import EpochState, Op, Record
from tests.simulation.finer_mutants import FINER
from tests.simulation.memory_hive import MemoryHive, Node
from tests.simulation.world import Rules

# --- the hive's end -------------------------------------------------------------------------------


class AcknowledgesHighest(HiveLink):
    """Takes a frame beyond a hole, instead of closing the link for it."""

    def _on_ops(self, frame: Ops) -> list[HiveEffect]:
        if frame.epoch in self._received and frame.first_seq > self._received[frame.epoch] + 1:
            self._received[frame.epoch] = frame.first_seq + len(frame.ops) - 1
            return [CommitOps(frame.epoch, frame.first_seq, tuple(frame.ops))]
        return super()._on_ops(frame)


class StoresHighest(MemoryHive):
    """Goes with `AcknowledgesHighest`: the mark is the highest number seen."""

    async def commit_ops(
        self, node_id: str, link_no: int, epoch: int, first_seq: int, ops: list[Op]
    ) -> int:
        held = self.nodes[node_id].epochs[epoch]
        if first_seq > held.mark + 1:
            held.mark = first_seq - 1
        return await super().commit_ops(node_id, link_no, epoch, first_seq, ops)


class TakesAnySkip(HiveLink):
    """Gives ops up for a skip that no snapshot stands for."""

    def _check_skip(self, skip: Skip) -> None:
        self._check_epoch(skip.epoch)


class TakesAnyEnd(HiveLink):
    """Takes ops beyond the end of an epoch that is over."""

    def _last_of(self, epoch: int) -> int:
        return 2**63


class SkipLeavesMark(MemoryHive):
    """Records a gap and does not move the mark past it."""

    async def commit_skip(self, node_id: str, link_no: int, skip: Skip) -> int:
        return self._writable(node_id, link_no).epochs[skip.epoch].mark


class VersionByCounter(MemoryHive):
    """Compares states by their number alone, whatever epoch it is of."""

    def _apply(
        self, node_id: str, node: Node, rank: int, seq: int, record: Record, named_by: str = ""
    ) -> None:
        super()._apply(node_id, node, 1, seq, record, named_by)


class RanksByHello(MemoryHive):
    """Ranks epochs by their order in the last hello, not by when they were first seen."""

    async def accept_link(self, hello: Hello, *, challenged_at: int, accepted_at: int) -> int:
        link_no = await super().accept_link(
            hello, challenged_at=challenged_at, accepted_at=accepted_at
        )
        epochs = self.nodes[hello.node_id].epochs
        for rank, state in enumerate(hello.epochs, 1):
            epochs[state.epoch].rank = rank
        return link_no


class TakesAnyLink(MemoryHive):
    """Lets an older link write."""

    def _writable(self, node_id: str, link_no: int) -> Node:
        return super()._writable(node_id, self.nodes[node_id].link_no)


class LeavesOvertaken(MemoryHive):
    """Names no fork where another holder of the identity wrote after the present epoch."""

    def _begins_anew(self, node: Node, present: EpochState) -> bool:
        return False


class NeverForks(MemoryHive):
    """Does not compare the histories of an epoch."""

    async def fork_seen(self, node_id: str, epoch: int, seq: int, digest: bytes) -> bool:
        return False

    def _forks(self, held: Any, state: EpochState) -> bool:
        return False


class NeverJudges(MemoryHive):
    """Lets every holder of an identity on."""

    async def accept_link(self, hello: Hello, *, challenged_at: int, accepted_at: int) -> int:
        node = self.nodes[hello.node_id]
        node.holder = holders.Holder()
        return await super().accept_link(
            hello, challenged_at=challenged_at, accepted_at=accepted_at
        )


class WantsNoSnapshot(MemoryHive):
    """Does not ask again for a snapshot that broke off."""

    async def commit_snapshot(self, node_id: str, link_no: int, page: Snapshot) -> None:
        await super().commit_snapshot(node_id, link_no, page)
        self.nodes[node_id].snapshot_broken = False


class ReleasesAsItIs(MemoryHive):
    """Lets a holder on and asks nothing of it."""

    def release(self, node_id: str, instance: int) -> None:
        node = self.nodes[node_id]
        node.holder = holders.released(node.holder, instance=instance)
        node.fork_released = None


class ForgetsNeeds(MemoryHive):
    """Does not know after a start what it had asked for."""

    def started(self) -> None:
        super().started()
        self.needs.clear()


class NeverRepeatsNeeds(MemoryHive):
    """Does not ask again at the next hello for what was not answered."""

    async def open_needs(self, node_id: str) -> list[Need]:
        return []


# --- the node's end -------------------------------------------------------------------------------


class IgnoresLowerMark(NodeLink):
    """Goes on from the highest mark it has ever seen."""

    #: Set by the simulated node: the marks it kept.
    seen: Mapping[int, int] = {}

    def _adopt_marks(self, welcome: Welcome) -> None:
        marks = [
            EpochMark(mark.epoch, max(mark.mark, self.seen.get(mark.epoch, 0)), mark.digest)
            for mark in welcome.marks
        ]
        super()._adopt_marks(msgspec.structs.replace(welcome, marks=marks))


class WaitsForCredit(NodeLink):
    """Begins a chunk only where the largest would fit."""

    def may_begin_chunk(self, chunk: LogChunk | GapChunk) -> bool:
        return self.credit.left >= 5_000 and super().may_begin_chunk(chunk)


class _AdoptsUnasked(NodeLogs):
    def differs(self, execution_id: str, next_chunk: int) -> list[Effect]:
        mark = self.marks[execution_id]
        return [self._adopt(mark, 0)]

    def adopt_cursors(
        self, marks: Iterable[LogMark], digests: Mapping[tuple[str, int], bytes | None]
    ) -> list[Effect]:
        marks = list(marks)
        self.marks = {mark.execution_id: mark for mark in marks}
        return super().adopt_cursors(marks, digests)


class AdoptsUnasked(NodeLink):
    """Numbers all it has anew, without asking which of it the hive holds."""

    def __init__(self, caller: Any, epochs: Any, logs: Any) -> None:
        super().__init__(caller, epochs, logs)
        self._logs = _AdoptsUnasked(logs)

    def log_differs(self, execution_id: str, next_chunk: int) -> list[Effect]:
        return []


class _AdoptsAllHeld(NodeLogs):
    def agreed(self, agreed: LogAgreed) -> list[Effect]:
        answer = LogAgreed(mark=agreed.mark, through=2**31)
        return super().agreed(answer)


class AdoptsAsHeld(NodeLink):
    """Takes all it has for held by a hive that is ahead of it."""

    def __init__(self, caller: Any, epochs: Any, logs: Any) -> None:
        super().__init__(caller, epochs, logs)
        self._logs = _AdoptsAllHeld(logs)


class AnswersUncompared(NodeLink):
    """Answers needs for logs without looking whether the hive's history of them is its own."""

    def log_differs(self, execution_id: str, next_chunk: int) -> list[Effect]:
        return []


class SendsNoSnapshot(NodeLink):
    """Tells nothing of its state where the hive lacks what it has pruned, or knows of more."""

    def _adopt_marks(self, welcome: Welcome) -> None:
        super()._adopt_marks(welcome)
        if not self._skips():
            self._snapshot_due = False


class SkipsUnacknowledged(NodeLink):
    """Takes a skip for acknowledged once it is read, whatever the hive's mark says meanwhile."""

    def snapshot_read(self, *read: Any, **named: Any) -> list[NodeMessage]:
        skips = self._skips()
        frames = super().snapshot_read(*read, **named)
        for number, through in skips:
            self._epochs[number].acked = through
        return frames


MUTANTS: Final[dict[str, Rules]] = {
    "acknowledge the highest number": Rules(
        hive_link=AcknowledgesHighest, hive_store=StoresHighest
    ),
    "acknowledge before the commit": Rules(ack_before_commit=True),
    "publish before the commit": Rules(publish_before_commit=True),
    "delete on acknowledgement": Rules(prune_on_ack=True),
    "one epoch for ever": Rules(one_epoch=True),
    "send a chunk before its commit": Rules(send_before_commit=True),
    "never ask for what lacks": Rules(no_needs=True),
    "ignore a lower mark": Rules(node_link=IgnoresLowerMark),
    "a skip that leaves the mark": Rules(hive_store=SkipLeavesMark),
    "a skip that no snapshot stands for": Rules(hive_link=TakesAnySkip),
    "ops beyond the end of an old epoch": Rules(hive_link=TakesAnyEnd),
    "versions by a counter": Rules(hive_store=VersionByCounter),
    "ranks in the hello's order": Rules(hive_store=RanksByHello),
    "writes of any link": Rules(hive_store=TakesAnyLink),
    "no new epoch for the overtaken": Rules(hive_store=LeavesOvertaken),
    "histories are not compared": Rules(hive_store=NeverForks),
    "two holders are not found out": Rules(hive_store=NeverJudges),
    "a released holder goes on as it is": Rules(hive_store=ReleasesAsItIs),
    "a snapshot that broke off is not wanted": Rules(hive_store=WantsNoSnapshot),
    "no snapshot for what is pruned or unknown": Rules(node_link=SendsNoSnapshot),
    "a skip is taken for acknowledged": Rules(node_link=SkipsUnacknowledged),
    "needs are forgotten at a start": Rules(hive_store=ForgetsNeeds),
    "needs are not asked again": Rules(hive_store=NeverRepeatsNeeds),
    "a chunk only where all of it fits": Rules(node_link=WaitsForCredit),
    "all is numbered anew, unasked": Rules(node_link=AdoptsUnasked),
    "all is taken for held": Rules(node_link=AdoptsAsHeld),
    "needs are answered uncompared": Rules(node_link=AnswersUncompared),
    **FINER,
}
