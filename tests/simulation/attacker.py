"""Somebody between a node and its hive who keeps what was sent, and sends it again when it hurts.

One for each identity: what a copy of a node says is kept beside what the node says. Knows both
ends, so it strikes where a rule that is lacking would do the most harm.
"""

from collections import deque
from typing import Any

from protocol.messages import Ack, HiveMessage, LogAck, NodeMessage, Ops, Skip, Snapshot

#: Frames of one kind that are kept.
_STATE_MAX = 150
_OTHER_MAX = 60
_ACKS_MAX = 30
#: Virtual seconds after a link went live at which a keen attacker looks whether it can do harm.
_LURKS_S = (0.0, 0.3, 0.8, 1.5, 2.5)
#: A strike mostly costs the link: more of them, and nothing else would happen.
_STRIKES_MAX = 6

#: What a frame may do where a rule is lacking; what is seldom possible comes first.
_HARMS = (
    "gives up what is kept",
    "brings back what was lost",
    "hides what is awaited",
    "leaves a hole",
    "fits",
)


class Attacker:
    """Listens to one identity, and strikes."""

    def __init__(self, world: Any) -> None:
        self.world = world
        #: Waits for the next link, whatever harm it can do there.
        self.waits = False
        self._state: deque[NodeMessage] = deque(maxlen=_STATE_MAX)
        self._other: deque[NodeMessage] = deque(maxlen=_OTHER_MAX)
        self._acks: deque[HiveMessage] = deque(maxlen=_ACKS_MAX)
        self._strikes = 0

    def hears_node(self, message: NodeMessage) -> None:
        """The node sent this, whether or not it arrives."""
        rare = isinstance(message, Ops | Skip | Snapshot)
        (self._state if rare else self._other).append(message)

    def hears_hive(self, message: HiveMessage) -> None:
        """The hive sent this."""
        if isinstance(message, Ack | LogAck):
            self._acks.append(message)

    def replay(self, socket: Any) -> bool:
        """Send again what was sent at some time, on whatever socket: on this one now, or later."""
        kept: deque[Any] = self.world.random.choice((self._other, self._state, self._acks))
        if not kept or not socket.open:
            return False
        message = self.world.random.choice(kept)
        if self.world.random.random() < 0.5:
            self.waits = True
        elif kept is self._acks:
            self.world.at(self.world.soon(), lambda: socket.comes_down(message))
        else:
            self.world.at(self.world.soon(), lambda: socket.comes_up(message))
        return True

    def link_is_live(self, socket: Any, hello: Any) -> None:
        """A link has just gone live: look at it now and, where this world has it in for it, on."""
        for delay in _LURKS_S if self.world.attacked else _LURKS_S[:1]:
            self.world.at(delay, lambda: self._look(socket, hello))

    def _look(self, socket: Any, hello: Any) -> None:
        if not self.world.faulty or not socket.hive_open or not socket.carries_up:
            return
        node = self.world.hive.store.nodes[hello.node_id]
        held = {state.epoch: node.epochs[state.epoch].mark for state in hello.epochs}
        worst = self._worst(held, hello, awaited=node.snapshot_broken)
        if worst and self.world.attacked and self._strikes < _STRIKES_MAX:
            self._strikes += 1
        elif self.waits:
            worst = worst or {"fits": [one for one in self._state if _fits(one, held)]}
            self.waits = not any(worst.values())
        else:
            return
        # What is seldom possible is mostly done where it is.
        worst = {name: worst[name] for name in _HARMS if worst.get(name)}
        harm = next(iter(worst.values()), [])
        if worst and self.world.random.random() < 0.3:
            harm = self.world.random.choice(list(worst.values()))
        if harm:
            socket.comes_up(self.world.random.choice(harm))

    def _worst(
        self, marks: dict[int, int], hello: Any, *, awaited: bool
    ) -> dict[str, list[NodeMessage]]:
        """Return what does harm where a rule is lacking, by the harm it does."""
        ends = {state.epoch: state.last for state in hello.epochs[:-1]}
        harms: dict[str, list[NodeMessage]] = {}
        for message in self._state:
            if isinstance(message, Snapshot) or message.epoch not in marks:
                continue
            mark = marks[message.epoch]
            if isinstance(message, Skip):
                harm = "gives up what is kept" if message.through > mark else ""
            elif message.first_seq > mark + 1:
                harm = "leaves a hole"
            elif not _fits(message, marks):
                harm = ""
            elif _ends(message) > ends.get(message.epoch, 2**63):
                harm = "brings back what was lost"
            else:
                # A node that has yet to tell all it owns would seem to be known.
                harm = "hides what is awaited" if awaited else ""
            if harm:
                harms.setdefault(harm, []).append(message)
        return harms


def _fits(message: Any, marks: dict[int, int]) -> bool:
    """Whether a frame of ops or a skip takes the hive's mark on."""
    if isinstance(message, Snapshot) or message.epoch not in marks:
        return False
    return _begins(message) <= marks[message.epoch] + 1 <= _ends(message)


def _begins(message: Ops | Skip) -> int:
    return message.first_seq if isinstance(message, Ops) else 1


def _ends(message: Ops | Skip) -> int:
    if isinstance(message, Skip):
        return message.through
    return message.first_seq + len(message.ops) - 1
