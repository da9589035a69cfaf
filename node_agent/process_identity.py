"""Which process is which: a pid alone is reused; boot id, pid and start time together are not.

Reads /proc (another root in tests) and sends no signals. Imports the standard library only, because
the supervisor uses it too. Where there is no /proc a start time is 0 and equals any other.
"""

import contextlib
import os
from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")
#: States of a process that runs no more: zombie and dead.
ENDED_STATES: Final = frozenset("ZXx")


class ProcessIdentity(NamedTuple):
    """A process of one boot; `start_time` is in clock ticks since that boot."""

    boot_id: str
    pid: int
    start_time: int


class ProcessStat(NamedTuple):
    """What /proc/PID/stat says of a process."""

    state: str
    parent_pid: int
    group: int
    start_time: int


def read_boot_id(proc: Path = PROC) -> str:
    """Return the id of this boot; empty where the system has none."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def read_stat(pid: int, proc: Path = PROC) -> ProcessStat | None:
    """Return what the system says of a process, zombies included; None when there is none."""
    try:
        text = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name may hold spaces and parentheses; only numbers follow the last of them.
    fields = text.rpartition(b")")[2].split()
    try:
        return ProcessStat(fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[19]))
    except (IndexError, ValueError):
        return None


def identify(pid: int, proc: Path = PROC) -> ProcessIdentity:
    """Return the identity of a process that is known to exist now."""
    stat = read_stat(pid, proc)
    return ProcessIdentity(read_boot_id(proc), pid, stat.start_time if stat else 0)


def same_process(identity: ProcessIdentity, proc: Path = PROC) -> bool:
    """Whether the very process named is still alive; its zombie is not, nor is a later namesake."""
    if identity.pid <= 0 or identity.boot_id != read_boot_id(proc):
        return False
    if not (proc / "self").exists():
        return _answers(identity.pid)
    stat = read_stat(identity.pid, proc)
    return (
        stat is not None
        and stat.start_time == identity.start_time
        and stat.state not in ENDED_STATES
    )


def find_family(root_pid: int | None, marker: bytes, proc: Path = PROC) -> dict[int, ProcessStat]:
    """Return the living descendants of `root_pid` and every living bearer of `marker`, by pid.

    The tree finds what left its group or session, as long as the root is its subreaper; the marker,
    one `NAME=value` of the environment, finds what left the tree. Neither the root nor the caller
    is ever among them.
    """
    stats: dict[int, ProcessStat] = {}
    with contextlib.suppress(OSError):
        with os.scandir(proc) as entries:
            pids = [int(entry.name) for entry in entries if entry.name.isdecimal()]
        stats.update((pid, stat) for pid in pids if (stat := read_stat(pid, proc)))
    family: set[int | None] = set() if root_pid is None else {root_pid}
    known = -1
    while known < len(family):
        known = len(family)
        family.update(pid for pid, stat in stats.items() if stat.parent_pid in family)
    return {
        pid: stat
        for pid, stat in stats.items()
        if pid not in {root_pid, os.getpid()}
        and stat.state not in ENDED_STATES
        and (pid in family or (marker and _bears(pid, marker, proc)))
    }


def _bears(pid: int, marker: bytes, proc: Path) -> bool:
    try:
        return marker in (proc / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
