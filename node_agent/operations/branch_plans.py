"""What operations on branches write down before they act, so that a crash can be judged. Pure."""

from node_agent.operations.asking import Plan


class MergePlan(Plan, frozen=True, kw_only=True):
    """The target's ref moves from `before` to the commit `after`, which is made already."""

    ref: str
    before: str
    after: str
    target: str
    strategy: str
    uncommitted: int
    source: str


class PushIntent(Plan, frozen=True, kw_only=True):
    """The remote's ref moves from `before` to `after`."""

    remote: str
    ref: str
    before: str | None
    after: str
    force: bool
    source: str


class RebasePlan(Plan, frozen=True, kw_only=True):
    """The branch moves from `before` to `after`; None: git rebases it in the worktree."""

    ref: str
    before: str
    after: str | None
    upstream: str
    onto: str
    source: str


class AbortPlan(Plan, frozen=True, kw_only=True):
    """What stands half done in the worktree is given up."""


class TargetPlan(Plan, frozen=True, kw_only=True):
    """The attempt's target becomes `branch`."""

    branch: str


class RenamePlan(Plan, frozen=True, kw_only=True):
    """The branch `before`, at the commit `head`, becomes `after`."""

    before: str
    after: str
    head: str


class StashPlan(Plan, frozen=True, kw_only=True):
    """The attempt's stash ref moves from `before` to `after`, and the worktree back to `head`."""

    before: str | None
    after: str
    head: str


class PopPlan(Plan, frozen=True, kw_only=True):
    """The worktree's files go from one tree to the other; then `stash` gives way to `former`."""

    stash: str
    former: str | None
    files_before: str
    files_after: str
    head: str
