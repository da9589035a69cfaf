"""Commits made again on top of another commit, as objects alone.

No worktree is used, so what does not go together changes nothing. Authors, dates and messages stay
as they were, byte for byte; merges are left out, and what the new base has already. Must not move
anything.
"""

import re
import time
from typing import Final

from node_agent.git.commit_identity import SKEP, CommitIdentity
from node_agent.git.errors import GitError
from node_agent.git.merge import make_commit, merged_tree, tree_of
from node_agent.git.repository import Repository
from node_agent.git.saved_work import DURABLE
from protocol.errors import ErrorCode

COMMITS_MAX: Final = 500
_COMMIT_BYTES_MAX: Final = 4 * 1024 * 1024
_AUTHOR: Final = re.compile(rb"^author .*$", re.MULTILINE)
_ENCODING: Final = re.compile(rb"^encoding .*$", re.MULTILINE)


class TooManyCommits(GitError):  # noqa: N818  names what is wrong, as all our errors do
    """More commits than are made again one by one."""

    def __init__(self, count: int) -> None:
        super().__init__(
            ErrorCode.TOO_LARGE,
            f"{count} commits are more than the {COMMITS_MAX} that are put on another base",
            hint="Squash some of them, or merge the base into the branch.",
        )


async def replay(
    repository: Repository, *, upstream: str, head: str, onto: str, identity: CommitIdentity
) -> str:
    """Make the commits of `head` that `upstream` has not again on `onto`; return the last of them.

    Raises Conflicts, and TooManyCommits.
    """
    listing = await repository.git(
        "rev-list",
        "--reverse",
        "--topo-order",
        "--no-merges",
        "--right-only",
        "--cherry-pick",
        f"{upstream}...{head}",
        "--",
    )
    commits = listing.stdout.decode().split()
    if len(commits) > COMMITS_MAX:
        raise TooManyCommits(len(commits))
    tip = onto
    for commit in commits:
        tip = await _on_top(repository, commit, tip, identity)
    return tip


async def _on_top(repository: Repository, commit: str, tip: str, identity: CommitIdentity) -> str:
    parent = await repository.commit_of(f"{commit}^")
    if parent == tip:
        return commit
    ours = await tree_of(repository, tip)
    # Git takes the base of a merge from history alone: so the tip's files are given one.
    parents = [] if parent is None else [parent]
    stand_in = await make_commit(repository, ours, parents, "stand-in", SKEP)
    tree = await merged_tree(repository, stand_in, commit, doing=f"putting {commit[:12]} on top")
    before = None if parent is None else await tree_of(repository, parent)
    if tree == ours and await tree_of(repository, commit) != before:
        # The new base has it already. One that was empty from the start is kept.
        return tip
    return await _made_again(repository, commit, tree, tip, identity)


async def _made_again(
    repository: Repository, commit: str, tree: str, parent: str, identity: CommitIdentity
) -> str:
    read = await repository.git("cat-file", "commit", commit, output_bytes_max=_COMMIT_BYTES_MAX)
    header, _, message = read.stdout.partition(b"\n\n")
    committer = f"committer {identity.name} <{identity.email}> {int(time.time())} +0000"
    lines = [b"tree " + tree.encode(), b"parent " + parent.encode()]
    lines += _AUTHOR.findall(header)[:1]
    lines.append(committer.encode())
    lines += _ENCODING.findall(header)[:1]
    made = await repository.git(
        *DURABLE,
        "hash-object",
        "-t",
        "commit",
        "-w",
        "--stdin",
        stdin=b"\n".join(lines) + b"\n\n" + message,
    )
    return made.line.decode()
