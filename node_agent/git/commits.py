"""An attempt's commits, page by page, and those between any two points of a repository."""

import asyncio
import re
from typing import Final

from node_agent.git.errors import InvalidInput
from node_agent.git.merge import holds
from node_agent.git.refs import branch_ref
from node_agent.git.repository import Repository
from node_agent.git.sources import Source
from node_agent.git.targets import merge_base, target_commit
from node_agent.git.unfinished import unfinished
from protocol.branch_requests import CommitEntry, CommitsReply

LIMIT_MAX: Final = 200
_FIELDS: Final = ("%H", "%P", "%at", "%ct", "%an", "%ae", "%s")
_SUBJECT_CHARACTERS_MAX: Final = 1000
_CURSOR: Final = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})\.([0-9]{1,9})")


async def attempt_commits(
    source: Source,
    *,
    target_branch: str | None,
    base_commit: str | None,
    after: str | None,
    limit: int,
) -> CommitsReply:
    """Return a page of what the attempt committed; its first page fixes the head of the others."""
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidInput("limit", str(limit), f"Ask for 1 to {LIMIT_MAX}.")
    head, skip = await _head(source), 0
    if after is not None:
        head, skip = await _place(source.repository, after)
    if head is None:
        return CommitsReply(head=None, base=base_commit, commits=[], source=source.kind)
    base = await _base(source, head, target_branch, base_commit)
    found = await commits_between(source.repository, base, head, skip=skip, limit=limit + 1)
    following = f"{head}.{skip + limit}" if len(found) > limit else None
    return CommitsReply(
        head=head, base=base, commits=found[:limit], next=following, source=source.kind
    )


async def commits_between(
    repository: Repository, base: str | None, head: str, *, skip: int = 0, limit: int
) -> list[CommitEntry]:
    """Return commits of `head` that `base` has not, newest first."""
    said = await repository.git(
        "log",
        "-z",
        "--no-show-signature",
        "--no-decorate",
        f"--format={'%x00'.join(_FIELDS)}",
        f"--skip={skip}",
        f"--max-count={limit}",
        head if base is None else f"{base}..{head}",
        "--",
    )
    texts = said.stdout.decode("utf-8", "replace").split("\0")
    rows = zip(*[iter(texts)] * len(_FIELDS), strict=False)
    return [_entry(row) for row in rows]


def _entry(row: tuple[str, ...]) -> CommitEntry:
    commit, parents, authored_s, committed_s, name, email, subject = row
    return CommitEntry(
        id=commit,
        parents=parents.split(),
        subject=subject[:_SUBJECT_CHARACTERS_MAX],
        author_name=name,
        author_email=email,
        authored_at_ms=_ms(authored_s),
        committed_at_ms=_ms(committed_s),
    )


def _ms(seconds: str) -> int:
    return int(seconds) * 1000 if seconds.lstrip("-").isdecimal() else 0


async def _head(source: Source) -> str | None:
    """Where the attempt's commits are: in a rebase, HEAD stands on what came to its new base."""
    worktree = source.worktree
    if worktree is not None and await asyncio.to_thread(unfinished, worktree.git_dir) == "rebase":
        return await source.repository.commit_of(branch_ref(source.branch)) or source.head
    return source.head


async def _base(
    source: Source, head: str, target_branch: str | None, base_commit: str | None
) -> str | None:
    """What the attempt's own commits come after."""
    target = await target_commit(source, target_branch)
    began = await source.repository.commit_of(base_commit) if base_commit else None
    if target is None or await holds(source.repository, target, head):
        # Merged already, or measured against nothing: what came since it began.
        return began
    return await merge_base(source, target, head) or began


async def _place(repository: Repository, after: str) -> tuple[str, int]:
    found = _CURSOR.fullmatch(after)
    head = await repository.commit_of(found[1]) if found else None
    if found is None or head is None:
        raise InvalidInput("after", after, "Take the `next` of a page.")
    return head, int(found[2])
