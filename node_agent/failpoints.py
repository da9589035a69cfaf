"""Named points in the program where a test may kill it, to prove what a crash leaves behind.

Names are string literals at their call, so that a test can collect them from the source. In
production nothing is armed and a point costs one comparison.
"""

import os
import signal
from dataclasses import dataclass

from protocol.errors import ErrorCode, SkepError


@dataclass
class _Armed:
    name: str
    passes_left: int


class BadFailpoint(SkepError):  # noqa: N818  names what is wrong, as all our errors do
    """The setting that names a failpoint cannot be read."""


_armed: _Armed | None = None


def arm(spec: str | None) -> None:
    """Arm the failpoint of `name:kill9` or `name:kill9:nth` (the nth pass kills, from 1)."""
    global _armed  # noqa: PLW0603  a process has one failpoint, read once at its start
    if not spec:
        _armed = None
        return
    name, _, rest = spec.partition(":")
    action, _, nth = rest.partition(":")
    if not name or action != "kill9" or (nth and not nth.isdecimal()) or nth == "0":
        raise BadFailpoint(
            ErrorCode.INVALID,
            f"a failpoint cannot be read from {spec!r}",
            hint="Write SKEP_FAILPOINT=name:kill9 or name:kill9:2 for the second pass.",
        )
    _armed = _Armed(name, int(nth or 1))


def failpoint(name: str) -> None:
    """Kill this process here, if this point is armed and its turn has come."""
    if _armed is None or _armed.name != name:
        return
    _armed.passes_left -= 1
    if _armed.passes_left == 0:
        # SIGKILL, not exit: nothing may be flushed, closed or cleaned on the way out.
        os.kill(os.getpid(), signal.SIGKILL)
