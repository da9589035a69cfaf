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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from protocol import limits
from protocol.hive_link import HiveLink
from protocol.node_link import NodeLink
from protocol.ops import OpKind
from tests.simulation.disk import Answers
from tests.simulation.hive_process import HiveProcess
from tests.simulation.immediate import run_now
from tests.simulation.judge import judge
from tests.simulation.memory_hive import MemoryHive
from tests.simulation.node_process import NodeProcess

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
    "restore_hive_ancient": 5,
    "restore_node": 4,
    "lose_disk": 2,
    "clone_node": 6,
    "clone_live": 4,
    "resume_live": 5,
    "restore_both": 4,
}
#: Kinds that wait for their moment, with how likely they are to happen when it comes.
TRAPS = {
    #: A link has gone live: all the node says on it is lost.
    "swallow": 0.3,
    #: A page of a snapshot has arrived: nothing follows.
    "break_snapshot": 0.6,
}
KINDS = (*FAULTS, *TRAPS)
#: What has to happen for what is said in sessions to be tried: a person asks for what is missing.
MET = ("messages sent", "messages unknown", "messages asked again")
#: Most histories are prone to one of these mixes, the others to any four kinds.
THEMES = (
    ("drop", "half_open", "late_frame", "kill_hive"),
    ("replay", "restore_hive", "restore_hive_ancient"),
    ("replay", "restore_both"),
    ("replay", "restore_node", "restore_both", "swallow"),
    ("replay", "restore_node", "swallow", "break_snapshot"),
    ("replay", "restore_hive_ancient", "break_snapshot"),
    ("replay", "restore_hive_ancient", "break_snapshot", "kill_node"),
    ("replay", "restore_hive_ancient", "swallow", "drop"),
    ("resume_live", "restore_hive", "drop", "break_snapshot"),
    ("resume_live", "restore_both", "restore_hive"),
    ("clone_node", "kill_node", "drop", "kill_hive"),
    ("clone_live", "clone_node", "restore_hive"),
    ("restore_node", "lose_disk", "restore_hive_ancient", "kill_both"),
)
#: A history meets this many events at least before its faults stop.
EVENTS_MIN = 360
#: Virtual seconds in which the world has to come to rest once they have (I8).
REST_S_MAX = 60.0


@dataclass
class History:
    """What truly happened, as no process of the world can know it."""

    #: The content of every chunk that was committed on some disk.
    blobs: set[bytes] = field(default_factory=set)
    #: A backup older than what the nodes may count on was restored: gaps are allowed, if recorded.
    ancient: bool = False
    #: Nodes of which there were two at a time, and those whose disk went back or was lost.
    cloned: set[str] = field(default_factory=set)
    went_back: set[str] = field(default_factory=set)
    #: Logs that a person opened, with the chunks there were of them then.
    opened: dict[str, int] = field(default_factory=dict)

    def forget_opened(self, node_id: str) -> None:
        """What was asked of a node, or asked at all, may be forgotten for good."""
        self.opened = {
            name: chunks
            for name, chunks in self.opened.items()
            if node_id and not name.startswith(f"{node_id}/")
        }


@dataclass
class Rules:
    """What a mutant changes. Production is all defaults."""

    prune_on_ack: bool = False
    one_epoch: bool = False
    send_before_commit: bool = False
    publish_before_commit: bool = False
    ack_before_commit: bool = False
    no_needs: bool = False
    safe_uncompared: bool = False
    safe_by_newest: bool = False
    answers: type[Answers] = Answers
    hive_store: type[MemoryHive] = MemoryHive
    node_link: type[NodeLink] = NodeLink
    hive_link: type[HiveLink] = HiveLink


