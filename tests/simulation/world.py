"""A seeded world: nodes and a hive on the production link machines, a bad network, and a judge.

One history is one seed. Time is virtual, every step is an event, and between any two events a
process may die, a socket may break, a disk may go back to an older image. After the faults stop,
the world has to converge, and `judge` compares what the hive holds with what the nodes hold.
"""

import contextlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from protocol import limits
from protocol.log_chunks import LogChunk
from protocol.ops import Op
from tests.simulation.judge import judge
from tests.simulation.memory_hive import MemoryHive

T = TypeVar("T")

#: Kinds of fault a history may meet, with how often each is chosen when one is due.
FAULTS = {
    "drop": 10,
    "half_open": 8,
    "duplicate": 8,
    "replay": 6,
    "late_frame": 6,
    "kill_node": 10,
    "kill_hive": 8,
    "kill_both": 3,
    "restore_hive": 5,
    "restore_hive_ancient": 2,
    "restore_node": 4,
    "clone_node": 3,
}


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits: the memory stores are asynchronous in name alone."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("a memory store waited")


@dataclass
class History:
    """What truly happened, as no process of the world can know it."""

    #: Ops of each epoch as its process committed them, from number 1.
    epochs: dict[int, list[Op]] = field(default_factory=dict)
    blobs: set[bytes] = field(default_factory=set)
    #: A backup older than what the nodes may count on was restored: gaps are allowed, if recorded.
    ancient: bool = False


@dataclass
class Rules:
    """What a mutant changes. Production is all defaults."""

    prune_on_ack: bool = False
    one_epoch: bool = False
    send_before_commit: bool = False
    publish_before_commit: bool = False
    ack_before_commit: bool = False
    no_needs: bool = False
    hive_store: Callable[[], MemoryHive] = MemoryHive
    node_link: Callable[..., Any] | None = None
    hive_link: Callable[..., Any] | None = None


