"""Whether an agent at work has been silent for too long. Pure: the time is an argument."""

from typing import Final

#: So soon it is looked at again whether a silent agent still waits for a person.
_AGAIN_S: Final = 5.0


class Silence:
    """Counts how long an agent said nothing in a turn; told of once, until it speaks again."""

    def __init__(self, limit_s: float) -> None:
        #: 0: no silence is too long.
        self._limit_s = limit_s
        self._since_s: float | None = None
        self._told = False

    def begin(self, now_s: float) -> None:
        """A turn began, or goes on after this was made."""
        self._since_s, self._told = now_s, False

    def heard(self, now_s: float) -> None:
        """The agent said something."""
        if self._since_s is not None:
            self.begin(now_s)

    def end(self) -> None:
        """The turn is over."""
        self._since_s = None

    def told(self) -> None:
        """It was told of."""
        self._told = True

    def is_due(self, now_s: float) -> bool:
        """Return whether it is to be told of now."""
        if self._since_s is None or self._told or self._limit_s <= 0:
            return False
        return now_s - self._since_s >= self._limit_s

    def due_s(self, now_s: float) -> float | None:
        """Return in how many seconds to look again; None where that is not needed."""
        if self._since_s is None or self._told or self._limit_s <= 0:
            return None
        left_s = self._limit_s - (now_s - self._since_s)
        return left_s if left_s > 0 else _AGAIN_S
