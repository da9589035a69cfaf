"""An attempt's branch under another name, in steps that can be taken again after a crash."""

import asyncio
from pathlib import Path

import msgspec

from node_agent.git.branch_errors import InvalidBranchName
from node_agent.git.checked_out import checked_out
from node_agent.git.errors import BranchInUse, InvalidRefName
from node_agent.git.folders import write_whole
from node_agent.git.refs import NO_COMMIT, branch_ref, check_branch_name
from node_agent.git.repository import Repository
from node_agent.git.saved_work import DURABLE
from node_agent.git.worktrees import MARK_FILE, Mark, Worktree


async def check_new_name(repository: Repository, before: str, after: str) -> None:
    """Raise InvalidBranchName, and BranchInUse where the name or a part of it is taken."""
    try:
        check_branch_name("branch", after)
    except InvalidRefName as error:
        raise InvalidBranchName(after, error.hint) from error
    listing = await repository.git("for-each-ref", "--format=%(refname)", "refs/heads")
    taken = set(listing.stdout.decode("utf-8", "surrogateescape").splitlines())
    taken.discard(branch_ref(before))
    ref = branch_ref(after)
    if ref in taken:
        raise BranchInUse(after, "is there already", "Take another name.")
    if any(name.startswith(f"{ref}/") or ref.startswith(f"{name}/") for name in taken):
        raise BranchInUse(
            after,
            "cannot stand beside a branch whose name is the beginning of the other's",
            "Take another name.",
        )


async def rename_branch(
    repository: Repository, worktree: Worktree | None, *, before: str, after: str, head: str
) -> None:
    """Rename it; what a crash left half done is brought to its end. `head` is its commit."""
    old, new = branch_ref(before), branch_ref(after)
    if await repository.commit_of(new) is None:
        if await repository.commit_of(old) is not None:
            await repository.git("branch", "-m", "--", before, after)
        else:
            # Git takes the old name away before it makes the new one.
            await repository.git(*DURABLE, "update-ref", new, head, NO_COMMIT)
    for place in await checked_out(repository, old):
        await place.git("symbolic-ref", "-m", f"renamed to {after}", "HEAD", new)
    if await repository.commit_of(old) == head:
        await repository.git("update-ref", "-d", old, head)
    if worktree is not None:
        await asyncio.to_thread(_mark, worktree, after)


def _mark(worktree: Worktree, branch: str) -> None:
    mark = Mark(attempt_id=worktree.attempt_id, branch=branch, base=worktree.base)
    path: Path = worktree.git_dir / MARK_FILE
    write_whole(path, msgspec.json.encode(mark) + b"\n")
