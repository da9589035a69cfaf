"""Folders listed and files read where an attempt works, as they are at this moment.

Blocking: called in a thread. A file swapped for a link or a pipe while it is read makes no
difference to what was opened.
"""

import contextlib
import heapq
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from node_agent.git.beneath import is_git_folder, open_beneath, open_root, path_parts
from node_agent.git.errors import NotAFile, WorktreeGone
from node_agent.git.file_content import (
    LOOKED_AT_BYTES,
    FileContent,
    check_text,
    is_binary,
    media_type,
    wanted_range,
)
from node_agent.git.path_text import to_text
from protocol.work_requests import FileEntry, ListFilesReply

_KINDS: Final = (
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISBLK, "device"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISDIR, "folder"),
)


def list_folder(root: Path, path: str, after: bytes | None, limit: int) -> ListFilesReply:
    """Return a page of a folder beneath `root`, by name in order of bytes."""
    with _opened(root, path, folder=True) as folder, os.scandir(folder) as entries:
        names = (os.fsencode(entry.name) for entry in entries)
        # The smallest of all that follow: a page is held, never the folder.
        page = heapq.nsmallest(
            limit + 1,
            (name for name in names if not is_git_folder(name) and (after is None or name > after)),
        )
        found = [entry for name in page[:limit] if (entry := _entry(folder, name)) is not None]
    return ListFilesReply(
        path=path, entries=found, next=to_text(page[limit - 1]) if len(page) > limit else None
    )


def read_file(
    root: Path, path: str, first_byte: int, bytes_max: int | None, *, text_only: bool
) -> FileContent:
    """Return a file's bytes beneath `root`; regular files only."""
    with _opened(root, path, folder=False) as file:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise NotAFile(path, _kind_of(found.st_mode))
        beginning = os.pread(file, LOOKED_AT_BYTES, 0)
        if text_only:
            check_text(path, beginning, found.st_size)
        first, count = wanted_range(path, found.st_size, first_byte, bytes_max)
        content = bytearray()
        while len(content) < count:
            piece = os.pread(file, count - len(content), first + len(content))
            if not piece:
                break  # shortened while we read
            content += piece
    return FileContent(
        content=bytes(content),
        first_byte=first,
        size=found.st_size,
        binary=is_binary(beginning),
        media_type=media_type(beginning),
    )


@contextlib.contextmanager
def _opened(root: Path, path: str, *, folder: bool) -> Iterator[int]:
    parts = path_parts(path)
    try:
        top = open_root(root)
    except OSError as error:
        raise WorktreeGone(str(root)) from error
    try:
        opened = open_beneath(top, parts, path, folder=folder)
    finally:
        os.close(top)
    try:
        yield opened
    finally:
        os.close(opened)


def _entry(folder: int, name: bytes) -> FileEntry | None:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None  # gone since it was listed
    kind, size = "other", None
    if stat.S_ISREG(found.st_mode):
        kind, size = "file", found.st_size
    elif stat.S_ISLNK(found.st_mode):
        kind = "symlink"
    elif stat.S_ISDIR(found.st_mode):
        kind = "submodule" if _is_repository(folder, name) else "directory"
    return FileEntry(name=to_text(name), kind=kind, size=size)


def _is_repository(folder: int, name: bytes) -> bool:
    with contextlib.suppress(OSError):
        os.stat(name + b"/.git", dir_fd=folder, follow_symlinks=False)
        return True
    return False


def _kind_of(mode: int) -> str:
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "special file")
