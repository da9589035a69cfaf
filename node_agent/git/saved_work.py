"""Uncommitted work kept safe: a commit under `refs/skep/saved/` that holds a worktree as it is.

Neither the worktree, nor its index, nor its branch is touched. Ignored files are not kept: they are
what a build makes again; nor are files we copied in, which the user's checkout has.
"""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node_agent.git.command import LONG_TIMEOUT_S
from node_agent.git.commit_identity import SKEP
from node_agent.git.locks import repository_lock
from node_agent.git.refs import NO_COMMIT, branch_ref, saved_ref
from node_agent.git.repository import Repository
from node_agent.git.temporary_index import temporary_index
from node_agent.git.untracked import untracked_paths
from node_agent.git.worktrees import Worktree

#: On the disk, not only in its cache, before anything is removed for it.
DURABLE: Final = ("-c", "core.fsync=all", "-c", "core.fsyncMethod=batch")
#: Options, environment and standard input (see `all_but`) that make `git add` leave paths out.
ALL_BUT: Final = ("--pathspec-from-file=-", "--pathspec-file-nul")
EXCLUDING: Final = {"GIT_LITERAL_PATHSPECS": "0"}
_LISTING_BYTES_MAX: Final = 256 * 1024 * 1024


@dataclass(frozen=True)
class SavedWork:
    """Where a worktree's work was saved: `commit` at `ref`, on top of `head`."""

    ref: str
    commit: str
    head: str | None


def all_but(paths: Iterable[bytes]) -> bytes:
    """Return pathspecs for the whole worktree without some paths."""
    return b".\0" + b"".join(b":(exclude,literal)" + path + b"\0" for path in paths)


async def save_work(worktree: Worktree) -> SavedWork | None:
    """Save uncommitted and untracked work, and commits that no branch of the attempt has.

    None where the branch has it all. Work saved before is never dropped: a new save stands on the
    former one.
    """
    ref = saved_ref(worktree.attempt_id)
    async with repository_lock(worktree.common_dir):
        head = await worktree.commit_of("HEAD")
        tree = await _snapshot(worktree)
        former = await worktree.commit_of(ref)
        # What was saved of this very commit before, and put back since, is to be seen no more.
        outdated = former is not None and await worktree.commit_of(f"{former}^1") == head
        clean = head is not None and await _tree_of(worktree, head) == tree
        if clean and not outdated and await branch_has_head(worktree):
            return None
        if former is not None and await _is_same(worktree, former, tree, head):
            return SavedWork(ref, former, head)
        parents = [parent for parent in (head, former) if parent is not None]
        commit = await _commit(worktree, worktree.attempt_id, tree, parents)
        await worktree.git(*DURABLE, "update-ref", ref, commit, former or NO_COMMIT)
        return SavedWork(ref, commit, head)


async def find_saved_work(repository: Repository, attempt_id: str) -> SavedWork | None:
    """Return what was saved of an attempt last; None where nothing was."""
    ref = saved_ref(attempt_id)
    commit = await repository.commit_of(ref)
    if commit is None:
        return None
    return SavedWork(ref, commit, await repository.commit_of(f"{ref}^1"))


async def restore_saved_work(repository: Repository, worktree: Worktree) -> bool:
    """Put saved work back into a worktree made again, as uncommitted changes.

    False, and nothing done, where nothing was saved or the branch has moved on since.
    """
    async with repository_lock(worktree.common_dir):
        saved = await find_saved_work(repository, worktree.attempt_id)
        if saved is None or saved.head != await worktree.commit_of("HEAD"):
            return False
        await worktree.git(
            "restore", f"--source={saved.commit}", "--worktree", "--", ".", timeout_s=LONG_TIMEOUT_S
        )
        return True


