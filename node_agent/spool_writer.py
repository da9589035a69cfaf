"""The writing end of the spool: appends frames, rolls and syncs segments, keeps within the quota.

Part of the supervisor: the standard library only. Must never wait for a full disk nor for a slow
sync: what cannot be written is counted, and told of by a gap frame as soon as there is room.
"""

import contextlib
import errno
import json
import os
import queue
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from node_agent.run_folder import segment_name, sync_folder
from node_agent.spool_frames import GAP, STDERR, STDOUT, frame_header

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Held:
    """What a file of the spool holds, or would: size; of each stream [from, to, newlines].

    Newlines are counted of what may become a gap; see `SpoolWriter`.
    """

    __slots__ = ("size_bytes", "streams", "through")

    def __init__(self) -> None:
        self.size_bytes = 0
        self.streams: dict[int, list[int]] = {}
        #: Of a gap in the place of whole segments: the last of them.
        self.through: int | None = None

    def add(self, stream: int, start: int, end: int, newlines: int) -> None:
        held = self.streams.setdefault(stream, [start, end, 0])
        held[0] = min(held[0], start)
        held[1] = max(held[1], end)
        held[2] += newlines

    def merge(self, other: "Held") -> None:
        for stream, (start, end, newlines) in other.streams.items():
            self.add(stream, start, end, newlines)

    def gap(self, reason: str) -> bytes:
        """Return the payload of the frame that stands for all this."""
        record: dict[str, object] = {"reason": reason, "streams": self.streams}
        if self.through is not None:
            record["through"] = self.through
        return json.dumps(record).encode()


