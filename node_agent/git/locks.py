"""One lock for each repository, so that two of our own changes to it never meet.

A lock lives only as long as someone holds it or waits for it. Git's own lock files stand between
us and other programs; they are not replaced by this.
"""

import asyncio
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

_LOCKS: Final[WeakValueDictionary[str, asyncio.Lock]] = WeakValueDictionary()


def repository_lock(common_dir: Path) -> asyncio.Lock:
    """Return the lock of the repository whose shared git folder this is; for `async with`."""
    key = str(common_dir.resolve())
    # The local name keeps a new lock alive until the caller has it.
    lock = _LOCKS.get(key)
    if lock is None:
        lock = _LOCKS[key] = asyncio.Lock()
    return lock
