"""The work of a simulated node: attempts that begin, print, change and end, each step a commit."""

import zlib
from typing import Any

from protocol.conversation import AuthorKind, Message, MessageRole, Session
from protocol.entities import Attempt, Execution, LogEnd
from protocol.log_chunks import LogChunk, LogCursor
from protocol.ops import Op, OpKind, decode_body, encode_body
from protocol.states import AttemptOutcome, AttemptPhase, ExecutionKind, ExecutionStatus
from tests.simulation.disk import LAZY, execution_of, session_of


class Workload:
    """What a node agent does beside its link. It ends when the faults do."""

    def __init__(self, world: Any, node: Any) -> None:
        self.world = world
        self.node = node
        self.random = world.random
        self.run_now = world.run_now

    def step(self) -> None:
        """Do one thing, and the next one a little later."""
        if not self.world.faulty:
            return
        disk = self.node.disk
        choice = self.random.random()
        if choice < 0.25 or not disk.running:
            self._begin_attempt()
        else:
            attempt_id = self.random.choice(list(disk.running))
            if choice < 0.63:
                self._cut_chunks(disk.running[attempt_id])
            elif choice < 0.73:
                self._talk(attempt_id)
            elif choice < 0.8:
                self._tell_attempt(attempt_id, AttemptPhase.RUNNING)
            else:
                self._end_attempt(attempt_id, disk.running[attempt_id])
        if self.random.random() < 0.2:
            self.node.take_image()
        self.node.later(self.random.expovariate(1 / 0.35), self.step)

    # --- state --------------------------------------------------------------------------------

    def _append(self, kind: OpKind, entity_id: str, entity: Any) -> None:
        op = Op(kind.value, entity_id, int(self.world.now * 1000), encode_body(entity))
        disk = self.node.disk
        epoch = self.run_now(disk.journal.epochs())[-1].epoch
        disk.epochs[epoch].append(op)
        self.run_now(disk.journal.append(op.kind, op.entity_id, op.body, op.at_ms))

    def _tell_attempt(self, attempt_id: str, phase: AttemptPhase) -> None:
        attempt = Attempt(
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
            reason=str(self.random.random()),
            executions=[execution_of(attempt_id)],
        )
        self._append(OpKind.ATTEMPT, attempt_id, attempt)

    def _tell_execution(self, attempt_id: str, status: ExecutionStatus) -> None:
        execution = Execution(
            id=execution_of(attempt_id),
            attempt_id=attempt_id,
            kind=ExecutionKind.AGENT,
            status=status,
        )
        self._append(OpKind.EXECUTION, execution.id, execution)

    def _begin_attempt(self) -> None:
        checkout = LAZY if self.random.random() < 0.15 else "c"
        attempt_id = f"{self.node.node_id}/{checkout}{self.random.getrandbits(40):x}"
        self._tell_attempt(attempt_id, AttemptPhase.RUNNING)
        self._tell_execution(attempt_id, ExecutionStatus.RUNNING)
        execution_id = execution_of(attempt_id)
        self.run_now(self.node.disk.chunks.open_log(execution_id, attempt_id, checkout))
        self.node.disk.running[attempt_id] = execution_id

    def _end_attempt(self, attempt_id: str, execution_id: str) -> None:
        log = self.run_now(self.node.disk.chunks.close_log(execution_id))
        self._tell_execution(attempt_id, ExecutionStatus.SUCCEEDED)
        self._tell_log_end(log)
        self._tell_attempt(attempt_id, AttemptPhase.ENDED)
        del self.node.disk.running[attempt_id]

    def _tell_log_end(self, log: Any) -> None:
        end = LogEnd(
            execution_id=log.execution_id,
            chunks=log.next_chunk - 1,
            entries=log.next_entry - 1,
            bytes=log.raw_bytes,
            chain=log.digest,
        )
        self._append(OpKind.LOG_END, log.execution_id, end)

    # --- conversations ------------------------------------------------------------------------

    def _talk(self, attempt_id: str) -> None:
        """Something is said; what was said before may change. The session tells how much it is."""
        sessions, session_id = self.node.disk.sessions, session_of(attempt_id)
        before = sessions.get(session_id, ())
        names = (f"{session_id}/{self.random.getrandbits(40):x}" for _ in range(4))
        said = before + tuple(names)[: self.random.choice((1, 1, 3))]
        sessions[session_id] = said
        early = not before or self.random.random() < 0.5
        if early:
            self._tell_session(attempt_id, len(said))
        for place in range(len(before) + 1, len(said) + 1):
            self._tell_message(attempt_id, place, said[place - 1])
        if not early:
            self._tell_session(attempt_id, len(said))
        if before and self.random.random() < 0.3:
            place = self.random.randint(1, len(before))
            self._tell_message(attempt_id, place, said[place - 1])

    def _tell_session(self, attempt_id: str, message_count: int) -> None:
        session_id = session_of(attempt_id)
        session = Session(
            id=session_id, attempt_id=attempt_id, executor="acp", message_count=message_count
        )
        self._append(OpKind.SESSION, session_id, session)

    def _tell_message(self, attempt_id: str, place: int, message_id: str) -> None:
        message = Message(
            id=message_id,
            session_id=session_of(attempt_id),
            attempt_id=attempt_id,
            seq=place,
            role=MessageRole.ASSISTANT,
            author_kind=AuthorKind.AGENT,
            content=f"{self.random.random()}".ljust(self.random.choice((20, 200, 900))),
        )
        self._append(OpKind.MESSAGE, message_id, message)

    def log_moved(self, execution_id: str) -> None:
        """Say the end of a log anew where it was renumbered after it was said."""
        disk = self.node.disk
        log = self.run_now(disk.chunks.log(execution_id))
        said = self.run_now(disk.journal.records(OpKind.LOG_END, [execution_id]))
        if log is None or log.purged or not said:
            return
        end: Any = decode_body(OpKind.LOG_END, said[0].body)
        if (end.chunks, end.chain) != (log.next_chunk - 1, log.digest):
            self._tell_log_end(log)

    # --- logs ---------------------------------------------------------------------------------

    def _cut_chunks(self, execution_id: str) -> None:
        log = self.run_now(self.node.disk.chunks.log(execution_id))
        cursor = LogCursor(next_chunk=log.next_chunk, next_entry=log.next_entry)
        chunks = []
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            blob = self.world.blob()
            chunk = LogChunk(
                execution_id=execution_id,
                chunk_seq=cursor.next_chunk,
                first_entry=cursor.next_entry,
                entries=self.random.randint(0, 9),
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
            self.node.send_unasked(chunks)
            self.node.later(self.random.random(), lambda: self._commit(chunks))
        else:
            self._commit(chunks)

    def _commit(self, chunks: list[LogChunk]) -> None:
        log = self.run_now(self.node.disk.chunks.log(chunks[0].execution_id))
        if log is None or log.closed or log.next_chunk != chunks[0].chunk_seq:
            return
        self.world.history.blobs.update(chunk.blob for chunk in chunks)
        self.run_now(self.node.disk.chunks.commit([(chunk, b"") for chunk in chunks]))
