"""What lies in a worktree and not in its index: new files, nested repositories, our own copies.

Files we copied in from the user's checkout (see `copied_files.py`) are no work of the attempt: they
are told apart here, once, so that no diff shows and no commit takes them.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from node_agent.git.command import stream_git
from node_agent.git.errors import OutputTooLarge
from node_agent.git.folders import write_whole
from node_agent.git.records import records
from node_agent.git.worktrees import Worktree

#: Beside git's own files of a worktree: the paths we copied in, each ended by a zero byte.
COPIED_FILE: Final = "skep-copied"
#: Of untracked paths, what is held in memory at a time.
_PATHS_BYTES_MAX: Final = 64 * 1024 * 1024
_GITLINK: Final = b"160000 "


@dataclass(frozen=True)
class Untracked:
    """Paths from the worktree's top, in git's order, as bytes."""

    files: list[bytes]
    #: Repositories of their own that git has no record of here; without the slash at the end.
    nested: list[bytes]
    copied: list[bytes]


async def untracked_paths(worktree: Worktree) -> Untracked:
    """Return what `git status` would call untracked; ignored files are not work."""
    found = Untracked([], [], [])
    copied = await asyncio.to_thread(copied_paths, worktree)
    size = 0
    worktree.check_there()
    listing = ("ls-files", "--others", "--exclude-standard", "-z")
    async with stream_git(worktree.path, *listing, env=worktree.environment) as pieces:
        async for path in records(pieces):
            size += len(path)
            if size > _PATHS_BYTES_MAX:
                raise OutputTooLarge(("git", *listing), _PATHS_BYTES_MAX)
            if path.endswith(b"/"):
                found.nested.append(path.removesuffix(b"/"))
            elif path in copied:
                found.copied.append(path)
            else:
                found.files.append(path)
    return found


async def submodule_paths(worktree: Worktree) -> list[bytes]:
    """Return the paths of the index's submodules, filled or not."""
    worktree.check_there()
    async with stream_git(
        worktree.path, "ls-files", "--stage", "-z", env=worktree.environment
    ) as pieces:
        return [
            record.partition(b"\t")[2]
            async for record in records(pieces)
            if record.startswith(_GITLINK)
        ]


def copied_paths(worktree: Worktree) -> frozenset[bytes]:
    """Return the paths noted as copied into the worktree."""
    try:
        return frozenset((worktree.git_dir / COPIED_FILE).read_bytes().split(b"\0")) - {b""}
    except FileNotFoundError:
        return frozenset()


def note_copied(worktree: Worktree, paths: frozenset[bytes]) -> None:
    """Write down which paths were copied into the worktree, in place of what was noted."""
    write_whole(worktree.git_dir / COPIED_FILE, b"".join(path + b"\0" for path in sorted(paths)))
