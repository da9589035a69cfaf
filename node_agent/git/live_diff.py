"""A diff as it changes: the whole once, then only the files that differ from what was told.

Owns what a client has been told, as digests, and from it the cursor: the same work has the same
cursor whichever way it was asked for. At most one file's patch is held at a time. Must not wait
for anything to change: `watching` does.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, Sequence
from typing import Final, NamedTuple

import msgspec

from node_agent.git.diff import (
    Comparison,
    DiffHead,
    check_context,
    comparison_of,
    is_within,
    wanted_path,
)
from node_agent.git.diff_format import ChangedFile
from node_agent.git.path_text import to_text
from node_agent.git.sources import Source

#: An update is handed on in pieces of about this size.
PIECE_BYTES: Final = 32 * 1024
_DIGEST_BYTES: Final = 16
_ENCODER: Final = msgspec.json.Encoder()


class _Told(NamedTuple):
    """A file that was told: how it looked where it lies, and the digest of its diff."""

    look: bytes
    digest: bytes


class LiveDiff:
    """The diff of one attempt for one client, from its first update on."""

    def __init__(self, *, against: str, context: int, path: str | None) -> None:
        check_context(context)
        self._within = wanted_path(path)
        self._asked = _digest(_ENCODER.encode([against, context, path]))
        self._context = context
        self._told: dict[str, _Told] = {}
        self._cursor = ""

    async def first(
        self, source: Source, base: str, cursor: str | None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of the first update: all there is, or nothing new after `cursor`."""
        if cursor is not None:
            async with contextlib.aclosing(self._update(source, base, whole=True)) as unread:
                async for _ in unread:
                    # Only its digest is of interest here: the client may have it all.
                    pass
            if self._cursor == cursor:
                head = DiffHead(base=base, head=source.head, source=source.kind)
                yield _opening(head, whole=False) + _closing([], cursor)
                return
        self._told.clear()
        async with contextlib.aclosing(self._update(source, base, whole=True)) as pieces:
            async for piece in pieces:
                yield piece

    def following(self, source: Source, base: str) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of the next update; nothing where nothing is new."""
        return self._update(source, base, whole=False)

    async def _update(
        self, source: Source, base: str, *, whole: bool
    ) -> AsyncGenerator[bytes, None]:
        head = DiffHead(base=base, head=source.head, source=source.kind)
        waiting = bytearray(_opening(head, whole=True) if whole else b"")
        any_file = False
        async with comparison_of(source, base) as comparison:
            looks, doubtful = await self._look(comparison, source)
            shown: set[str] = set()
            files = comparison.patches_of(doubtful, context=self._context)
            async with contextlib.aclosing(files):
                async for file in files:
                    shown.add(file.path)
                    encoded = _ENCODER.encode(file)
                    if not self._is_news(file.path, looks[file.path], encoded):
                        continue
                    if not (any_file or whole):
                        waiting += _opening(head, whole=False)
                    waiting += (b"," if any_file else b"") + encoded
                    any_file = True
                    if len(waiting) >= PIECE_BYTES:
                        yield bytes(waiting)
                        waiting.clear()
        # What could not be shown any more went away while we looked.
        gone = {to_text(file.path) for file in doubtful} - shown
        removed = [path for path in self._told if path not in looks or path in gone]
        for path in removed:
            del self._told[path]
        before, self._cursor = self._cursor, self._cursor_of(head)
        if not (whole or any_file or removed) and before == self._cursor:
            return
        if not (whole or any_file):
            waiting += _opening(head, whole=False)
        yield bytes(waiting + _closing(removed, self._cursor))

    async def _look(
        self, comparison: Comparison, source: Source
    ) -> tuple[dict[str, bytes], list[ChangedFile]]:
        """Return how each changed file looks, and those that look other than when told."""
        files = [
            file
            for file in await comparison.files()
            if not file.untouched and (self._within is None or is_within(file, self._within))
        ]
        top = None if source.worktree is None else os.fsencode(source.worktree.path)
        found = await asyncio.to_thread(_looks, files, top)
        looks = {to_text(file.path): look for file, look in zip(files, found, strict=True)}
        doubtful = []
        for file, look in zip(files, found, strict=True):
            told = self._told.get(to_text(file.path))
            if told is None or told.look != look:
                doubtful.append(file)
        return looks, doubtful

    def _is_news(self, path: str, look: bytes, encoded: bytes) -> bool:
        """Keep how a file was told; False where that is what was told before."""
        digest = _digest(encoded)
        before = self._told.get(path)
        self._told[path] = _Told(look, digest)
        return before is None or before.digest != digest

    def _cursor_of(self, head: DiffHead) -> str:
        running = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        running.update(self._asked)
        running.update(_digest(_ENCODER.encode(head)))
        for path in sorted(self._told):
            running.update(_digest(path.encode()))
            running.update(self._told[path].digest)
        return running.hexdigest()


def _looks(files: Sequence[ChangedFile], top: bytes | None) -> list[bytes]:
    """How files look without being read: what git said of each, and how it lies on the disk."""
    return [_look_of(file, top) for file in files]


def _look_of(file: ChangedFile, top: bytes | None) -> bytes:
    disk: tuple[int, ...] = ()
    if top is not None:
        try:
            found = os.lstat(os.path.join(top, file.path))  # noqa: PTH118  names are bytes
        except OSError:
            pass
        else:
            disk = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
    said = (
        file.old_path,
        file.letter,
        file.old_mode,
        file.new_mode,
        file.old_id,
        file.new_id,
        file.additions,
        file.deletions,
        file.binary,
    )
    return _digest(repr((said, disk)).encode())


def _opening(head: DiffHead, *, whole: bool) -> bytes:
    said = _ENCODER.encode(head).removesuffix(b"}")
    return said + (b',"whole":true' if whole else b',"whole":false') + b',"changed":['


def _closing(removed: Sequence[str], cursor: str) -> bytes:
    said = _ENCODER.encode({"removed": removed, "cursor": cursor})
    return b"]," + said.removeprefix(b"{") + b"\n"


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
