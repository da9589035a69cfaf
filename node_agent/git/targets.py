"""What an attempt's work is measured against: its target branch, and where the two parted."""

from node_agent.git.errors import BranchMissing
from node_agent.git.refs import branch_ref
from node_agent.git.sources import Source


async def target_commit(source: Source, target_branch: str | None) -> str | None:
    """Return the commit of the target: the local branch, else a remote one; None without one."""
    if not target_branch:
        return None
    for ref in (
        branch_ref(target_branch),
        f"refs/remotes/{target_branch}",
        f"refs/remotes/origin/{target_branch}",
    ):
        commit = await source.repository.commit_of(ref)
        if commit is not None:
            return commit
    return None


async def merge_base(source: Source, one: str, other: str) -> str | None:
    """Return the commit two lines of work parted at; None where they share none."""
    found = await source.repository.git("merge-base", one, other, exit_codes=(0, 1))
    return found.stdout.split(b"\n")[0].decode() or None


async def diff_base(
    source: Source, *, against: str, target_branch: str | None, base_commit: str | None
) -> str:
    """Return the commit a diff of the attempt starts from.

    `against` is `target` (where work and target branch parted) or `base` (where the attempt
    began). Where there is no target any more, or it shares nothing with the work, the base stands
    in for it. Raises BranchMissing where there is neither.
    """
    target = await target_commit(source, target_branch) if against == "target" else None
    if target is not None and source.commit is not None:
        parted = await merge_base(source, target, source.commit)
        if parted is not None:
            return parted
    if base_commit:
        base = await source.repository.commit_of(base_commit)
        if base is not None:
            return base
    if target is not None:
        return target
    raise BranchMissing("target_branch", target_branch or base_commit or "")
