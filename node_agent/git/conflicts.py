"""What stands half done in a worktree given up, so that it is as it was before it began."""

import asyncio
from typing import Final

from node_agent.git.branch_errors import NothingToAbort
from node_agent.git.command import LONG_TIMEOUT_S
from node_agent.git.unfinished import unfinished, unmerged_paths
from node_agent.git.worktrees import Worktree

_ABORTS: Final = {
    "rebase": ("rebase", "--abort"),
    "am": ("am", "--abort"),
    "merge": ("merge", "--abort"),
    "cherry_pick": ("cherry-pick", "--abort"),
    "revert": ("revert", "--abort"),
}


async def abort_unfinished(worktree: Worktree) -> str:
    """Abort it and return what it was. Raises NothingToAbort."""
    worktree.check_there()
    what = await asyncio.to_thread(unfinished, worktree.git_dir)
    if what in _ABORTS:
        await worktree.git(*_ABORTS[what], timeout_s=LONG_TIMEOUT_S)
        return what
    if await unmerged_paths(worktree):
        # A squashed merge, or a stash, that met conflicts leaves no other sign.
        await worktree.git("reset", "--merge", timeout_s=LONG_TIMEOUT_S)
        return "merge"
    raise NothingToAbort(str(worktree.path))
