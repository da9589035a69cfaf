"""Requests and replies of operations on an attempt's branch: commits, merge, push, rebase, names.

Commits are whole ids. `source` says what was worked from: the worktree, the branch, or the saved
ref of a worktree that is gone.
"""

import msgspec

from protocol.operation_values import Request


class CommitsRequest(Request, frozen=True):
    """One page of the attempt's own commits, newest first; `after` is the `next` of a page."""

    after: str | None = None
    limit: int = 50


class CommitEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One commit. Times are wall-clock milliseconds."""

    id: str
    parents: list[str]
    subject: str
    author_name: str
    author_email: str
    authored_at_ms: int
    committed_at_ms: int


class CommitsReply(msgspec.Struct, frozen=True, kw_only=True):
    """Commits of `head` that `base` has not; `next` continues them."""

    head: str | None
    base: str | None
    commits: list[CommitEntry]
    next: str | None = None
    source: str = "worktree"


class CompareRequest(Request, frozen=True):
    """What `to` has that `from` has not: commits and patch. Branches, tags or commits.

    Default: from the target branch to the attempt's head. Uncommitted work is not in it.
    """

    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    context: int = 3
    path: str | None = None
    stat: bool = False


class MergeRequest(Request, frozen=True):
    """Merge the attempt's commits into its target branch.

    `strategy` is `squash` (one commit with all changes) or `merge` (a commit with two parents).
    """

    strategy: str = "squash"
    message: str | None = None


class MergeReply(msgspec.Struct, frozen=True, kw_only=True):
    """`commit` is where `target` stands now; `target_before` where it stood.

    `head` is the attempt's commit that was merged; `uncommitted` counts files that were not
    committed, and so are not in it.
    """

    commit: str
    target: str
    target_before: str
    head: str
    strategy: str
    uncommitted: int = 0
    source: str = "worktree"


class PushRequest(Request, frozen=True):
    """Push the attempt's branch to its remote.

    `force` overwrites what is there, if that still is `expected_remote_head`.
    """

    force: bool = False
    expected_remote_head: str | None = None


class PushReply(msgspec.Struct, frozen=True, kw_only=True):
    """`ref` of `remote` stands at `after`; before, at `before` (None: it was not there)."""

    remote: str
    url: str
    ref: str
    before: str | None
    after: str
    head: str
    forced: bool = False
    source: str = "worktree"


class RebaseRequest(Request, frozen=True):
    """Put the attempt's commits on top of its target branch, or of `new_base`."""

    new_base: str | None = None


class RebaseReply(msgspec.Struct, frozen=True, kw_only=True):
    """`head` is the branch's commit now, `onto` the commit its work stands on."""

    head: str
    head_before: str
    onto: str
    source: str = "worktree"


class AbortConflictsRequest(Request, frozen=True):
    """Abort the merge, rebase, cherry-pick or revert that stands half done in the worktree."""


class TargetBranchRequest(Request, frozen=True):
    """Have the attempt's work go to another branch from now on."""

    branch: str


class RenameBranchRequest(Request, frozen=True):
    """Give the attempt's branch another name."""

    branch: str


class RenameBranchReply(msgspec.Struct, frozen=True, kw_only=True):
    """The branch under its new name."""

    branch: str
    branch_before: str
    head: str


class StashRequest(Request, frozen=True):
    """Put the worktree's uncommitted and new files aside; ignored ones stay."""

    message: str | None = None


class StashReply(msgspec.Struct, frozen=True, kw_only=True):
    """`ref` holds the attempt's stashes, `depth` of them; `commit` is the newest."""

    ref: str
    commit: str
    head: str
    depth: int


class StashPopRequest(Request, frozen=True):
    """Bring the newest stash of the attempt back into its worktree, on top of what is there."""


class StashPopReply(msgspec.Struct, frozen=True, kw_only=True):
    """`commit` was brought back; `depth` stashes are left under `ref`."""

    ref: str
    commit: str
    head: str
    depth: int
