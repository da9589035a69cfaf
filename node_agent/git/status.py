"""Where an attempt's branch stands against its target and its remote, and what is uncommitted."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from node_agent.git.path_text import to_text
from node_agent.git.refs import branch_ref
from node_agent.git.sources import Source
from node_agent.git.targets import merge_base, target_commit
from node_agent.git.uncommitted import CONFLICTING, UNTRACKED, uncommitted
from node_agent.git.unfinished import unfinished
from node_agent.git.untracked import copied_paths
from node_agent.git.worktrees import Worktree
from protocol.work_requests import BranchStatusReply

#: Files in conflict that a reply names; there are rarely more than a screen of them.
CONFLICTS_MAX: Final = 1000


@dataclass
class _Changes:
    dirty: int = 0
    untracked: int = 0
    conflicts: list[str] = field(default_factory=list)


async def branch_status(
    source: Source, *, target_branch: str | None, base_commit: str | None
) -> BranchStatusReply:
    """Return the branch's state; of a worktree that is gone, what the branch alone says."""
    target = await target_commit(source, target_branch)
    base = base_commit
    ahead = behind = 0
    if source.head is not None and target is not None:
        ahead, behind = await _apart(source, source.head, target)
        base = await merge_base(source, target, source.head) or base_commit
    elif source.head is not None and base_commit is not None:
        ahead, _ = await _apart(source, source.head, base_commit)
    upstream = await _upstream(source)
    remote: tuple[int, int] | None = None
    if source.head is not None and upstream is not None:
        remote = await _apart(source, source.head, upstream)
    worktree = source.worktree
    changes = await _changes(worktree) if worktree is not None else _Changes()
    open_work = await asyncio.to_thread(unfinished, worktree.git_dir) if worktree else None
    return BranchStatusReply(
        branch=source.branch,
        target_branch=target_branch,
        head=source.head,
        base=base,
        ahead=ahead,
        behind=behind,
        remote_ahead=remote[0] if remote else None,
        remote_behind=remote[1] if remote else None,
        dirty=changes.dirty,
        untracked=changes.untracked,
        conflicts=changes.conflicts,
        rebase_in_progress=open_work == "rebase",
        merge_in_progress=open_work == "merge",
        in_progress=open_work,
        remote_head=upstream,
        source=source.kind,
    )


async def _apart(source: Source, head: str, other: str) -> tuple[int, int]:
    """How many commits `head` has that `other` has not, and the other way round."""
    counted = await source.repository.git(
        "rev-list", "--left-right", "--count", f"{head}...{other}", "--"
    )
    ahead, behind = counted.stdout.split()
    return int(ahead), int(behind)


async def _upstream(source: Source) -> str | None:
    """The commit of the branch's remote counterpart, as of the last fetch or push."""
    found = await source.repository.git(
        "for-each-ref", "--format=%(upstream)", branch_ref(source.branch)
    )
    refs = [found.line.decode("utf-8", "surrogateescape"), f"refs/remotes/origin/{source.branch}"]
    for ref in refs:
        if ref and (commit := await source.repository.commit_of(ref)) is not None:
            return commit
    return None


async def _changes(worktree: Worktree) -> _Changes:
    """Count what is uncommitted, holding none of it but the conflicts' names."""
    changes = _Changes()
    copied = copied_paths(worktree)
    async with uncommitted(worktree) as found:
        async for kind, path in found:
            if kind == UNTRACKED:
                changes.untracked += path not in copied
            else:
                changes.dirty += 1
            if kind == CONFLICTING and len(changes.conflicts) < CONFLICTS_MAX:
                changes.conflicts.append(to_text(path))
    return changes
