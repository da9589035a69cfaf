"""Open what lies beneath a folder, and nothing else, whatever links an agent puts in the way.

On Linux the kernel does it in one step (openat2); where it cannot, or a link is met, each part is
opened from the folder before it, never following a link but by our own rules: a link within the
folder is followed, one that leads out is refused. Git's own folders are refused at every level, in
every spelling a file system may take for `.git`. Must not wait: pipes open at once.
"""

import contextlib
import ctypes
import errno
import functools
import os
import stat
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from node_agent.git.errors import NotADirectory, NotAFile, OutsideWorktree, PathNotFound
from node_agent.git.path_text import to_bytes

PATH_BYTES_MAX: Final = 4096
#: Links followed for one path, as in the kernel.
LINKS_MAX: Final = 40
_OPENAT2: Final = 437  # the same number on all of Linux's platforms that Python runs on
_RESOLVE: Final = 0x02 | 0x04 | 0x08  # NO_MAGICLINKS, NO_SYMLINKS, BENEATH
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
#: Not what is asked for, but why it is to be opened another way.
_ANOTHER_WAY: Final = {errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG, errno.EAGAIN}


class _How(ctypes.Structure):
    """`struct open_how` of the kernel."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def path_parts(path: str) -> list[bytes]:
    """Return the parts of a path given from outside; OutsideWorktree for one that leads out."""
    try:
        raw = to_bytes(path)
    except ValueError as error:
        raise PathNotFound(path) from error
    if len(raw) > PATH_BYTES_MAX or b"\0" in raw:
        raise PathNotFound(path)
    if raw.startswith(b"/"):
        raise OutsideWorktree(path, "is an absolute path")
    parts = [part for part in raw.split(b"/") if part not in {b"", b"."}]
    for part in parts:
        if part == b"..":
            raise OutsideWorktree(path, "leads upwards")
        if is_git_folder(part):
            raise OutsideWorktree(path, "is git's own")
    return parts


def is_git_folder(name: bytes) -> bool:
    """Whether a file system may take this name for `.git`.

    Some do not tell small letters from capitals, some drop dots, spaces or what follows a colon at
    the end, some drop characters that have no width.
    """
    text = name.decode("utf-8", "replace").partition(":")[0]
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return text.rstrip(". ").casefold() in {".git", "git~1"}


def open_beneath(root: int, parts: Sequence[bytes], shown: str, *, folder: bool) -> int:
    """Open the file or folder at `parts` beneath the folder open at `root`, for reading.

    `shown` is the path as errors name it. Raises the errors of `FileError`.
    """
    if len(parts) == 0:
        return os.dup(root)
    extra = os.O_DIRECTORY if folder else 0
    try:
        opened = _openat2(root, b"/".join(parts), _FLAGS | extra)
        if opened is None:
            opened = _walk(root, list(parts), shown, extra)
    except OSError as error:
        raise _meaning(error, shown) from error
    return opened


def open_root(root: Path) -> int:
    """Open the folder that all paths are beneath; the link to one is not one."""
    return os.open(root, _FLAGS | os.O_DIRECTORY)


@functools.cache
def _system_call() -> Any:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    return call


def _openat2(root: int, path: bytes, flags: int) -> int | None:
    """Open in one step; None where it has to be done another way."""
    if sys.platform != "linux":
        return None
    how = _How(flags, 0, _RESOLVE)
    opened: int = _system_call()(
        ctypes.c_long(_OPENAT2),
        ctypes.c_long(root),
        ctypes.c_char_p(path),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if opened >= 0:
        return opened
    number = ctypes.get_errno()
    # ELOOP: there is a link on the way, and what it may lead to is for our own rules to say.
    # ENOTDIR is also said of a link where a folder is asked for.
    if number in _ANOTHER_WAY | {errno.ELOOP, errno.ENOTDIR, errno.EXDEV}:
        return None
    raise OSError(number, os.strerror(number))


def _walk(root: int, pending: list[bytes], shown: str, last_flags: int) -> int:
    """Open part after part, each from the folder before it."""
    with contextlib.ExitStack() as opened:
        folders = [root]
        links = 0
        while pending:
            part = pending.pop(0)
            if part in {b"", b"."}:
                continue
            if part == b"..":
                if len(folders) == 1:
                    raise OutsideWorktree(shown, "leads out of the worktree by a link")
                folders.pop()
                continue
            if is_git_folder(part):
                raise OutsideWorktree(shown, "is git's own")
            last = not any(name not in {b"", b"."} for name in pending)
            flags = _FLAGS | (last_flags if last else os.O_DIRECTORY)
            try:
                found = os.open(part, flags, dir_fd=folders[-1])
            except OSError as error:
                if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                    raise
                links += 1
                was_link = error.errno == errno.ELOOP
                pending[:0] = _followed(folders[-1], part, shown, links, was_link=was_link)
                continue
            if last:
                return found
            opened.callback(os.close, found)
            folders.append(found)
        return os.dup(folders[-1])


def _followed(folder: int, part: bytes, shown: str, links: int, *, was_link: bool) -> list[bytes]:
    """The parts a link stands for; an error where it may not be followed, or is none."""
    if links > LINKS_MAX:
        raise PathNotFound(shown, "is a link that leads in a circle")
    mode = os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode
    if not stat.S_ISLNK(mode):
        if was_link or stat.S_ISDIR(mode):
            return [part]  # it was a link a moment ago; look again
        raise NotADirectory(shown)
    try:
        target = os.readlink(part, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return [part]  # it is a link no more; look again
        raise
    if target.startswith(b"/"):
        raise OutsideWorktree(shown, "leads out of the worktree by a link")
    if len(target) > PATH_BYTES_MAX:
        raise PathNotFound(shown)
    return target.split(b"/")


def _meaning(error: OSError, shown: str) -> Exception:
    if error.errno == errno.ENOTDIR:
        return NotADirectory(shown)
    if error.errno in {errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP}:
        return NotAFile(shown, "socket or device")
    if error.errno == errno.EACCES:
        return PathNotFound(shown, "may not be read by the node agent's user")
    if error.errno in {errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP}:
        return PathNotFound(shown)
    return error
