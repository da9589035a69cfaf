"""Slows down those who guess: after so many failures in a minute an address is not heard."""

import collections
import time
from collections.abc import Callable
from typing import Final

from protocol.errors import ErrorCode, SkepError

_WINDOW_S: Final = 60.0
#: Addresses remembered; beyond it the one that failed longest ago is forgotten.
_ADDRESSES_MAX: Final = 10_000


class FailureLimit:
    """Counts failures by address. What succeeds is never counted."""

    def __init__(self, failures_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures_max = failures_max
        self._clock = clock
        self._failures: collections.OrderedDict[str, collections.deque[float]] = (
            collections.OrderedDict()
        )

    def check(self, address: str) -> None:
        """Raise SLOW_DOWN where this address has failed too often in the last minute."""
        recent = self._recent(address)
        if recent is not None and len(recent) >= self._failures_max:
            wait_s = max(1, int(recent[0] + _WINDOW_S - self._clock()) + 1)
            raise SkepError(
                ErrorCode.SLOW_DOWN,
                f"{len(recent)} failures from {address} in a minute",
                hint=f"Try again in {wait_s} s.",
                retry_after_s=wait_s,
            )

    def failed(self, address: str) -> None:
        """Count a failure."""
        recent = self._failures.setdefault(
            address, collections.deque(maxlen=max(1, self._failures_max))
        )
        recent.append(self._clock())
        self._failures.move_to_end(address)
        if len(self._failures) > _ADDRESSES_MAX:
            self._failures.popitem(last=False)

    def _recent(self, address: str) -> collections.deque[float] | None:
        recent = self._failures.get(address)
        if recent is None:
            return None
        since = self._clock() - _WINDOW_S
        while recent and recent[0] <= since:
            recent.popleft()
        if not recent:
            del self._failures[address]
            return None
        return recent
