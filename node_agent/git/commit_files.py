"""Folders listed and files read from a commit, once the worktree is gone.

Git is asked by object ids alone, so that no name is ever taken for an option or a pattern. Links
are followed as in a worktree: within the tree, and never out of it.
"""

from dataclasses import dataclass
from typing import Final

from node_agent.git.beneath import LINKS_MAX, PATH_BYTES_MAX, is_git_folder, path_parts
from node_agent.git.command import stream_git
from node_agent.git.errors import NotADirectory, NotAFile, OutsideWorktree, PathNotFound
from node_agent.git.file_content import (
    LOOKED_AT_BYTES,
    FileContent,
    check_text,
    is_binary,
    media_type,
    wanted_range,
)
from node_agent.git.path_text import to_text
from node_agent.git.repository import Repository
from protocol.work_requests import FileEntry, ListFilesReply

_FOLDER: Final = "40000"
_LINK: Final = "120000"
_SUBMODULE: Final = "160000"
_KINDS: Final = {_FOLDER: "directory", _LINK: "symlink", _SUBMODULE: "submodule"}


@dataclass(frozen=True)
class TreeEntry:
    """One entry of a tree, as git stores it."""

    mode: str
    name: bytes
    object_id: str

    @property
    def kind(self) -> str:
        return _KINDS.get(self.mode, "file")


def parse_tree(content: bytes, id_bytes: int) -> list[TreeEntry]:
    """Read git's stored form of a tree: mode, name, zero byte, id."""
    entries = []
    at = 0
    while at < len(content):
        end = content.index(b"\0", at)
        mode, _, name = content[at:end].partition(b" ")
        at = end + 1 + id_bytes
        entries.append(TreeEntry(mode.decode("ascii"), name, content[end + 1 : at].hex()))
    return entries


async def list_commit_folder(
    repository: Repository, commit: str, path: str, after: bytes | None, limit: int
) -> ListFilesReply:
    """Return a page of a folder of a commit, by name in order of bytes."""
    found = await _find(repository, commit, path)
    if found.mode == _SUBMODULE:
        return ListFilesReply(path=path, entries=[])  # its files are in a repository of its own
    if found.mode != _FOLDER:
        raise NotADirectory(path)
    entries = sorted(
        (
            entry
            for entry in await _tree(repository, found.object_id)
            if not is_git_folder(entry.name) and (after is None or entry.name > after)
        ),
        key=lambda entry: entry.name,
    )
    page = entries[:limit]
    sizes = await _sizes(repository, [entry for entry in page if entry.kind == "file"])
    return ListFilesReply(
        path=path,
        entries=[
            FileEntry(name=to_text(entry.name), kind=entry.kind, size=sizes.get(entry.object_id))
            for entry in page
        ],
        next=to_text(page[-1].name) if len(entries) > limit else None,
    )


async def read_commit_file(
    repository: Repository,
    commit: str,
    path: str,
    first_byte: int,
    bytes_max: int | None,
    *,
    text_only: bool,
) -> FileContent:
    """Return a file's bytes as they are in a commit."""
    found = await _find(repository, commit, path)
    if found.kind != "file":
        raise NotAFile(path, "folder" if found.mode == _FOLDER else found.kind)
    sizes = await _sizes(repository, [found])
    size = sizes.get(found.object_id)
    if size is None:
        raise PathNotFound(path, "is not stored at this node")
    first, count = wanted_range(path, size, first_byte, bytes_max)
    beginning = await _read(repository, found.object_id, 0, min(LOOKED_AT_BYTES, size))
    if text_only:
        check_text(path, beginning, size)
    return FileContent(
        content=await _read(repository, found.object_id, first, count),
        first_byte=first,
        size=size,
        binary=is_binary(beginning),
        media_type=media_type(beginning),
        commit=commit,
    )


async def _find(repository: Repository, commit: str, path: str) -> TreeEntry:
    """The entry at a path, links followed."""
    pending = path_parts(path)
    top = await repository.git("rev-parse", f"{commit}^{{tree}}")
    folders = [TreeEntry(_FOLDER, b"", top.line.decode())]
    links = 0
    while pending:
        part = pending.pop(0)
        if part in {b"", b"."}:
            continue
        if part == b"..":
            if len(folders) == 1:
                raise OutsideWorktree(path, "leads out of the worktree by a link")
            folders.pop()
            continue
        if is_git_folder(part):
            raise OutsideWorktree(path, "is git's own")
        entries = await _tree(repository, folders[-1].object_id)
        entry = next((entry for entry in entries if entry.name == part), None)
        if entry is None:
            raise PathNotFound(path)
        if entry.mode == _LINK:
            links += 1
            if links > LINKS_MAX:
                raise PathNotFound(path, "is a link that leads in a circle")
            target = await _read(repository, entry.object_id, 0, PATH_BYTES_MAX)
            if target.startswith(b"/"):
                raise OutsideWorktree(path, "leads out of the worktree by a link")
            pending[:0] = target.split(b"/")
        elif entry.mode == _FOLDER:
            folders.append(entry)
        elif any(name not in {b"", b"."} for name in pending):
            raise PathNotFound(path) if entry.mode == _SUBMODULE else NotADirectory(path)
        else:
            return entry
    return folders[-1]


async def _tree(repository: Repository, object_id: str) -> list[TreeEntry]:
    found = await repository.git("cat-file", "tree", object_id)
    return parse_tree(found.stdout, len(object_id) // 2)


async def _sizes(repository: Repository, entries: list[TreeEntry]) -> dict[str, int]:
    """The sizes of blobs, by id; those not stored here are left out."""
    if not entries:
        return {}
    asked = "".join(f"{entry.object_id}\n" for entry in entries)
    found = await repository.git(
        "cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=asked.encode()
    )
    sizes = {}
    for line in found.stdout.decode("ascii").splitlines():
        object_id, _, size = line.partition(" ")
        if size.isdigit():
            sizes[object_id] = int(size)
    return sizes


async def _read(repository: Repository, object_id: str, first: int, count: int) -> bytes:
    """A range of a blob; git has no way to begin in the middle, so what is before is dropped."""
    content = bytearray()
    passed = 0
    if not count:
        return b""
    async with stream_git(
        repository.path, "cat-file", "blob", object_id, env=repository.environment
    ) as pieces:
        async for piece in pieces:
            start = max(0, first - passed)
            passed += len(piece)
            content += piece[start : start + count - len(content)]
            if len(content) >= count:
                break
    return bytes(content)
