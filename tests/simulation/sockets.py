"""A socket of the simulated network: frames in order within it, anything between it and others."""

from collections import deque
from typing import Any

from protocol.messages import Heartbeat, Hello, HelloLogs, NeedDone

HIVE_ID = "hive"


class Socket:
    """One connection. Both ends have `receive(message)` and `closed(code)`."""

    def __init__(self, world: Any, node: Any) -> None:
        self.world = world
        self.node = node
        self.hive_end: Any = None
        self.node_open = True
        self.hive_open = True
        #: The network still carries frames of the node; and of the hive.
        self.carries_up = True
        self.carries_down = True
        self._last_up = 0.0
        self._last_down = 0.0
        self._spike = 0.0
        #: Frames of the node on their way that the hive has something to do about.
        self.under_way = 0
        self._sent_up: deque[Any] = deque(maxlen=8)
        #: Messages of each session behind the place asked for, by need; None: there was none.
        self.asked: dict[str, dict[str, tuple[str, ...] | None]] = {}
        self._done: list[NeedDone] = []
        world.sockets.append(self)

    @property
    def open(self) -> bool:
        return self.node_open or self.hive_open

    # --- frames -------------------------------------------------------------------------------

    def up(self, message: Any) -> None:
        """A frame from the node to the hive."""
        self._sent_up.append(message)
        if not isinstance(message, Hello | HelloLogs):
            self.node.attacker.hears_node(message)
        self._last_up = self._arrival(self._last_up)
        self.under_way += not isinstance(message, Heartbeat)
        self.world.at(self._last_up - self.world.now, lambda: self._arrives_up(message))

    def down(self, message: Any) -> None:
        """A frame from the hive to the node."""
        self.node.attacker.hears_hive(message)
        self._last_down = self._arrival(self._last_down)
        self.world.at(self._last_down - self.world.now, lambda: self.comes_down(message))

    def _arrival(self, last: float) -> float:
        spike, self._spike = self._spike, 0.0
        return max(last, self.world.now + self.world.soon() + spike)

    def _arrives_up(self, message: Any) -> None:
        self.under_way -= not isinstance(message, Heartbeat)
        if isinstance(message, NeedDone):
            self._done.append(message)
        self.comes_up(message)

    def came(self, done: NeedDone) -> bool:
        """Whether this answer ended on this socket, behind all that belongs to it."""
        return any(one is done for one in self._done)

    def comes_up(self, message: Any) -> None:
        """A frame reaches the hive, whoever sent it."""
        if self.carries_up and self.hive_open and self.hive_end is not None:
            self.hive_end.receive(message)

    def comes_down(self, message: Any) -> None:
        """A frame reaches the node, whoever sent it."""
        if self.carries_down and self.node_open:
            self.node.receive(self, message)

    # --- ends ---------------------------------------------------------------------------------

    def close_node(self) -> None:
        """The node closes; the hive learns of it some time later."""
        if self.node_open:
            self.node_open = False
            self.world.at(self.world.soon() * 4, self._tell_hive)

    def close_hive(self, code: int) -> None:
        """The hive closes; what it sent before still arrives, then the node learns of it."""
        if self.hive_open:
            self.hive_open = False
            arrival = self._arrival(self._last_down)
            self.world.at(arrival - self.world.now, lambda: self._tell_node(code))

    def _tell_hive(self) -> None:
        if self.hive_open:
            self.hive_open = False
            if self.hive_end is not None:
                self.hive_end.closed()

    def _tell_node(self, code: int | None) -> None:
        if self.node_open:
            self.node_open = False
            self.node.closed(self, code)

    # --- faults -------------------------------------------------------------------------------

    def cut(self) -> bool:
        """The network breaks: what is on its way is lost; both ends learn of it, in their time."""
        if not self.carries_up:
            return False
        self.carries_down = False
        self.swallow()
        return True

    def swallow(self) -> None:
        """What the node says is lost, and for a while it does not know."""
        self.carries_up = False
        self.world.at(self.world.random.random() * 2, lambda: self._tell_node(None))
        self.world.at(self.world.random.random() * 8, self._tell_hive)

    def abandon(self) -> bool:
        """The node gives up; what it sent still arrives, and the hive learns of it much later."""
        if not self.node_open or not self.carries_up:
            return False
        self.carries_down = False
        self.world.at(0.0, lambda: self._tell_node(None))
        self.world.at(5 + self.world.random.random() * 30, self._tell_hive)
        self._last_up += self.world.random.random() * 3
        return True

    def duplicate(self) -> bool:
        """A frame of the node arrives twice."""
        if not self._sent_up or not self.hive_open:
            return False
        message = self.world.random.choice(self._sent_up)
        if isinstance(message, Hello | HelloLogs):
            return False
        self.world.at(self.world.soon(), lambda: self.comes_up(message))
        return True

    def delay(self) -> bool:
        """The next frame is late, and all behind it: other sockets overtake this one."""
        self._spike = 1.0 + self.world.random.random() * 6
        return True

    def heal(self) -> None:
        """The faults stop: a broken socket is known to be broken."""
        if not (self.carries_up and self.carries_down):
            self._tell_node(None)
            self._tell_hive()
