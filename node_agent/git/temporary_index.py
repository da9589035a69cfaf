"""A copy of a worktree's index that may be changed while an agent works with the real one."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from node_agent.git.worktrees import Worktree


@contextlib.asynccontextmanager
async def temporary_index(
    worktree: Worktree, *, keep_objects: bool
) -> AsyncIterator[dict[str, str]]:
    """Copy the worktree's index and yield the environment that makes git use the copy.

    Without `keep_objects`, what git stores on the way goes when the copy goes.
    """
    folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="skep-index-")
    try:
        copy = Path(folder) / "index"
        # With its time: git tells by the index's age which entries it must look at again.
        # Git replaces an index by rename, so the copy is of one whole index. None there: empty.
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(shutil.copy2, worktree.index, copy)
        env = {"GIT_INDEX_FILE": str(copy)}
        if not keep_objects:
            objects = Path(folder) / "objects"
            # Where it is not there, git says that the whole repository is not.
            await asyncio.to_thread(objects.mkdir)
            env["GIT_OBJECT_DIRECTORY"] = str(objects)
            env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = _quoted(worktree.common_dir / "objects")
        yield env
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _quoted(path: Path) -> str:
    """The path as an entry of git's list of paths, which a colon or a quote would break."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
