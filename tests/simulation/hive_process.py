"""A hive in the simulator: the production machine over a memory store, with backups and restores.

What `hive.node_gateway` does with a socket, this does with a simulated one: receiving, committing,
acknowledging and publishing are events of their own, so that a kill may fall between any two.
"""

import itertools
from collections import deque
from typing import Any

from protocol import hive_link
from protocol.credit import cost
from protocol.errors import ErrorCode, ProtocolError, RemoteProtocolError
from protocol.messages import Forked, Heartbeat, LogState, Need, NeedDone, Safe
from protocol.ops import OpKind, decode_body
from tests.simulation.disk import is_lazy
from tests.simulation.judge import judge_ack, judge_answer, judge_commit, judge_waiting
from tests.simulation.memory_hive import Node
from tests.simulation.sockets import HIVE_ID

#: Backups the nodes may count on.
_KEPT_MAX = 2
#: What was asked for and is lacking all the same is not asked for again sooner than this.
_AGAIN_S = 15.0
#: How often somebody is following a session that changed.
_FOLLOWED = 0.3
#: Whoever looks at a session again sooner asks for nothing.
_AGAIN_READ_S = 5.0
#: An answer is cut off here, so that most take several needs.
_NEED_BYTES = 2500


class HiveProcess:
    """One hive, over all its restarts."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.run_now = world.run_now
        self.store = world.rules.hive_store()
        self.store.is_lazy = is_lazy
        self.stored_generation = 0
        self.alive = False
        self.ends: dict[str, _End] = {}
        self.kept: list[tuple[int, Any]] = []
        self.ancient: list[tuple[int, Any]] = []
        #: What was last said to be safe, with the backups of then. Only the judge looks.
        self.told_safe: deque[tuple[Safe, list[Any]]] = deque(maxlen=60)
        self._life = 0
        self._order = itertools.count(1)
        self._request_no = itertools.count(1)
        self.start()

    def enrol(self, node_id: str) -> None:
        self.store.nodes[node_id] = Node(b"key")
        # Enrolled before the first backup: a restore that forgets the node is another story.
        self.kept = [(self.stored_generation, self.store.copy())]

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        if self.alive:
            return
        self.alive = True
        self._life += 1
        self.ends = {}
        self._read: dict[str, float] = {}
        self.generation = max(self.stored_generation + 1, int(self.world.now))
        self.stored_generation = self.generation
        self.store.started()

    def kill(self) -> None:
        """Kill -9: every socket dies, only the store stays."""
        self.alive = False
        for socket in self.world.sockets:
            if socket.hive_open:
                socket.close_hive(1006)

    def backup(self) -> None:
        if not self.alive:
            return
        self.kept.append((self.stored_generation, self.store.copy()))
        while len(self.kept) > _KEPT_MAX:
            self.ancient.append(self.kept.pop(0))
        del self.ancient[:-3]
        for end in self.ends.values():
            end.send(self.safe(end.node_id))

    def can_restore(self, *, ancient: bool) -> bool:
        return bool(self.ancient if ancient else self.kept)

    def restore(self, *, ancient: bool) -> None:
        self.stored_generation, image = self.world.random.choice(
            self.ancient if ancient else self.kept
        )
        self.store = image.copy()

    def safe(self, node_id: str) -> Safe:
        """Return what all kept backups hold of a node."""
        images = [image for _, image in self.kept]
        if self.world.rules.safe_by_newest:
            images = images[-1:]
        epochs = []
        for number in sorted(images[0].nodes[node_id].epochs):
            held = [image.nodes[node_id].epochs.get(number) for image in images]
            if None not in held:
                mark, digest = min((one.mark, one.digest) for one in held)
                if all(one.digest_at(mark) in {None, digest} for one in held):
                    epochs.append((number, mark, digest))
        logs = [
            (name, log.cursor.digest)
            for name, log in images[0].logs.items()
            if log.node_id == node_id
            and all(_whole(image, node_id, name, log.cursor.digest) for image in images)
        ]
        safe = Safe(epochs=epochs, logs=logs)
        self.told_safe.append((safe, [image for _, image in self.kept]))
        return safe

    def quarantined(self, node_id: str) -> bool:
        holder = self.store.nodes[node_id].holder
        return bool(holder.quarantined)

    def release(self, node_id: str, instance: int) -> None:
        self.store.release(node_id, instance)

    def look(self, execution_id: str) -> None:
        """A person opens a log that the hive does not hold of itself."""
        for name, end in self.ends.items():
            if self.alive and execution_id.startswith(f"{name}/"):
                if not end.fetch(execution_id):
                    return
                log = self.run_now(end.socket.node.disk.chunks.log(execution_id))
                if log is not None and name not in self.world.history.cloned:
                    self.world.history.opened[execution_id] = log.next_chunk

    def read(self, node_id: str, session_id: str) -> None:
        """A person reads a session: what is missing of it is asked for, now or once it can be."""
        store, now = self.store, self.world.now
        if not self.alive or not store.misses_messages(node_id, session_id):
            return
        if now - self._read.get(session_id, -_AGAIN_READ_S) < _AGAIN_READ_S:
            return
        self._read[session_id] = now
        end = self.ends.get(node_id)
        need = Need(
            request_id=self.next_request(), kind="messages", ids=[session_id], max_bytes=_NEED_BYTES
        )
        if end is not None:
            end.ask(need)
        else:
            self.run_now(store.store_need(node_id, need))

    def settled(self, node_id: str) -> bool:
        """Whether nothing of a node waits for its commit, nothing lacks, nothing was begun only."""
        end = self.ends.get(node_id)
        return (
            end is not None
            and not self.quarantined(node_id)
            and end.machine.link_no == self.store.nodes[node_id].link_no
            and not end.ops
            and not end.history
            and not self.run_now(self.store.open_needs(node_id))
            and not self.run_now(self.store.lacking(node_id, 1))
        )

    def later(self, delay: float, event: Any) -> None:
        life = self._life

        def happen() -> None:
            if self.alive and self._life == life:
                event()

        self.world.at(delay, happen)

    # --- links --------------------------------------------------------------------------------

    def accept(self, socket: Any) -> None:
        end = _End(self, socket)
        socket.hive_end = end
        end.send(end.machine.challenge())

    def next_order(self) -> int:
        return next(self._order)

    def next_request(self) -> str:
        return f"{self.generation}-{next(self._request_no)}"


class _End:
    """The hive's end of one socket."""

    def __init__(self, hive: HiveProcess, socket: Any) -> None:
        self.hive = hive
        self.world = hive.world
        self.socket = socket
        self.challenged_at = hive.next_order()
        self.machine = self.world.rules.hive_link(HIVE_ID, b"nonce")
        self.node_id = ""
        self.ops: deque[Any] = deque()
        self.history: deque[Any] = deque()
        self._committing = {"ops": False, "history": False}
        self._asked: dict[tuple[str, int], float] = {}

    def send(self, message: Any) -> None:
        if self.socket.hive_open:
            judge_ack(self.hive.store, self.node_id, message)
            self.socket.down(message)

    def close(self, code: ErrorCode) -> None:
        if code is ErrorCode.QUARANTINED:
            node_id = self.machine.hello.node_id
            cloned = node_id in self.world.history.cloned
            assert cloned, f"{node_id} was taken for two, and is one"
        self.socket.close_hive(RemoteProtocolError(code, "").meaning.close_code or 1011)
        self.closed()

    def closed(self) -> None:
        """The socket is gone. What waits for its commit is still committed, if it may be."""
        self.machine.close()
        if self.hive.ends.get(self.node_id) is self:
            del self.hive.ends[self.node_id]

    def receive(self, message: Any) -> None:
        if self.machine.phase is hive_link.Phase.CLOSED:
            return
        try:
            effects = self.machine.receive(message)
        except ProtocolError as error:
            self.close(error.code)
            return
        for effect in effects:
            self._take(effect)

    def _take(self, effect: Any) -> None:
        match effect:
            case hive_link.Judge():
                self.hive.later(self.world.soon(), lambda: self._guarded(self._judge, effect))
            case hive_link.CommitOps() | hive_link.CommitSnapshot() | hive_link.CommitSkip():
                if self.world.rules.ack_before_commit and isinstance(effect, hive_link.CommitOps):
                    last = effect.first_seq + len(effect.ops) - 1
                    self.send(self.machine.ops_committed(effect.epoch, last))
                if self.world.rules.publish_before_commit:
                    self._publish(effect)
                self.ops.append(effect)
                self._commit_soon("ops")
                if isinstance(effect, hive_link.CommitSnapshot):
                    self._may_break_off()
            case hive_link.CommitChunk() | hive_link.CommitRecords() | hive_link.NeedAnswered():
                self.history.append(effect)
                judge_waiting(self.history)
                self._commit_soon("history")
            case hive_link.Beat(heartbeat):
                self._guarded(self._beat, heartbeat)
            case hive_link.FindAgreed(probe):
                run_now, store = self.hive.run_now, self.hive.store
                name = probe.execution_id
                through = run_now(store.agreed_chunk(self.node_id, name, probe.digests))
                [mark] = run_now(store.log_marks(self.node_id, [LogState(name, 1, 1, b"")]))
                self.send(self.machine.agreed(mark, through))
            case hive_link.ForkSeen(forked):
                self._guarded(self._fork_seen, forked)

    def _may_break_off(self) -> None:
        """A page of a snapshot has come; the rest, or what it stands for, may never."""
        if self.world.springs("break_snapshot"):
            self.socket.cut()

    def _beat(self, heartbeat: Heartbeat) -> None:
        run_now, store = self.hive.run_now, self.hive.store
        run_now(store.beat(self.node_id, self.machine.link_no, heartbeat))
        epochs = [state.epoch for state in self.machine.hello.epochs[-8:]]
        self.send(self.machine.heartbeat_reply(1, 0, run_now(store.marks(self.node_id, epochs))))

    def _fork_seen(self, forked: Forked) -> None:
        store = self.hive.store
        if self.hive.run_now(
            store.fork_seen(self.node_id, forked.epoch, forked.seq, forked.digest)
        ):
            raise RemoteProtocolError(ErrorCode.QUARANTINED, "the history forked")

    def _guarded(self, step: Any, *arguments: Any) -> bool:
        try:
            step(*arguments)
        except ProtocolError as error:
            self.close(error.code)
            if error.code is ErrorCode.QUARANTINED and self.machine.hello is not None:
                node_id = self.machine.hello.node_id
                self.world.at(1.0, lambda: self.world.admin(node_id))
            return False
        return True

    def _judge(self, judge: hive_link.Judge) -> None:
        if self.machine.phase is not hive_link.Phase.JUDGING:
            return
        hive, hello = self.hive, judge.hello
        run_now, store = hive.run_now, hive.store
        link_no = run_now(
            store.accept_link(
                hello, challenged_at=self.challenged_at, accepted_at=hive.next_order()
            )
        )
        if hello.generation_seen >= hive.generation:
            hive.generation = hive.stored_generation = hello.generation_seen + 1
        self.node_id = hello.node_id
        state = run_now(store.journal_state(hello.node_id, link_no, hello.epochs))
        frames = self.machine.welcomed(
            generation=hive.generation,
            link_no=link_no,
            hive_time_ms=0,
            marks=state.marks,
            newest=state.newest,
            snapshot_wanted=state.snapshot_wanted,
            forks=state.forks,
            logs=run_now(store.log_marks(hello.node_id, judge.logs)),
            keys={},
        )
        before = hive.ends.get(hello.node_id)
        hive.ends[hello.node_id] = self
        if before is not None:
            before.close(ErrorCode.SUPERSEDED)
            hive.ends[hello.node_id] = self
        for frame in frames:
            self.send(frame)
        self.socket.node.attacker.link_is_live(self.socket, hello)
        if self.world.springs("swallow"):
            self.socket.swallow()
        self.send(hive.safe(hello.node_id))
        if not self.world.rules.no_needs:
            for need in run_now(store.open_needs(hello.node_id)):
                self.world.met["messages asked again"] += need.kind == "messages"
                self.send(need)
        self._look_again()

    # --- backfill -----------------------------------------------------------------------------

    def _look_again(self) -> None:
        if self.hive.ends.get(self.node_id) is self:
            self._ask()
            self.hive.later(_AGAIN_S, self._look_again)

    def _ask(self) -> None:
        """Ask for what is lacking, as `hive.backfill` does."""
        if self.world.rules.no_needs or self.hive.ends.get(self.node_id) is not self:
            return
        for lacking in self.hive.run_now(self.hive.store.lacking(self.node_id, 20)):
            if lacking.executions and self._is_due(lacking.attempt_id, len(lacking.executions)):
                self._send_need("executions", [lacking.attempt_id])
            due = [one for one in lacking.logs if self._is_due(one.execution_id, one.from_chunk)]
            if due:
                self._send_need("logs", [lack.execution_id for lack in due])

    def _is_due(self, what: str, held: int) -> bool:
        before = self._asked.get((what, held))
        if before is not None and self.world.now - before < _AGAIN_S:
            return False
        self._asked[what, held] = self.world.now
        return True

    def fetch(self, execution_id: str) -> bool:
        """Ask for a log, from where it is held on; False where it is being fetched already."""
        return self._send_need("logs", [execution_id], max_bytes=0)

    def _send_need(self, kind: str, ids: list[str], max_bytes: int = _NEED_BYTES) -> bool:
        request_id = self.hive.next_request()
        return self.ask(Need(request_id=request_id, kind=kind, ids=ids, max_bytes=max_bytes))

    def ask(self, need: Need) -> bool:
        """Ask for what is not being fetched; False where there is no such."""
        stored = self.hive.run_now(self.hive.store.store_need(self.node_id, need))
        if stored is None or stored.request_id != need.request_id:
            return False
        self.hive.later(0.0, lambda: self.send(stored))
        return True

    # --- commits ------------------------------------------------------------------------------

    def _commit_soon(self, lane: str) -> None:
        if not self._committing[lane]:
            self._committing[lane] = True
            self.hive.later(self.world.soon(), lambda: self._commit(lane))

    def _commit(self, lane: str) -> None:
        self._committing[lane] = False
        waiting = self.ops if lane == "ops" else self.history
        if not waiting:
            return
        effect = waiting.popleft()
        done = self._guarded(self._commit_one, effect)
        if not done:
            waiting.clear()
        elif waiting:
            self._commit_soon(lane)

    def _commit_one(self, effect: Any) -> None:
        run_now, store, link_no = self.hive.run_now, self.hive.store, self.machine.link_no
        match effect:
            case hive_link.CommitOps(epoch, first_seq, ops):
                mark = run_now(store.commit_ops(self.node_id, link_no, epoch, first_seq, list(ops)))
                judge_commit(self.world, self.socket, effect)
                self._after_commit(self.machine.ops_committed(epoch, mark))
                self._publish(effect)
                self._followed(ops)
            case hive_link.CommitSkip(skip):
                mark = run_now(store.commit_skip(self.node_id, link_no, skip))
                node = store.nodes[self.node_id]
                whole = node.snapshot_at >= (node.epochs[skip.epoch].rank, skip.through)
                assert whole, "ops are given up, and no state stands for them"
                self._after_commit(self.machine.ops_committed(skip.epoch, mark))
            case hive_link.CommitSnapshot(page):
                run_now(store.commit_snapshot(self.node_id, link_no, page))
                self._followed(page.records)
                if page.last:
                    self._look_for_forgotten()
            case hive_link.CommitChunk(chunk, request_id):
                [outcome] = run_now(
                    store.commit_chunks(
                        self.node_id, link_no, [chunk], fetched=request_id is not None
                    )
                )
                if outcome.kind == "hole" and request_id is None:
                    raise RemoteProtocolError(ErrorCode.HOLE, "a chunk is missing")
                if outcome.kind in {"foreign", "bad"}:
                    raise RemoteProtocolError(ErrorCode.BAD_FRAME, outcome.kind)
                settled = self.machine.chunks_committed([outcome.mark], cost(chunk), self.world.now)
                for frame in settled:
                    self._after_commit(frame)
            case hive_link.CommitRecords(records):
                run_now(
                    store.commit_records(self.node_id, link_no, records.request_id, records.records)
                )
                grant = self.machine.settled(cost(records), self.world.now)
                if grant is not None:
                    self._after_commit(grant)
            case hive_link.NeedAnswered(done):
                self._need_done(done)

    def _need_done(self, done: NeedDone) -> None:
        _, need = self.hive.store.needs.get(done.request_id, ("", None))
        self.hive.run_now(self.hive.store.need_done(self.node_id, self.machine.link_no, done))
        if need is not None and need.kind == "messages":
            for outcome in done.outcomes:
                self.world.met[f"messages {outcome.outcome}"] += 1
        judge_answer(self.world, self.socket, done)
        if not self.socket.came(done):
            # An answer of before, said again: whoever waits for a log has to look again.
            for outcome in done.outcomes:
                self.world.history.opened.pop(outcome.id, None)
        self._ask()

    def _look_for_forgotten(self) -> None:
        """A person looks at a session that the node no longer knows: it cannot be fetched."""
        rows = self.hive.store.nodes[self.node_id].rows.items()
        lost = [name for (kind, name), row in rows if row.forgotten and kind == OpKind.SESSION]
        if lost and self.world.faulty:
            self.hive.read(self.node_id, self.world.random.choice(lost))

    def _followed(self, told: Any) -> None:
        """A person may be just looking at a session of which something came."""
        sessions = [one.entity_id for one in told if one.kind == OpKind.SESSION]
        if sessions and self.world.faulty and self.world.random.random() < _FOLLOWED:
            self.hive.read(self.node_id, sessions[-1])

    def _after_commit(self, frame: Any) -> None:
        """Acknowledge, as a step of its own: the hive may die between commit and this."""
        self.hive.later(0.0, lambda: self.send(frame))

    def _publish(self, effect: Any) -> None:
        """Viewers are told: from here on the world may count on it."""
        if isinstance(effect, hive_link.CommitOps):
            epoch = self.hive.store.nodes[self.node_id].epochs[effect.epoch]
            last = effect.first_seq + len(effect.ops) - 1
            assert epoch.mark >= last, "published before it was committed"


def _whole(image: Any, node_id: str, execution_id: str, digest: bytes) -> bool:
    row = image.nodes[node_id].rows.get((OpKind.LOG_END, execution_id))
    if row is None or execution_id not in image.logs:
        return False
    end: Any = decode_body(OpKind.LOG_END, row.body)
    return image.cursor(execution_id).digest == digest and image.is_whole(execution_id, end)
