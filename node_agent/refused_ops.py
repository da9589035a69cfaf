"""Finds the op that a hive refuses, so that one bad op cannot hold up all behind it for ever.

Pure. After a frame was refused, ops go one at a time; one that is refused three times is named, and
the journal puts `withheld` under its number.
"""

from typing import Final

from protocol import limits
from protocol.errors import MEANINGS, ErrorCode

_BAD_FRAME: Final = MEANINGS[ErrorCode.BAD_FRAME].close_code
_REFUSALS_MAX: Final = 3

OpPlace = tuple[int, int]


class RefusedOps:
    """What the closes of links say about the ops that were under way."""

    def __init__(self) -> None:
        #: Whether ops are to go one at a time.
        self.singly = False
        self._refusals: dict[OpPlace, int] = {}

    def closed(
        self, *, close_code: int | None, lived_s: float, under_way: OpPlace | None
    ) -> OpPlace | None:
        """Take note of a link's end; return the (epoch, seq) of an op to withhold, if any.

        `under_way` is the first op that was sent and not acknowledged.
        """
        if close_code != _BAD_FRAME:
            if lived_s >= limits.LINK_HEALTHY_S:
                self.singly = False
                self._refusals.clear()
            return None
        if under_way is None:
            return None
        if not self.singly:
            # It may be any op of the frame, or something else: the next links tell.
            self.singly = True
            return None
        count = self._refusals.get(under_way, 0) + 1
        self._refusals = {under_way: count}
        if count < _REFUSALS_MAX:
            return None
        self._refusals.clear()
        return under_way
