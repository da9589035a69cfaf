"""Files a project wants from the user's checkout in every worktree, such as an ignored `.env`.

Only files git has no record of, only from within the checkout, only into the worktree, and never
over a file that is there. What was copied is noted, so that no commit of ours takes it.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from node_agent.git.beneath import is_git_folder, open_beneath, open_root
from node_agent.git.errors import FileError, InvalidInput
from node_agent.git.path_text import to_text
from node_agent.git.repository import Repository
from node_agent.git.untracked import copied_paths, note_copied
from node_agent.git.worktrees import Worktree

PATTERNS_MAX: Final = 100
FILES_MAX: Final = 10_000
BYTES_MAX: Final = 256 * 1024 * 1024
_LISTING_BYTES_MAX: Final = 64 * 1024 * 1024
_PIECE_BYTES: Final = 1024 * 1024


@dataclass
class CopiedFiles:
    """The paths that were copied, and those that were not, each with why."""

    copied: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


async def copy_files(
    repository: Repository, worktree: Worktree, patterns: Sequence[str]
) -> CopiedFiles:
    """Copy what matches the patterns; a second time copies nothing that is there already.

    Patterns are git's globs from the checkout's top: `.env`, `**/.env.local`, `certificates/`.
    """
    wanted = [_checked(pattern) for pattern in patterns]
    if len(wanted) > PATTERNS_MAX:
        raise InvalidInput("copy_files", str(len(wanted)), f"Give at most {PATTERNS_MAX} patterns.")
    result = CopiedFiles()
    if repository.bare or not wanted:
        return result
    listed = await repository.git(
        "ls-files",
        "--others",
        "-z",
        "--",
        *(f":(top,glob){pattern}" for pattern in wanted),
        env={"GIT_LITERAL_PATHSPECS": "0"},
        output_bytes_max=_LISTING_BYTES_MAX,
    )
    paths = [path for path in listed.stdout.split(b"\0") if path]
    await asyncio.to_thread(_copy_all, repository, worktree, paths, result)
    return result


def _checked(pattern: str) -> str:
    parts = pattern.split("/")
    outside = pattern.startswith(("/", ":")) or ".." in parts
    if not pattern.strip("/") or "\0" in pattern or outside or any(map(_is_git, parts)):
        raise InvalidInput(
            "copy_files", pattern, "Give a path or pattern within the checkout, such as .env"
        )
    return pattern


def _is_git(part: str) -> bool:
    return is_git_folder(part.encode("utf-8", "surrogateescape"))


def _copy_all(
    repository: Repository, worktree: Worktree, paths: list[bytes], result: CopiedFiles
) -> None:
    with contextlib.ExitStack() as stack:
        checkout = open_root(repository.path)
        stack.callback(os.close, checkout)
        target = open_root(worktree.path)
        stack.callback(os.close, target)
        left = BYTES_MAX
        noted = copied_paths(worktree)
        # Noted before the first is copied: after a crash in between, none can be committed. What
        # is there already may be the agent's own.
        missing = {path for path in paths if not os.path.lexists(_at(worktree, path))}
        note_copied(worktree, noted | missing)
        copied: set[bytes] = set()
        for path in paths:
            shown = to_text(path)
            if len(copied) >= FILES_MAX:
                result.skipped.append((shown, f"more than {FILES_MAX} files"))
                continue
            try:
                left -= _copy(checkout, target, path, shown, left)
                copied.add(path)
                result.copied.append(shown)
            except _Skip as why:
                result.skipped.append((shown, str(why)))
            except FileError as error:
                result.skipped.append((shown, error.message))
            except OSError as error:
                result.skipped.append((shown, error.strerror or "it cannot be copied"))
        note_copied(worktree, noted | copied)


def _at(worktree: Worktree, path: bytes) -> bytes:
    return os.fsencode(worktree.path) + b"/" + path


class _Skip(Exception):  # noqa: N818  no error: the reason why one file stays behind
    """Why a file is not copied."""


def _copy(checkout: int, target: int, path: bytes, shown: str, bytes_max: int) -> int:
    """Copy one file; return its size."""
    if path.endswith(b"/"):
        raise _Skip("it is a repository of its own")
    *folders, name = path.split(b"/")
    found = os.stat(path, dir_fd=checkout, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        raise _Skip("it is no regular file")
    if found.st_size > bytes_max:
        raise _Skip(f"more than {BYTES_MAX} bytes in all")
    with contextlib.ExitStack() as stack:
        source = open_beneath(checkout, path.split(b"/"), shown, folder=False)
        stack.callback(os.close, source)
        opened = os.fstat(source)
        # The file that was looked at, and no other that was put in its place.
        if (opened.st_dev, opened.st_ino) != (found.st_dev, found.st_ino):
            raise _Skip("it changed while it was copied")
        into = target
        for folder in folders:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, dir_fd=into)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            into = os.open(folder, flags, dir_fd=into)
            stack.callback(os.close, into)
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=into, follow_symlinks=False)
            raise _Skip("it is there already")
        return _write(source, into, name, opened.st_mode & 0o777, bytes_max)


def _write(source: int, into: int, name: bytes, mode: int, bytes_max: int) -> int:
    """Write the file under another name and then give it its own: whole, or not there."""
    beside = b".skep-" + name[-200:]
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=into)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    size = 0
    with os.fdopen(os.open(beside, flags, mode | 0o200, dir_fd=into), "wb") as output:
        while piece := os.read(source, _PIECE_BYTES):
            size += len(piece)
            if size > bytes_max:
                break
            output.write(piece)
        os.fchmod(output.fileno(), mode)
    if size > bytes_max:
        os.unlink(beside, dir_fd=into)
        raise _Skip(f"more than {BYTES_MAX} bytes in all")
    os.rename(beside, name, src_dir_fd=into, dst_dir_fd=into)
    return size