async def save_lost_head(repository: Repository, git_dir: Path, attempt_id: str) -> None:
    """Save the commit a worktree stood on whose folder is gone, if no ref of the repository has it.

    Nothing else of such a worktree is left to save.
    """
    env = {"GIT_DIR": str(git_dir)}
    found = await repository.git(
        "rev-parse", "--verify", "--quiet", "HEAD^{commit}", env=env, exit_codes=(0, 1, 128)
    )
    if found.exit_code:
        return
    head = found.line.decode()
    unreachable = await repository.git(
        "rev-list", "--max-count=1", head, "--not", "--branches", "--remotes", "--glob=refs/skep/*"
    )
    if unreachable.stdout:
        ref = saved_ref(attempt_id)
        former = await repository.commit_of(ref)
        kept = head
        if former is not None:
            # What was saved before may be nowhere else, and is not let go of for this.
            kept = await _commit(repository, attempt_id, f"{head}^{{tree}}", [head, former])
        await repository.git(*DURABLE, "update-ref", ref, kept, former or NO_COMMIT)


async def _snapshot(worktree: Worktree) -> str:
    """Write the worktree's files as a tree, by way of a copy of its index."""
    async with temporary_index(worktree, keep_objects=True) as env:
        await _unhide(worktree, env)
        return await add_files(worktree, env)


async def add_files(worktree: Worktree, env: dict[str, str]) -> str:
    """Bring a copied index to all files as they are, new ones too; return their tree."""
    untracked = await untracked_paths(worktree)
    await worktree.git(
        *DURABLE,
        "add",
        "--all",
        # Also outside what a sparse checkout shows: what lies there is work like any other.
        "--sparse",
        *ALL_BUT,
        stdin=all_but([*untracked.nested, *untracked.copied]),
        env=env | EXCLUDING,
        timeout_s=LONG_TIMEOUT_S,
    )
    written = await worktree.git(*DURABLE, "write-tree", env=env)
    return written.line.decode()


async def _unhide(worktree: Worktree, env: dict[str, str]) -> None:
    """Have the copied index look at files that someone told git not to look at."""
    listing = await worktree.git(
        "ls-files", "-v", "-z", env=env, output_bytes_max=_LISTING_BYTES_MAX
    )
    hidden = [
        entry[2:]
        for entry in listing.stdout.split(b"\0")
        # Small letters: assumed unchanged. S: skipped, as a sparse checkout does with what is
        # not there; what is there all the same is someone's work.
        if entry[:1].islower() or entry[:1] == b"S"
    ]
    there = await asyncio.to_thread(
        lambda: [path for path in hidden if os.path.lexists(worktree.path / os.fsdecode(path))]
    )
    if there:
        paths = b"".join(path + b"\0" for path in there)
        for flag in ("--no-assume-unchanged", "--no-skip-worktree"):
            await worktree.git("update-index", flag, "-z", "--stdin", stdin=paths, env=env)


async def _tree_of(worktree: Worktree, commit: str) -> str:
    found = await worktree.git("rev-parse", f"{commit}^{{tree}}")
    return found.line.decode()


async def branch_has_head(worktree: Worktree) -> bool:
    """Whether the attempt's branch holds the commit the worktree stands on."""
    found = await worktree.git(
        "merge-base",
        "--is-ancestor",
        "HEAD",
        branch_ref(worktree.branch),
        exit_codes=(0, 1, 128),
    )
    return found.exit_code == 0


async def _is_same(worktree: Worktree, saved: str, tree: str, head: str | None) -> bool:
    """Whether a saved commit already holds this tree on this head."""
    return (
        await _tree_of(worktree, saved) == tree and await worktree.commit_of(f"{saved}^1") == head
    )


async def _commit(
    place: Repository | Worktree, attempt_id: str, tree: str, parents: list[str]
) -> str:
    message = f"Uncommitted work of attempt {attempt_id}\n"
    made = await place.git(
        *DURABLE,
        "commit-tree",
        *(word for parent in parents for word in ("-p", parent)),
        tree,
        stdin=message.encode(),
        env=SKEP.environment,
    )
    return made.line.decode()
