r"""What git's diff says, read as it streams: raw records, counts, then patches. Pure.

`git diff-* --raw --numstat -z [-p]` writes, in the same order: for each file a raw record, for
each file whose content changed a record of counts, and, after an empty record, the patches. In the
patches a line that begins with `diff --git ` is always the beginning of a file's: every line of
content has a mark before it, and a newline in a name is written `\n`.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from node_agent.git.errors import OutputTooLarge

#: Changed files of one diff; more is no diff a person reads.
FILES_MAX: Final = 100_000
_BEGINNING: Final = b"diff --git "
#: A line longer than this is passed on in parts.
_LINE_BYTES_MAX: Final = 1024 * 1024
_KINDS: Final = {
    b"A": "added",
    b"C": "copied",
    b"D": "deleted",
    b"M": "modified",
    b"R": "renamed",
    b"T": "type_changed",
    b"U": "modified",
}
_COUNTS = re.compile(rb"(\d+|-)\t(\d+|-)\t(.*)", re.DOTALL)
_QUOTED = re.compile(rb'[\x00-\x1f\x7f"\\]')
_ESCAPES: Final = {
    0x07: b"\\a",
    0x08: b"\\b",
    0x09: b"\\t",
    0x0A: b"\\n",
    0x0B: b"\\v",
    0x0C: b"\\f",
    0x0D: b"\\r",
    0x22: b'\\"',
    0x5C: b"\\\\",
}


@dataclass
class ChangedFile:
    """One file of a diff, before its patch; names as git has them."""

    path: bytes
    old_path: bytes | None
    letter: bytes
    old_mode: str
    new_mode: str
    old_id: str
    new_id: str
    additions: int = 0
    deletions: int = 0
    binary: bool = False
    #: Whether git counted its lines: it does where the content differs.
    counted: bool = False

    @property
    def kind(self) -> str:
        """added, modified, deleted, renamed, copied, type_changed, or mode alone."""
        same_content = not self.binary or self.old_id == self.new_id
        only_mode = self.old_mode != self.new_mode and not (self.additions or self.deletions)
        if self.letter == b"M" and only_mode and same_content:
            return "mode"
        return _KINDS.get(self.letter, "modified")

    @property
    def untouched(self) -> bool:
        """Whether only the file's time changed, which is no change."""
        return self.letter == b"M" and not self.counted and self.old_mode == self.new_mode

    @property
    def beginning(self) -> bytes:
        """The first line of its patch."""
        old = quoted(b"a/" + (self.old_path or self.path))
        return _BEGINNING + old + b" " + quoted(b"b/" + self.path) + b"\n"


class FilesReader:
    """Reads the records before the patches."""

    def __init__(self) -> None:
        self.files: list[ChangedFile] = []
        self._by_path: dict[bytes, ChangedFile] = {}
        self._fields: list[bytes] = []
        self._wanted = 0
        #: What stands behind the empty record, once that was seen.
        self.rest: bytes | None = None
        self._buffer = b""

    def feed(self, piece: bytes) -> None:
        """Take output; once `rest` is set the records have ended, and it holds what follows."""
        *whole, self._buffer = (self._buffer + piece).split(b"\0")
        for number, record in enumerate(whole):
            if not record and not self._wanted:
                self.rest = b"\0".join([*whole[number + 1 :], self._buffer])
                return
            self._take(record)

    def _take(self, record: bytes) -> None:
        if self._wanted:
            self._fields.append(record)
            self._wanted -= 1
        elif record.startswith(b":"):
            self._fields = [record]
            self._wanted = 2 if record.rsplit(b" ", 1)[1][:1] in {b"R", b"C"} else 1
        elif found := _COUNTS.fullmatch(record):
            self._fields = [record]
            # Of a renamed file both names follow as records of their own.
            self._wanted = 0 if found[3] else 2
        if not self._wanted and self._fields:
            self._finish()

    def _finish(self) -> None:
        first, *names = self._fields
        self._fields = []
        if first.startswith(b":"):
            if len(self.files) >= FILES_MAX:
                raise OutputTooLarge(("git", "diff"), FILES_MAX)
            old_mode, new_mode, old_id, new_id, status = first[1:].decode("ascii").split(" ")
            file = ChangedFile(
                path=names[-1],
                old_path=names[0] if len(names) > 1 else None,
                letter=status[:1].encode(),
                old_mode=old_mode,
                new_mode=new_mode,
                old_id=old_id,
                new_id=new_id,
            )
            self.files.append(file)
            self._by_path[file.path] = file
            return
        counts = _COUNTS.fullmatch(first)
        assert counts is not None  # noqa: S101  it was, in `_take`
        counted = self._by_path.get(names[-1] if names else counts[3])
        if counted is not None:
            counted.counted = True
            counted.binary = counts[1] == b"-"
            if not counted.binary:
                counted.additions, counted.deletions = int(counts[1]), int(counts[2])


async def patch_sections(
    first: bytes, pieces: AsyncIterator[bytes]
) -> AsyncIterator[tuple[bool, bytes]]:
    """Yield the patches' text in parts; True stands with the first line of each file's."""
    buffer, within_line = first, False
    ended = False
    while not ended:
        end = buffer.rfind(b"\n") + 1
        lines, buffer = buffer[:end], buffer[end:]
        for begins, text in _split(lines, within_line=within_line):
            yield begins, text
        if lines:
            within_line = False
        if len(buffer) > _LINE_BYTES_MAX:
            yield False, buffer
            buffer, within_line = b"", True
        piece = await anext(pieces, b"")
        ended = not piece
        buffer += piece
    if buffer:
        yield False, buffer


def _split(lines: bytes, *, within_line: bool) -> list[tuple[bool, bytes]]:
    """Cut whole lines before and behind each line that begins a file's patch."""
    parts: list[tuple[bool, bytes]] = []
    at = 0
    while at < len(lines):
        if lines.startswith(_BEGINNING, at) and not (within_line and at == 0):
            end = lines.index(b"\n", at) + 1
            parts.append((True, lines[at:end]))
        else:
            found = lines.find(b"\n" + _BEGINNING, at)
            end = len(lines) if found < 0 else found + 1
            parts.append((False, lines[at:end]))
        at = end
    return parts


def quoted(name: bytes) -> bytes:
    """Return a name as git writes it in a patch (with core.quotePath off)."""
    if not _QUOTED.search(name):
        return name
    return (
        b'"'
        + _QUOTED.sub(lambda found: _ESCAPES.get(found[0][0], b"\\%03o" % found[0][0]), name)
        + b'"'
    )
