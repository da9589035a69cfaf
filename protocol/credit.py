"""Flow control of logs, fetched history and streamed replies: how many bytes may be on their way.

A credit is a running total for one link: all bytes received and settled, plus a window. The node
may begin a chunk while any credit is left, so a chunk larger than what is left never starves.
"""

from protocol import limits
from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.log_chunks import GapChunk, LogChunk
from protocol.messages import Credit, Fetched, Records


def cost(message: LogChunk | GapChunk | Fetched | Records) -> int:
    """Return the bytes a frame takes of the credit: blobs and record bodies; gaps are free."""
    match message:
        case LogChunk():
            return len(message.blob)
        case GapChunk():
            return 0
        case Fetched():
            return cost(message.chunk)
        case Records():
            return sum(len(record.body) for record in message.records)


class CreditSpent:
    """The node's side: what was granted, what was sent."""

    def __init__(self) -> None:
        self.total = 0
        self.sent = 0

    @property
    def left(self) -> int:
        return self.total - self.sent

    def granted(self, total: int) -> None:
        # Totals only grow on one link; an older one that arrives late changes nothing.
        self.total = max(self.total, total)

    def spend(self, nbytes: int) -> None:
        self.sent += nbytes


class CreditGranted:
    """The hive's side: what came, what is settled (stored, ignored or dropped), the window."""

    def __init__(self) -> None:
        self.received = 0
        self.settled = 0
        self.window = limits.CREDIT_WINDOW_BYTES_FIRST
        self.told = self.window

    @property
    def total(self) -> int:
        return self.settled + self.window

    def take(self, nbytes: int) -> None:
        """Account for bytes that arrived. Raises RemoteProtocolError where none were allowed."""
        if nbytes and self.received >= self.told:
            raise RemoteProtocolError(
                ErrorCode.BAD_FRAME,
                "a chunk was begun with no credit left",
                received=self.received,
                granted=self.told,
            )
        self.received += nbytes

    def settle(self, nbytes: int) -> None:
        self.settled += nbytes

    def measure(self, round_trip_ms: float) -> None:
        """Fit the window to the control round trip just measured."""
        if round_trip_ms > limits.CONTROL_ROUND_TRIP_MS_MAX:
            self.window = max(limits.CREDIT_WINDOW_BYTES_FIRST, self.window // 2)
        elif round_trip_ms <= limits.FAST_ROUND_TRIP_MS_MAX:
            self.window = min(limits.CREDIT_WINDOW_BYTES_FAST_MAX, self.window * 2)
        else:
            # A link slowed from fast to fair shrinks no further than what is fair.
            self.window = min(limits.CREDIT_WINDOW_BYTES_MAX, self.window * 2)

    def next_grant(self) -> Credit | None:
        """Return a grant worth telling: one that moves by a quarter of the window or more."""
        if self.total - self.told < self.window // 4:
            return None
        self.told = self.total
        return Credit(total=self.told)

    def repeat(self) -> int:
        """Return the total for a welcome or a heartbeat's reply."""
        self.told = max(self.told, self.total)
        return self.told


class PartWindow:
    """The hive's side of one streamed reply: what its reader took, and what may come.

    A control frame of the node waits behind what is on its way. So no more of a reply is, than the
    link carries in `PART_DELAY_MS` beyond its own round trip.
    """

    def __init__(self, round_trip_ms: float | None = None) -> None:
        within_ms = min(round_trip_ms or 0.0, limits.CONTROL_ROUND_TRIP_MS_MAX)
        self._within_s = (within_ms + limits.PART_DELAY_MS) / 1000
        self.window = limits.PART_WINDOW_BYTES_FIRST
        self.told = self.window
        self.taken = 0
        self._measured: tuple[float, int] | None = None

    def take(self, nbytes: int, now_s: float) -> int | None:
        """Account for bytes the reader took; return the total the node may send, where worth it."""
        self.taken += nbytes
        if self.taken + self.window - self.told < self.window // 2:
            return None
        if self._measured is not None:
            self._fit(now_s - self._measured[0], self.taken - self._measured[1])
        self._measured = (now_s, self.taken)
        # After a shrinking less is granted, never taken back.
        self.told = max(self.told, self.taken + self.window)
        return self.told

    def _fit(self, passed_s: float, nbytes: int) -> None:
        carried = nbytes * self._within_s / passed_s if passed_s > 0 else float("inf")
        self.window = int(
            min(limits.PART_WINDOW_BYTES_MAX, max(limits.PART_WINDOW_BYTES_FIRST, carried))
        )