class SegmentSyncing:
    """Syncs segments in a thread of its own, so that a slow disk does not stop the reading."""

    def __init__(self, folder: Path) -> None:
        self.failure = ""
        self._folder = folder
        self._idle = threading.Event()
        self._idle.set()
        self._wanted: queue.SimpleQueue[tuple[int, ...]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, segments: Iterable[int]) -> bool:
        """Have these synced; False while the ones before them still are."""
        if not self._idle.is_set():
            return False
        if self._thread is None:
            # A daemon: a disk that hangs must not keep the supervisor from ending.
            thread = threading.Thread(target=self._run, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The user has as many threads as the system allows; slower, then.
                self._sync(segments)
                return True
            self._thread = thread
        self._idle.clear()
        self._wanted.put(tuple(segments))
        return True

    def finish(self, segments: Iterable[int]) -> None:
        """Return when these and all before them are on disk."""
        self._idle.wait()
        self._sync(segments)

    def _run(self) -> None:
        while True:
            self._sync(self._wanted.get())
            self._idle.set()

    def _sync(self, segments: Iterable[int]) -> None:
        # After a failed sync the kernel may count lost pages as clean: a second proves nothing.
        if self.failure:
            return
        try:
            for number in segments:
                with contextlib.suppress(FileNotFoundError):
                    _sync_file(self._folder / segment_name(number))
            sync_folder(self._folder)
        except OSError as error:
            self.failure = f"sync failed: {error.strerror}"


class SpoolWriter:
    """The segments of one execution; see the module."""

    def __init__(
        self, folder: Path, *, quota_bytes: int, segment_bytes: int, sync_s: float
    ) -> None:
        #: Rises with every frame; what a reader waits for.
        self.written_bytes = 0
        #: Bytes on disk, not yet consumed.
        self.kept_bytes = 0
        #: Of each stream, all that was printed, in bytes.
        self.totals = {STDOUT: 0, STDERR: 0}
        self.current = -1
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._segment_bytes = segment_bytes
        self._sync_s = sync_s
        self._segments: dict[int, Held] = {}
        self._syncing = SegmentSyncing(folder)
        self._fd = -1
        self._dirty: set[int] = set()
        self._has_dropped = False
        self._synced_at = 0.0
        self._refused = Held()
        self._refused_why = ""

    @property
    def failure(self) -> str:
        """What went wrong with the disk and was not mended; empty when all is well."""
        return self._syncing.failure or self._refused_why

    def append(self, stream: int, buffer: bytearray, length: int) -> None:
        """Take one read of a pipe: the first `length` bytes of `buffer`."""
        start = self.totals[stream]
        end = self.totals[stream] = start + length
        counted = self._may_be_dropped(length)
        try:
            self._write(
                [*self._refused_frame(), *_frame(stream, start, memoryview(buffer)[:length])]
            )
        except OSError as error:
            self._refused.add(stream, start, end, buffer.count(b"\n", 0, length))
            self._refused_why = "disk_full" if error.errno in _NO_ROOM else "disk_failed"
        else:
            self._refused_told()
            newlines = buffer.count(b"\n", 0, length) if counted else 0
            self._segments[self.current].add(stream, start, end, newlines)

    def sync_due_s(self, now: float) -> float | None:
        """Return the seconds until the next sync; None while nothing waits for one."""
        return max(0.0, self._synced_at + self._sync_s - now) if self._dirty else None

    def sync(self, now: float, *, at_once: bool = False) -> None:
        """Sync what is due for it, in the background."""
        if not self._dirty or (self.sync_due_s(now) != 0.0 and not at_once):
            return
        # Also when the last one is still under way: it is asked again a whole interval later.
        self._synced_at = now
        if self._syncing.begin(self._dirty):
            self._dirty.clear()

    def finish(self) -> None:
        """Return when all is on disk; what was refused is told of as well as can be."""
        with contextlib.suppress(OSError):
            if self._refused.streams:
                self._write(self._refused_frame())
                self._refused_told()
        self._syncing.finish(self._dirty)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def consumed(self, before: int) -> None:
        """Delete the segments below `before`: their bytes are safe elsewhere."""
        for number, held in list(self._segments.items()):
            last = number if held.through is None else held.through
            if last < before and number != self.current:
                self._forget(number)

    def _refused_frame(self) -> list[bytes | memoryview]:
        """Return what is to be written, together with the next frame, of what was refused."""
        if not self._refused.streams:
            return []
        return _frame(GAP, 0, self._refused.gap(self._refused_why))

    def _refused_told(self) -> None:
        if self._refused.streams:
            self._segments[self.current].merge(self._refused)
            self._refused = Held()
            self._refused_why = ""

    def _write(self, parts: list[bytes | memoryview]) -> None:
        size = sum(map(len, parts))
        if self._fd < 0 or self._is_full(size):
            self._roll()
        held = self._segments[self.current]
        if os.writev(self._fd, parts) != size:
            # A torn frame would hide those after it until the reader finds its feet again.
            os.ftruncate(self._fd, held.size_bytes)
            raise OSError(errno.ENOSPC, "short write")
        held.size_bytes += size
        self.kept_bytes += size
        self.written_bytes += size
        self._dirty.add(self.current)

    def _may_be_dropped(self, length: int) -> bool:
        """Whether what is written now may have to make way: only then its newlines are needed.

        What is written while the whole of its segment is sure to lie in the head's half of the
        quota stays there: the head only grows shorter before it. Nearly all output is of that
        kind, and counting costs as much as the disk does.
        """
        head_bytes = self.kept_bytes + self._segment_bytes + length
        return self._has_dropped or head_bytes > self._quota_bytes // 2

    def _is_full(self, next_bytes: int) -> bool:
        used_bytes = self._segments[self.current].size_bytes
        return used_bytes > 0 and used_bytes + next_bytes > self._segment_bytes

    def _roll(self) -> None:
        number = self.current + 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        fd = os.open(self._folder / segment_name(number), flags, 0o600)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self.current = fd, number
        self._segments[number] = Held()
        while self.kept_bytes > self._quota_bytes and (victim := self._middle()) is not None:
            self._drop(victim)

    def _middle(self) -> int | None:
        """Return the first segment behind the head's half of the quota; None if there is none."""
        head_bytes = 0
        for place, (number, held) in enumerate(self._segments.items()):
            if number == self.current:
                break
            if held.through is not None:
                # The head ends at the first gap, or dropping would make room for more of it.
                head_bytes = self._quota_bytes
                continue
            head_bytes += held.size_bytes
            # The first stays whatever its size: it is the one being read.
            if place and head_bytes > self._quota_bytes // 2:
                return number
        return None

    def _drop(self, victim: int) -> None:
        """Put a gap in the place of `victim`, made one with the gaps beside it."""
        self._has_dropped = True
        gap = self._segments[victim]
        first = last = victim
        for number, held in self._segments.items():
            if held.through == victim - 1:
                first = number
            elif number == victim + 1 and held.through is not None:
                last = held.through
        joined = [number for number in self._segments if first <= number <= last]
        for number in joined:
            if number != victim:
                gap.merge(self._segments[number])
        gap.through = last
        self.kept_bytes -= gap.size_bytes
        gap.size_bytes = 0
        # The gap first, in one step: a reader meets the old bytes or the gap, never neither.
        self._replace_by_gap(first, gap.gap("quota"))
        for number in joined:
            if number != first:
                self._forget(number)
        self._segments[first] = gap
        self._dirty.add(first)

    def _replace_by_gap(self, number: int, payload: bytes) -> None:
        path = self._folder / segment_name(number)
        draft = self._folder / "gap.new"
        try:
            draft.write_bytes(b"".join(_frame(GAP, 0, payload)))
            draft.replace(path)
        except OSError:
            # No room even for that: the missing number itself is the gap, without its counts.
            with contextlib.suppress(OSError):
                path.unlink()

    def _forget(self, number: int) -> None:
        held = self._segments.pop(number)
        self.kept_bytes -= held.size_bytes
        with contextlib.suppress(OSError):
            (self._folder / segment_name(number)).unlink()


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        # macOS has fsync alone.
        getattr(os, "fdatasync", os.fsync)(fd)
    finally:
        os.close(fd)


def _frame(stream: int, start: int, payload: bytes | memoryview) -> list[bytes | memoryview]:
    return [frame_header(stream, time.time_ns() // 1_000_000, start, payload), payload]
