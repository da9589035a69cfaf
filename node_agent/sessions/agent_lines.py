"""An agent's output cut into lines as it is read, with the place where the next one begins. Pure.

What comes of stderr, or cannot be a line, is passed over. Must not read nor understand anything.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from node_agent.spool import Frame, SpoolGap, SpoolPosition
from node_agent.spool_frames import STDERR, STDOUT
from node_agent.store.conversations import Reach
from protocol.limits import MIB

#: What the agents' own protocol library takes for one line.
LINE_BYTES_MAX: Final = 50 * MIB
BEGINNING: Final = Reach()


class Missing(NamedTuple):
    """Output stands here that nobody can read as lines: how much, and why."""

    reason: str
    size_bytes: int


class AgentLines:
    """Cuts lines out of what a spool reader returns, from where `reach` says."""

    def __init__(self, reach: Reach = BEGINNING, bytes_max: int = LINE_BYTES_MAX) -> None:
        #: Where the next line begins.
        self.reach = reach
        self._bytes_max = bytes_max
        self._begun = bytearray()
        #: What of a line was passed over because it cannot be whole any more; None: none is.
        self._passed_bytes: int | None = None
        self._reason = ""

    def take(
        self, position: SpoolPosition, pieces: Iterable[Frame | SpoolGap]
    ) -> list[bytes | Missing]:
        """Return the lines that are whole now, without their ends; `position` is the read's."""
        found: list[bytes | Missing] = []
        for piece in pieces:
            if isinstance(piece, SpoolGap):
                self._gap(piece)
            elif piece.stream == STDERR:
                after = piece.stream_offset + len(piece.data)
                self.reach = self.reach._replace(stderr_bytes=after)
            elif piece.stream == STDOUT:
                self._frame(piece, position, found)
        return found

    def pass_over(self, position: SpoolPosition, pieces: Iterable[Frame | SpoolGap]) -> None:
        """Take nothing of this in: nobody listens any more, however much is printed."""
        self._passed_bytes = None
        for piece in pieces:
            if isinstance(piece, SpoolGap):
                self.reach = self.reach._replace(
                    stderr_bytes=self.reach.stderr_bytes + piece.stderr_bytes
                )
                self._begin_at(self.reach.stdout_bytes + piece.stdout_bytes, position)
            elif piece.stream == STDERR:
                after = piece.stream_offset + len(piece.data)
                self.reach = self.reach._replace(stderr_bytes=after)
            elif piece.stream == STDOUT:
                self._begin_at(piece.stream_offset + len(piece.data), position)

    def rest(self) -> list[bytes | Missing]:
        """Return what stands behind the last line's end, once nothing more will come."""
        if self._passed_bytes is not None:
            missing = self._missing(b"")
            after = self.reach.stdout_bytes + missing.size_bytes
            self._begin_at(after, SpoolPosition(*self.reach[:2]))
            return [missing]
        if not self._begun:
            return []
        line = bytes(self._begun)
        self._begin_at(self.reach.stdout_bytes + len(line), SpoolPosition(*self.reach[:2]))
        return [line]

    def _frame(self, frame: Frame, position: SpoolPosition, found: list[bytes | Missing]) -> None:
        at = 0
        while (end := frame.data.find(b"\n", at)) >= 0:
            piece = frame.data[at:end]
            if self._passed_bytes is not None:
                found.append(self._missing(piece))
            elif len(self._begun) + len(piece) > self._bytes_max:
                self._pass("too_long", len(self._begun))
                found.append(self._missing(piece))
            elif self._begun:
                found.append(bytes(self._begun) + piece)
                self._begun.clear()
            else:
                found.append(piece)
            at = end + 1
        if at:
            self._begin_at(frame.stream_offset + at, position)
        rest = frame.data[at:]
        if self._passed_bytes is not None:
            self._passed_bytes += len(rest)
        elif len(self._begun) + len(rest) > self._bytes_max:
            self._pass("too_long", len(self._begun) + len(rest))
        else:
            if not self._begun:
                self._begin_at(frame.stream_offset + at, position)
            self._begun += rest

    def _gap(self, gap: SpoolGap) -> None:
        """Pass over what is missing, and the line it tore: up to the next line's end."""
        if gap.stderr_bytes:
            after = self.reach.stderr_bytes + gap.stderr_bytes
            self.reach = self.reach._replace(stderr_bytes=after)
        if gap.stdout_bytes:
            begun = len(self._begun) if self._passed_bytes is None else self._passed_bytes
            self._pass(gap.reason, begun + gap.stdout_bytes)

    def _pass(self, reason: str, size_bytes: int) -> None:
        self._reason, self._passed_bytes = reason, size_bytes
        self._begun.clear()

    def _missing(self, piece: bytes) -> Missing:
        missing = Missing(self._reason, (self._passed_bytes or 0) + len(piece))
        self._passed_bytes = None
        return missing

    def _begin_at(self, stdout_bytes: int, position: SpoolPosition) -> None:
        self._begun.clear()
        self.reach = self.reach._replace(
            segment=position.segment, offset=position.offset, stdout_bytes=stdout_bytes
        )
