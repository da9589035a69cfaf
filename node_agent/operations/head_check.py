"""The head a caller saw against the one that is there: nothing acts on work that moved since."""

import re
from pathlib import Path
from typing import Final

from node_agent.attempt_worktree import repository_of
from node_agent.git.branch_errors import ExpectedHeadMoved
from node_agent.git.errors import InvalidInput
from node_agent.git.sources import Source, find_source
from node_agent.operations.asking import Asking
from node_agent.store.database import Database
from protocol.entities import Attempt

_COMMIT_ID: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


async def check_expected_head(
    database: Database, worktrees_dir: Path, asking: Asking, attempt: Attempt
) -> None:
    """Raise ExpectedHeadMoved where the caller named a head and the work stands elsewhere."""
    if asking.expected_head is None:
        return
    source = await find_source(
        await repository_of(database, attempt),
        worktrees_dir,
        attempt_id=attempt.id,
        branch=attempt.branch,
    )
    check_head(source, asking.expected_head)


def check_head(source: Source, expected: str | None) -> None:
    """Raise ExpectedHeadMoved where a head is named and the work stands elsewhere."""
    if expected is None:
        return
    check_commit_id("expected_head", expected)
    if source.head != expected:
        raise ExpectedHeadMoved("the attempt", expected, source.head)


def check_commit_id(field: str, commit: str) -> str:
    """Return a commit's whole id; InvalidInput where it is not one."""
    if not _COMMIT_ID.fullmatch(commit):
        raise InvalidInput(field, commit, "Give the commit's whole id, in small hex digits.")
    return commit
