"""A copy of a worktree's index that may be changed while an agent works with the real one."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from node_agent.git.worktrees import Worktree


@contextlib.asynccontextmanager
async def temporary_index(worktree: Worktree) -> AsyncIterator[dict[str, str]]:
    """Copy the worktree's index and yield the environment that makes git use the copy."""
    folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="skep-index-")
    try:
        copy = Path(folder) / "index"
        # With its time: git tells by the index's age which entries it must look at again.
        # Git replaces an index by rename, so the copy is of one whole index. None there: empty.
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(shutil.copy2, worktree.index, copy)
        yield {"GIT_INDEX_FILE": str(copy)}
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
