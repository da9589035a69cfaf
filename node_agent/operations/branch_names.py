"""`target_branch`, `rename_branch`: what an attempt's branch is called, and where its work goes.

A name stands in git and in the attempt's row; the row changes last, and a crash between is brought
to its end. Must not know who asks.
"""

import asyncio
from typing import Final

import msgspec

from node_agent.failpoints import failpoint
from node_agent.git.branch_errors import OpenPullRequest, RebaseInProgress
from node_agent.git.branch_rename import check_new_name, rename_branch
from node_agent.git.errors import BranchMissing, InvalidInput
from node_agent.git.locks import repository_lock
from node_agent.git.refs import branch_ref, check_ref_name
from node_agent.git.targets import target_commit
from node_agent.git.unfinished import unfinished
from node_agent.operations.asking import Asking, Interrupted
from node_agent.operations.branch_place import BranchPlace, BranchPlaces, any_head, intend, planned
from node_agent.operations.branch_plans import RenamePlan, TargetPlan
from node_agent.operations.work import status_of
from node_agent.stamps import now_ms
from node_agent.store import attempts
from node_agent.store.database import Database
from node_agent.store.transaction import Transaction
from protocol.branch_requests import RenameBranchReply, RenameBranchRequest, TargetBranchRequest
from protocol.work_requests import BranchStatusReply

#: A renamed branch would leave such a pull request without its commits.
_OPEN: Final = frozenset({"open", "draft"})


class BranchNames:
    """Changes targets and names."""

    def __init__(self, database: Database, places: BranchPlaces) -> None:
        self._database = database
        self._places = places

    # --- target -------------------------------------------------------------------------------

    async def target_branch(self, asking: Asking) -> BranchStatusReply:
        """Have the attempt's work go to another branch."""
        request = asking.request
        assert isinstance(request, TargetBranchRequest)  # noqa: S101  the table's own pairing
        place = await self._places.find(asking)
        branch = check_ref_name("branch", request.branch)
        if branch == place.attempt.branch:
            raise InvalidInput("branch", branch, "It is the attempt's own branch.")
        if await target_commit(place.source, branch) is None:
            raise BranchMissing("branch", branch)
        await intend(asking, TargetPlan(head_before=place.source.head, branch=branch))
        return await self._retarget(asking, branch)

    async def resume_target(self, interrupted: Interrupted) -> BranchStatusReply:
        """Finish a change of target that a crash cut short."""
        asking = interrupted.asking
        plan = planned(interrupted.plan, TargetPlan)
        place = await self._places.find(any_head(asking))
        if place.attempt.target_branch != plan.branch:
            interrupted.check_wanted()
        return await self._retarget(asking, plan.branch)

    async def _retarget(self, asking: Asking, branch: str) -> BranchStatusReply:
        await self._database.write(_set, asking.attempt_id, {"target_branch": branch})
        place = await self._places.find(any_head(asking))
        return await status_of(place.attempt, place.source)

    # --- name ---------------------------------------------------------------------------------

    async def rename_branch(self, asking: Asking) -> RenameBranchReply:
        """Give the attempt's branch another name."""
        request = asking.request
        assert isinstance(request, RenameBranchRequest)  # noqa: S101  the table's own pairing
        async with self._places.locked(asking) as place:
            before, repository = place.attempt.branch, place.source.repository
            head = await repository.commit_of(branch_ref(before))
            if head is None:
                raise BranchMissing("branch", before)
            plan = RenamePlan(
                head_before=place.source.head,
                head_after=place.source.head,
                before=before,
                after=request.branch,
                head=head,
            )
            await check_new_name(repository, before, request.branch)
            if request.branch == before:
                return _renamed(plan)
            if (pr := place.attempt.pr) is not None and pr.state in _OPEN:
                raise OpenPullRequest(before, pr.url)
            await _check_finished(place)
            await intend(asking, plan)
            return await self._rename(place, plan)

    async def resume_rename(self, interrupted: Interrupted) -> RenameBranchReply:
        """Finish a renaming that a crash cut short, under whichever name the branch is by now."""
        asking = interrupted.asking
        plan = planned(interrupted.plan, RenamePlan)
        repository = await self._places.repository(asking)
        # Attempts go on while this is settled, and make worktrees here.
        async with repository_lock(repository.common_dir):
            if await repository.commit_of(
                branch_ref(plan.after)
            ) is None and await repository.commit_of(branch_ref(plan.before)):
                interrupted.check_wanted()
            worktree = await self._places.worktree(asking, repository)
            await rename_branch(
                repository, worktree, before=plan.before, after=plan.after, head=plan.head
            )
            await self._database.write(_set, asking.attempt_id, {"branch": plan.after})
        return _renamed(plan)

    async def _rename(self, place: BranchPlace, plan: RenamePlan) -> RenameBranchReply:
        await rename_branch(
            place.source.repository,
            place.source.worktree,
            before=plan.before,
            after=plan.after,
            head=plan.head,
        )
        failpoint("node.rename.renamed")
        await self._database.write(_set, place.attempt.id, {"branch": plan.after})
        return _renamed(plan)


async def _check_finished(place: BranchPlace) -> None:
    worktree = place.source.worktree
    if worktree is not None:
        what = await asyncio.to_thread(unfinished, worktree.git_dir)
        if what is not None:
            raise RebaseInProgress(str(worktree.path), what)


def _renamed(plan: RenamePlan) -> RenameBranchReply:
    return RenameBranchReply(branch=plan.after, branch_before=plan.before, head=plan.head)


async def _set(tx: Transaction, attempt_id: str, changes: dict[str, str]) -> None:
    attempt = await attempts.get(tx, attempt_id)
    await attempts.save(tx, msgspec.structs.replace(attempt, **changes), now_ms())
