"""Waiting until an attempt's work may have changed: its files, and git's own state of them.

Owns which folders are watched: those git does not ignore, and those of HEAD, index and refs. A
change is a hint to look anew, never the truth. Nothing here reads a file's content.
"""

import asyncio
import contextlib
import logging
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from node_agent.git.command import stream_git
from node_agent.git.records import records
from node_agent.git.sources import Source
from node_agent.git.worktrees import Worktree

log = logging.getLogger(__name__)

#: A change is told once nothing else has changed for this long ...
STEP_MS: Final = 100
#: ... or after this, where something changes all the time.
DEBOUNCE_MS: Final = 500
#: Git holds `index.lock` while it switches branches; a lock older than this was left behind.
LOCK_AGE_S_MAX: Final = 10.0
#: More folders than this are looked at from time to time instead of watched.
FOLDERS_MAX: Final = 20_000
#: How often that is, where folders cannot be watched.
LOOK_INTERVAL_S: Final = 2.0
_LOCK_SUFFIX: Final = ".lock"
_IGNORE_FILES: Final = frozenset({".gitignore", "exclude"})


class WorkWatch:
    """Watches what one source is read from. Open it before reading, close it in the end."""

    def __init__(self, source: Source, folders: frozenset[str]) -> None:
        self.source = source
        self._folders = folders
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="watch")
        self._waiting: Future[set[tuple[int, str]] | Literal["signal", "stop", "timeout"]] | None
        self._waiting = None
        self._notify: RustNotify | None = None
        #: Folders appeared, or what git ignores changed: another watch has to take over.
        self.outdated = False

    @classmethod
    async def open(cls, source: Source) -> "WorkWatch":
        """Begin to watch; all that changes from now on is noticed."""
        ignored = frozenset[bytes]()
        if source.worktree is not None:
            ignored = await _ignored_folders(source.worktree)
        watch = cls(source, await asyncio.to_thread(_folders, source, ignored))
        await asyncio.to_thread(watch._begin)
        return watch

    def _begin(self) -> None:
        if len(self._folders) > FOLDERS_MAX:
            log.info("%d folders are too many to watch", len(self._folders))
            return
        try:
            self._notify = RustNotify(sorted(self._folders), False, False, 0, False, True)
        except FileNotFoundError:
            # A folder went away meanwhile; the next watch is without it.
            self.outdated = True
        except (OSError, UnicodeError, WatchfilesRustInternalError) as error:
            # The system's limit of watches, or a file system that tells nothing.
            log.info("work is looked at from time to time, because it cannot be watched: %s", error)

    def is_of(self, source: Source) -> bool:
        """Whether it still watches all that `source` is read from."""
        return not self.outdated and self.source.worktree == source.worktree

    async def changed(self, timeout_s: float) -> bool:
        """Wait for a change, at most so long; True where it is time to look anew."""
        if self.outdated:
            return True
        if self._notify is None:
            await asyncio.sleep(min(timeout_s, LOOK_INTERVAL_S))
            return True
        until = time.monotonic() + timeout_s
        while (left_s := until - time.monotonic()) > 0:
            if self._is_news(await self._events(self._notify, left_s)):
                await self._settled(self._notify)
                return True
        return False

    async def aclose(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._waiting is not None:
            with contextlib.suppress(Exception):
                await asyncio.wrap_future(self._waiting)
        self._thread.shutdown(wait=False)
        if self._notify is not None:
            self._notify.close()

    async def _events(self, notify: RustNotify, timeout_s: float) -> set[tuple[int, str]]:
        if self._waiting is None:
            self._waiting = self._thread.submit(
                notify.watch, DEBOUNCE_MS, STEP_MS, max(1, int(timeout_s * 1000)), self._stop
            )
        # Shielded: whoever is cancelled here still has to wait for the thread, in `aclose`.
        found = await asyncio.shield(asyncio.wrap_future(self._waiting))
        self._waiting = None
        return found if isinstance(found, set) else set()

    def _is_news(self, events: set[tuple[int, str]]) -> bool:
        news = False
        for _, path in events:
            if path.endswith(_LOCK_SUFFIX):
                continue
            news = True
            name = path.rpartition("/")[2]
            if name in _IGNORE_FILES or (path not in self._folders and Path(path).is_dir()):
                self.outdated = True
        return news

    async def _settled(self, notify: RustNotify) -> None:
        """Wait while git is about to replace the index: what it does is one change."""
        worktree = self.source.worktree
        if worktree is None:
            return
        lock = worktree.git_dir / f"index{_LOCK_SUFFIX}"
        while _is_fresh(lock):
            self._is_news(await self._events(notify, STEP_MS / 1000))


async def _ignored_folders(worktree: Worktree) -> frozenset[bytes]:
    """The folders that git ignores as a whole, as absolute paths."""
    worktree.check_there()
    top = os.fsencode(worktree.path)
    async with stream_git(
        worktree.path,
        "ls-files",
        "--others",
        "--ignored",
        "--exclude-standard",
        "--directory",
        "-z",
        env=worktree.environment,
    ) as pieces:
        return frozenset(
            [
                top + b"/" + path.removesuffix(b"/")
                async for path in records(pieces)
                if path.endswith(b"/")
            ]
        )


def _folders(source: Source, ignored: frozenset[bytes]) -> frozenset[str]:
    """Every folder in which something may change that the diff shows."""
    found: list[bytes] = []
    common = os.fsencode(source.repository.common_dir)
    for top in (common + b"/refs", common + b"/reftable"):
        found += _beneath(top, frozenset())
    found += [place for place in (common, common + b"/info") if os.path.isdir(place)]  # noqa: PTH112
    if source.worktree is not None:
        found.append(os.fsencode(source.worktree.git_dir))
        found += _beneath(os.fsencode(source.worktree.path), ignored)
    return frozenset(os.fsdecode(folder) for folder in found)


def _beneath(top: bytes, ignored: frozenset[bytes]) -> list[bytes]:
    """`top` and the folders below it, without git's own and without repositories of their own."""
    found: list[bytes] = []
    waiting = [top]
    while waiting and len(found) <= FOLDERS_MAX:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                names = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        except OSError:
            continue
        if folder != top and b".git" in names:
            # Of a repository within, only its being there shows.
            continue
        found.append(folder)
        waiting += [
            folder + b"/" + name
            for name, is_folder in names.items()
            if is_folder and name != b".git" and folder + b"/" + name not in ignored
        ]
    return found


def _is_fresh(lock: Path) -> bool:
    try:
        # Wall clock against wall clock: a lock's age is all there is to tell its owner by.
        return abs(time.time() - lock.lstat().st_mtime) < LOCK_AGE_S_MAX
    except OSError:
        return False
