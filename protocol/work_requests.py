"""Requests and replies of operations that read what an attempt did: branch, diff, files, log."""

import base64
from typing import Literal

import msgspec

from protocol.entities import MergeFact, PullRequest
from protocol.operation_values import Request


class BranchStatusRequest(Request, frozen=True):
    """Where the attempt's branch stands."""


class BranchStatusReply(msgspec.Struct, frozen=True, kw_only=True):
    """`source` says what was read: the worktree, the branch, or the saved ref.

    `in_progress` names what stands half done: rebase, merge, cherry_pick, revert, am or bisect.
    `merges` are those done through Skep, oldest first; `pr` is none as long as there is none.
    """

    branch: str
    target_branch: str | None = None
    head: str | None = None
    base: str | None = None
    ahead: int = 0
    behind: int = 0
    remote_ahead: int | None = None
    remote_behind: int | None = None
    dirty: int = 0
    untracked: int = 0
    conflicts: list[str] = []
    rebase_in_progress: bool = False
    merge_in_progress: bool = False
    in_progress: str | None = None
    remote_head: str | None = None
    stashes: int = 0
    merges: list[MergeFact] = []
    source: str = "worktree"
    pr: PullRequest | None = None


class DiffRequest(Request, frozen=True):
    """The attempt's changes against its target (default) or its base commit."""

    against: str = "target"
    context: int = 3
    path: str | None = None
    stat: bool = False


class FollowDiffRequest(Request, frozen=True):
    """The attempt's changes, and then each change of them, as newline-delimited JSON.

    With the `cursor` of the last update a client has, nothing is told again that it has: see
    `DiffUpdate`.
    """

    against: str = "target"
    context: int = 3
    path: str | None = None
    cursor: str | None = None


class FileDiff(msgspec.Struct, frozen=True, kw_only=True):
    """One changed file.

    `kind` is added, modified, deleted, renamed, copied, type_changed or mode. Counts are 0 for a
    binary file. `patch` is None where only counts were asked for, and where it is `too_large`.
    Modes are git's, such as 100644, 120000 for a link, 160000 for a submodule, 000000 for none.
    """

    path: str
    old_path: str | None
    kind: str
    additions: int
    deletions: int
    binary: bool
    patch: str | None
    too_large: bool
    old_mode: str
    new_mode: str


class DiffUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `follow_diff`. A client that has the update before it applies it to that.

    `whole`: what came before is to be forgotten, `changed` is all there is. `cursor` names the
    state after it, and stands last: an update that broke off is none. An empty line is a sign of
    life.
    """

    base: str
    head: str | None
    source: str
    whole: bool
    changed: list[FileDiff]
    removed: list[str]
    cursor: str


class ListFilesRequest(Request, frozen=True):
    """One page of a folder of the worktree; `path` is relative, empty for the top."""

    path: str = ""
    after: str | None = None
    limit: int = 500


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a folder. `kind`: file, directory, symlink, submodule, other."""

    name: str
    kind: str
    size: int | None = None


class ListFilesReply(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a folder, in order of name; `next` continues it."""

    path: str
    entries: list[FileEntry]
    next: str | None = None
    source: str = "worktree"


class ReadFileRequest(Request, frozen=True):
    """The bytes of a file of the worktree, or a range of them."""

    path: str
    first_byte: int = 0
    bytes_max: int | None = None


class FileReply(msgspec.Struct, frozen=True, kw_only=True):
    """A file as one JSON value: `content` is its text, or base64 of what is not UTF-8."""

    path: str
    bytes: int
    encoding: Literal["utf-8", "base64"]
    content: str


def file_reply(path: str, content: bytes) -> FileReply:
    """Return what a command says of a file it read, where its bytes alone would not be JSON."""
    encoding: Literal["utf-8", "base64"] = "utf-8"
    try:
        text = content.decode()
    except UnicodeDecodeError:
        encoding, text = "base64", base64.b64encode(content).decode()
    return FileReply(path=path, bytes=len(content), encoding=encoding, content=text)


class LogRequest(Request, frozen=True):
    """Entries of an execution's log after number `after`, straight from the node."""

    execution_id: str
    after: int = 0
    limit: int = 1000
    grep: str | None = None
    wait_ms: int = 0
