"""The hive's clock, as this node last heard of it, carried on by a clock that nobody sets.

What the hive signs is judged by its time; this machine's wall clock may be wrong, or jump, at any
moment. Must not be told of anything but the hive's own word.
"""

import time
from collections.abc import Callable
from typing import Final

#: Counts on while the machine sleeps, where there is such a clock.
CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _steady_s() -> float:
    return time.clock_gettime(CLOCK)


class HiveClock:
    """Tells the hive's time; this machine's own until the hive was heard."""

    def __init__(
        self, steady_s: Callable[[], float] = _steady_s, wall_s: Callable[[], float] = time.time
    ) -> None:
        self._steady_s = steady_s
        self._wall_s = wall_s
        self._heard: tuple[float, float] | None = None

    def asking_s(self) -> float:
        """Return what `heard` wants to know of the moment at which the hive is asked."""
        return self._steady_s()

    def heard(self, hive_time_ms: int, asked_s: float) -> None:
        """The hive said, at some time since it was asked, that it was this time.

        By now it is that or more, by the time its word may have been under way at most. What was
        known stays where it fits in there: a word that comes late does not set the clock back.
        """
        at_s, said_s = self._steady_s(), hive_time_ms / 1000
        known_s = said_s if self._heard is None else self.now_s()
        self._heard = (min(max(known_s, said_s), said_s + at_s - asked_s), at_s)

    def now_s(self) -> float:
        """Return the hive's time."""
        if self._heard is None:
            return self._wall_s()
        said_s, at_s = self._heard
        return said_s + self._steady_s() - at_s
