"""`commits` and `compare`: what an attempt committed, and what any branch has that another has not.

Reads the repository and writes nothing. Must not know who asks.
"""

from dataclasses import replace
from typing import Final

import msgspec

from node_agent.git.commits import attempt_commits, commits_between
from node_agent.git.diff import diff_pieces
from node_agent.git.errors import BranchMissing
from node_agent.git.repository import resolve_base
from node_agent.git.sources import Source
from node_agent.git.targets import merge_base, target_commit
from node_agent.operations.asking import Asking, Streamed
from node_agent.operations.diff_document import DiffDocument
from node_agent.operations.work import WorkReading
from protocol.branch_requests import CommitsReply, CommitsRequest, CompareRequest
from protocol.entities import Attempt
from protocol.operation_values import StreamHead

#: Of a comparison's commits, what its document names; the rest is counted as "more".
COMMITS_MAX: Final = 500


class BranchReading:
    """Reads commits."""

    def __init__(self, work: WorkReading) -> None:
        self._work = work

    async def commits(self, asking: Asking) -> CommitsReply:
        """Answer a page of the attempt's own commits."""
        request = asking.request
        assert isinstance(request, CommitsRequest)  # noqa: S101  the table's own pairing
        attempt, source = await self._work.source(asking)
        return await attempt_commits(
            source,
            target_branch=attempt.target_branch,
            base_commit=attempt.base_commit or None,
            after=request.after,
            limit=request.limit,
        )

    async def compare(self, asking: Asking) -> Streamed:
        """Answer commits and patch between two points."""
        request = asking.request
        assert isinstance(request, CompareRequest)  # noqa: S101  the table's own pairing
        attempt, source = await self._work.source(asking)
        start = await _start(attempt, source, request.from_)
        end = source.head
        if request.to is not None:
            end = await resolve_base(source.repository, request.to, field="to")
        if end is None:
            raise BranchMissing("to", source.branch)
        base = await merge_base(source, start, end) or start
        commits = await commits_between(source.repository, start, end, limit=COMMITS_MAX + 1)
        # Two commits are compared, and no worktree.
        at_end = replace(source, kind="branch", worktree=None, head=end, commit=end)
        found = diff_pieces(
            at_end, base=base, context=request.context, path=request.path, stat=request.stat
        )
        beside = {
            "from": start,
            "to": end,
            "commits": msgspec.to_builtins(commits[:COMMITS_MAX]),
            "more_commits": len(commits) > COMMITS_MAX,
            "source": source.kind,
        }
        document = await DiffDocument.open(found, beside)
        return Streamed(StreamHead(media_type="application/json"), document)


async def _start(attempt: Attempt, source: Source, name: str | None) -> str:
    if name is not None:
        return await resolve_base(source.repository, name, field="from")
    target = await target_commit(source, attempt.target_branch)
    if target is None and attempt.base_commit:
        target = await source.repository.commit_of(attempt.base_commit)
    if target is None:
        raise BranchMissing("from", attempt.target_branch or "")
    return target
