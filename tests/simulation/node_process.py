"""A node agent in the simulator: the production machine over memory stores, and made-up work.

What `node_agent.link_session` does with a socket, this does with a simulated one; each send is an
event of its own, so that a kill may fall between any two.
"""

import zlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from node_agent import need_answers
from node_agent.reconnect import Backoff
from protocol import node_effects, node_link
from protocol.entities import Attempt, Execution, LogEnd
from protocol.errors import ProtocolError
from protocol.log_chunks import LogChunk, LogCursor
from protocol.messages import Heartbeat, Need, NodeMessage, Safe
from protocol.ops import Op, OpKind, Record, encode_body
from protocol.states import AttemptOutcome, AttemptPhase, ExecutionKind, ExecutionStatus
from tests.simulation.memory_node import MemoryChunks, MemoryJournal
from tests.simulation.sockets import Socket

HIVE_ID = "hive"


class Disk:
    """What survives a kill: the two stores, and the entities the workload knows."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.chunks = MemoryChunks()
        #: Attempt id to its executions, while it runs.
        self.running: dict[str, str] = {}
        self.made = 0

    def copy(self) -> "Disk":
        image = Disk()
        image.journal = self.journal.copy()
        image.chunks = self.chunks.copy()
        image.running = dict(self.running)
        image.made = self.made
        return image


class Answers:
    """What the answers to needs are read from."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def records(self, kind: str, ids: list[str]) -> list[Record]:
        return await self._disk.journal.records(kind, ids)

    async def executions_of(self, attempt_id: str) -> list[str] | None:
        found = await self._disk.journal.records(OpKind.ATTEMPT, [attempt_id])
        return [f"{attempt_id}/e"] if found else None

    async def tombstone(self, entity_id: str) -> str | None:
        log = await self._disk.chunks.log(entity_id)
        return "purged" if log is not None and log.purged else None

    async def has_log(self, execution_id: str) -> bool:
        log = await self._disk.chunks.log(execution_id)
        return log is not None and not log.purged

    async def chunks_from(self, execution_id: str, chunk_seq: int, **bounds: int) -> Any:
        return await self._disk.chunks.chunks_from(execution_id, chunk_seq, **bounds)


