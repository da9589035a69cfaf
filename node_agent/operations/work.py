"""`branch_status`, `diff`, `list_files`, `read_file`: what an attempt did, as git and disk have it.

Reads the worktree, or what is left of it, and writes nothing. Must not know who asks.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec

from node_agent.git.diff import diff_pieces
from node_agent.git.errors import WorktreeGone
from node_agent.git.files import list_files, read_file
from node_agent.git.repository import Repository, open_repository
from node_agent.git.sources import Source, find_source
from node_agent.git.stash import stash_depth
from node_agent.git.status import branch_status
from node_agent.git.targets import diff_base
from node_agent.git.worktrees import Worktree, find_worktree
from node_agent.operations.asking import Asking, Streamed
from node_agent.operations.attempts import attempt_of
from node_agent.operations.diff_document import DiffDocument
from node_agent.store import checkouts
from node_agent.store.database import Database
from protocol import limits
from protocol.entities import Attempt
from protocol.errors import ErrorCode, OperationError
from protocol.operation_values import StreamHead
from protocol.states import AttemptPhase
from protocol.work_requests import (
    BranchStatusReply,
    DiffRequest,
    ListFilesReply,
    ListFilesRequest,
    ReadFileRequest,
)

_NOT_YET: Final = frozenset({AttemptPhase.CREATED, AttemptPhase.PREPARING})
#: What a file's reply says of it beside its bytes.
FILE_SIZE_HEADER: Final = "Skep-File-Size"
FIRST_BYTE_HEADER: Final = "Skep-First-Byte"
SOURCE_HEADER: Final = "Skep-Source"
COMMIT_HEADER: Final = "Skep-Commit"
_AGAINST: Final = ("target", "base")


class WorkReading:
    """Reads what attempts did."""

    def __init__(self, database: Database, worktrees_dir: Path) -> None:
        self._database = database
        self._worktrees_dir = worktrees_dir

    async def branch_status(self, asking: Asking) -> BranchStatusReply:
        """Answer where the attempt's branch stands."""
        attempt, source = await self.source(asking)
        return await status_of(attempt, source)

    async def diff(self, asking: Asking) -> Streamed:
        """Answer what the attempt changed."""
        request = asking.request
        assert isinstance(request, DiffRequest)  # noqa: S101  the table's own pairing
        check_against(request.against)
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

    async def list_files(self, asking: Asking) -> ListFilesReply:
        """Answer a page of a folder."""
        request = asking.request
        assert isinstance(request, ListFilesRequest)  # noqa: S101  the table's own pairing
        _, source = await self.source(asking)
        return await list_files(source, path=request.path, after=request.after, limit=request.limit)

    async def read_file(self, asking: Asking) -> Streamed:
        """Answer a file's bytes, with what they are in the head."""
        request = asking.request
        assert isinstance(request, ReadFileRequest)  # noqa: S101  the table's own pairing
        _, source = await self.source(asking)
        found = await read_file(
            source,
            path=request.path,
            first_byte=request.first_byte,
            bytes_max=request.bytes_max,
        )
        told = {
            FILE_SIZE_HEADER: str(found.size),
            FIRST_BYTE_HEADER: str(found.first_byte),
            SOURCE_HEADER: found.source,
        }
        if found.commit is not None:
            told[COMMIT_HEADER] = found.commit
        head = StreamHead(
            media_type=found.media_type, headers=told, details={"binary": found.binary}
        )
        return Streamed(head, _pieces(found.content))

    async def source(self, asking: Asking) -> tuple[Attempt, Source]:
        """Return the attempt, and the best place to read its work from."""
        attempt = await attempt_of(self._database, asking)
        repository = await self.repository(attempt)
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

    async def worktree(self, repository: Repository, attempt_id: str) -> Worktree | None:
        """Return an attempt's worktree, if there is one."""
        return await find_worktree(repository, self._worktrees_dir.resolve(), attempt_id)

    async def repository(self, attempt: Attempt) -> Repository:
        """Return the repository of an attempt's checkout."""
        checkout = await self._database.read(checkouts.find, attempt.checkout_id)
        if checkout is None:
            raise OperationError(
                ErrorCode.NO_CHECKOUT,
                "the attempt's checkout is not known here any more",
                hint="Was the node's data folder restored? Add the checkout again.",
            )
        return await open_repository(Path(checkout.path))


async def status_of(attempt: Attempt, source: Source) -> BranchStatusReply:
    """Return where the branch stands, with what the attempt itself knows beside it."""
    found = await branch_status(
        source, target_branch=attempt.target_branch, base_commit=attempt.base_commit or None
    )
    depth = await stash_depth(source.repository, attempt.id)
    return msgspec.structs.replace(found, merges=attempt.merges, stashes=depth, pr=attempt.pr)


def check_against(against: str) -> None:
    """Raise OperationError for what a diff cannot be against."""
    if against not in _AGAINST:
        raise OperationError(
            ErrorCode.INVALID,
            f"a diff is against target or base, not {against[:40]!r}",
            field="against",
        )


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    view = memoryview(content)
    for start in range(0, len(content), limits.PART_BYTES_MAX):
        yield bytes(view[start : start + limits.PART_BYTES_MAX])
