"""A branch moved from one commit to another, with the worktrees that stand on it brought along.

The move is checked: the branch must be where it was found, or nothing is changed. Owns the order:
first files and index of a clean worktree, then the branch. Take the repository's lock around it.
"""

from dataclasses import dataclass
from typing import Final

from node_agent.failpoints import failpoint
from node_agent.git.branch_errors import TargetMoved
from node_agent.git.checked_out import CheckedOut, checked_out
from node_agent.git.errors import GitError, GitFailed
from node_agent.git.repository import Repository
from node_agent.git.saved_work import DURABLE

_HEADS: Final = "refs/heads/"


@dataclass(frozen=True)
class BranchMove:
    """A branch's full name, where it stands, and where it is to stand."""

    ref: str
    before: str
    after: str

    @property
    def branch(self) -> str:
        return self.ref.removeprefix(_HEADS)


async def check_can_move(repository: Repository, move: BranchMove) -> None:
    """Raise what `move_branch` would, with nothing changed."""
    for place in await checked_out(repository, move.ref):
        await place.check_can_follow(move.before, move.after)


async def move_branch(repository: Repository, move: BranchMove, *, note: str) -> None:
    """Move it; `note` stands in its reflog. Raises CheckoutDirty, RebaseInProgress, TargetMoved."""
    places = await checked_out(repository, move.ref)
    waiting = []
    for place in places:
        # So it is where a crash came between its files and the branch.
        if not await _is_brought(place, move):
            await place.check_can_follow(move.before, move.after)
            waiting.append(place)
    brought: list[CheckedOut] = []
    try:
        for place in waiting:
            await place.bring(move.before, move.after)
            brought.append(place)
        failpoint("node.branch.brought")
        await _update_ref(repository, move, note)
    except GitError:
        for place in brought:
            await place.bring(move.after, move.before)
        raise
    failpoint("node.branch.moved")


async def _is_brought(place: CheckedOut, move: BranchMove) -> bool:
    return place.path.is_dir() and await place.stands_at(move.after)


async def _update_ref(repository: Repository, move: BranchMove, note: str) -> None:
    try:
        await repository.git(*DURABLE, "update-ref", "-m", note, move.ref, move.after, move.before)
    except GitFailed as error:
        found = await repository.commit_of(move.ref)
        if found != move.before:
            raise TargetMoved(move.branch, move.before, found) from error
        raise


async def is_moved(repository: Repository, move: BranchMove) -> bool | None:
    """Whether a move that a crash cut short is done; None where the branch is elsewhere now."""
    found = await repository.commit_of(move.ref)
    if found == move.after:
        return True
    if found == move.before:
        return False
    if found is not None:
        holds = await repository.git(
            "merge-base", "--is-ancestor", move.after, found, exit_codes=(0, 1, 128)
        )
        if holds.exit_code == 0:
            return True
    return None
