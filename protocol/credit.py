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


class Pace:
    """How wide a window a link is worth: what it carries in its round trip and a little more.

    Control frames wait behind what is on its way, so a window may add `WINDOW_DELAY_MS` of the
    link's time to them, with `beyond`, the bytes that may be on their way past it. A sender that
    has little to send shows little, and gets the narrowest.
    """

    def __init__(
        self,
        first: int,
        *,
        narrowest: int,
        widest: int,
        beyond: int = 0,
        round_trip_ms: float | None = None,
    ) -> None:
        self.window = first
        self._narrowest = narrowest
        self._widest = widest
        self._beyond = beyond
        self._round_trip_ms = round_trip_ms
        self._measured: tuple[float, int] | None = None

    def round_trip(self, milliseconds: float) -> None:
        """Take in a control round trip; the shortest is the link's own, the rest is waiting."""
        known = self._round_trip_ms
        self._round_trip_ms = milliseconds if known is None else min(known, milliseconds)

    def carried(self, total: int, now_s: float) -> None:
        """Fit the window to what came since the last time; `total` bytes came so far."""
        if self._measured is None:
            self._measured = (now_s, total)
            return
        passed_s = now_s - self._measured[0]
        # What waited for one commit ends at one moment: so short a time says nothing of the link.
        if passed_s < limits.WINDOW_FIT_MS_MIN / 1000:
            return
        within_ms = min(self._round_trip_ms or 0.0, limits.CONTROL_ROUND_TRIP_MS_MAX)
        within_s = (within_ms + limits.WINDOW_DELAY_MS) / 1000
        fitting = (total - self._measured[1]) * within_s / passed_s - self._beyond
        self.window = int(min(self._widest, max(self._narrowest, fitting)))
        self._measured = (now_s, total)


class CreditGranted:
    """The hive's side: what came, what is settled (stored, ignored or dropped), the window."""

    def __init__(self) -> None:
        self.received = 0
        self.settled = 0
        self.pace = Pace(
            limits.CREDIT_WINDOW_BYTES_FIRST,
            narrowest=limits.CREDIT_WINDOW_BYTES_MIN,
            widest=limits.CREDIT_WINDOW_BYTES_MAX,
            # What may begin on the last byte of the window.
            beyond=limits.CHUNK_BLOB_BYTES_MAX,
        )
        self.told = self.pace.window

    @property
    def total(self) -> int:
        return self.settled + self.pace.window

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

    def settle(self, nbytes: int, now_s: float) -> None:
        self.settled += nbytes
        self.pace.carried(self.settled, now_s)

    def next_grant(self) -> Credit | None:
        """Return a grant worth telling: one that moves by a quarter of the window or more."""
        if self.total - self.told < self.pace.window // 4:
            return None
        self.told = self.total
        return Credit(total=self.told)

    def repeat(self) -> int:
        """Return the total for a welcome or a heartbeat's reply."""
        self.told = max(self.told, self.total)
        return self.told


class PartWindow:
    """The hive's side of one streamed reply: what its reader took, and what may come."""

    def __init__(self, round_trip_ms: float | None = None) -> None:
        self.pace = Pace(
            limits.PART_WINDOW_BYTES_FIRST,
            narrowest=limits.PART_WINDOW_BYTES_FIRST,
            widest=limits.PART_WINDOW_BYTES_MAX,
            round_trip_ms=round_trip_ms,
        )
        self.told = self.pace.window
        self.taken = 0

    def take(self, nbytes: int, now_s: float) -> int | None:
        """Account for bytes the reader took; return the total the node may send, where worth it."""
        self.taken += nbytes
        if self.taken + self.pace.window - self.told < self.pace.window // 2:
            return None
        self.pace.carried(self.taken, now_s)
        # After a shrinking less is granted, never taken back.
        self.told = max(self.told, self.taken + self.pace.window)
        return self.told
