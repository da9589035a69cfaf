"""What a worktree holds that is not committed, record by record as `git status` tells it.

Owns how git is asked for it. Must not hold the whole of it, nor judge what it means.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from node_agent.git.command import stream_git
from node_agent.git.records import records
from node_agent.git.worktrees import Worktree

UNTRACKED: Final = b"? "
CHANGED: Final = b"1 "
CONFLICTING: Final = b"u "
#: How many words of a record stand before the path. A changed one: 1 XY sub mH mI mW hH hI path; a
#: conflicting one: u XY sub m1 m2 m3 mW h1 h2 h3 path.
WORDS_BEFORE_PATH: Final = {UNTRACKED: 1, CHANGED: 8, CONFLICTING: 10}


class Uncommitted(NamedTuple):
    """One path, and what is with it: one of the kinds above."""

    kind: bytes
    path: bytes


@contextlib.asynccontextmanager
async def uncommitted(worktree: Worktree) -> AsyncIterator[AsyncIterator[Uncommitted]]:
    """Give what is not committed, as it is found; the git program ends with the block."""
    worktree.check_there()
    async with stream_git(
        worktree.path,
        "status",
        "--porcelain=v2",
        "-z",
        "--untracked-files=all",
        # A submodule with changes of its own would have git run in it, by its own settings.
        "--ignore-submodules=dirty",
        # So that each record is one path.
        "--no-renames",
        env=worktree.environment,
    ) as pieces:
        yield _found(pieces)


async def _found(pieces: AsyncIterator[bytes]) -> AsyncIterator[Uncommitted]:
    async for record in records(pieces):
        kind = record[:2]
        words = WORDS_BEFORE_PATH.get(kind)
        if words is not None:
            yield Uncommitted(kind, record.split(b" ", words)[words])