class World:
    """One history."""

    run_now = staticmethod(run_now)

    def __init__(self, seed: int, rules: Rules | None = None, *, nodes: int = 2) -> None:
        self.seed = seed
        self.rules = rules or Rules()
        self.random = random.Random(seed)
        self.now = 0.0
        self.faults: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self.history = History()
        self.events = 0
        self.faulty = True
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._tie = itertools.count()
        self._blob_no = itertools.count()
        #: The faults this history is prone to; a mix of a few digs deeper than a little of all.
        self._prone: Sequence[str] = (
            self.random.choice(THEMES)
            if self.random.random() < 0.7
            else self.random.sample(KINDS, 4)
        )
        #: Somebody listens, keeps what is sent, and sends it again when it hurts.
        self.attacked = "replay" in self._prone
        self.sockets: list[Any] = []
        self.hive = HiveProcess(self)
        self.nodes = [NodeProcess(self, f"node-{index}") for index in range(nodes)]
        for node in self.nodes:
            self.hive.enrol(node.node_id)
            node.start()
        self.at(0.5, self._backup)
        self.at(3.0, self._look)

    # --- time ---------------------------------------------------------------------------------

    def at(self, delay: float, event: Callable[[], None]) -> None:
        """Have `event` happen after `delay` virtual seconds."""
        heapq.heappush(self._heap, (self.now + delay, next(self._tie), event))

    def soon(self) -> float:
        """Return the time a step takes: mostly little, sometimes long."""
        return self.random.random() * (0.02 if self.random.random() < 0.9 else 0.5)

    def run(self) -> None:
        """Live through the history, let it settle, and judge it."""
        while self.events < EVENTS_MIN:
            self._step()
            if self.random.random() < 0.035:
                self._fault()
        self._settle()
        judge(self)

    def _step(self) -> None:
        self.now, _, event = heapq.heappop(self._heap)
        self.events += 1
        event()

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
        self._rest_until = self.now + REST_S_MAX
        steps = 0
        while not self.settled() and self._heap[0][0] <= self._rest_until:
            self._step()
            steps += 1
            assert steps < 60_000, "the world does not come to rest"

    def settled(self) -> bool:
        """Whether nothing is left to send, so that waiting longer would change nothing."""
        if not all(node.settled() and self.hive.settled(node.node_id) for node in self.nodes):
            return False
        return len({node.node_id for node in self.nodes}) == len(self.nodes)

    # --- what the world makes -----------------------------------------------------------------

    def blob(self) -> bytes:
        """Return content that no other chunk has; now and then larger than a whole window."""
        size = self.random.choice((40, 120, 300, 900, 5000))
        return b"%d|" % next(self._blob_no) + bytes(size)

    def _backup(self) -> None:
        self.hive.backup()
        # Seldom once the faults have stopped: nothing new comes of it.
        self.at(self.random.expovariate(1.0 if self.faulty else 0.2), self._backup)

    def _look(self) -> None:
        """A person opens a log that is only held once someone does, and reads a session."""
        if not self.faulty:
            return
        lazy = [
            entity_id
            for node in self.hive.store.nodes.values()
            for (kind, entity_id) in node.rows
            if kind == OpKind.EXECUTION and self.hive.store.is_lazy(entity_id)
        ]
        if lazy:
            self.hive.look(self.random.choice(lazy))
        self._read()
        self.at(self.random.expovariate(1 / 2), self._look)

    def _read(self) -> None:
        """A person reads a few sessions; of some, something may be missing."""
        sessions = [
            (node_id, entity_id)
            for node_id, node in self.hive.store.nodes.items()
            for (kind, entity_id) in node.rows
            if kind == OpKind.SESSION
        ]
        for node_id, session_id in self.random.sample(sessions, min(3, len(sessions))):
            self.hive.read(node_id, session_id)

    # --- faults -------------------------------------------------------------------------------

    def _down_s(self) -> float:
        """Return how long a process stays away: mostly not long, so that more may happen to it."""
        return self.random.expovariate(1 / 0.5)

    def _fault(self) -> None:
        kinds = [name for name in self._prone if name in FAULTS]
        name = self.random.choices(kinds, [FAULTS[name] for name in kinds])[0]
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
        return socket is not None and socket.node.attacker.replay(socket)

    def _fault_late_frame(self) -> bool:
        socket = self._some_socket()
        return socket is not None and socket.delay()

    def _fault_kill_node(self) -> bool:
        node = self._some_node()
        if node is None:
            return False
        node.kill()
        self.at(self._down_s(), node.start)
        return True

    def _fault_kill_hive(self) -> bool:
        if not self.hive.alive:
            return False
        self.hive.kill()
        self.at(self._down_s(), self.hive.start)
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
        self.history.forget_opened("")
        self.at(self._down_s(), self.hive.start)
        return True

    def _fault_restore_node(self) -> bool:
        return self._restore_node(newest=False, live=False)

    def _restore_node(self, *, newest: bool, live: bool) -> bool:
        node = self._some_node()
        if node is None or not node.images:
            return False
        node.kill()
        node.restore(newest=newest, live=live)
        self._went_back(node)
        if live:
            # It cannot be told from a copy that runs beside the machine as it went on.
            self.history.cloned.add(node.node_id)
        self.at(self._down_s(), node.resume if live else node.start)
        return True

    def _fault_restore_both(self) -> bool:
        """A whole site goes back, each part of it to a moment of its own."""
        live = self.random.random() < 0.5
        return self._restore_hive(ancient=False) and self._restore_node(newest=True, live=live)

    def _fault_lose_disk(self) -> bool:
        node = self._some_node()
        if node is None:
            return False
        node.kill()
        node.lose_disk()
        self._went_back(node)
        self.at(self._down_s(), node.start)
        return True

    def _went_back(self, node: NodeProcess) -> None:
        self.history.went_back.add(node.node_id)
        self.history.forget_opened(node.node_id)

    def _fault_clone_node(self) -> bool:
        return self._clone(live=False)

    def _fault_clone_live(self) -> bool:
        return self._clone(live=True)

    def _clone(self, *, live: bool) -> bool:
        node = self._some_node()
        if node is None or sum(other.node_id == node.node_id for other in self.nodes) > 1:
            return False
        copy = node.copy(live=live)
        self.nodes.append(copy)
        copy.wake()
        self.history.cloned.add(node.node_id)
        self.history.forget_opened(node.node_id)
        self.at(2.0 + self.random.random() * 6, lambda: self.admin(node.node_id))
        if self.random.random() < 0.4:
            self.at(self.random.expovariate(1.0), lambda: self._scrap(node.node_id))
        return True

    def _fault_resume_live(self) -> bool:
        """A machine goes back to a moment before, with what ran on it."""
        return self._restore_node(newest=False, live=True)

    def springs(self, kind: str) -> bool:
        """Whether a fault that waits for a moment happens now that it has come."""
        if not self.faulty or kind not in self._prone or self.random.random() > TRAPS[kind]:
            return False
        self.faults[kind] += 1
        return True

    def _scrap(self, node_id: str) -> None:
        """A person sees that there are two before the hive does, and turns one off."""
        holders = [node for node in self.nodes if node.node_id == node_id]
        if len(holders) > 1 and not self.hive.quarantined(node_id):
            scrapped = self.random.choice(holders)
            scrapped.kill()
            self.nodes.remove(scrapped)

    def admin(self, node_id: str) -> None:
        """A person looks at a quarantined node, keeps one holder and scraps the others."""
        holders = [node for node in self.nodes if node.node_id == node_id]
        found_out = self.hive.quarantined(node_id)
        for node in holders:
            if node.alive and node.instance in self.hive.store.nodes[node_id].holder.refused:
                # A machine that went back to before its release: it has to be another process.
                node.kill()
                node.start()
        if len(holders) == 1 and not found_out:
            return
        if not self.hive.alive or not all(node.alive for node in holders):
            self.at(1.0, lambda: self.admin(node_id))
            return
        if not found_out:
            self.at(2.0, lambda: self.admin(node_id))
            return
        kept = self.random.choice(holders)
        for node in holders:
            if node is not kept:
                node.kill()
                self.nodes.remove(node)
        self.hive.release(node_id, kept.instance)
        holder = self.hive.store.nodes[node_id].holder
        assert kept.instance not in holder.refused, "another was let on than the one chosen"
        # A second holder is a fault too, and has just stopped.
        self._rest_until = self.now + REST_S_MAX
        kept.hurry()


@contextlib.contextmanager
def small_limits() -> Iterator[None]:
    """Make windows and frames so small that a history of a few hundred events meets them all."""
    small = {
        "OPS_PER_FRAME_MAX": 5,
        "OPS_IN_FLIGHT_BYTES_MAX": 3000,
        "RECORDS_PER_PAGE_MAX": 3,
        "CREDIT_WINDOW_BYTES_FIRST": 1500,
        "CREDIT_WINDOW_BYTES_MIN": 700,
        "CREDIT_WINDOW_BYTES_MAX": 3000,
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
