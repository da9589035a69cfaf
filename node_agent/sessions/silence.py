"""How long an agent at work has said nothing, and what is due for it. Pure: time is an argument.

Counted from look to look, so that only time counts in which someone was awake to hear the agent: a
machine that slept, a clock that was set and a node agent that was not there are no silence of it.
"""

from typing import Final

#: It is looked at again at least this often; so much of a silence may be lost with its node agent.
LOOK_S: Final = 60.0
#: So much later than it wanted a look may come; where it comes later, nobody was awake in between.
_LATE_S_MAX: Final = 15.0


class Silence:
    """Counts the silence of one agent, from its last word on. 0: no silence is too long."""

    def __init__(self, tell_s: float, stop_s: float = 0.0) -> None:
        self._tell_s = tell_s
        self._stop_s = stop_s
        self._looked_s: float | None = None
        self._silent_s = 0.0
        self._wanted_s = LOOK_S
        self._told = False

    @property
    def silent_s(self) -> float:
        """How long it has been silent, as far as that was seen."""
        return self._silent_s

    def begin(self, now_s: float, *, silent_s: float = 0.0, told: bool = False) -> None:
        """Count from now on: a turn began, the agent spoke, or another node agent had counted."""
        self._looked_s, self._silent_s, self._told = now_s, silent_s, told
        self._wanted_s = self._next_s()

    def heard(self, now_s: float) -> None:
        """The agent said something."""
        if self._looked_s is not None:
            self.begin(now_s)

    def end(self) -> None:
        """The turn is over."""
        self._looked_s = None
        self._silent_s, self._told = 0.0, False

    def told(self) -> None:
        """People were told of it."""
        self._told = True
        self._wanted_s = self._next_s()

    def look(self, now_s: float) -> None:
        """Count the time since it was last looked at, where that was not slept through."""
        if self._looked_s is None:
            return
        passed_s = now_s - self._looked_s
        if 0 < passed_s <= self._wanted_s + _LATE_S_MAX:
            self._silent_s += passed_s
        self._looked_s = now_s
        self._wanted_s = self._next_s()

    def is_to_tell(self) -> bool:
        """Return whether people are to be told of it, as of the last look."""
        return 0 < self._tell_s <= self._silent_s and not self._told

    def is_to_stop(self) -> bool:
        """Return whether the agent is to be stopped for it, as of the last look."""
        return 0 < self._stop_s <= self._silent_s

    def due_s(self) -> float | None:
        """Return in how many seconds to look again; None where that is not needed."""
        if self._looked_s is None or not (self._waits_to_tell or self._stop_s > 0):
            return None
        return self._next_s()

    @property
    def _waits_to_tell(self) -> bool:
        return self._tell_s > 0 and not self._told

    def _next_s(self) -> float:
        left = [LOOK_S]
        if self._waits_to_tell:
            left.append(self._tell_s - self._silent_s)
        if self._stop_s > 0:
            left.append(self._stop_s - self._silent_s)
        return max(0.01, min(left))
