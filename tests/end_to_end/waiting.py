"""Waiting for another process, with a deadline and a name for what was waited for.

Must not sleep in place of looking: every wait ends as soon as what it waits for holds.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Two cores are shared by several hives and nodes at a time; nothing healthy comes near this.
WITHIN_S = 60.0
_LOOK_S = 0.02
_LOOK_S_MAX = 0.25


class NotInTimeError(AssertionError):
    """What was waited for did not come; `last` is what was seen instead."""

    def __init__(self, what: str, within_s: float, last: object) -> None:
        super().__init__(f"not within {within_s:g} s: {what}; last seen: {last!r}"[:4000])
        self.what = what
        self.last = last


def until(
    look: Callable[[], T],
    what: str,
    *,
    holds: Callable[[T], object] = bool,
    within_s: float = WITHIN_S,
) -> T:
    """Look until what is seen holds, and return it; raises NotInTimeError naming `what`."""
    deadline_s = time.monotonic() + within_s
    look_s = _LOOK_S
    while True:
        seen = look()
        if holds(seen):
            return seen
        if time.monotonic() > deadline_s:
            raise NotInTimeError(what, within_s, seen)
        time.sleep(look_s)
        look_s = min(look_s * 1.2, _LOOK_S_MAX)