class NodeProcess:
    """One node agent, over all its restarts."""

    def __init__(self, world: Any, node_id: str) -> None:
        self.world = world
        self.node_id = node_id
        self.disk = Disk()
        self.images: list[Disk] = []
        self.recorded: deque[NodeMessage] = deque(maxlen=60)
        self.alive = False
        self.instance = 0
        self._life = 0
        self._unlisten: list[Any] = []

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        if self.alive or (self not in self.world.nodes and self.world.nodes):
            pass
        if self.alive:
            return
        from tests.simulation.world import run_now

        self.run_now = run_now
        self.alive = True
        self._life += 1
        self.instance = self.world.random.getrandbits(63)
        self.connect_no = 0
        self.generation_seen = 0
        self.link: Any = None
        self.socket: Socket | None = None
        self.backoff = Backoff()
        self._control: deque[NodeMessage] = deque()
        self._answers: dict[str, AsyncIterator[Any]] = {}
        self._pumping = False
        self._refork: list[Any] = []
        self._uncommitted: list[LogChunk] = []
        self._dial_no = 0
        if not (self.world.rules.one_epoch and run_now(self.disk.journal.epochs())):
            run_now(self.disk.journal.open_epoch(self.instance))
            self.world.history.epochs[self.instance] = []
        self._unlisten = [
            self.disk.journal.listen(self._journal_grew),
            self.disk.chunks.listen(self._log_grew),
        ]
        self._later(self.world.soon(), self._dial)
        self._later(self.world.random.random(), self._work)
        self._later(20.0, self._beat)

    def kill(self) -> None:
        """Kill -9: only the disk stays."""
        self.alive = False
        for undo in self._unlisten:
            undo()
        self._unlisten = []
        if self.socket is not None:
            self.socket.close_node()
            self.socket = None

    def restore(self) -> None:
        """The disk goes back to an older image."""
        self.disk = self.world.random.choice(self.images).copy()

    def clone(self) -> "NodeProcess":
        """A copy of the disk is started on another machine."""
        clone = NodeProcess(self.world, self.node_id)
        clone.disk = self.disk.copy()
        clone.recorded = self.recorded
        return clone

    def hurry(self) -> None:
        """A person dials for it: whatever the backoff says, now."""
        if self.alive and self.socket is None:
            self._dial_no += 1
            self._later(self.world.soon(), self._dial)

    def quiet(self) -> bool:
        """Whether the link is live and has nothing to send."""
        return (
            self.alive
            and self.socket is not None
            and self.link is not None
            and self.link.phase is node_link.Phase.LIVE
            and self.socket.in_flight == 0
            and self.socket.hive_open
            and not self.link._in_flight
            and not self._control
            and self.link.next_wanted() is None
            and not self._answers
            and self.run_now(self.disk.chunks.outbox()).chunks == 0
        )

    def _later(self, delay: float, event: Any) -> None:
        life = self._life

        def happen() -> None:
            if self.alive and self._life == life:
                event()

        self.world.at(delay, happen)

    # --- the link -----------------------------------------------------------------------------

    def _dial(self) -> None:
        if self.socket is not None:
            return
        hive = self.world.hive
        if not hive.alive:
            self._redial(None)
            return
        self.connect_no += 1
        caller = node_link.Caller(
            node_id=self.node_id,
            instance=self.instance,
            connect_no=self.connect_no,
            host="hive",
            hive_id=HIVE_ID,
            generation_seen=self.generation_seen,
            version="0",
            sign=lambda signed: b"",
        )
        make = self.world.rules.node_link or node_link.NodeLink
        self.link = make(
            caller,
            self.run_now(self.disk.journal.epochs()),
            self.run_now(self.disk.chunks.logs_to_name()),
        )
        if hasattr(self.link, "seen"):
            self.link.seen = self.run_now(self.disk.journal.marks_seen())
        self._control.clear()
        self._answers.clear()
        self.socket = Socket(self.world, self)
        self._dialled_at = self.world.now
        hive.accept(self.socket)

    def _redial(self, code: int | None) -> None:
        self.backoff.closed(lived_s=0.0, close_code=code)
        self._dial_no += 1
        dial_no = self._dial_no
        wait_s = self.backoff.wait_s(self.world.random.random())

        def dial() -> None:
            if dial_no == self._dial_no:
                self._dial()

        self._later(min(wait_s, 30.0), dial)

    def closed(self, socket: Socket, code: int | None) -> None:
        """The socket is gone."""
        if not self.alive or socket is not self.socket:
            return
        self.socket = None
        self.link.close()
        self._settle_forks()
        self._redial(code)

    def _settle_forks(self) -> None:
        for fork in self._refork:
            agreed = 0
            for seq, digest in sorted(fork.digests, reverse=True):
                if self.run_now(self.disk.journal.digest_at(fork.epoch, seq)) == digest:
                    agreed = seq
                    break
            self.instance = self.world.random.getrandbits(63)
            self.connect_no = 0
            history = self.world.history.epochs
            self.run_now(self.disk.journal.refork(fork.epoch, agreed, self.instance))
            history[self.instance] = self.run_now(
                self.disk.journal.ops_after(self.instance, 0, ops_max=10**6, bytes_max=10**9)
            )
        self._refork = []

    def receive(self, socket: Socket, message: Any) -> None:
        """A frame of the hive."""
        if not self.alive or socket is not self.socket:
            return
        try:
            for effect in self.link.receive(message):
                self._take(effect)
        except ProtocolError:
            self._break()
            return
        self._pump()

    def _break(self) -> None:
        if self.socket is not None:
            self.socket.close_node()
            self.socket = None
            self.link.close()
            self._settle_forks()
            self._redial(4410)

    def _take(self, effect: Any) -> None:
        disk, run_now = self.disk, self.run_now
        match effect:
            case node_effects.Send(message):
                self._control.append(message)
            case node_effects.Accepted(welcome):
                self.generation_seen = max(self.generation_seen, welcome.generation)
            case node_effects.Compare(epochs, logs):
                found = {place: run_now(disk.journal.digest_at(*place)) for place in epochs}
                chains = {place: run_now(disk.chunks.digest_at(*place)) for place in logs}
                for following in self.link.settled(found, chains):
                    self._take(following)
            case node_effects.Probe(execution_id, below):
                digests = run_now(disk.chunks.digests_below(execution_id, below, limit=3))
                for following in self.link.probed(execution_id, digests):
                    self._take(following)
            case node_effects.Adopt(mark, held_through):
                log = run_now(disk.chunks.adopt(mark, held_through))
                self.link.log_grew(
                    log.execution_id,
                    next_chunk=log.next_chunk,
                    open_=not log.closed,
                )
            case node_effects.Refork(fork):
                self._refork.append(fork)
                self._later(0.0, self._break)
            case node_effects.LogsAcked(marks):
                run_now(disk.chunks.acked(marks))
            case node_effects.OpsAcked(epoch, seq):
                run_now(disk.journal.saw_marks({epoch: seq}))
                if self.world.rules.prune_on_ack:
                    run_now(disk.journal.prune(epoch, seq))
            case node_effects.Received(Need() as need):
                self._answers[need.request_id] = need_answers.answer(need, Answers(disk))
            case node_effects.Received(Safe() as safe):
                self._prune(safe)

    def _prune(self, safe: Safe) -> None:
        for epoch, seq in safe.epochs:
            self.run_now(self.disk.journal.prune(epoch, seq))
        for execution_id in safe.logs:
            log = self.run_now(self.disk.chunks.log(execution_id))
            if log is not None and log.closed and not log.purged:
                self.run_now(self.disk.chunks.purge(execution_id))

    # --- sending ------------------------------------------------------------------------------

    def _journal_grew(self, grew: Any) -> None:
        if self.link is not None and self.socket is not None:
            self.link.journal_grew(grew.epoch, grew.seq)
            self._pump()

    def _log_grew(self, grew: Any) -> None:
        if self.link is not None and self.socket is not None:
            self.link.log_grew(grew.execution_id, next_chunk=grew.next_chunk, open_=not grew.closed)
            self._pump()

    def _pump(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._later(self.world.soon(), self._send_one)

    def _send_one(self) -> None:
        self._pumping = False
        socket = self.socket
        if socket is None:
            return
        if self._control:
            socket.up(self._control.popleft())
            self._pump()
            return
        wanted = self.link.next_wanted()
        if wanted is None:
            return
        try:
            self._send_wanted(socket, wanted)
        except ProtocolError:
            self._break()
            return
        self._pump()

    def _send_wanted(self, socket: Socket, wanted: Any) -> None:
        disk, run_now = self.disk, self.run_now
        match wanted:
            case node_effects.SnapshotWanted(skips):
                position, records = run_now(disk.journal.snapshot())
                digests = {place: run_now(disk.journal.digest_at(*place)) for place in skips}
                name = f"{position.epoch:x}-{position.seq}-{self.connect_no}"
                for frame in self.link.snapshot_read(name, tuple(position), records, digests):
                    socket.up(frame)
            case node_effects.OpsWanted(epoch, after, ops_max, bytes_max):
                ops = run_now(
                    disk.journal.ops_after(epoch, after, ops_max=ops_max, bytes_max=bytes_max)
                )
                socket.up(self.link.ops_read(epoch, ops))
            case node_effects.ChunksWanted(execution_id, chunk_seq, bytes_max):
                chunks = run_now(
                    disk.chunks.chunks_from(
                        execution_id, chunk_seq, chunks_max=4, bytes_max=bytes_max
                    )
                )
                if not chunks:
                    self.link.log_gone(execution_id)
                elif chunks[0].chunk_seq > chunk_seq:
                    for effect in self.link.hole_found(execution_id):
                        self._take(effect)
                    return
                for chunk in chunks:
                    if not self.link.may_begin_chunk():
                        break
                    socket.up(self.link.chunk_read(chunk))
            case node_effects.AnswerWanted(request_id):
                frame = run_now(anext(self._answers[request_id]))  # type: ignore[arg-type]
                allowed = self.link.answer_read(frame)
                if allowed is not None:
                    socket.up(allowed)
                if type(frame).__name__ == "NeedDone":
                    del self._answers[request_id]

    def _beat(self) -> None:
        if self.socket is not None and self.link.phase is node_link.Phase.LIVE:
            self._control.append(Heartbeat(n=1))
            self._pump()
        elif self.socket is not None and self.world.now - self._dialled_at > 15:
            # The handshake took too long.
            self._break()
        self._later(20.0 if self.world.faulty else 5.0, self._beat)

    # --- the workload -------------------------------------------------------------------------

    def _work(self) -> None:
        if not self.world.faulty:
            return
        choice = self.world.random.random()
        disk = self.disk
        if choice < 0.25 or not disk.running:
            self._begin_attempt()
        else:
            attempt_id = self.world.random.choice(sorted(disk.running))
            execution_id = disk.running[attempt_id]
            if choice < 0.72:
                self._cut_chunks(execution_id)
            elif choice < 0.86:
                self._change_attempt(attempt_id, execution_id)
            else:
                self._end_attempt(attempt_id, execution_id)
        if self.world.random.random() < 0.1:
            self.images.append(disk.copy())
            del self.images[:-3]
        self._later(self.world.random.expovariate(1 / 0.35), self._work)

    def _append(self, kind: OpKind, entity_id: str, entity: Any) -> None:
        op = Op(kind.value, entity_id, int(self.world.now * 1000), encode_body(entity))
        epoch = self.run_now(self.disk.journal.epochs())[-1].epoch
        self.world.history.epochs[epoch].append(op)
        self.run_now(self.disk.journal.append(op.kind, op.entity_id, op.body, op.at_ms))

    def _attempt(self, attempt_id: str, execution_id: str, phase: AttemptPhase) -> Attempt:
        return Attempt(
            id=attempt_id,
            task_id="t",
            task_title="t",
            checkout_id="c",
            project_identity="p",
            project_name="p",
            executor="command",
            branch="b",
            phase=phase,
            outcome=AttemptOutcome.SUCCEEDED if phase is AttemptPhase.ENDED else None,
            reason=str(self.world.random.random()),
            executions=[execution_id],
        )

    def _begin_attempt(self) -> None:
        self.disk.made += 1
        number = self.world.random.getrandbits(40)
        attempt_id = f"{self.node_id}/{number:x}"
        execution_id = f"{attempt_id}/e"
        self._append(
            OpKind.ATTEMPT,
            attempt_id,
            self._attempt(attempt_id, execution_id, AttemptPhase.RUNNING),
        )
        self._append(
            OpKind.EXECUTION,
            execution_id,
            Execution(
                id=execution_id,
                attempt_id=attempt_id,
                kind=ExecutionKind.AGENT,
                status=ExecutionStatus.RUNNING,
            ),
        )
        self.run_now(self.disk.chunks.open_log(execution_id, attempt_id, "c"))
        self.disk.running[attempt_id] = execution_id

    def _cut_chunks(self, execution_id: str) -> None:
        log = self.run_now(self.disk.chunks.log(execution_id))
        assert log is not None
        cursor = LogCursor(next_chunk=log.next_chunk, next_entry=log.next_entry)
        chunks = []
        for _ in range(self.world.random.randint(1, 3)):
            blob = self.world.blob()
            chunk = LogChunk(
                execution_id=execution_id,
                chunk_seq=cursor.next_chunk,
                first_entry=cursor.next_entry,
                entries=self.world.random.randint(0, 9),
                raw_bytes=len(blob),
                crc32=zlib.crc32(blob),
                first_ms=0,
                last_ms=0,
                blob=blob,
            )
            chunks.append(chunk)
            cursor = LogCursor(
                next_chunk=chunk.chunk_seq + 1, next_entry=chunk.first_entry + chunk.entries
            )
        if self.world.rules.send_before_commit:
            live = self.link is not None and self.link.phase is node_link.Phase.LIVE
            if self.socket is not None and live:
                for chunk in chunks:
                    self.socket.up(chunk)
            self._later(self.world.random.random(), lambda: self._commit(chunks))
        else:
            self._commit(chunks)

    def _commit(self, chunks: list[LogChunk]) -> None:
        log = self.run_now(self.disk.chunks.log(chunks[0].execution_id))
        if log is None or log.closed or log.next_chunk != chunks[0].chunk_seq:
            return
        self.world.history.blobs.update(chunk.blob for chunk in chunks)
        self.run_now(self.disk.chunks.commit([(chunk, b"") for chunk in chunks]))

    def _change_attempt(self, attempt_id: str, execution_id: str) -> None:
        self._append(
            OpKind.ATTEMPT,
            attempt_id,
            self._attempt(attempt_id, execution_id, AttemptPhase.RUNNING),
        )

    def _end_attempt(self, attempt_id: str, execution_id: str) -> None:
        log = self.run_now(self.disk.chunks.close_log(execution_id))
        self._append(
            OpKind.EXECUTION,
            execution_id,
            Execution(
                id=execution_id,
                attempt_id=attempt_id,
                kind=ExecutionKind.AGENT,
                status=ExecutionStatus.SUCCEEDED,
                exit_code=0,
            ),
        )
        self._append(
            OpKind.LOG_END,
            execution_id,
            LogEnd(
                execution_id=execution_id,
                chunks=log.next_chunk - 1,
                entries=log.next_entry - 1,
                bytes=log.raw_bytes,
            ),
        )
        self._append(
            OpKind.ATTEMPT, attempt_id, self._attempt(attempt_id, execution_id, AttemptPhase.ENDED)
        )
        del self.disk.running[attempt_id]
