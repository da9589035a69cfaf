"""An attempt's commits merged into its target branch, made as objects alone.

No worktree is used, so none can be left half merged: git merges the trees, we make the commit, and
`branch_moves` moves the branch. Must not move anything itself.
"""

import asyncio
from typing import Final

from node_agent.git.branch_errors import Conflicts, NothingToMerge, RebaseInProgress
from node_agent.git.branch_moves import BranchMove
from node_agent.git.command import LONG_TIMEOUT_S
from node_agent.git.commit_identity import CommitIdentity
from node_agent.git.errors import BranchMissing, GitFailed, InvalidInput
from node_agent.git.path_text import to_text
from node_agent.git.refs import branch_ref
from node_agent.git.repository import Repository
from node_agent.git.saved_work import DURABLE
from node_agent.git.sources import Source
from node_agent.git.unfinished import unfinished

SQUASH: Final = "squash"
MERGE: Final = "merge"
STRATEGIES: Final = (SQUASH, MERGE)
MESSAGE_BYTES_MAX: Final = 64 * 1024
_SUBJECTS_MAX: Final = 100


async def prepare_merge(
    source: Source,
    *,
    target_branch: str,
    strategy: str,
    message: str | None,
    title: str,
    identity: CommitIdentity,
) -> BranchMove:
    """Make the commit the target branch is to stand at, and return the move to it.

    `title` is what the commit says where no `message` is given. Raises BranchMissing,
    RebaseInProgress, NothingToMerge, Conflicts.
    """
    if strategy not in STRATEGIES:
        raise InvalidInput("strategy", strategy, f"Use {' or '.join(STRATEGIES)}.")
    if message is not None:
        check_message(message)
    repository = source.repository
    await check_finished(source)
    ref = branch_ref(target_branch)
    target = await repository.commit_of(ref)
    if target is None:
        raise BranchMissing("target_branch", target_branch)
    head = source.head
    if head is None or await holds(repository, target, head):
        raise NothingToMerge(target_branch, head)
    tree = await merged_tree(repository, target, head, doing=f"the merge into {target_branch}")
    if strategy == SQUASH and tree == await tree_of(repository, target):
        raise NothingToMerge(target_branch, head)
    text = message or await _default_message(source, target, head, strategy, target_branch, title)
    parents = [target] if strategy == SQUASH else [target, head]
    return BranchMove(ref, target, await make_commit(repository, tree, parents, text, identity))


async def check_finished(source: Source) -> None:
    """Raise RebaseInProgress where something stands half done in the attempt's worktree."""
    if source.worktree is not None:
        what = await asyncio.to_thread(unfinished, source.worktree.git_dir)
        if what is not None and what != "bisect":
            raise RebaseInProgress(str(source.worktree.path), what)


def check_message(message: str) -> str:
    """Return a commit's message if it may be one; else InvalidInput."""
    size = len(message.encode("utf-8", "replace"))
    if not message.strip() or "\0" in message or size > MESSAGE_BYTES_MAX:
        raise InvalidInput(
            "message", message, f"Some text, without zero bytes, at most {MESSAGE_BYTES_MAX} bytes."
        )
    return message


async def merged_tree(repository: Repository, ours: str, theirs: str, *, doing: str) -> str:
    """Merge two commits' trees and return the tree; Conflicts where they do not go together."""
    try:
        found = await repository.git(
            *DURABLE,
            "-c",
            "merge.renames=true",
            "merge-tree",
            "--write-tree",
            "-z",
            "--name-only",
            "--no-messages",
            ours,
            theirs,
            timeout_s=LONG_TIMEOUT_S,
            exit_codes=(0, 1),
        )
    except GitFailed as error:
        if "unrelated histories" in error.stderr:
            raise InvalidInput(
                "target_branch", theirs, "The two branches share no commit; nothing can be merged."
            ) from error
        raise
    tree, *names = [part for part in found.stdout.split(b"\0") if part]
    if found.exit_code == 1:
        raise Conflicts(doing, [to_text(name) for name in dict.fromkeys(names)])
    return tree.decode()


async def make_commit(
    repository: Repository,
    tree: str,
    parents: list[str],
    message: str,
    identity: CommitIdentity,
) -> str:
    """Make a commit of a tree; nothing points to it yet."""
    made = await repository.git(
        *DURABLE,
        "commit-tree",
        *(word for parent in parents for word in ("-p", parent)),
        tree,
        stdin=message.encode("utf-8", "replace").rstrip(b"\n") + b"\n",
        env=identity.environment,
    )
    return made.line.decode()


async def holds(repository: Repository, commit: str, other: str) -> bool:
    """Whether `commit` has `other` among its ancestors, or is it."""
    found = await repository.git("merge-base", "--is-ancestor", other, commit, exit_codes=(0, 1))
    return found.exit_code == 0


async def tree_of(repository: Repository, commit: str) -> str:
    """Return the tree of a commit."""
    found = await repository.git("rev-parse", "--verify", f"{commit}^{{tree}}")
    return found.line.decode()


async def _default_message(
    source: Source, target: str, head: str, strategy: str, target_branch: str, title: str
) -> str:
    subject = " ".join(title.split()) or f"Work of {source.branch}"
    if strategy == MERGE:
        return f"Merge branch '{source.branch}' into {target_branch}\n\n{subject}\n"
    log = await source.repository.git(
        "log",
        "--reverse",
        "--no-merges",
        "--format=* %s",
        f"{target}..{head}",
        "--",
    )
    subjects = log.stdout.decode("utf-8", "replace").splitlines()
    if len(subjects) < 2:
        return f"{subject}\n"
    more = len(subjects) - _SUBJECTS_MAX
    shown = subjects[:_SUBJECTS_MAX] + ([f"* and {more} more"] if more > 0 else [])
    return "\n".join([subject, "", *shown]) + "\n"
