"""When to dial the hive again: full jitter, slow after a refusal, fresh after a healthy link.

Pure: randomness and times are arguments.
"""

from dataclasses import dataclass

from protocol import errors, limits

#: Full jitter doubles its range at each failure in a row.
_DOUBLINGS_MAX = 10


@dataclass
class Backoff:
    """How long to wait before the next dial."""

    failures: int = 0
    refused: bool = False
    soon: bool = False

    def closed(self, *, lived_s: float, close_code: int | None) -> None:
        """Take note that a link or a try ended."""
        if lived_s >= limits.LINK_HEALTHY_S:
            self.failures = 0
        self.refused = close_code in errors.REFUSALS
        # A hive that drains or a hole to repair asks for the next dial at once.
        self.soon = close_code in {4410, 4503} and self.failures == 0
        self.failures = min(self.failures + 1, _DOUBLINGS_MAX)

    def wait_s(self, random: float, *, retry_after_s: float = 0.0) -> float:
        """Return the seconds to wait; `random` is from [0, 1)."""
        if self.refused:
            # Half fixed, so that a refused node never hammers; half jitter: a fleet spreads.
            return limits.RECONNECT_REFUSED_S * (0.5 + random / 2)
        if self.soon:
            return retry_after_s + limits.RECONNECT_S_MIN * random
        span: float = min(limits.RECONNECT_S_MAX, limits.RECONNECT_S_MIN * 2**self.failures)
        return max(retry_after_s, limits.RECONNECT_S_MIN * random) + span * random
