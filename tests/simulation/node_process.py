"""A node agent in the simulator: the production machine over memory stores, and made-up work.

What `node_agent.link_session` does with a socket, this does with a simulated one; each send is an
event of its own, so that a kill may fall between any two.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, NamedTuple

from node_agent import need_answers
from node_agent.reconnect import Backoff
from protocol import node_effects, node_link
from protocol.errors import ProtocolError
from protocol.log_chunks import LogChunk
from protocol.messages import Heartbeat, HeartbeatReply, LogMark, Need, NeedDone, NodeMessage, Safe
from tests.simulation.attacker import Attacker
from tests.simulation.disk import LAZY, Disk, blobs
from tests.simulation.judge import judge_pruned
from tests.simulation.sockets import HIVE_ID, Socket
from tests.simulation.workload import Workload

#: Nobody waits 15 minutes here for a refused node to dial again; while there are faults not even
#: the half minute of a hive that is away, for nothing can go wrong meanwhile.
_WAIT_S_MAX = 30.0
_WAIT_FAULTY_S_MAX = 1.5
_HANDSHAKE_S_MAX = 15.0


class Image(NamedTuple):
    """What a machine goes back to."""

    disk: Disk
    instance: int
    connect_no: int


class NodeProcess:
    """One node agent, over all its restarts."""

    def __init__(self, world: Any, node_id: str) -> None:
        self.world = world
        self.run_now = world.run_now
        self.node_id = node_id
        self.disk = Disk()
        self.images: list[Image] = []
        self.attacker = Attacker(world)
        self.work = Workload(world, self)
        self.alive = False
        self.instance = 0
        self.connect_no = 0
        self.link: Any = None
        self.socket: Socket | None = None
        self._life = 0
        self._unlisten: list[Callable[[], None]] = []

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process on its disk, under a new instance."""
        if self.alive:
            return
        self.instance = self.world.random.getrandbits(63)
        self.connect_no = 0
        if not (self.world.rules.one_epoch and self.run_now(self.disk.journal.epochs())):
            self.run_now(self.disk.journal.open_epoch(self.instance))
            self.disk.epochs[self.instance] = []
        self._run()

    def _run(self, alone_s: float = 0.0) -> None:
        self.alive = True
        self._life += 1
        self.generation_seen = 0
        self.link = None
        self.socket = None
        self.backoff = Backoff()
        self._control: deque[NodeMessage] = deque()
        #: Pages of a snapshot and the skips behind it, to be sent before anything else of its lane.
        self._pages: deque[NodeMessage] = deque()
        #: The hive's word came, on this link, that it holds just our ops.
        self._heard_back = False
        self._answers: dict[str, AsyncIterator[Any]] = {}
        #: Frames not yet read, what was read and is not yet done, and whether that takes time.
        self._inbox: deque[Any] = deque()
        self._effects: deque[Any] = deque()
        self._adopting = False
        self._pumping = False
        self._refork: list[Any] = []
        self._reforked = False
        self._moved: set[str] = set()
        self._dial_no = 0
        self._unlisten = [
            self.disk.journal.listen(self._journal_grew),
            self.disk.chunks.listen(self._log_grew),
        ]
        for state in self.run_now(self.disk.chunks.logs_to_name()):
            # Renumbered, and killed before it had said so.
            self._say_end_again(state.execution_id)
        random = self.world.random
        if random.random() < 0.3:
            # It works for a while before there is a network.
            alone_s += random.expovariate(1.0)
        self.later(self.world.soon() + alone_s, self._dial)
        self.later(random.random(), self.work.step)
        self.later(20.0, self._beat)

    def kill(self) -> None:
        """Kill -9: only the disk stays."""
        self.alive = False
        for undo in self._unlisten:
            undo()
        self._unlisten = []
        if self.socket is not None:
            self.socket.close_node()
            self.socket = None

    def take_image(self) -> None:
        """Keep a copy of the disk, and of the process that runs on it."""
        self.images.append(Image(self.disk.copy(), self.instance, self.connect_no))
        del self.images[:-3]

    def restore(self, *, newest: bool = False, live: bool = False) -> None:
        """The disk goes back to an older image; `live`: with the process that ran on it."""
        image = self.images[-1] if newest else self.world.random.choice(self.images)
        self.disk = image.disk.copy()
        if live:
            self.instance, self.connect_no = image.instance, image.connect_no

    def resume(self) -> None:
        """What ran at the image goes on as if nothing had been."""
        if not self.alive:
            self._run(alone_s=self.world.random.expovariate(1 / 1.5))

    def lose_disk(self) -> None:
        """A new disk, with nothing on it but the key."""
        self.disk, self.images = Disk(), []

    def copy(self, *, live: bool) -> "NodeProcess":
        """Return a copy of the disk, or (`live`) of the running process, for another machine."""
        copy = NodeProcess(self.world, self.node_id)
        copy.disk = self.disk.copy()
        copy.attacker = self.attacker
        if live:
            copy.instance, copy.connect_no = self.instance, self.connect_no
        return copy

    def wake(self) -> None:
        """Start a copy: as a new process, or where it was copied live, as the one it was."""
        if self.instance:
            self.resume()
        else:
            self.start()

    def hurry(self) -> None:
        """A person dials for it: whatever the backoff says, now."""
        if self.alive and self.socket is None:
            self._dial_no += 1
            self.later(self.world.soon(), self._dial)

    def settled(self) -> bool:
        """Whether the hive has taken all there is, and nothing is on its way to it."""
        link = self.link
        if self.socket is None or link is None or link.phase is not node_link.Phase.LIVE:
            return False
        under_way = (
            link._snapshot_due
            or self._pages
            or link._needs
            or link._in_flight
            or link._logs._probing
            or link._logs._running
            or link._logs._resting
            or self.socket.under_way
            or self._adopting
            or self._moved
        )
        return (
            not under_way
            and self.socket.hive_open
            and all(epoch.acked >= epoch.last for epoch in link._epochs.values())
            # Where a strike was the last that happened, only a heartbeat's reply finds it out.
            and self._heard_back
            and all(log.mark.next_chunk >= log.next_new for log in link._logs._logs.values())
        )

    def later(self, delay: float, event: Callable[[], None]) -> None:
        """Have `event` happen after `delay`, unless this process is dead by then."""
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
            self._redial(None, lived_s=0.0)
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
        self.link = self.world.rules.node_link(
            caller,
            self.run_now(self.disk.journal.epochs()),
            self.run_now(self.disk.chunks.logs_to_name({LAZY})),
        )
        if hasattr(self.link, "seen"):
            self.link.seen = self.run_now(self.disk.journal.marks_seen())
        self._control.clear()
        self._pages.clear()
        self._heard_back = False
        self._answers.clear()
        self._inbox.clear()
        self._effects.clear()
        self._adopting = False
        self.socket = Socket(self.world, self)
        self._dialled_at = self.world.now
        hive.accept(self.socket)

    def _redial(self, code: int | None, *, lived_s: float) -> None:
        self.backoff.closed(lived_s=lived_s, close_code=code)
        if self._reforked:
            self._reforked = False
            self.hurry()
            return
        self._dial_no += 1
        dial_no = self._dial_no

        def dial() -> None:
            if dial_no == self._dial_no:
                self._dial()

        wait_s = self.backoff.wait_s(self.world.random.random())
        self.later(min(wait_s, _WAIT_FAULTY_S_MAX if self.world.faulty else _WAIT_S_MAX), dial)

    def closed(self, socket: Socket, code: int | None) -> None:
        """The socket is gone."""
        if not self.alive or socket is not self.socket:
            return
        self.socket = None
        self.link.close()
        self._settle_forks()
        self._redial(code, lived_s=self.world.now - self._dialled_at)

    def _settle_forks(self) -> None:
        journal, epochs = self.disk.journal, self.disk.epochs
        for fork in self._refork:
            agreed = 0
            for seq, digest in sorted(fork.digests, reverse=True):
                if self.run_now(journal.digest_at(fork.epoch, seq)) == digest:
                    agreed = seq
                    break
            self._reforked = True
            self.instance = self.world.random.getrandbits(63)
            self.connect_no = 0
            self.run_now(journal.refork(fork.epoch, agreed, self.instance))
            begun = self.run_now(journal.epochs())[-1]
            lost = epochs[fork.epoch][agreed : agreed + begun.first_kept - 1]
            del epochs[fork.epoch][agreed:]
            kept = journal.ops_after(self.instance, len(lost), ops_max=10**6, bytes_max=10**9)
            epochs[self.instance] = lost + self.run_now(kept)
        self._refork = []

    def receive(self, socket: Socket, message: Any) -> None:
        """A frame of the hive."""
        if not self.alive or socket is not self.socket:
            return
        self._inbox.append(message)
        self._read_on()

    def _read_on(self) -> None:
        """Do what the hive's frames ask for, in order, as long as nothing of it takes time."""
        try:
            while (self._effects or self._inbox) and not self._adopting:
                if self._effects:
                    self._take(self._effects.popleft())
                else:
                    self._effects.extend(self.link.receive(self._inbox.popleft()))
        except ProtocolError as error:
            self._break(error)
            return
        self._pump()

    def _break(self, error: ProtocolError | None = None) -> None:
        if self.socket is None:
            return
        self.socket.close_node()
        self.socket = None
        self.link.close()
        self._settle_forks()
        code = None if error is None else error.meaning.close_code
        self._redial(code, lived_s=self.world.now - self._dialled_at)

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
                self._effects.extendleft(reversed(self.link.settled(found, chains)))
            case node_effects.CompareMarks(marks):
                places = [(mark.epoch, mark.mark) for mark in marks]
                digests = {place: run_now(disk.journal.digest_at(*place)) for place in places}
                self.link.marks_compared(marks, digests)
            case node_effects.Probe(execution_id, below):
                digests = run_now(disk.chunks.digests_below(execution_id, below, limit=3))
                for following in self.link.probed(execution_id, digests):
                    self._take(following)
            case node_effects.Adopt():
                # It takes time, and meanwhile the log grows.
                self._adopting = True
                link = self.link
                self.later(self.world.soon(), lambda: self._adopt(link, effect))
            case node_effects.Refork(fork):
                self._refork.append(fork)
                self.later(0.0, self._break)
            case node_effects.LogsAcked(marks):
                run_now(disk.chunks.acked(marks))
                if self.world.rules.prune_on_ack:
                    self._purge([(mark.execution_id, mark.digest) for mark in marks])
            case node_effects.OpsAcked(epoch, seq):
                run_now(disk.journal.saw_marks({epoch: seq}))
                if self.world.rules.prune_on_ack:
                    run_now(disk.journal.prune(epoch, seq))
            case node_effects.Received(HeartbeatReply()):
                epochs = self.link._epochs.values()
                self._heard_back = all(epoch.acked >= epoch.last for epoch in epochs)
            case node_effects.Received(Need() as need):
                if need.kind == "logs":
                    self._compare_logs(need)
                elif need.kind == "messages" and self.socket is not None:
                    said = {
                        name: disk.sessions[name][after:] if name in disk.sessions else None
                        for name, after in zip(need.ids, need.after, strict=True)
                    }
                    self.socket.asked[need.request_id] = said
                self._answers[need.request_id] = need_answers.answer(
                    need, self.world.rules.answers(disk)
                )
            case node_effects.Received(Safe() as safe):
                if self.world.faulty:
                    # When there is time for it, and whatever happens to the link meanwhile.
                    self.later(self.world.soon() * 4, lambda: self._delete(safe))
                else:
                    self._delete(safe)

    def _adopt(self, link: Any, adopt: node_effects.Adopt) -> None:
        if self.socket is None or link is not self.link:
            return
        log = self.run_now(self.disk.chunks.adopt(adopt.mark, adopt.held_through))
        link.log_adopted(log.execution_id, next_chunk=log.next_chunk, open_=not log.closed)
        self._adopting = False
        self._read_on()

    def _compare_logs(self, need: Need) -> None:
        chunks, run_now = self.disk.chunks, self.run_now
        for name, place, after, digest in zip(
            need.ids, need.from_chunk, need.after, need.digests, strict=True
        ):
            log = run_now(chunks.log(name))
            if log is None or log.purged:
                continue
            if self.link.streams(name):
                self.link.log_grew(name, next_chunk=log.next_chunk, open_=not log.closed)
            elif run_now(chunks.digest_at(name, place - 1)) != digest:
                for following in self.link.log_differs(name, log.next_chunk):
                    self._take(following)
            elif not run_now(chunks.whole_from(name, place)):
                self.link.stream(LogMark(name, place, after + 1, digest), log.next_chunk)

    def _delete(self, safe: Safe) -> None:
        """Delete what is safe, as the node agent's upkeep does."""
        journal, run_now = self.disk.journal, self.run_now
        kept = {state.epoch: state.first_kept for state in run_now(journal.epochs())}
        for epoch, seq, digest in safe.epochs:
            ours = run_now(journal.digest_at(epoch, seq))
            ours_too = ours == digest or self.world.rules.safe_uncompared
            if ours_too and run_now(journal.prune(epoch, seq)):
                judge_pruned(self.world, self, safe, epoch, range(kept[epoch], seq + 1))
        self._purge(safe.logs)

    def _purge(self, safe: Iterable[tuple[str, bytes]]) -> None:
        disk = self.disk
        for execution_id, digest in safe:
            log = self.run_now(disk.chunks.log(execution_id))
            if log is None or not log.closed or log.purged:
                continue
            if log.digest != digest and not self.world.rules.safe_uncompared:
                continue
            if log.acked_chunk < log.next_chunk:
                continue
            disk.purged[execution_id] = blobs(disk.chunks.all_logs()[execution_id][1])
            self.run_now(disk.chunks.purge(execution_id))

    # --- sending ------------------------------------------------------------------------------

    def _journal_grew(self, grew: Any) -> None:
        if self.socket is not None:
            self.link.journal_grew(grew.epoch, grew.seq)
            self._pump()

    def _log_grew(self, grew: Any) -> None:
        if grew.closed:
            self._say_end_again(grew.execution_id)
        if self.socket is not None and grew.checkout_id != LAZY:
            self.link.log_grew(grew.execution_id, next_chunk=grew.next_chunk, open_=not grew.closed)
            self._pump()

    def _say_end_again(self, execution_id: str) -> None:
        self._moved.add(execution_id)
        self.later(self.world.soon(), lambda: self._log_moved(execution_id))

    def _log_moved(self, execution_id: str) -> None:
        self._moved.discard(execution_id)
        self.work.log_moved(execution_id)

    def _pump(self) -> None:
        if not self._pumping:
            self._pumping = True
            self.later(self.world.soon(), self._send_one)

    def _send_one(self) -> None:
        self._pumping = False
        socket = self.socket
        if socket is None:
            return
        if self._control:
            socket.up(self._control.popleft())
            self._pump()
            return
        if self._pages:
            socket.up(self._pages.popleft())
            self._pump()
            return
        wanted = self.link.next_wanted()
        if wanted is None:
            return
        try:
            self._send_wanted(socket, wanted)
        except ProtocolError as error:
            self._break(error)
            return
        self._pump()

    def _send_wanted(self, socket: Socket, wanted: Any) -> None:
        disk, run_now = self.disk, self.run_now
        match wanted:
            case node_effects.SnapshotWanted(skips):
                position, records = run_now(disk.journal.snapshot())
                digests = {place: run_now(disk.journal.digest_at(*place)) for place in skips}
                name = f"{position.epoch:x}-{position.seq}-{self.connect_no}"
                self._pages.extend(self.link.snapshot_read(name, tuple(position), records, digests))
                # It takes long: a heartbeat falls due within.
                self._control.append(Heartbeat(n=1))
            case node_effects.OpsWanted(epoch, after, ops_max, bytes_max):
                ops = run_now(
                    disk.journal.ops_after(epoch, after, ops_max=ops_max, bytes_max=bytes_max)
                )
                self._heard_back = False
                socket.up(self.link.ops_read(epoch, ops))
            case node_effects.ChunksWanted():
                self._send_chunks(socket, wanted)
            case node_effects.AnswerWanted(request_id):
                frame = run_now(anext(self._answers[request_id]))  # type: ignore[arg-type]
                allowed = self.link.answer_read(frame)
                if allowed is not None:
                    socket.up(allowed)
                if isinstance(frame, NeedDone):
                    del self._answers[request_id]

    def _send_chunks(self, socket: Socket, wanted: node_effects.ChunksWanted) -> None:
        chunks = self.run_now(
            self.disk.chunks.chunks_from(
                wanted.execution_id, wanted.chunk_seq, chunks_max=4, bytes_max=wanted.bytes_max
            )
        )
        if not chunks:
            self.link.log_gone(wanted.execution_id)
        elif chunks[0].chunk_seq > wanted.chunk_seq:
            for effect in self.link.hole_found(wanted.execution_id):
                self._take(effect)
            return
        for chunk in chunks:
            if not self.link.may_begin_chunk(chunk):
                break
            socket.up(self.link.chunk_read(chunk))

    def send_unasked(self, chunks: list[LogChunk]) -> None:
        """Send chunks that are not committed yet: what a mutant does."""
        if self.socket is not None and self.link.phase is node_link.Phase.LIVE:
            for chunk in chunks:
                self.socket.up(chunk)

    def _beat(self) -> None:
        if self.socket is not None and self.link.phase is node_link.Phase.LIVE:
            self._control.append(Heartbeat(n=1))
            self._pump()
        elif self.socket is not None and self.world.now - self._dialled_at > _HANDSHAKE_S_MAX:
            self._break()
        self.later(20.0 if self.world.faulty else 5.0, self._beat)
