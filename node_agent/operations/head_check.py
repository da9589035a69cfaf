"""The head a caller saw against the one that is there: nothing acts on work that moved since."""

from pathlib import Path

from node_agent.attempt_worktree import repository_of
from node_agent.git.sources import find_source
from node_agent.operations.asking import Asking
from node_agent.store.database import Database
from protocol.entities import Attempt
from protocol.errors import ErrorCode, OperationError


async def check_expected_head(
    database: Database, worktrees_dir: Path, asking: Asking, attempt: Attempt
) -> None:
    """Raise EXPECTED_HEAD_MOVED where the caller named a head and the work stands elsewhere."""
    if asking.expected_head is None:
        return
    source = await find_source(
        await repository_of(database, attempt),
        worktrees_dir,
        attempt_id=attempt.id,
        branch=attempt.branch,
    )
    if source.head != asking.expected_head:
        raise OperationError(
            ErrorCode.EXPECTED_HEAD_MOVED,
            "the attempt's head is another than the one you saw",
            hint="Look at it again, then decide anew.",
            expected_head=asking.expected_head,
            head=source.head,
        )
