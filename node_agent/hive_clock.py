"""The hive's clock, as this node last heard of it, carried on by a clock that nobody sets.

What the hive signs is judged by its time; this machine's wall clock may be wrong, or jump, at any
moment. The hive's word may have been on its way for long, or have waited while the machine slept:
it bounds the time, and sets it only where what was reckoned lies outside. Must not be told of
anything but the hive's own word.
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

    def steady_s(self) -> float:
        """Return the time of the clock that nobody sets."""
        return self._steady_s()

    def heard(self, hive_time_ms: int, *, asked_at_s: float) -> None:
        """The hive said that it is this time, at some moment since `asked_at_s` of `steady_s`."""
        now_s = self._steady_s()
        earliest_s = hive_time_ms / 1000
        latest_s = earliest_s + now_s - asked_at_s
        reckoned_s = earliest_s if self._heard is None else self.now_s()
        self._heard = (min(max(reckoned_s, earliest_s), latest_s), now_s)

    def now_s(self) -> float:
        """Return the hive's time."""
        if self._heard is None:
            return self._wall_s()
        said_s, at_s = self._heard
        return said_s + self._steady_s() - at_s
