"""So much of one thing in a minute and no more, for each who does it: failures, new links."""

import collections
import time
from collections.abc import Callable
from typing import Final

from protocol.errors import ErrorCode, SkepError

_WINDOW_S: Final = 60.0
#: How many are remembered; beyond it the one that was counted longest ago is forgotten.
_REMEMBERED_MAX: Final = 10_000


class MinuteLimit:
    """Counts `what` by who does it. Must not decide what is worth counting: its user does."""

    def __init__(
        self, what: str, times_max: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what = what
        self._times_max = times_max
        self._clock = clock
        self._times: collections.OrderedDict[str, collections.deque[float]] = (
            collections.OrderedDict()
        )

    def check(self, who: str) -> None:
        """Raise SLOW_DOWN where as much as is allowed was counted within the last minute."""
        recent = self._recent(who)
        if recent is not None and len(recent) >= self._times_max:
            wait_s = max(1, int(recent[0] + _WINDOW_S - self._clock()) + 1)
            raise SkepError(
                ErrorCode.SLOW_DOWN,
                f"{len(recent)} {self._what} of {who} in a minute",
                hint=f"Try again in {wait_s} s.",
                retry_after_s=wait_s,
            )

    def count(self, who: str) -> None:
        """Count one more."""
        times = self._times.setdefault(who, collections.deque(maxlen=max(1, self._times_max)))
        times.append(self._clock())
        self._times.move_to_end(who)
        if len(self._times) > _REMEMBERED_MAX:
            self._times.popitem(last=False)

    def _recent(self, who: str) -> collections.deque[float] | None:
        recent = self._times.get(who)
        if recent is None:
            return None
        since = self._clock() - _WINDOW_S
        while recent and recent[0] <= since:
            recent.popleft()
        if not recent:
            del self._times[who]
            return None
        return recent
