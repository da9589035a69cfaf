"""Uncommitted work put aside, and brought back: the attempt's own stashes, one upon the other.

They stand under a ref of the attempt: git's own stash is shared by all worktrees of a repository,
and is the user's. New files go along; ignored ones, nested repositories and files we copied in
stay. Both ways change all of a worktree's files or none, and never one that changed meanwhile.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from node_agent.git.branch_errors import CheckoutDirty, Conflicts, NothingToStash, RebaseInProgress
from node_agent.git.checked_out import CheckedOut
from node_agent.git.command import LONG_TIMEOUT_S
from node_agent.git.commit_identity import SKEP
from node_agent.git.errors import GitFailed
from node_agent.git.merge import make_commit, merged_tree, tree_of
from node_agent.git.refs import NO_COMMIT, check_attempt_id
from node_agent.git.repository import Repository
from node_agent.git.saved_work import DURABLE, add_files
from node_agent.git.temporary_index import temporary_index
from node_agent.git.unfinished import unfinished, unmerged_paths
from node_agent.git.worktrees import Worktree

STASH_PREFIX: Final = "refs/skep/stash/"


def stash_ref(attempt_id: str) -> str:
    """Return the full name of the ref that holds an attempt's stashes."""
    return f"{STASH_PREFIX}{check_attempt_id(attempt_id)}"


async def stash_depth(repository: Repository, attempt_id: str) -> int:
    """Return how many stashes an attempt has."""
    commit = await repository.commit_of(stash_ref(attempt_id))
    depth = 0
    while commit is not None:
        depth += 1
        commit = await former_stash(repository, commit)
    return depth


async def former_stash(repository: Repository, commit: str) -> str | None:
    """Return the stash below one."""
    return await repository.commit_of(f"{commit}^2")


async def check_can_stash(worktree: Worktree) -> None:
    """Raise RebaseInProgress, or Conflicts where files are in conflict."""
    what = await asyncio.to_thread(unfinished, worktree.git_dir)
    if what is not None:
        raise RebaseInProgress(str(worktree.path), what)
    if files := await unmerged_paths(worktree):
        raise Conflicts("the worktree", files, left_open=str(worktree.path))


async def make_stash(repository: Repository, worktree: Worktree, head: str, message: str) -> str:
    """Make the commit that holds all uncommitted work. Raises NothingToStash."""
    tree = await files_tree(worktree)
    if tree == await tree_of(repository, head):
        raise NothingToStash(f"nothing is uncommitted in {worktree.path}")
    former = await repository.commit_of(stash_ref(worktree.attempt_id))
    parents = [head] if former is None else [head, former]
    return await make_commit(repository, tree, parents, message, SKEP)


async def move_stash_ref(
    repository: Repository, attempt_id: str, before: str | None, after: str | None
) -> None:
    """Have the ref hold another stash, or none any more; it must hold what was found."""
    ref = stash_ref(attempt_id)
    if after is None:
        await repository.git("update-ref", "-d", ref, before or NO_COMMIT)
    else:
        await repository.git(*DURABLE, "update-ref", ref, after, before or NO_COMMIT)


async def clear_stashed(repository: Repository, worktree: Worktree, stash: str, head: str) -> None:
    """Take out of the worktree what a stash holds; what changed since then keeps all of it."""
    async with _all_files(worktree) as (env, tree):
        if tree == await tree_of(repository, head):
            return
        if tree != await tree_of(repository, stash):
            raise _changed(worktree)
        await _switch(worktree, env, tree, head)
    # What was staged is in the stash; the index is the commit's again.
    await worktree.git("reset", "--quiet", "--mixed", head, timeout_s=LONG_TIMEOUT_S)


async def popped_tree(repository: Repository, worktree: Worktree, stash: str) -> tuple[str, str]:
    """Return the worktree's files as they are, and with a stash on top of them, as trees.

    Raises Conflicts where the two do not go together, and CheckoutDirty where the stash holds a
    file that would overwrite an ignored one.
    """
    base = await repository.commit_of(f"{stash}^1")
    tree = await files_tree(worktree)
    parents = [] if base is None else [base]
    standing = await make_commit(repository, tree, parents, "stand-in", SKEP)
    only_stash = await make_commit(
        repository, await tree_of(repository, stash), parents, "stand-in", SKEP
    )
    after = await merged_tree(repository, standing, only_stash, doing="bringing the stash back")
    files = await CheckedOut(worktree.path, worktree.git_dir).in_the_way(tree, after)
    if files:
        raise CheckoutDirty(
            str(worktree.path),
            "has ignored files that would be overwritten",
            files,
            hint="Move them away, then ask again.",
        )
    return tree, after


async def put_back(worktree: Worktree, before: str, after: str) -> None:
    """Change the worktree's files from one tree to another, if they still are the first."""
    async with _all_files(worktree) as (env, tree):
        if tree == after:
            return
        if tree != before:
            raise _changed(worktree)
        await _switch(worktree, env, before, after)
    # The index stays; only its notes of files that were changed are made anew.
    await worktree.git("update-index", "-q", "--refresh", exit_codes=(0, 1))


async def files_tree(worktree: Worktree) -> str:
    """Return the worktree's files as they are, new ones too, as a tree."""
    async with _all_files(worktree) as (_, tree):
        return tree


@contextlib.asynccontextmanager
async def _all_files(worktree: Worktree) -> AsyncIterator[tuple[dict[str, str], str]]:
    """Yield the environment of an index that knows all files as they are, and their tree."""
    async with temporary_index(worktree, keep_objects=True) as env:
        yield env, await add_files(worktree, env)


async def _switch(worktree: Worktree, env: dict[str, str], before: str, after: str) -> None:
    try:
        await worktree.git(
            # Else files outside a sparse checkout would not come back, and be lost with the stash.
            "read-tree",
            "--no-sparse-checkout",
            "-m",
            "-u",
            before,
            after,
            env=env,
            timeout_s=LONG_TIMEOUT_S,
        )
    except GitFailed as error:
        if "not uptodate" in error.stderr or "would be overwritten" in error.stderr:
            raise _changed(worktree) from error
        raise


def _changed(worktree: Worktree) -> CheckoutDirty:
    return CheckoutDirty(
        str(worktree.path),
        "changed meanwhile; the stash is kept",
        hint="Is something at work there? Look at it, then ask again.",
    )
