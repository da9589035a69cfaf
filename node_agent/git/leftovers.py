"""Work an agent left uncommitted, committed where the project wants that."""

import contextlib
from collections.abc import Sequence
from typing import Final

from node_agent.git.command import LONG_TIMEOUT_S
from node_agent.git.commit_identity import CommitIdentity
from node_agent.git.errors import ConflictsOpen, InvalidInput
from node_agent.git.locks import repository_lock
from node_agent.git.path_text import to_text
from node_agent.git.saved_work import ALL_BUT, DURABLE, EXCLUDING, all_but
from node_agent.git.untracked import untracked_paths
from node_agent.git.worktrees import Worktree

#: Files in a worktree's git folder that say that something is half done.
REBASE_SIGNS: Final = ("rebase-merge", "rebase-apply")
MERGE_SIGN: Final = "MERGE_HEAD"


async def commit_all(worktree: Worktree, message: str, identity: CommitIdentity) -> str | None:
    """Commit all changes and new files, but ignored ones; None where there is nothing to commit.

    No process of the attempt may be left: the lock of an index that a killed git left behind is
    taken away. Raises ConflictsOpen where a rebase or a merge stands half done. Nested repositories
    and files we copied in are left out.
    """
    if not message.strip() or "\0" in message:
        raise InvalidInput("message", message, "A commit needs a message.")
    async with repository_lock(worktree.common_dir):
        with contextlib.suppress(FileNotFoundError):
            (worktree.git_dir / "index.lock").unlink()
        await _check_nothing_open(worktree)
        untracked = await untracked_paths(worktree)
        await _stage(worktree, [*untracked.nested, *untracked.copied])
        if not await _anything_staged(worktree):
            return None
        await worktree.git(
            *DURABLE,
            "commit",
            "--no-verify",
            "--quiet",
            "--cleanup=verbatim",
            "--file=-",
            stdin=message.encode("utf-8", "replace"),
            env=identity.environment,
            timeout_s=LONG_TIMEOUT_S,
        )
        return await worktree.commit_of("HEAD")


async def _stage(worktree: Worktree, left_out: Sequence[bytes]) -> None:
    await worktree.git(
        *DURABLE,
        "add",
        "--all",
        # Also outside what a sparse checkout shows: what lies there is work like any other.
        "--sparse",
        *ALL_BUT,
        stdin=all_but(left_out),
        env=EXCLUDING,
        timeout_s=LONG_TIMEOUT_S,
    )


async def _anything_staged(worktree: Worktree) -> bool:
    if (worktree.git_dir / MERGE_SIGN).exists():
        return True
    if await worktree.commit_of("HEAD") is None:
        listing = await worktree.git("ls-files", "-z")
        return bool(listing.stdout)
    staged = await worktree.git("diff-index", "--cached", "--quiet", "HEAD", exit_codes=(0, 1))
    return staged.exit_code == 1


async def _check_nothing_open(worktree: Worktree) -> None:
    if any((worktree.git_dir / sign).exists() for sign in REBASE_SIGNS):
        raise ConflictsOpen(str(worktree.path), "a rebase is not finished")
    unmerged = await worktree.git("diff-files", "--name-only", "--diff-filter=U", "-z")
    conflicts = sorted({to_text(path) for path in unmerged.stdout.split(b"\0") if path})
    if conflicts:
        raise ConflictsOpen(str(worktree.path), "conflicts are not resolved", conflicts)
