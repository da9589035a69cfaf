"""`stash`, `stash_pop`: an attempt's uncommitted work put aside, and brought back.

Before the worktree changes the work stands under the attempt's own ref, and the ref lets go of it
only once it is back. Must not know who asks.
"""

from node_agent.failpoints import failpoint
from node_agent.git.branch_errors import NothingToStash
from node_agent.git.errors import GitError
from node_agent.git.merge import check_message
from node_agent.git.stash import (
    check_can_stash,
    clear_stashed,
    files_tree,
    former_stash,
    make_stash,
    move_stash_ref,
    popped_tree,
    put_back,
    stash_depth,
    stash_ref,
)
from node_agent.operations.asking import Asking, Interrupted
from node_agent.operations.branch_place import (
    BranchPlace,
    BranchPlaces,
    any_head,
    intend,
    planned,
    unknown_outcome,
)
from node_agent.operations.branch_plans import PopPlan, StashPlan
from protocol.branch_requests import StashPopReply, StashReply, StashRequest


class Stashes:
    """Puts work aside and brings it back."""

    def __init__(self, places: BranchPlaces) -> None:
        self._places = places

    async def stash(self, asking: Asking) -> StashReply:
        """Put the worktree's uncommitted work aside."""
        request = asking.request
        assert isinstance(request, StashRequest)  # noqa: S101  the table's own pairing
        message = request.message and check_message(request.message)
        async with self._places.locked(asking) as place:
            worktree, head = place.worktree, place.head
            repository, attempt = place.source.repository, place.attempt
            await check_can_stash(worktree)
            words = message or f"Stash of attempt {attempt.id}"
            after = await make_stash(repository, worktree, head, words)
            plan = StashPlan(
                head_before=head,
                head_after=head,
                before=await former_stash(repository, after),
                after=after,
                head=head,
            )
            await intend(asking, plan)
            await move_stash_ref(repository, attempt.id, plan.before, plan.after)
            failpoint("node.stash.stored")
            return await _clear(place, plan)

    async def resume_stash(self, interrupted: Interrupted) -> StashReply:
        """Finish a stash that a crash cut short."""
        asking = interrupted.asking
        plan = planned(interrupted.plan, StashPlan)
        async with self._places.locked(any_head(asking)) as place:
            repository = place.source.repository
            found = await repository.commit_of(stash_ref(place.attempt.id))
            if found == plan.after:
                return await _clear(place, plan)
        if found != plan.before:
            raise unknown_outcome(stash_ref(asking.attempt_id), plan, found)
        interrupted.check_wanted()
        # The worktree may have gone on: what is there now is put aside.
        return await self.stash(asking)

    async def stash_pop(self, asking: Asking) -> StashPopReply:
        """Bring the newest stash back."""
        async with self._places.locked(asking) as place:
            worktree, head = place.worktree, place.head
            repository, attempt = place.source.repository, place.attempt
            stash = await repository.commit_of(stash_ref(attempt.id))
            if stash is None:
                raise NothingToStash(
                    "the attempt has no stash",
                    hint="What a program put aside by `git stash`, `git stash pop` brings back.",
                )
            await check_can_stash(worktree)
            files_before, files_after = await popped_tree(repository, worktree, stash)
            plan = PopPlan(
                head_before=head,
                head_after=head,
                stash=stash,
                former=await former_stash(repository, stash),
                files_before=files_before,
                files_after=files_after,
                head=head,
            )
            await intend(asking, plan)
            return await _pop(place, plan)

    async def resume_pop(self, interrupted: Interrupted) -> StashPopReply:
        """Finish what a crash cut short; the stash goes only when its files are back."""
        asking = interrupted.asking
        plan = planned(interrupted.plan, PopPlan)
        async with self._places.locked(any_head(asking)) as place:
            found = await place.source.repository.commit_of(stash_ref(place.attempt.id))
            if found == plan.former:
                return await _popped(place, plan)
            if found != plan.stash:
                raise unknown_outcome(stash_ref(asking.attempt_id), plan, found)
            if await files_tree(place.worktree) != plan.files_after:
                interrupted.check_wanted()
            return await _pop(place, plan)


async def _clear(place: BranchPlace, plan: StashPlan) -> StashReply:
    repository, attempt_id = place.source.repository, place.attempt.id
    try:
        await clear_stashed(repository, place.worktree, plan.after, plan.head)
    except GitError:
        # The files are still there, so there is nothing aside.
        await move_stash_ref(repository, attempt_id, plan.after, plan.before)
        raise
    return StashReply(
        ref=stash_ref(attempt_id),
        commit=plan.after,
        head=plan.head,
        depth=await stash_depth(repository, attempt_id),
    )


async def _pop(place: BranchPlace, plan: PopPlan) -> StashPopReply:
    await put_back(place.worktree, plan.files_before, plan.files_after)
    failpoint("node.stash.put_back")
    await move_stash_ref(place.source.repository, place.attempt.id, plan.stash, plan.former)
    return await _popped(place, plan)


async def _popped(place: BranchPlace, plan: PopPlan) -> StashPopReply:
    return StashPopReply(
        ref=stash_ref(place.attempt.id),
        commit=plan.stash,
        head=plan.head,
        depth=await stash_depth(place.source.repository, place.attempt.id),
    )
