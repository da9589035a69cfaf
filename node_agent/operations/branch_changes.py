"""`merge`, `push`, `rebase`, `abort_conflicts`: an attempt's commits brought to where they belong.

Each looks, writes down exactly what it will do, does it, and answers; after a crash it is judged
by what git says, against what was written down. Must not know who asks.
"""

import asyncio
from typing import Final

import msgspec

from node_agent.failpoints import failpoint
from node_agent.git.branch_errors import CheckoutDirty, Conflicts
from node_agent.git.branch_moves import BranchMove, check_can_move, is_moved, move_branch
from node_agent.git.conflicts import abort_unfinished
from node_agent.git.errors import BranchMissing
from node_agent.git.merge import holds, prepare_merge
from node_agent.git.rebase import (
    Bases,
    check_can_rebase,
    check_nothing_left_open,
    find_bases,
    rebase_in_place,
)
from node_agent.git.refs import branch_ref
from node_agent.git.replay import TooManyCommits, replay
from node_agent.git.sources import Source
from node_agent.git.unfinished import unfinished
from node_agent.operations.asking import Asking, Interrupted
from node_agent.operations.branch_place import (
    BranchPlace,
    BranchPlaces,
    any_head,
    intend,
    planned,
    unknown_outcome,
)
from node_agent.operations.branch_plans import AbortPlan, MergePlan, RebasePlan
from node_agent.operations.work import status_of
from node_agent.stamps import now_ms
from node_agent.store import attempts
from node_agent.store.database import Database
from node_agent.store.transaction import Transaction
from protocol.branch_requests import MergeReply, MergeRequest, RebaseReply, RebaseRequest
from protocol.entities import MergeFact
from protocol.work_requests import BranchStatusReply

#: An attempt is rarely merged more than once; those told of are the newest. Its op names them all.
MERGES_MAX: Final = 30


