"""The reading end of the spool: frames and gaps of an execution, in order, from any position.

Reads files, briefly and from the page cache, and writes nothing. Must never raise or spin over what
it finds on disk: a torn tail is "not yet", anything else that is wrong becomes a gap with its size.
"""

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

from node_agent.run_folder import EXIT, SEGMENT_PREFIX, read_record, segment_name
from node_agent.spool_frames import (
    FRAME_MAGIC,
    GAP,
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    STDERR,
    STDOUT,
    crc_holds,
    read_header,
)

#: What a read asks of the disk at least: one whole frame of any size.
_WINDOW_BYTES_MIN: Final = HEADER_BYTES + PAYLOAD_BYTES_MAX
#: What a header begins with; looked for behind a record that cannot be trusted.
_BEGINNING: Final = re.compile(rb"%b[\x00-\x02]" % re.escape(bytes([FRAME_MAGIC])), re.DOTALL)
#: Bounds of that search in one buffer: output made to look like frames must not cost minutes.
_CANDIDATES_MAX: Final = 20_000
_CANDIDATE_BYTES_MAX: Final = 32 * 1024 * 1024


class Frame(NamedTuple):
    """One read of one pipe."""

    stream: int
    at_ms: int
    #: Bytes of the stream before this frame.
    stream_offset: int
    data: bytes


class Corrupt(NamedTuple):
    """Bytes of a buffer, from `start` up to `end`, that are no frames."""

    start: int
    end: int


class SpoolPosition(NamedTuple):
    """A place between two frames."""

    segment: int
    offset: int


class SpoolGap(NamedTuple):
    """What is missing at this place; `newlines` is None where nobody counted them.

    Reasons: quota, disk_full, disk_failed (the supervisor could not keep it), corrupt (it was kept
    and cannot be read), lost_sync (it never reached the disk).
    """

    reason: str
    stdout_bytes: int
    stderr_bytes: int
    newlines: int | None

    @property
    def size_bytes(self) -> int:
        return self.stdout_bytes + self.stderr_bytes


START: Final = SpoolPosition(0, 0)


def parse_frames(
    buffer: bytes | memoryview, offset: int, *, final: bool = False
) -> tuple[list[Frame], int, Corrupt | None]:
    """Return the whole frames from `offset` on, where to go on, and what had to be skipped.

    Stops behind the first corrupt stretch, so that its place among the frames is known; call again
    for the rest. `final`: nothing will be written after this buffer, so a torn tail is corrupt.
    """
    view = memoryview(buffer)
    frames: list[Frame] = []
    while True:
        left = len(view) - offset
        if left == 0 or (left < HEADER_BYTES and not final):
            return frames, offset, None
        header = read_header(view, offset) if left >= HEADER_BYTES else None
        if header is not None:
            stream, at_ms, stream_offset, length = header
            end = offset + HEADER_BYTES + length
            if end > len(view) and not final:
                return frames, offset, None
            if end <= len(view) and crc_holds(view, offset, length):
                payload = bytes(view[end - length : end])
                frames.append(Frame(stream, at_ms, stream_offset, payload))
                offset = end
                continue
        resumed = _next_frame(view, offset + 1, final=final)
        return frames, resumed, Corrupt(offset, resumed)


def _next_frame(view: memoryview, offset: int, *, final: bool) -> int:
    """Return where the next frame begins, or might once more of it is there."""
    checked_bytes = 0
    for candidates, match in enumerate(_BEGINNING.finditer(view, offset)):
        at = match.start()
        if candidates > _CANDIDATES_MAX or checked_bytes > _CANDIDATE_BYTES_MAX:
            return len(view)
        if len(view) - at < HEADER_BYTES:
            break
        header = read_header(view, at)
        if header is None:
            continue
        length = header[3]
        if at + HEADER_BYTES + length > len(view):
            if final:
                continue
            return at
        checked_bytes += length
        if crc_holds(view, at, length):
            return at
    # The last bytes may be the beginning of a header.
    return len(view) if final else max(offset, len(view) - HEADER_BYTES + 1)


