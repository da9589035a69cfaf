"""An attempt's files, listed and read from wherever its work is."""

import asyncio
from typing import Final

import msgspec

from node_agent.git import commit_files, worktree_files
from node_agent.git.errors import InvalidInput, WorktreeGone
from node_agent.git.file_content import FileContent
from node_agent.git.path_text import to_bytes
from node_agent.git.sources import Source
from protocol.work_requests import ListFilesReply

#: Entries of one page.
ENTRIES_MAX: Final = 1000


async def list_files(
    source: Source, *, path: str = "", after: str | None = None, limit: int = 500
) -> ListFilesReply:
    """Return a page of a folder; `after` is the name to go on behind, as `next` gave it.

    Raises PathNotFound, NotADirectory, OutsideWorktree.
    """
    if not 1 <= limit <= ENTRIES_MAX:
        raise InvalidInput("limit", str(limit), f"Ask for 1 to {ENTRIES_MAX} entries.")
    behind = _name(after)
    if source.worktree is not None:
        reply = await asyncio.to_thread(
            worktree_files.list_folder, source.worktree.path, path, behind, limit
        )
    else:
        reply = await commit_files.list_commit_folder(
            source.repository, _commit(source), path, behind, limit
        )
    return msgspec.structs.replace(reply, source=source.kind)


async def read_file(
    source: Source,
    *,
    path: str,
    first_byte: int = 0,
    bytes_max: int | None = None,
    text_only: bool = False,
) -> FileContent:
    """Return a file, or a range of it.

    Raises PathNotFound, NotAFile, FileTooLarge (the whole of a large file), OutsideWorktree, and
    BinaryFile where `text_only`.
    """
    if source.worktree is not None:
        return await asyncio.to_thread(
            worktree_files.read_file,
            source.worktree.path,
            path,
            first_byte,
            bytes_max,
            text_only=text_only,
        )
    found = await commit_files.read_commit_file(
        source.repository, _commit(source), path, first_byte, bytes_max, text_only=text_only
    )
    return FileContent(**(vars(found) | {"source": source.kind}))


def _commit(source: Source) -> str:
    if source.commit is None:
        raise WorktreeGone(source.branch)
    return source.commit


def _name(after: str | None) -> bytes | None:
    if after is None:
        return None
    try:
        return to_bytes(after)
    except ValueError as error:
        raise InvalidInput("after", after, "Give `next` of the page before.") from error
