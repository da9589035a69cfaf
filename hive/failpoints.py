"""Named places where a test may have this process die, to prove that dying there loses nothing.

Owns which one is armed. Must not read the environment: `config` does, and the entry point arms.
"""

import os
import signal
from typing import Final

#: What `arm` takes: `name:kill9`, or `name:kill9:3` for the third time the place is passed.
ACTION: Final = "kill9"


class _Armed:
    """The one armed place, if any."""

    __slots__ = ("left", "name")

    def __init__(self) -> None:
        self.name: str | None = None
        self.left = 0


_armed = _Armed()


def arm(spec: str | None) -> None:
    """Arm the place that `spec` names; None disarms. Raises ValueError for anything else."""
    if spec is None:
        _armed.name = None
        return
    name, _, rest = spec.partition(":")
    action, _, nth = rest.partition(":")
    if not name or action != ACTION or (nth and not nth.isdigit()):
        raise ValueError(f"a failpoint reads NAME:{ACTION}[:NTH], not {spec!r}")
    _armed.name, _armed.left = name, int(nth or 1)


def failpoint(name: str) -> None:
    """Die here, at once and without a word, if this place is armed."""
    if _armed.name is None:
        return
    if _armed.name == name:
        _armed.left -= 1
        if _armed.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