class SpoolReader:
    """Follows the segments of a run folder; see the module.

    `emitted` is what of each stream has already been taken, (stdout, stderr): older bytes are
    skipped, and bytes that should follow and do not are reported as a gap.
    """

    def __init__(
        self,
        run_folder: Path,
        position: SpoolPosition = START,
        emitted: tuple[int, int] | None = None,
    ) -> None:
        if emitted is None and position == START:
            emitted = (0, 0)
        #: Whether nothing more is known to be there to read, for now.
        self.exhausted = True
        #: Whether the execution has ended and all of its spool has been read.
        self.finished = False
        #: Set when the supervisor is known to be dead without an exit record: no more will come.
        self.sealed = False
        self._folder = run_folder
        self._segment, self._offset = position
        self._fd = -1
        #: Of each stream the offset that should come next; absent where that is not known.
        self._expected: dict[int, int] = (
            {} if emitted is None else {STDOUT: emitted[0], STDERR: emitted[1]}
        )
        #: The first segment after the present one: more than one further behind a gap.
        self._following = self._segment + 1
        #: Bytes of this segment that made no sense since the last frame that did.
        self._mistrusted_bytes = 0
        #: The streams whose next gap is due to such bytes.
        self._corrupted: set[int] = set()

    @property
    def position(self) -> SpoolPosition:
        """Where the next read begins."""
        return SpoolPosition(self._segment, self._offset)

    def read(self, max_bytes: int = PAYLOAD_BYTES_MAX) -> list[Frame | SpoolGap]:
        """Return what comes next, about `max_bytes` or one frame; nothing if nothing is new."""
        found: list[Frame | SpoolGap] = []
        self.exhausted = False
        while not found and not self.finished:
            if self._fd < 0 and not self._open():
                self.exhausted = True
                break
            window_bytes = max(max_bytes, _WINDOW_BYTES_MIN)
            buffer = os.pread(self._fd, self._available(window_bytes), self._offset)
            if self._take(buffer, found, final=False):
                continue
            # At the end of what is there. Only if nothing can come after it is the rest torn; that
            # has to be known before the size is looked at again.
            closed = self._is_closed()
            buffer = os.pread(self._fd, self._available(window_bytes), self._offset)
            if self._take(buffer, found, final=closed and len(buffer) < window_bytes):
                continue
            if not closed:
                self.exhausted = True
                break
            self._leave()
        if self.finished and not found:
            self.exhausted = True
            found.extend(self._missing_at_end())
        return found

    def close(self) -> None:
        """Close the segment; a later read opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # --- segments --------------------------------------------------------------------------------

    def _available(self, window_bytes: int) -> int:
        return max(0, min(window_bytes, os.fstat(self._fd).st_size - self._offset))

    def _open(self) -> bool:
        """Open the present segment, or what stands for it; False if there is none yet."""
        for _ in range(3):
            try:
                self._fd = os.open(self._folder / segment_name(self._segment), os.O_RDONLY)
            except FileNotFoundError:
                # Again when the files changed while they were looked at.
                if not self._go_round():
                    return False
                continue
            self._following = self._segment + 1
            if self._offset and self._gap_of(self._segment) is not None:
                # We stood in it when it was dropped: what stands there now begins at its beginning.
                self._offset = 0
            return True
        return False

    def _go_round(self) -> bool:
        """Move to the segment from which a missing one can be passed; False to wait for it."""
        ended = self._has_ended()
        numbers = sorted(self._numbers())
        before = [number for number in numbers if number < self._segment]
        if before:
            gap = self._gap_of(before[-1])
            if gap is not None and gap["through"] >= self._segment:
                self._segment, self._offset = before[-1], 0
                return True
        behind = [number for number in numbers if number > self._segment]
        if behind:
            self._segment, self._offset = behind[0], 0
            return True
        if self._segment in numbers:
            return True
        self.finished = ended
        return False

    def _numbers(self) -> list[int]:
        with contextlib.suppress(OSError):
            with os.scandir(self._folder) as entries:
                ends = [entry.name.removeprefix(SEGMENT_PREFIX) for entry in entries]
            return [int(end) for end in ends if end.isdecimal()]
        return []

    def _gap_of(self, number: int) -> dict[str, Any] | None:
        """Return what stands in the place of dropped segments; None for a real segment."""
        try:
            with (self._folder / segment_name(number)).open("rb") as file:
                frames, _, _ = parse_frames(file.read(HEADER_BYTES + 4096), 0)
        except OSError:
            return None
        if frames and frames[0].stream == GAP:
            gap = _gap_record(frames[0].data)
            if gap is not None and gap["through"] is not None:
                return gap
        return None

    def _has_ended(self) -> bool:
        return self.sealed or (self._folder / EXIT).exists()

    def _is_closed(self) -> bool:
        """Whether nothing will be appended to the present segment any more."""
        if (self._folder / segment_name(self._following)).exists() or self._has_ended():
            return True
        return any(number > self._segment for number in self._numbers())

    def _leave(self) -> None:
        self.close()
        self._segment, self._offset = self._following, 0
        self._following = self._segment + 1
        self._mistrusted_bytes = 0

    # --- frames ----------------------------------------------------------------------------------

    def _take(self, buffer: bytes, found: list[Frame | SpoolGap], *, final: bool) -> bool:
        """Take what the buffer holds; False when there was nothing to move on by."""
        begun = self._offset
        at = 0
        while True:
            frames, resumed, corrupt = parse_frames(buffer, at, final=final)
            for frame in frames:
                self._place(frame, found)
            self._offset = begun + resumed
            if corrupt is None:
                return resumed > 0
            at = resumed
            # What is missing shows in the offsets of the frames that follow, for each stream.
            self._mistrusted_bytes += corrupt.end - corrupt.start
            self._corrupted |= {STDOUT, STDERR}

    def _place(self, frame: Frame, found: list[Frame | SpoolGap]) -> None:
        if self._mistrusted_bytes and not self._is_plausible(frame):
            self._mistrusted_bytes += HEADER_BYTES + len(frame.data)
            return
        self._mistrusted_bytes = 0
        stream, at_ms, offset, payload = frame
        if stream == GAP:
            self._place_gap(payload, found)
            return
        expected = self._expected.get(stream, offset)
        if offset > expected:
            reason = "corrupt" if stream in self._corrupted else "lost_sync"
            found.append(_one_gap(reason, stream, offset - expected))
        self._corrupted.discard(stream)
        known_bytes = max(0, expected - offset)
        if known_bytes < len(payload):
            found.append(Frame(stream, at_ms, offset + known_bytes, payload[known_bytes:]))
            self._expected[stream] = offset + len(payload)

    def _is_plausible(self, frame: Frame) -> bool:
        """Whether a frame behind corrupt bytes can be ours, not output that looks like a frame."""
        if frame.stream == GAP:
            gap = _gap_record(frame.data)
            starts = {} if gap is None else gap["streams"]
            return gap is not None and all(
                self._can_follow(stream, start) for stream, (start, _, _) in starts.items()
            )
        new = frame.stream_offset + len(frame.data) > self._expected.get(frame.stream, 0)
        return new and self._can_follow(frame.stream, frame.stream_offset)

    def _can_follow(self, stream: int, offset: int) -> bool:
        return offset <= self._expected.get(stream, offset) + self._mistrusted_bytes

    def _place_gap(self, payload: bytes, found: list[Frame | SpoolGap]) -> None:
        gap = _gap_record(payload)
        if gap is None:
            return
        if gap["through"] is not None:
            self._following = max(self._following, gap["through"] + 1)
        missing = {STDOUT: 0, STDERR: 0}
        newlines: int | None = 0
        for stream, (start, end, lines) in gap["streams"].items():
            expected = self._expected.get(stream, start)
            missing[stream] = max(0, end - expected)
            if expected == start and newlines is not None:
                newlines += lines
            elif missing[stream]:
                # Part of it was read before it was dropped: the count is of more than is missing.
                newlines = None
            self._expected[stream] = max(expected, end)
        if missing[STDOUT] or missing[STDERR]:
            found.append(SpoolGap(gap["reason"], missing[STDOUT], missing[STDERR], newlines))

    def _missing_at_end(self) -> list[Frame | SpoolGap]:
        """Return what was printed, by the exit record's count, and never came."""
        record = read_record(self._folder / EXIT) or {}
        missing: list[Frame | SpoolGap] = []
        for stream in (STDOUT, STDERR):
            with contextlib.suppress(KeyError, TypeError):
                total = int(record["streams"][str(stream)]["bytes"])
                size_bytes = total - self._expected.get(stream, total)
                if size_bytes > 0:
                    reason = "corrupt" if stream in self._corrupted else "lost_sync"
                    missing.append(_one_gap(reason, stream, size_bytes))
                    self._expected[stream] = total
        return missing


def _one_gap(reason: str, stream: int, size_bytes: int) -> SpoolGap:
    if stream == STDOUT:
        return SpoolGap(reason, size_bytes, 0, None)
    return SpoolGap(reason, 0, size_bytes, None)


def _gap_record(payload: bytes) -> dict[str, Any] | None:
    """Return a gap frame's payload with its fields checked; None if it is no such thing."""
    try:
        record = json.loads(payload)
        through = record.get("through")
        return {
            "reason": str(record["reason"]),
            "through": None if through is None else int(through),
            "streams": {
                int(stream): (int(start), int(end), int(newlines))
                for stream, (start, end, newlines) in record["streams"].items()
                if int(stream) in {STDOUT, STDERR}
            },
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
