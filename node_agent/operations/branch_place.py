"""Where an operation on an attempt's branch works: under the repository's lock, on the head meant.

Owns what all of them share before they act. Must not change anything.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from node_agent.git.commit_identity import CommitIdentity, commit_identity
from node_agent.git.errors import NoCommits, WorktreeGone
from node_agent.git.locks import repository_lock
from node_agent.git.repository import Repository
from node_agent.git.sources import Source
from node_agent.git.worktrees import Worktree
from node_agent.operations.asking import Asking, Plan
from node_agent.operations.attempts import attempt_of
from node_agent.operations.head_check import check_head
from node_agent.operations.work import WorkReading
from node_agent.store.database import Database
from protocol.entities import Attempt
from protocol.errors import ErrorCode, OperationError

P = TypeVar("P", bound=Plan)


@dataclass(frozen=True)
class BranchPlace:
    """An attempt, and where its work is."""

    attempt: Attempt
    source: Source

    @property
    def head(self) -> str:
        """The attempt's commit. Raises NoCommits where its worktree stands on none."""
        if self.source.head is None:
            raise NoCommits(str(self.source.place.path))
        return self.source.head

    @property
    def worktree(self) -> Worktree:
        """The attempt's worktree. Raises WorktreeGone."""
        if self.source.worktree is None:
            raise WorktreeGone(self.attempt.worktree or self.attempt.id)
        return self.source.worktree


class BranchPlaces:
    """Finds them, and whose name stands on commits made there."""

    def __init__(
        self,
        database: Database,
        work: WorkReading,
        *,
        git_identity: str | None,
        node_name: Callable[[], str],
    ) -> None:
        self._database = database
        self._work = work
        self._git_identity = git_identity
        self._node_name = node_name

    async def find(self, asking: Asking) -> BranchPlace:
        """Return the place as it is; ExpectedHeadMoved where its head is not the one meant."""
        place = BranchPlace(*await self._work.source(asking))
        check_head(place.source, asking.expected_head)
        return place

    @contextlib.asynccontextmanager
    async def locked(self, asking: Asking) -> AsyncIterator[BranchPlace]:
        """Yield the place under its repository's lock."""
        repository = await self.repository(asking)
        async with repository_lock(repository.common_dir):
            # Looked at anew: whoever had the lock may have moved it.
            yield await self.find(asking)

    async def repository(self, asking: Asking) -> Repository:
        """Return the attempt's repository, whatever is left of the attempt in it."""
        return await self._work.repository(await attempt_of(self._database, asking))

    async def worktree(self, asking: Asking, repository: Repository) -> Worktree | None:
        """Return the attempt's worktree, if there is one."""
        return await self._work.worktree(repository, asking.attempt_id)

    async def identity(self, place: BranchPlace) -> CommitIdentity:
        """Return whose name commits carry."""
        return await commit_identity(
            place.source.repository, setting=self._git_identity, node_name=self._node_name()
        )


def any_head(asking: Asking) -> Asking:
    """Return the same, whatever the head is by now: it was looked at before it was acted."""
    return replace(asking, expected_head=None)


async def intend(asking: Asking, plan: Plan) -> None:
    """Write down what will be done. Nothing may be done before it returns."""
    assert asking.intend is not None  # noqa: S101  the dispatcher gives it to what changes
    await asking.intend(plan)


def planned(plan: bytes, kind: type[P]) -> P:
    """Return a plan as it was written down."""
    return msgspec.msgpack.decode(plan, type=kind)


def unknown_outcome(what: str, plan: Plan, found: str | None) -> OperationError:
    """Return the error that a crash left what cannot be judged, with all that is known."""
    return OperationError(
        ErrorCode.UNKNOWN_OUTCOME,
        f"the node stopped in the middle; {what} is neither where it was nor where it was to be",
        hint="`details.planned` is what was about to be done, `details.found` what is there now.",
        planned=msgspec.to_builtins(plan),
        found=found,
    )
