"""The hive's store in memory, for the simulator: the same contract as the one on SQLite.

Owns what a hive remembers; `copy` is a backup of it. Nothing here is asynchronous but in name.
"""

import functools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from hive.store.backend import (
    ChunkKind,
    ChunkOutcome,
    JournalState,
    Lacking,
    LogLack,
)
from protocol import digest as digests
from protocol import holders, limits
from protocol.conversation import Message, Session
from protocol.entities import Attempt, Execution, LogEnd
from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.holders import Holder, Verdict
from protocol.log_chunks import (
    GapChunk,
    LogChunk,
    LogCursor,
    Outcome,
    advance,
    check_follows,
    through,
)
from protocol.messages import (
    EpochMark,
    Fork,
    Heartbeat,
    Hello,
    LogMark,
    LogState,
    Need,
    NeedDone,
    NeedOutcome,
    Skip,
    Snapshot,
)
from protocol.ops import EpochState, Op, OpKind, Record, decode_body

#: What is said is never changed; the same bodies are looked at again and again.
_decoded: Final = functools.lru_cache(maxsize=4096)(decode_body)


@dataclass
class _Epoch:
    rank: int
    mark: int = 0
    #: Op and digest by seq; a skip leaves a hole that is recorded.
    ops: dict[int, tuple[Op, bytes]] = field(default_factory=dict)
    digest: bytes = digests.EMPTY
    gaps: list[tuple[int, int]] = field(default_factory=list)
    #: The node said that its history differs from ours at this op.
    fork_seq: int | None = None

    def digest_at(self, seq: int) -> bytes | None:
        if seq == self.mark:
            return self.digest
        held = self.ops.get(seq)
        return None if held is None else held[1]

    def copy(self) -> "_Epoch":
        ops, gaps = dict(self.ops), list(self.gaps)
        return _Epoch(self.rank, self.mark, ops, self.digest, gaps, self.fork_seq)


@dataclass(frozen=True)
class Row:
    """The state of one entity at the hive, and the position that set it."""

    body: bytes
    rank: int
    seq: int
    named_by: str = ""
    forgotten: bool = False
    #: Of a message: its session, and its place there.
    place: tuple[str, int] | None = None


@dataclass
class _Log:
    node_id: str
    cursor: LogCursor = field(default_factory=LogCursor)
    chunks: list[LogChunk | GapChunk] = field(default_factory=list)
    digests: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> "_Log":
        return _Log(self.node_id, self.cursor, list(self.chunks), dict(self.digests))


@dataclass
class Node:
    key: bytes
    link_no: int = 0
    holder: Holder = field(default_factory=Holder)
    fork_released: int | None = None
    newest: tuple[int, int] | None = None
    epochs: dict[int, _Epoch] = field(default_factory=dict)
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    revoked: bool = False
    #: (rank, seq) of the newest whole snapshot: what is older and unnamed, the node has forgotten.
    snapshot_at: tuple[int, int] = (0, 0)
    #: A snapshot was begun and not ended: what is shown is of two times.
    snapshot_broken: bool = False

    def copy(self) -> "Node":
        return Node(
            self.key,
            self.link_no,
            self.holder,
            self.fork_released,
            self.newest,
            {number: epoch.copy() for number, epoch in self.epochs.items()},
            dict(self.rows),
            self.revoked,
            self.snapshot_at,
            self.snapshot_broken,
        )