class World:
    """One history."""

    def __init__(self, seed: int, rules: Rules, *, events: int = 260, nodes: int = 2) -> None:
        from tests.simulation.hive_process import HiveProcess
        from tests.simulation.node_process import NodeProcess

        self.seed = seed
        self.rules = rules
        self.random = random.Random(seed)
        self.now = 0.0
        self.faults: Counter[str] = Counter()
        self.history = History()
        self.events = 0
        self.faulty = True
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._tie = itertools.count()
        self._blob_no = itertools.count()
        self._events_max = events
        #: The faults this history is prone to; a mix of a few digs deeper than a little of all.
        self._prone = self.random.sample(sorted(FAULTS), 4)
        self.sockets: list[Any] = []
        self.hive = HiveProcess(self)
        self.nodes = [NodeProcess(self, f"node-{index}") for index in range(nodes)]
        for node in self.nodes:
            self.hive.enrol(node.node_id)
            node.start()
        self.at(1.0, self._backup)

    # --- time ---------------------------------------------------------------------------------

    def at(self, delay: float, event: Callable[[], None]) -> None:
        """Have `event` happen after `delay` virtual seconds."""
        heapq.heappush(self._heap, (self.now + delay, next(self._tie), event))

    def soon(self) -> float:
        """Return the time a step takes: mostly little, sometimes long."""
        return self.random.random() * (0.02 if self.random.random() < 0.9 else 0.5)

    def run(self) -> None:
        """Live through the history, let it settle, and judge it."""
        while self.events < self._events_max:
            self._step()
            if self.random.random() < 0.035:
                self._fault()
        self._settle()
        judge(self)

    def _step(self) -> bool:
        if not self._heap:
            return False
        self.now, _, event = heapq.heappop(self._heap)
        self.events += 1
        event()
        return True

    def _settle(self) -> None:
        self.faulty = False
        for socket in self.sockets:
            socket.heal()
        if not self.hive.alive:
            self.hive.start()
        for node in self.nodes:
            if not node.alive:
                node.start()
            node.hurry()
        deadline = self.now + 60.0
        steps = 0
        while self._heap and self._heap[0][0] <= deadline:
            self._step()
            steps += 1
            assert steps < 60_000, "the world does not come to rest"
            if steps % 16 == 0 and self._quiet():
                break

    def _quiet(self) -> bool:
        """Whether nothing is left to send, so that waiting longer would change nothing."""
        one_each = len({node.node_id for node in self.nodes}) == len(self.nodes)
        return one_each and all(node.quiet() for node in self.nodes) and self.hive.quiet()

    # --- what the world makes -----------------------------------------------------------------

    def blob(self) -> bytes:
        """Return content that no other chunk has; now and then larger than a whole window."""
        size = self.random.choice((40, 120, 300, 900, 5000))
        return b"%d|" % next(self._blob_no) + bytes(size)

    def _backup(self) -> None:
        self.hive.backup()
        self.at(self.random.expovariate(1 / 4), self._backup)

    # --- faults -------------------------------------------------------------------------------

    def _fault(self) -> None:
        weights = [FAULTS[name] for name in self._prone]
        name = self.random.choices(self._prone, weights)[0]
        if getattr(self, f"_fault_{name}")():
            self.faults[name] += 1

    def _open_sockets(self) -> list[Any]:
        self.sockets = [socket for socket in self.sockets if socket.open]
        return self.sockets

    def _some_socket(self) -> Any | None:
        sockets = self._open_sockets()
        return self.random.choice(sockets) if sockets else None

    def _some_node(self) -> Any | None:
        alive = [node for node in self.nodes if node.alive]
        return self.random.choice(alive) if alive else None

    def _fault_drop(self) -> bool:
        socket = self._some_socket()
        return socket is not None and socket.cut()

    def _fault_half_open(self) -> bool:
        socket = self._some_socket()
        return socket is not None and socket.abandon()

    def _fault_duplicate(self) -> bool:
        socket = self._some_socket()
        return socket is not None and socket.duplicate()

    def _fault_replay(self) -> bool:
        socket = self._some_socket()
        return socket is not None and socket.replay()

    def _fault_late_frame(self) -> bool:
        socket = self._some_socket()
        return socket is not None and socket.delay()

    def _fault_kill_node(self) -> bool:
        node = self._some_node()
        if node is None:
            return False
        node.kill()
        self.at(self.random.random() * 3, node.start)
        return True

    def _fault_kill_hive(self) -> bool:
        if not self.hive.alive:
            return False
        self.hive.kill()
        self.at(self.random.random() * 3, self.hive.start)
        return True

    def _fault_kill_both(self) -> bool:
        return self._fault_kill_hive() and self._fault_kill_node()

    def _fault_restore_hive(self) -> bool:
        return self._restore_hive(ancient=False)

    def _fault_restore_hive_ancient(self) -> bool:
        return self._restore_hive(ancient=True)

    def _restore_hive(self, *, ancient: bool) -> bool:
        if not self.hive.can_restore(ancient=ancient):
            return False
        self.hive.kill()
        self.hive.restore(ancient=ancient)
        self.history.ancient |= ancient
        self.at(self.random.random() * 3, self.hive.start)
        return True

    def _fault_restore_node(self) -> bool:
        node = self._some_node()
        if node is None or not node.images:
            return False
        node.kill()
        node.restore()
        self.at(self.random.random() * 3, node.start)
        return True

    def _fault_clone_node(self) -> bool:
        node = self._some_node()
        if node is None or sum(other.node_id == node.node_id for other in self.nodes) > 1:
            return False
        clone = node.clone()
        self.nodes.append(clone)
        clone.start()
        self.at(5.0 + self.random.random() * 10, lambda: self.admin(node.node_id))
        return True

    def admin(self, node_id: str) -> None:
        """A person looks at a quarantined node, keeps one holder and scraps the others."""
        holders = [node for node in self.nodes if node.node_id == node_id]
        if len(holders) == 1 and not self.hive.quarantined(node_id):
            return
        if not self.hive.alive or not all(node.alive for node in holders):
            self.at(1.0, lambda: self.admin(node_id))
            return
        if len(holders) > 1 and not self.hive.quarantined(node_id) and self.faulty:
            # Not found out yet.
            self.at(2.0, lambda: self.admin(node_id))
            return
        kept = self.random.choice(holders)
        for node in holders:
            if node is not kept:
                node.kill()
                self.nodes.remove(node)
        self.hive.release(node_id, kept.instance)
        kept.hurry()


@contextlib.contextmanager
def small_limits() -> Iterator[None]:
    """Make windows and frames so small that a history of a few hundred events meets them all."""
    small = {
        "OPS_PER_FRAME_MAX": 5,
        "OPS_IN_FLIGHT_BYTES_MAX": 3000,
        "RECORDS_PER_PAGE_MAX": 3,
        "CREDIT_WINDOW_BYTES_FIRST": 1500,
        "CREDIT_WINDOW_BYTES_MAX": 3000,
        "CREDIT_WINDOW_BYTES_FAST_MAX": 4000,
        "HELLO_LOGS_PER_PAGE_MAX": 2,
    }
    before = {name: getattr(limits, name) for name in small}
    for name, value in small.items():
        setattr(limits, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(limits, name, value)


def is_chunk(message: object) -> bool:
    """Whether a frame is a chunk of a log."""
    return isinstance(message, LogChunk)
