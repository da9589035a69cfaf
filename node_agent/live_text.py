"""What agents are just writing, on its way to those who look: joined, paced, dropped when too much.

Owns what waits for the link. Must not keep anything: the message itself is an op. Pure.
"""

from typing import Final

import msgspec

from protocol import limits
from protocol.messages import LiveText

_INTERVAL_S: Final = 1.0 / limits.LIVE_TEXT_PER_S_MAX


class LiveTextQueue:
    """Pieces that wait for one link. Those that follow each other in a message travel as one."""

    def __init__(self) -> None:
        self._waiting: list[LiveText] = []
        self._nbytes = 0
        self._next_s = 0.0

    def put(self, piece: LiveText) -> bool:
        """Take a piece in; False where there is no room, and it is dropped."""
        nbytes = _size(piece.text)
        if nbytes > limits.LIVE_TEXT_BYTES_MAX:
            return self._put_parts(piece)
        if self._nbytes + nbytes > limits.LIVE_TEXT_WAITING_BYTES_MAX:
            return False
        self._nbytes += nbytes
        before = self._waiting[-1] if self._waiting else None
        if before is not None and _follows(before, piece) and _fits(before, nbytes):
            self._waiting[-1] = msgspec.structs.replace(before, text=before.text + piece.text)
        else:
            self._waiting.append(piece)
        return True

    def _put_parts(self, piece: LiveText) -> bool:
        # A character has at most four bytes.
        step = limits.LIVE_TEXT_BYTES_MAX // 4
        starts = range(0, len(piece.text), step)
        return all(
            self.put(
                msgspec.structs.replace(
                    piece, at=piece.at + start, text=piece.text[start : start + step]
                )
            )
            for start in starts
        )

    def take(self, now_s: float) -> LiveText | None:
        """Return the next piece, where there is one and it is time."""
        if not self._waiting or now_s < self._next_s:
            return None
        self._next_s = now_s + _INTERVAL_S
        piece = self._waiting.pop(0)
        self._nbytes -= _size(piece.text)
        return piece

    def due_in_s(self, now_s: float) -> float | None:
        """Return in how many seconds `take` has something; None where nothing waits."""
        return max(0.0, self._next_s - now_s) if self._waiting else None


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _follows(before: LiveText, piece: LiveText) -> bool:
    same = (before.session_id, before.message_id) == (piece.session_id, piece.message_id)
    return same and before.at + len(before.text) == piece.at


def _fits(before: LiveText, nbytes: int) -> bool:
    return _size(before.text) + nbytes <= limits.LIVE_TEXT_BYTES_MAX