class MemoryHive:
    """An `IngestStore`."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.logs: dict[str, _Log] = {}
        self.needs: dict[str, tuple[str, Need]] = {}
        #: Kind and id of what a node answered it does not have, with the node.
        self.missing: dict[tuple[str, str], tuple[str, str]] = {}
        #: Places of sessions whose messages a node has no more than the hive, with the node.
        self.gaps: dict[str, tuple[str, frozenset[int]]] = {}
        #: Of a need and a session: how many messages it has, and how far it was told of.
        self.told: dict[tuple[str, str], tuple[int, int]] = {}
        #: Needs whose node told of all it owns since they were stored.
        self.stale: frozenset[str] = frozenset()
        self.kept_aside = 0
        #: Attempts whose logs are held only where someone asked for them.
        self.is_lazy: Callable[[str], bool] = lambda attempt_id: False

    def copy(self) -> "MemoryHive":
        """Return a backup."""
        backup = type(self)()
        backup.is_lazy = self.is_lazy
        backup.nodes = {name: node.copy() for name, node in self.nodes.items()}
        backup.logs = {name: log.copy() for name, log in self.logs.items()}
        backup.needs = dict(self.needs)
        backup.missing = dict(self.missing)
        backup.gaps, backup.told, backup.stale = dict(self.gaps), dict(self.told), self.stale
        backup.kept_aside = self.kept_aside
        return backup

    def started(self) -> None:
        """The hive starts: no socket of before lives."""
        for node in self.nodes.values():
            node.holder = holders.restarted(node.holder)

    # --- hello --------------------------------------------------------------------------------

    async def node_key(self, node_id: str) -> bytes:
        node = self.nodes.get(node_id)
        if node is None:
            raise RemoteProtocolError(ErrorCode.UNKNOWN_NODE, "no such node")
        if node.revoked:
            raise RemoteProtocolError(ErrorCode.REVOKED, "the node is revoked")
        return node.key

    async def accept_link(self, hello: Hello, *, challenged_at: int, accepted_at: int) -> int:
        await self.node_key(hello.node_id)
        node = self.nodes[hello.node_id]
        verdict = holders.judge(
            node.holder,
            instance=hello.instance,
            connect_no=hello.connect_no,
            challenged_at=challenged_at,
        )
        match verdict:
            case Verdict.SUPERSEDED:
                raise RemoteProtocolError(ErrorCode.SUPERSEDED, "a slow hello")
            case Verdict.QUARANTINE | Verdict.REFUSED:
                if verdict is Verdict.QUARANTINE or node.holder.quarantined:
                    node.holder = holders.quarantined(node.holder, instance=hello.instance)
                raise RemoteProtocolError(ErrorCode.QUARANTINED, "two holders")
            case Verdict.GRANTED:
                pass
        node.holder = holders.granted(
            node.holder,
            instance=hello.instance,
            connect_no=hello.connect_no,
            accepted_at=accepted_at,
        )
        node.link_no += 1
        for state in hello.epochs:
            if state.epoch not in node.epochs:
                top = max((epoch.rank for epoch in node.epochs.values()), default=0)
                node.epochs[state.epoch] = _Epoch(top + 1)
        return node.link_no

    def release(self, node_id: str, instance: int) -> None:
        """A person lets one of two holders on."""
        node = self.nodes[node_id]
        node.holder = holders.released(node.holder, instance=instance)
        node.fork_released = instance
        # A link that is still open may be of a rival under the same instance, and what is shown
        # is of both.
        node.link_no += 1
        node.snapshot_broken = True
        # What a rival does not know, the one let on may have.
        self.missing = {key: how for key, how in self.missing.items() if how[0] != node_id}
        self._forget_gaps(node_id)

    async def journal_state(
        self, node_id: str, link_no: int, epochs: list[EpochState]
    ) -> JournalState:
        node = self._writable(node_id, link_no)
        forked = [state for state in epochs if self._forks(node.epochs[state.epoch], state)]
        if forked and node.fork_released != node.holder.instance:
            node.holder = holders.quarantined(node.holder, instance=node.holder.instance or 0)
            raise RemoteProtocolError(ErrorCode.QUARANTINED, "a fork")
        forks = [self._fork(state.epoch, node.epochs[state.epoch]) for state in forked]
        if epochs and epochs[-1] not in forked and self._begins_anew(node, epochs[-1]):
            forks.append(self._fork(epochs[-1].epoch, node.epochs[epochs[-1].epoch]))
        if (
            epochs
            and node.newest is not None
            and not any(
                state.epoch == node.newest[0] and state.last >= node.newest[1] for state in epochs
            )
        ):
            # Until it has told all it owns, whatever it may tell before.
            node.snapshot_broken = True
        marks = await self.marks(node_id, [state.epoch for state in epochs])
        return JournalState(
            marks=marks,
            newest=node.newest,
            forks=forks,
            snapshot_wanted=node.snapshot_broken,
        )

    def _begins_anew(self, node: Node, present: EpochState) -> bool:
        """Whether another holder of the identity wrote, or may have, after this epoch or in it."""
        held = node.epochs[present.epoch]
        top = max(epoch.rank for epoch in node.epochs.values())
        released = node.fork_released == node.holder.instance
        epoch, told = node.newest or (0, 0)
        beyond = held.mark > present.last or (epoch == present.epoch and told > present.last)
        return released or held.rank < top or beyond

    def _forks(self, held: _Epoch, state: EpochState) -> bool:
        """Whether the node's epoch and ours part ways; forget an earlier fork that was settled."""
        if held.mark < state.last:
            return held.fork_seq is not None
        if state.last and held.digest_at(state.last) not in {None, state.digest}:
            held.fork_seq = state.last
            return True
        held.fork_seq = None
        return False

    def _fork(self, number: int, epoch: _Epoch) -> Fork:
        newest = sorted(epoch.ops)[-limits.FORK_DIGESTS_MAX :]
        return Fork(number, [(0, digests.EMPTY), *((seq, epoch.ops[seq][1]) for seq in newest)])

    async def marks(self, node_id: str, epochs: list[int]) -> list[EpochMark]:
        held = self.nodes[node_id].epochs
        blank = _Epoch(0)
        return [
            EpochMark(number, held.get(number, blank).mark, held.get(number, blank).digest)
            for number in epochs
        ]

    async def fork_seen(self, node_id: str, epoch: int, seq: int, digest: bytes) -> bool:
        node = self.nodes[node_id]
        if node.epochs[epoch].digest_at(seq) == digest:
            return False
        node.epochs[epoch].fork_seq = seq
        if node.fork_released == node.holder.instance:
            raise RemoteProtocolError(ErrorCode.HOLE, "the history differs; call anew to settle it")
        node.holder = holders.quarantined(node.holder, instance=node.holder.instance or 0)
        return True

    async def log_marks(self, node_id: str, logs: Sequence[LogState]) -> list[LogMark]:
        marks = []
        for state in logs:
            log = self.logs.get(state.execution_id)
            if log is None:
                marks.append(_mark(state.execution_id, LogCursor()))
                continue
            if log.node_id != node_id:
                raise RemoteProtocolError(ErrorCode.FORBIDDEN, "another node's log")
            ours = log.digests.get(state.next_chunk - 1)
            marks.append(
                msgspec.structs.replace(
                    _mark(state.execution_id, log.cursor),
                    agreed=state.next_chunk == 1 or ours == state.digest,
                )
            )
        return marks

    async def agreed_chunk(
        self, node_id: str, execution_id: str, digests: Sequence[tuple[int, bytes]]
    ) -> int:
        log = self.logs.get(execution_id)
        if log is None:
            return 0
        if log.node_id != node_id:
            raise RemoteProtocolError(ErrorCode.FORBIDDEN, "another node's log")
        return max((seq for seq, digest in digests if log.digests.get(seq) == digest), default=0)

    def _writable(self, node_id: str, link_no: int) -> Node:
        node = self.nodes[node_id]
        if node.revoked:
            raise RemoteProtocolError(ErrorCode.REVOKED, "the node is revoked")
        if node.link_no != link_no:
            raise RemoteProtocolError(ErrorCode.SUPERSEDED, "another link has taken over")
        if node.holder.quarantined:
            raise RemoteProtocolError(ErrorCode.QUARANTINED, "two holders")
        return node

    # --- the journal --------------------------------------------------------------------------

    async def commit_ops(
        self, node_id: str, link_no: int, epoch: int, first_seq: int, ops: list[Op]
    ) -> int:
        node = self._writable(node_id, link_no)
        held = node.epochs[epoch]
        if first_seq > held.mark + 1:
            raise RemoteProtocolError(ErrorCode.HOLE, "ops are missing")
        for seq, op in enumerate(ops, first_seq):
            if seq <= held.mark:
                continue
            held.digest = digests.after(held.digest, epoch, seq, op)
            held.ops[seq] = (op, held.digest)
            held.mark = seq
            self._apply(
                node_id, node, held.rank, seq, Record(op.kind, op.entity_id, op.at_ms, op.body)
            )
            self._saw(node, epoch, seq)
        return held.mark

    def _saw(self, node: Node, epoch: int, seq: int) -> None:
        if node.newest is not None:
            rank = node.epochs[node.newest[0]].rank
            if (rank, node.newest[1]) >= (node.epochs[epoch].rank, seq):
                return
        node.newest = (epoch, seq)

    def _apply(
        self, node_id: str, node: Node, rank: int, seq: int, record: Record, named_by: str = ""
    ) -> None:
        for other_id, other in self.nodes.items():
            if other_id != node_id and (record.kind, record.entity_id) in other.rows:
                raise RemoteProtocolError(ErrorCode.FORBIDDEN, "another node's entity")
        try:
            body = _decoded(record.kind, record.body)
        except msgspec.DecodeError:
            body = None
        if body is None:
            self.kept_aside += 1
            return
        held = node.rows.get((record.kind, record.entity_id))
        if held is not None and (held.rank, held.seq) > (rank, seq):
            return
        forgotten = (rank, seq) < node.snapshot_at
        place = (body.session_id, body.seq) if isinstance(body, Message) else None
        node.rows[record.kind, record.entity_id] = Row(
            record.body, rank, seq, named_by, forgotten, place
        )

    async def commit_snapshot(self, node_id: str, link_no: int, page: Snapshot) -> None:
        node = self._writable(node_id, link_no)
        rank = node.epochs[page.epoch].rank
        for record in page.records:
            self._apply(node_id, node, rank, page.seq, record, page.snapshot_id)
        node.snapshot_broken = not page.last
        # Also behind a part: what it set stands above all this epoch says under lower numbers.
        self._saw(node, page.epoch, page.seq)
        if not page.last:
            return
        node.snapshot_at = max(node.snapshot_at, (rank, page.seq))
        for key, row in node.rows.items():
            if (row.rank, row.seq) < (rank, page.seq) and row.named_by != page.snapshot_id:
                node.rows[key] = Row(
                    row.body, row.rank, row.seq, row.named_by, forgotten=True, place=row.place
                )
        # What the node lacked of messages under the history before, it may have now.
        self.missing = {
            key: how
            for key, how in self.missing.items()
            if (key[0], how[0]) != ("messages", node_id)
        }
        self._forget_gaps(node_id)

    async def commit_skip(self, node_id: str, link_no: int, skip: Skip) -> int:
        node = self._writable(node_id, link_no)
        held = node.epochs[skip.epoch]
        if skip.through > held.mark:
            held.gaps.append((held.mark + 1, skip.through))
            held.mark, held.digest = skip.through, skip.digest
            self._saw(node, skip.epoch, skip.through)
        return held.mark

    # --- the logs -----------------------------------------------------------------------------

    async def commit_chunks(
        self,
        node_id: str,
        link_no: int,
        chunks: Sequence[LogChunk | GapChunk],
        *,
        fetched: bool = False,
    ) -> list[ChunkOutcome]:
        self._writable(node_id, link_no)
        return [self._commit_chunk(node_id, chunk) for chunk in chunks]

    def _commit_chunk(self, node_id: str, chunk: LogChunk | GapChunk) -> ChunkOutcome:
        name = chunk.execution_id
        log = self.logs.get(name) or _Log(node_id)
        owner = next(
            (other for other, node in self.nodes.items() if (OpKind.EXECUTION, name) in node.rows),
            node_id,
        )
        if log.node_id != node_id or owner != node_id:
            return ChunkOutcome(kind=ChunkKind.FOREIGN, mark=_mark(name, log.cursor))
        if isinstance(chunk, LogChunk) and zlib.crc32(chunk.blob) != chunk.crc32:
            return ChunkOutcome(kind=ChunkKind.BAD, mark=_mark(name, log.cursor))
        match check_follows(log.cursor, chunk):
            case Outcome.KNOWN:
                return ChunkOutcome(kind=ChunkKind.KNOWN, mark=_mark(name, log.cursor))
            case Outcome.HOLE:
                return ChunkOutcome(kind=ChunkKind.HOLE, mark=_mark(name, log.cursor))
            case Outcome.STORED:
                log.cursor = advance(log.cursor, chunk)
                log.chunks.append(chunk)
                log.digests[through(chunk)] = log.cursor.digest
                self.logs[name] = log
                return ChunkOutcome(kind=ChunkKind.STORED, mark=_mark(name, log.cursor))

    # --- backfill -----------------------------------------------------------------------------

    async def commit_records(
        self, node_id: str, link_no: int, request_id: str, records: Sequence[Record]
    ) -> None:
        node = self._writable(node_id, link_no)
        for record in records:
            epoch = node.epochs.get(record.epoch)
            if epoch is not None:
                self._apply(node_id, node, epoch.rank, record.seq, record)
                # No digest stands for what is told beyond the mark.
                self._saw(node, record.epoch, record.seq)
            body = _decoded(record.kind, record.body)
            if isinstance(body, Session):
                self.told[request_id, body.id] = (body.message_count, 0)
            elif isinstance(body, Message):
                due, _ = self.told.get((request_id, body.session_id), (0, 0))
                self.told[request_id, body.session_id] = (due, body.seq)

    async def beat(self, node_id: str, link_no: int, heartbeat: Heartbeat) -> None:
        self._writable(node_id, link_no)

    async def store_need(self, node_id: str, need: Need) -> Need | None:
        wanted = [
            index
            for index, identifier in enumerate(need.ids)
            if (need.kind, identifier) not in self.missing
            and not (need.kind == "messages" and self._is_settled(identifier))
        ]
        if not wanted:
            return None
        under_way = {
            identifier: held
            for owner, held in self.needs.values()
            if owner == node_id and held.kind == need.kind
            for identifier in held.ids
        }
        fresh = [index for index in wanted if need.ids[index] not in under_way]
        if not fresh:
            return self._as_it_stands(under_way[need.ids[wanted[0]]])
        stored = msgspec.structs.replace(need, ids=[need.ids[index] for index in fresh])
        self.needs[need.request_id] = (node_id, stored)
        return self._as_it_stands(stored)

    async def open_needs(self, node_id: str) -> list[Need]:
        return [self._as_it_stands(need) for owner, need in self.needs.values() if owner == node_id]

    def _as_it_stands(self, need: Need) -> Need:
        if need.kind == "messages":
            after = [self._settled_through(name) for name in need.ids]
            return msgspec.structs.replace(need, after=after)
        if need.kind != "logs":
            return need
        cursors = [self.cursor(name) for name in need.ids]
        return msgspec.structs.replace(
            need,
            after=[cursor.next_entry - 1 for cursor in cursors],
            from_chunk=[cursor.next_chunk for cursor in cursors],
            digests=[cursor.digest for cursor in cursors],
        )

    async def need_done(self, node_id: str, link_no: int, done: NeedDone) -> None:
        self._writable(node_id, link_no)
        owner, need = self.needs.get(done.request_id, (None, None))
        if owner != node_id or need is None:
            return
        del self.needs[done.request_id]
        for outcome in done.outcomes:
            if outcome.outcome != "sent":
                self.missing[need.kind, outcome.id] = (node_id, outcome.outcome)
            if need.kind == "messages":
                cut = done.more and outcome is done.outcomes[-1]
                self._messages_told(node_id, done.request_id, outcome, cut=cut)
        self.told = {key: told for key, told in self.told.items() if key[0] != done.request_id}

    def _messages_told(
        self, node_id: str, request_id: str, outcome: NeedOutcome, *, cut: bool
    ) -> None:
        held, (due, through) = (
            self._places(outcome.id),
            self.told.get((request_id, outcome.id), (0, 0)),
        )
        if outcome.outcome != "sent":
            through = self._due(outcome.id)
        elif request_id in self.stale:
            return
        elif not cut:
            through = max(due, *held, 0)
        _, gaps = self.gaps.get(outcome.id, ("", frozenset()))
        lost = frozenset(place for place in range(1, through + 1) if place not in held)
        later = frozenset(place for place in gaps if place > through)
        self.gaps[outcome.id] = (node_id, lost | later)

    def _forget_gaps(self, node_id: str) -> None:
        """A node tells anew of all it owns: what it lacked before, it may have now."""
        self.gaps = {name: gap for name, gap in self.gaps.items() if gap[0] != node_id}
        open_still = {name for name, (owner, _) in self.needs.items() if owner == node_id}
        self.stale = self.stale | open_still

    async def lacking(self, node_id: str, limit: int) -> list[Lacking]:
        node = self.nodes[node_id]
        asked = {name for need in await self.open_needs(node_id) for name in need.ids}
        found = []
        for (kind, attempt_id), row in node.rows.items():
            if kind != OpKind.ATTEMPT or row.forgotten:
                continue
            attempt = _decoded(kind, row.body)
            assert isinstance(attempt, Attempt)
            if asked & {attempt_id, *attempt.executions}:
                continue
            unknown = [
                name
                for name in attempt.executions
                if (OpKind.EXECUTION, name) not in node.rows
                and ("executions", name) not in self.missing
            ]
            logs = [
                LogLack(
                    execution_id=name,
                    from_chunk=self.cursor(name).next_chunk,
                    after=self.cursor(name).next_entry - 1,
                    digest=self.cursor(name).digest,
                )
                for name in attempt.executions
                if not self.is_lazy(attempt_id) and self._log_lacks(node, name)
            ]
            if unknown or logs:
                found.append(Lacking(attempt_id=attempt_id, executions=unknown, logs=logs))
        return found[::-1][:limit]

    def _places(self, session_id: str) -> set[int]:
        """Return the places of a session's messages that are held."""
        rows = (row for node in self.nodes.values() for row in node.rows.values() if row.place)
        return {row.place[1] for row in rows if row.place[0] == session_id and not row.forgotten}

    def lost(self, session_id: str) -> set[int]:
        """Return the places that are told as lost."""
        _, gaps = self.gaps.get(session_id, ("", frozenset()))
        return set(gaps) - self._places(session_id)

    def _settled_through(self, session_id: str) -> int:
        there, through = self._places(session_id) | self.lost(session_id), 0
        while through + 1 in there:
            through += 1
        return through

    def _due(self, session_id: str) -> int:
        counts = [0, *self._places(session_id)]
        for node in self.nodes.values():
            row = node.rows.get((OpKind.SESSION, session_id))
            session = None if row is None else _decoded(OpKind.SESSION, row.body)
            if isinstance(session, Session):
                counts.append(session.message_count)
        return max(counts)

    def _is_settled(self, session_id: str) -> bool:
        return 0 < self._due(session_id) <= self._settled_through(session_id)

    def misses_messages(self, node_id: str, session_id: str) -> bool:
        """Whether a person who looks at a session finds that some of it is missing."""
        row = self.nodes[node_id].rows.get((OpKind.SESSION, session_id))
        if row is None:
            return False
        return not self._is_settled(session_id)

    def cursor(self, execution_id: str) -> LogCursor:
        log = self.logs.get(execution_id)
        return LogCursor() if log is None else log.cursor

    def _log_lacks(self, node: Node, execution_id: str) -> bool:
        row = node.rows.get((OpKind.LOG_END, execution_id))
        if row is None or row.forgotten or ("logs", execution_id) in self.missing:
            return False
        end = _decoded(OpKind.LOG_END, row.body)
        assert isinstance(end, LogEnd)
        return not self.is_whole(execution_id, end)

    def is_whole(self, execution_id: str, end: LogEnd) -> bool:
        """Whether a log is held to its end, and is of its node's history."""
        cursor = self.cursor(execution_id)
        return cursor.next_chunk > end.chunks and end.chain in {b"", cursor.digest}

    # --- for the simulator's judge ------------------------------------------------------------

    def executions(self, node_id: str) -> dict[str, Execution]:
        """Return the executions of a node as the hive has them."""
        rows = self.nodes[node_id].rows
        return {
            entity_id: _decoded(kind, row.body)  # type: ignore[misc]
            for (kind, entity_id), row in rows.items()
            if kind == OpKind.EXECUTION
        }


def _mark(execution_id: str, cursor: LogCursor) -> LogMark:
    return LogMark(execution_id, cursor.next_chunk, cursor.next_entry, cursor.digest)
