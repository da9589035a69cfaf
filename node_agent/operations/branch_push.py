"""`push`: an attempt's commits at its remote, once, and by force only over what the caller saw.

Whether a push that was cut short arrived is asked of the remote itself. Must not know who asks.
"""

from typing import Final

from node_agent.failpoints import failpoint
from node_agent.git.errors import GitError
from node_agent.git.merge import check_finished
from node_agent.git.push import (
    PushPlan,
    Remote,
    check_push,
    named_remote,
    push,
    remote_head,
    remote_of,
)
from node_agent.git.refs import branch_ref
from node_agent.git.repository import Repository
from node_agent.operations.asking import Asking, Interrupted
from node_agent.operations.branch_place import (
    BranchPlaces,
    any_head,
    intend,
    planned,
    unknown_outcome,
)
from node_agent.operations.branch_plans import PushIntent
from node_agent.operations.head_check import check_commit_id
from protocol.branch_requests import PushReply, PushRequest
from protocol.errors import ErrorCode, OperationError

#: At the node's start nothing else is answered meanwhile.
_SETTLE_TIMEOUT_S: Final = 20.0


class BranchPush:
    """Pushes."""

    def __init__(self, places: BranchPlaces) -> None:
        self._places = places

    async def push(self, asking: Asking) -> PushReply:
        """Push the attempt's branch."""
        request = asking.request
        assert isinstance(request, PushRequest)  # noqa: S101  the table's own pairing
        _check(request)
        # Not under the repository's lock, which a slow network would hold for as long: what is
        # pushed is one commit, by its id.
        place = await self._places.find(asking)
        await check_finished(place.source)
        repository, branch, head = place.source.repository, place.attempt.branch, place.head
        remote = await remote_of(repository, branch)
        ref = branch_ref(branch)
        before = await remote_head(repository, remote, ref)
        expected = request.expected_remote_head
        plan = PushPlan(ref, before, head, force=request.force)
        await check_push(repository, plan, expected_remote_head=expected)
        written = PushIntent(
            head_before=head,
            head_after=head,
            remote=remote.name,
            ref=ref,
            before=before,
            after=head,
            force=request.force,
            source=place.source.kind,
        )
        if before != head:
            await intend(asking, written)
            await _push(repository, remote, plan, written)
        return _pushed(remote, written)

    async def resume_push(self, interrupted: Interrupted) -> PushReply:
        """Finish a push that a crash cut short, by what its remote says."""
        written = planned(interrupted.plan, PushIntent)
        place = await self._places.find(any_head(interrupted.asking))
        repository = place.source.repository
        # Not the branch's by now: that may have been set to another since.
        remote = await named_remote(repository, written.remote)
        found = await remote_head(repository, remote, written.ref, timeout_s=_SETTLE_TIMEOUT_S)
        if found != written.after:
            if found != written.before:
                raise unknown_outcome(f"{written.ref} of the remote", written, found)
            interrupted.check_wanted()
            plan = PushPlan(written.ref, written.before, written.after, force=written.force)
            await _push(repository, remote, plan, written)
        return _pushed(remote, written)


async def _push(repository: Repository, remote: Remote, plan: PushPlan, told: PushIntent) -> None:
    try:
        await push(repository, remote, plan)
    except GitError as error:
        if error.code is not ErrorCode.GIT_FAILED:
            raise
        # The connection broke, or it took too long: it may have arrived all the same.
        try:
            found = await remote_head(repository, remote, plan.ref)
        except GitError as silent:
            raise OperationError(
                ErrorCode.UNKNOWN_OUTCOME,
                f"the push to {remote.url} broke off, and the remote does not say what it has",
                hint="Look at the remote's branch; details.planned is what was pushed.",
                planned={"ref": told.ref, "before": told.before, "after": told.after},
                error=silent.message,
            ) from error
        if found != plan.after:
            raise
    failpoint("node.push.pushed")


def _pushed(remote: Remote, written: PushIntent) -> PushReply:
    return PushReply(
        remote=remote.name,
        url=remote.url,
        ref=written.ref,
        before=written.before,
        after=written.after,
        head=written.after,
        forced=written.force,
        source=written.source,
    )


def _check(request: PushRequest) -> None:
    if request.expected_remote_head is not None:
        check_commit_id("expected_remote_head", request.expected_remote_head)
    elif request.force:
        raise OperationError(
            ErrorCode.INVALID,
            "a forced push names the expected_remote_head that it may overwrite",
            hint="branch-status shows it as remote_head; force_push_required names it too.",
            field="expected_remote_head",
        )
