"""`branch_status`, `diff`: what an attempt did to its branch and files, as git has it.

Reads the worktree, or what is left of it, and writes nothing. Must not know who asks.
"""

from pathlib import Path
from typing import Final

from node_agent.git.diff import diff_pieces
from node_agent.git.errors import WorktreeGone
from node_agent.git.repository import open_repository
from node_agent.git.sources import Source, find_source
from node_agent.git.status import branch_status
from node_agent.git.targets import diff_base
from node_agent.operations.asking import Asking, Streamed
from node_agent.operations.attempts import attempt_of
from node_agent.operations.diff_document import DiffDocument
from node_agent.store import checkouts
from node_agent.store.database import Database
from protocol.entities import Attempt
from protocol.errors import ErrorCode, OperationError
from protocol.operations import BranchStatusReply, DiffRequest, StreamHead
from protocol.states import AttemptPhase

_NOT_YET: Final = frozenset({AttemptPhase.CREATED, AttemptPhase.PREPARING})
_AGAINST: Final = ("target", "base")


class WorkReading:
    """Reads what attempts did."""

    def __init__(self, database: Database, worktrees_dir: Path) -> None:
        self._database = database
        self._worktrees_dir = worktrees_dir

    async def branch_status(self, asking: Asking) -> BranchStatusReply:
        """Answer where the attempt's branch stands."""
        attempt, source = await self.source(asking)
        return await branch_status(
            source, target_branch=attempt.target_branch, base_commit=attempt.base_commit or None
        )

    async def diff(self, asking: Asking) -> Streamed:
        """Answer what the attempt changed."""
        request = asking.request
        assert isinstance(request, DiffRequest)  # noqa: S101  the table's own pairing
        if request.against not in _AGAINST:
            raise OperationError(
                ErrorCode.INVALID,
                f"a diff is against target or base, not {request.against[:40]!r}",
                field="against",
            )
        attempt, source = await self.source(asking)
        base = await diff_base(
            source,
            against=request.against,
            target_branch=attempt.target_branch,
            base_commit=attempt.base_commit or None,
        )
        found = diff_pieces(
            source, base=base, context=request.context, path=request.path, stat=request.stat
        )
        document = await DiffDocument.open(found)
        return Streamed(StreamHead(media_type="application/json"), document)

    async def source(self, asking: Asking) -> tuple[Attempt, Source]:
        """Return the attempt, and the best place to read its work from."""
        attempt = await attempt_of(self._database, asking)
        checkout = await self._database.read(checkouts.find, attempt.checkout_id)
        if checkout is None:
            raise OperationError(
                ErrorCode.NO_CHECKOUT,
                "the attempt's checkout is not known here any more",
                hint="Was the node's data folder restored? Add the checkout again.",
            )
        repository = await open_repository(Path(checkout.path))
        try:
            source = await find_source(
                repository,
                self._worktrees_dir.resolve(),
                attempt_id=attempt.id,
                branch=attempt.branch,
            )
        except WorktreeGone as error:
            if attempt.phase not in _NOT_YET:
                raise
            raise OperationError(
                ErrorCode.CONFLICT,
                "the attempt's worktree is being made",
                hint="Ask again in a moment.",
                phase=attempt.phase.value,
            ) from error
        return attempt, source
