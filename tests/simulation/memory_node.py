"""The node's stores in memory, for the simulator: the same contract as the ones on SQLite.

Every commit is one assignment, so a simulated kill falls between commits, never inside one. A
`copy` is a disk image: what a backup holds, and what a restored or cloned node starts from.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from node_agent.store.contract import (
    Cut,
    JournalGrew,
    Log,
    LogGrew,
    PendingChunks,
    PendingOps,
)
from node_agent.store.errors import LogMoved, NotStored
from protocol import digest as digests
from protocol import limits
from protocol.entities import Withheld
from protocol.errors import ErrorCode, LocalProtocolError
from protocol.log_chunks import (
    GapChunk,
    LogChunk,
    LogCursor,
    Outcome,
    advance,
    check_follows,
    through,
)
from protocol.messages import LogMark, LogState
from protocol.ops import EpochState, Op, OpKind, Position, Record, encode_body

_STATELESS = frozenset({OpKind.NOTICE, OpKind.WITHHELD})


@dataclass
class _Epoch:
    epoch: int
    first_kept: int = 1
    pruned_digest: bytes = digests.EMPTY
    #: Ops `first_kept`, `first_kept + 1`, ... and the digest after each.
    ops: list[Op] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.first_kept + len(self.ops) - 1

    @property
    def digest(self) -> bytes:
        return self.digests[-1] if self.digests else self.pruned_digest

    def copy(self) -> "_Epoch":
        return _Epoch(
            self.epoch, self.first_kept, self.pruned_digest, list(self.ops), list(self.digests)
        )


class MemoryJournal:
    """A `JournalStore`."""

    def __init__(self) -> None:
        self._epochs: dict[int, _Epoch] = {}
        self._records: dict[tuple[str, str], Record] = {}
        self._marks: dict[int, int] = {}
        self._listeners: list[Callable[[JournalGrew], None]] = []

    def copy(self) -> "MemoryJournal":
        """Return the image of this disk."""
        image = MemoryJournal()
        image._epochs = {number: epoch.copy() for number, epoch in self._epochs.items()}
        image._records = dict(self._records)
        image._marks = dict(self._marks)
        return image

    async def open_epoch(self, instance: int) -> None:
        told = [epoch for epoch in self._epochs.values() if epoch.first_kept > epoch.last]
        self._epochs[instance] = _Epoch(instance)
        surplus = max(0, len(self._epochs) - limits.HELLO_EPOCHS_MAX)
        # Those that had nothing to tell go first.
        for epoch in sorted(told, key=lambda epoch: epoch.last > 0)[:surplus]:
            del self._epochs[epoch.epoch]

    async def epochs(self) -> list[EpochState]:
        return [
            EpochState(epoch.epoch, epoch.first_kept, epoch.last, epoch.digest)
            for epoch in list(self._epochs.values())[-limits.HELLO_EPOCHS_MAX :]
        ]

    async def digest_at(self, epoch: int, seq: int) -> bytes | None:
        if seq == 0:
            return digests.EMPTY
        held = self._epochs.get(epoch)
        if held is None:
            return None
        if seq == held.first_kept - 1:
            return held.pruned_digest
        if held.first_kept <= seq <= held.last:
            return held.digests[seq - held.first_kept]
        return None

    async def append(self, kind: str, entity_id: str, body: bytes, at_ms: int = 0) -> Position:
        """Append one op in a transaction of its own."""
        if len(body) > limits.OP_BODY_BYTES_MAX:
            raise LocalProtocolError(ErrorCode.TOO_LARGE, "the body of an op is too large")
        if not self._epochs:
            raise LocalProtocolError(ErrorCode.INTERNAL, "no epoch was opened")
        return self._append(Op(kind, entity_id, at_ms, body))

    def _append(self, op: Op) -> Position:
        epoch = next(reversed(self._epochs.values()))
        seq = epoch.last + 1
        running = digests.after(epoch.digest, epoch.epoch, seq, op)
        epoch.ops.append(op)
        epoch.digests.append(running)
        if op.kind not in _STATELESS:
            self._records[op.kind, op.entity_id] = Record(
                op.kind, op.entity_id, op.at_ms, op.body, epoch.epoch, seq
            )
        for listener in list(self._listeners):
            listener(JournalGrew(epoch.epoch, seq))
        return Position(epoch.epoch, seq)

    async def ops_after(self, epoch: int, seq: int, *, ops_max: int, bytes_max: int) -> list[Op]:
        held = self._epochs.get(epoch)
        if held is None or seq + 1 < held.first_kept:
            return []
        page: list[Op] = []
        nbytes = 0
        for op in held.ops[seq + 1 - held.first_kept :][:ops_max]:
            nbytes += len(op.body) + 64
            if page and nbytes > bytes_max:
                break
            page.append(op)
        return page

    async def snapshot(self) -> tuple[Position, list[Record]]:
        if not self._epochs:
            raise LocalProtocolError(ErrorCode.INTERNAL, "no epoch was opened")
        epoch = next(reversed(self._epochs.values()))
        records = [self._records[key] for key in sorted(self._records)]
        return Position(epoch.epoch, epoch.last), records

    async def records(self, kind: str, ids: Sequence[str]) -> list[Record]:
        return [
            self._records[kind, entity_id]
            for entity_id in ids
            if (kind, entity_id) in self._records
        ]

    async def prune(self, epoch: int, through: int) -> int:
        held = self._epochs.get(epoch)
        if held is None:
            return 0
        count = min(through, held.last) - held.first_kept + 1
        if count <= 0:
            return 0
        held.pruned_digest = held.digests[count - 1]
        held.first_kept += count
        del held.ops[:count], held.digests[:count]
        return count

    async def refork(self, epoch: int, agreed_seq: int, new_epoch: int) -> None:
        agreed = await self.digest_at(epoch, agreed_seq)
        if agreed is None:
            raise NotStored("digest", f"{epoch}:{agreed_seq}")
        held = self._epochs[epoch]
        kept = max(0, agreed_seq + 1 - held.first_kept)
        moved = held.ops[kept:]
        told = sorted({(op.kind, op.entity_id) for op in moved})
        newest = [
            self._records[key]
            for key in told
            if key in self._records and self._records[key].epoch != epoch
        ]
        # Pruned here and lost there: the new epoch begins with a hole, for a snapshot to fill.
        lost = max(0, held.first_kept - 1 - agreed_seq)
        pruned_digest = held.pruned_digest
        del held.ops[kept:], held.digests[kept:]
        held.first_kept = min(held.first_kept, agreed_seq + 1)
        held.pruned_digest = held.pruned_digest if held.ops else agreed
        await self.open_epoch(new_epoch)
        if lost:
            self._epochs[new_epoch] = _Epoch(new_epoch, lost + 1, pruned_digest)
        for op in moved:
            self._append(op)
        for record in newest:
            self._append(Op(record.kind, record.entity_id, record.at_ms, record.body))

    async def withhold(self, epoch: int, seq: int, reason: str, *, told_again: bool = True) -> None:
        held = self._epochs[epoch]
        place = seq - held.first_kept
        refused = held.ops[place]
        body = encode_body(Withheld(reason=reason, kind=refused.kind))
        held.ops[place] = Op(OpKind.WITHHELD.value, refused.entity_id, refused.at_ms, body)
        running = await self.digest_at(epoch, seq - 1) or digests.EMPTY
        for index in range(place, len(held.ops)):
            running = digests.after(running, epoch, held.first_kept + index, held.ops[index])
            held.digests[index] = running
        state = self._records.get((refused.kind, refused.entity_id))
        if told_again and state is not None and (state.epoch, state.seq) == (epoch, seq):
            self._append(Op(state.kind, state.entity_id, state.at_ms, state.body))

    async def pending(self, marks: Mapping[int, int]) -> PendingOps:
        ops = [
            op
            for epoch in self._epochs.values()
            for op in epoch.ops[max(0, marks.get(epoch.epoch, 0) + 1 - epoch.first_kept) :]
        ]
        return PendingOps(
            len(ops), sum(len(op.body) for op in ops), min((op.at_ms for op in ops), default=None)
        )

    async def saw_marks(self, marks: Mapping[int, int]) -> None:
        self._marks.update({epoch: mark for epoch, mark in marks.items() if epoch in self._epochs})

    async def marks_seen(self) -> dict[int, int]:
        return {epoch: mark for epoch, mark in self._marks.items() if mark}

    def listen(self, listener: Callable[[JournalGrew], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)


@dataclass
class _Log:
    log: Log
    #: Each chunk with the digest after it, in order. An adopted log may begin behind a jump.
    chunks: list[tuple[LogChunk | GapChunk, bytes]] = field(default_factory=list)
    #: The hive's digest before the first chunk after a jump, by the number it follows.
    adopted: dict[int, bytes] = field(default_factory=dict)


class MemoryChunks:
    """A `ChunkStore`."""

    def __init__(self, now_ms: Callable[[], int] = lambda: 0) -> None:
        self._logs: dict[str, _Log] = {}
        self._listeners: list[Callable[[LogGrew], None]] = []
        self._now_ms = now_ms

    def copy(self) -> "MemoryChunks":
        """Return the image of this disk."""
        image = MemoryChunks(self._now_ms)
        image._logs = {
            name: _Log(held.log, list(held.chunks), dict(held.adopted))
            for name, held in self._logs.items()
        }
        return image

    async def open_log(self, execution_id: str, attempt_id: str, checkout_id: str) -> Log:
        if execution_id not in self._logs:
            blank = LogCursor()
            self._logs[execution_id] = _Log(
                Log(
                    execution_id=execution_id,
                    attempt_id=attempt_id,
                    checkout_id=checkout_id,
                    next_chunk=blank.next_chunk,
                    next_entry=blank.next_entry,
                    digest=blank.digest,
                    raw_bytes=0,
                    closed=False,
                    acked_chunk=1,
                    spool_end=None,
                    created_at_ms=self._now_ms(),
                    purged=False,
                )
            )
        return self._logs[execution_id].log

    async def commit(self, cuts: Sequence[Cut]) -> None:
        changed: dict[str, _Log] = {}
        for chunk, spool_end in cuts:
            held = changed.get(chunk.execution_id) or self._copy_of(chunk.execution_id)
            changed[chunk.execution_id] = held
            log = held.log
            if log.closed:
                raise LocalProtocolError(ErrorCode.INTERNAL, "the log is closed")
            cursor = LogCursor(
                next_chunk=log.next_chunk, next_entry=log.next_entry, digest=log.digest
            )
            if check_follows(cursor, chunk) is not Outcome.STORED:
                raise LogMoved(chunk.execution_id, log.next_chunk, chunk.chunk_seq)
            cursor = advance(cursor, chunk)
            held.chunks.append((chunk, cursor.digest))
            raw = chunk.raw_bytes if isinstance(chunk, LogChunk) else 0
            held.log = log._replace(
                next_chunk=cursor.next_chunk,
                next_entry=cursor.next_entry,
                digest=cursor.digest,
                raw_bytes=log.raw_bytes + raw,
                spool_end=spool_end,
            )
        for execution_id, held in changed.items():
            self._logs[execution_id] = held
            self._announce(held.log)

    def _copy_of(self, execution_id: str) -> _Log:
        if execution_id not in self._logs:
            raise NotStored("log", execution_id)
        held = self._logs[execution_id]
        return _Log(held.log, list(held.chunks), dict(held.adopted))

    async def close_log(self, execution_id: str) -> Log:
        if execution_id not in self._logs:
            raise NotStored("log", execution_id)
        held = self._logs[execution_id]
        held.log = held.log._replace(closed=True)
        self._announce(held.log)
        return held.log

    async def log(self, execution_id: str) -> Log | None:
        held = self._logs.get(execution_id)
        return None if held is None else held.log

    async def logs_of(self, attempt_id: str) -> list[Log]:
        return [held.log for held in self._logs.values() if held.log.attempt_id == attempt_id]

    async def logs_to_name(self, without: Collection[str] = ()) -> list[LogState]:
        return [
            LogState(log.execution_id, log.next_chunk, log.next_entry, log.digest)
            for log in (held.log for held in self._logs.values())
            if (not log.closed or log.acked_chunk < log.next_chunk)
            and not log.purged
            and log.checkout_id not in without
        ]

    async def digest_at(self, execution_id: str, chunk_seq: int) -> bytes | None:
        if chunk_seq == 0:
            return LogCursor().digest
        held = self._logs.get(execution_id)
        if held is None:
            return None
        for chunk, running in held.chunks:
            if through(chunk) == chunk_seq:
                return running
        return None

    async def chunks_from(
        self, execution_id: str, chunk_seq: int, *, chunks_max: int, bytes_max: int
    ) -> list[LogChunk | GapChunk]:
        held = self._logs.get(execution_id)
        if held is None:
            return []
        return _page(
            [chunk for chunk, _ in held.chunks if through(chunk) >= chunk_seq],
            chunks_max,
            bytes_max,
        )

    async def whole_from(self, execution_id: str, chunk_seq: int) -> bool:
        held = self._logs[execution_id]
        following = chunk_seq
        for chunk, _ in held.chunks:
            if through(chunk) < chunk_seq:
                continue
            if chunk.chunk_seq > following:
                return False
            following = through(chunk) + 1
        return following >= held.log.next_chunk

    async def chunks_covering(
        self, execution_id: str, after_entry: int, *, chunks_max: int, bytes_max: int
    ) -> list[LogChunk | GapChunk]:
        held = self._logs.get(execution_id)
        if held is None:
            return []
        first = 1
        for chunk, _ in held.chunks:
            if chunk.first_entry <= after_entry + 1 and chunk.entries > 0:
                first = chunk.chunk_seq
        return await self.chunks_from(
            execution_id, first, chunks_max=chunks_max, bytes_max=bytes_max
        )

    async def acked(self, marks: Sequence[LogMark]) -> None:
        for mark in marks:
            held = self._logs.get(mark.execution_id)
            if held is not None:
                held.log = held.log._replace(acked_chunk=mark.next_chunk)

    async def digests_below(
        self, execution_id: str, chunk_seq: int, *, limit: int
    ) -> list[tuple[int, bytes]]:
        held = self._logs.get(execution_id)
        pairs = [] if held is None else held.chunks
        below = [(through(chunk), digest) for chunk, digest in pairs if through(chunk) < chunk_seq]
        return below[::-1][:limit]

    async def adopt(self, mark: LogMark, held_through: int) -> Log:
        if mark.execution_id not in self._logs:
            raise NotStored("log", mark.execution_id)
        held = self._logs[mark.execution_id]
        log = held.log
        first = held_through + 1
        kept = [pair for pair in held.chunks if pair[0].chunk_seq < first]
        moved = [chunk for chunk, _ in held.chunks if chunk.chunk_seq >= first]
        ours_chunk = moved[0].chunk_seq if moved else log.next_chunk
        ours_entry = moved[0].first_entry if moved else log.next_entry
        if kept and through(kept[-1][0]) == mark.next_chunk - 1:
            kept[-1] = (kept[-1][0], mark.digest)
        gap = GapChunk(
            execution_id=mark.execution_id,
            chunk_seq=mark.next_chunk,
            through_seq=max(mark.next_chunk, ours_chunk - 1),
            first_entry=mark.next_entry,
            entries=max(0, ours_entry - mark.next_entry),
            reason="node_restored",
            first_ms=self._now_ms(),
            last_ms=self._now_ms(),
        )
        cursor = LogCursor(
            next_chunk=mark.next_chunk, next_entry=mark.next_entry, digest=mark.digest
        )
        chunks = kept
        by = gap.through_seq + 1 - ours_chunk
        entries_by = gap.first_entry + gap.entries - ours_entry
        for chunk in (gap, *(_moved(chunk, by, entries_by) for chunk in moved)):
            cursor = advance(cursor, chunk)
            chunks.append((chunk, cursor.digest))
        held.chunks = chunks
        held.log = log._replace(
            next_chunk=cursor.next_chunk,
            next_entry=cursor.next_entry,
            digest=cursor.digest,
            acked_chunk=mark.next_chunk,
        )
        self._announce(held.log)
        return held.log

    async def outbox(self, without: Collection[str] = ()) -> PendingChunks:
        unsent = [
            chunk
            for held in self._logs.values()
            if not held.log.purged and held.log.checkout_id not in without
            for chunk, _ in held.chunks
            if through(chunk) >= held.log.acked_chunk
        ]
        return PendingChunks(
            len(unsent),
            sum(len(chunk.blob) for chunk in unsent if isinstance(chunk, LogChunk)),
            min((chunk.first_ms for chunk in unsent if chunk.first_ms), default=None),
        )

    async def purge(self, execution_id: str) -> None:
        if execution_id not in self._logs:
            raise NotStored("log", execution_id)
        held = self._logs[execution_id]
        if not held.log.closed:
            raise LocalProtocolError(ErrorCode.INTERNAL, "an open log is not purged")
        held.log = held.log._replace(purged=True)
        held.chunks = []

    def listen(self, listener: Callable[[LogGrew], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _announce(self, log: Log) -> None:
        for listener in list(self._listeners):
            listener(LogGrew(log.execution_id, log.next_chunk, log.closed, log.checkout_id))

    # --- for the simulator's judge ------------------------------------------------------------

    def all_logs(self) -> dict[str, tuple[Log, list[LogChunk | GapChunk]]]:
        """Return every log with its chunks."""
        return {
            name: (held.log, [chunk for chunk, _ in held.chunks])
            for name, held in self._logs.items()
        }


def _page(
    chunks: Sequence[LogChunk | GapChunk], chunks_max: int, bytes_max: int
) -> list[LogChunk | GapChunk]:
    page: list[LogChunk | GapChunk] = []
    nbytes = 0
    for chunk in chunks[:chunks_max]:
        nbytes += len(chunk.blob) if isinstance(chunk, LogChunk) else 0
        if page and nbytes > bytes_max:
            break
        page.append(chunk)
    return page


def _moved(chunk: LogChunk | GapChunk, by: int, entries_by: int) -> LogChunk | GapChunk:
    changes = {"chunk_seq": chunk.chunk_seq + by, "first_entry": chunk.first_entry + entries_by}
    if isinstance(chunk, GapChunk):
        changes["through_seq"] = chunk.through_seq + by
    return msgspec.structs.replace(chunk, **changes)
