"""How long a command that follows something waits for a hive or node that is away. Pure.

Owns which errors pass by themselves. Time is an argument, and sleeping is for who asks.
"""

from collections.abc import Collection
from typing import Final

from protocol.errors import ErrorCode, SkepError

#: What it may wait for a hive or node that is away before it gives up.
AWAY_S_MAX: Final = 15 * 60.0
_RETRY_S_MIN: Final = 0.2
_RETRY_S_MAX: Final = 5.0
#: Errors that pass by themselves.
PASSING: Final = frozenset(
    {
        ErrorCode.HIVE_OFFLINE,
        ErrorCode.NODE_OFFLINE,
        ErrorCode.DRAINING,
        ErrorCode.SLOW_DOWN,
        ErrorCode.DEADLINE_PASSED,
        ErrorCode.INTERNAL,
    }
)


class Patience:
    """What one command has left of it. `besides`: errors that pass for this command alone."""

    def __init__(self, besides: Collection[ErrorCode] = ()) -> None:
        self._passing = PASSING.union(besides)
        self._away_since_s: float | None = None
        self._retry_s = _RETRY_S_MIN

    def answered(self) -> None:
        """Take up a sign of life: what goes wrong next is new."""
        self._away_since_s, self._retry_s = None, _RETRY_S_MIN

    def next_wait_s(self, error: SkepError, now_s: float) -> float:
        """Return how long to wait before another try; raise `error` where none would help."""
        if error.code not in self._passing:
            raise error
        if self._away_since_s is None:
            self._away_since_s = now_s
        if now_s - self._away_since_s > AWAY_S_MAX:
            raise error
        wait_s, self._retry_s = self._retry_s, min(self._retry_s * 2, _RETRY_S_MAX)
        return wait_s