class BranchChanges:
    """Merges, rebases, and gives up what stands half done."""

    def __init__(self, database: Database, places: BranchPlaces) -> None:
        self._database = database
        self._places = places

    # --- merge --------------------------------------------------------------------------------

    async def merge(self, asking: Asking) -> MergeReply:
        """Merge the attempt's commits into its target branch."""
        request = asking.request
        assert isinstance(request, MergeRequest)  # noqa: S101  the table's own pairing
        async with self._places.locked(asking) as place:
            attempt, source = place.attempt, place.source
            if not attempt.target_branch:
                raise BranchMissing("target_branch", "")
            move = await prepare_merge(
                source,
                target_branch=attempt.target_branch,
                strategy=request.strategy,
                message=request.message,
                title=attempt.task_title,
                identity=await self._places.identity(place),
            )
            await check_can_move(source.repository, move)
            status = await status_of(attempt, source)
            plan = MergePlan(
                head_before=source.head,
                head_after=source.head,
                ref=move.ref,
                before=move.before,
                after=move.after,
                target=attempt.target_branch,
                strategy=request.strategy,
                uncommitted=status.dirty + status.untracked,
                source=source.kind,
            )
            await intend(asking, plan)
            await move_branch(source.repository, move, note=_note("merge", place))
            return await self._merged(place, plan)

    async def resume_merge(self, interrupted: Interrupted) -> MergeReply:
        """Finish a merge that a crash cut short."""
        plan = planned(interrupted.plan, MergePlan)
        async with self._places.locked(any_head(interrupted.asking)) as place:
            repository = place.source.repository
            move = BranchMove(plan.ref, plan.before, plan.after)
            done = await is_moved(repository, move)
            if done is None:
                raise unknown_outcome(plan.ref, plan, await repository.commit_of(plan.ref))
            if not done:
                interrupted.check_wanted()
                await move_branch(repository, move, note=_note("merge", place))
            return await self._merged(place, plan)

    async def _merged(self, place: BranchPlace, plan: MergePlan) -> MergeReply:
        fact = MergeFact(
            commit=plan.after,
            head=plan.head_before or "",
            target=plan.target,
            strategy=plan.strategy,
            at_ms=now_ms(),
        )
        await self._database.write(_add_merge, place.attempt.id, fact)
        return MergeReply(
            commit=plan.after,
            target=plan.target,
            target_before=plan.before,
            head=fact.head,
            strategy=plan.strategy,
            uncommitted=plan.uncommitted,
            source=plan.source,
        )

    # --- rebase -------------------------------------------------------------------------------

    async def rebase(self, asking: Asking) -> RebaseReply:
        """Put the attempt's commits on top of another base."""
        request = asking.request
        assert isinstance(request, RebaseRequest)  # noqa: S101  the table's own pairing
        async with self._places.locked(asking) as place:
            attempt, source, head = place.attempt, place.source, place.head
            bases = await find_bases(
                source, target_branch=attempt.target_branch, new_base=request.new_base
            )
            await _check_can_rebase(source, head, bases)
            plan = RebasePlan(
                head_before=head,
                ref=branch_ref(attempt.branch),
                before=head,
                after=await self._replayed(place, bases),
                upstream=bases.upstream,
                onto=bases.onto,
                source=source.kind,
            )
            plan = msgspec.structs.replace(plan, head_after=plan.after)
            if plan.after == head:
                return _rebased(plan, head)
            if plan.after is not None:
                await check_can_move(
                    source.repository, BranchMove(plan.ref, plan.before, plan.after)
                )
            await intend(asking, plan)
            return await self._rebase(place, plan)

    async def resume_rebase(self, interrupted: Interrupted) -> RebaseReply:
        """Finish a rebase that a crash cut short, or tell where it stands."""
        plan = planned(interrupted.plan, RebasePlan)
        async with self._places.locked(any_head(interrupted.asking)) as place:
            repository = place.source.repository
            if plan.after is None:
                await check_nothing_left_open(place.worktree)
            found = await repository.commit_of(plan.ref)
            if found == plan.before:
                interrupted.check_wanted()
                return await self._rebase(place, plan)
            if found is not None and await holds(repository, found, plan.after or plan.onto):
                return _rebased(plan, plan.after or found)
            raise unknown_outcome(plan.ref, plan, found)

    async def _replayed(self, place: BranchPlace, bases: Bases) -> str | None:
        """The last of the commits on their new base; None where only a person can put them there.

        Raises Conflicts where there is no worktree to resolve them in.
        """
        repository, head = place.source.repository, place.head
        if bases.upstream == bases.onto and await holds(repository, head, bases.onto):
            return head
        try:
            return await replay(
                repository,
                upstream=bases.upstream,
                head=head,
                onto=bases.onto,
                identity=await self._places.identity(place),
            )
        except (Conflicts, TooManyCommits):
            if place.source.worktree is None:
                raise
            return None

    async def _rebase(self, place: BranchPlace, plan: RebasePlan) -> RebaseReply:
        repository = place.source.repository
        if plan.after is not None:
            move = BranchMove(plan.ref, plan.before, plan.after)
            await move_branch(repository, move, note=_note("rebase", place))
            return _rebased(plan, plan.after)
        identity = await self._places.identity(place)
        try:
            await rebase_in_place(place.worktree, Bases(plan.upstream, plan.onto), identity)
        finally:
            failpoint("node.rebase.in_place")
        return _rebased(plan, await repository.commit_of(plan.ref) or plan.onto)

    # --- abort --------------------------------------------------------------------------------

    async def abort_conflicts(self, asking: Asking) -> BranchStatusReply:
        """Give up what stands half done in the worktree."""
        async with self._places.locked(asking) as place:
            worktree = place.worktree
            await intend(asking, AbortPlan(head_before=place.source.head))
            await abort_unfinished(worktree)
            failpoint("node.abort.done")
        return await self._status(asking)

    async def resume_abort(self, interrupted: Interrupted) -> BranchStatusReply:
        """Finish an abort that a crash cut short."""
        async with self._places.locked(any_head(interrupted.asking)) as place:
            if await asyncio.to_thread(unfinished, place.worktree.git_dir) is not None:
                interrupted.check_wanted()
                await abort_unfinished(place.worktree)
        return await self._status(interrupted.asking)

    async def _status(self, asking: Asking) -> BranchStatusReply:
        place = await self._places.find(any_head(asking))
        return await status_of(place.attempt, place.source)


async def _check_can_rebase(source: Source, head: str, bases: Bases) -> None:
    if source.worktree is not None:
        await check_can_rebase(source.worktree, source.branch, head, bases.onto)
        return
    if source.kind == "saved":
        raise CheckoutDirty(
            source.branch,
            "has saved work that is not committed, which would be left behind",
            hint="A follow-up makes its worktree again, with that work in it; rebase then.",
        )
    if await source.repository.commit_of(branch_ref(source.branch)) is None:
        raise BranchMissing("branch", source.branch)


def _rebased(plan: RebasePlan, head: str) -> RebaseReply:
    return RebaseReply(head=head, head_before=plan.before, onto=plan.onto, source=plan.source)


def _note(what: str, place: BranchPlace) -> str:
    return f"skep {what}: {place.source.branch}"


async def _add_merge(tx: Transaction, attempt_id: str, fact: MergeFact) -> None:
    attempt = await attempts.get(tx, attempt_id)
    if any(known.commit == fact.commit for known in attempt.merges):
        return
    changed = msgspec.structs.replace(attempt, merges=[*attempt.merges, fact][-MERGES_MAX:])
    await attempts.save(tx, changed, fact.at_ms)
