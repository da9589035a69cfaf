"""The table of operations: what may be asked of a node, by whom, and what it answers.

From this one table come the node's dispatcher, the hive's routes, the node's own routes, the
`hive attempt` and `node-agent attempt` commands and the OpenAPI page. One more operation is one
entry here, one function at the node and one test.
"""

import enum
from typing import Any, Final

import msgspec

from protocol.entities import Attempt
from protocol.errors import ErrorCode


class Role(enum.IntEnum):
    """What a person or token may do; each includes those below it. The auditor stands apart."""

    AUDITOR = 0
    VIEWER = 1
    OPERATOR = 2
    MAINTAINER = 3
    ADMIN = 4


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all requests: fields by name, unknown ones refused at the edge (`forbid`)."""


class StartRequest(Request, frozen=True):
    """Start an attempt of a task on this node.

    `command` is one string, split as a shell would and run without one. `task_*` come from the
    hive's task, so that the node's record stands alone.
    """

    checkout_id: str | None = None
    project: str | None = None
    project_id: str | None = None
    task_id: str | None = None
    task_title: str = ""
    task_description: str = ""
    executor: str = "command"
    profile: str | None = None
    command: str | None = None
    prompt: str | None = None
    base_branch: str | None = None
    target_branch: str | None = None
    setup_script: str | None = None
    cleanup_script: str | None = None
    copy_files: list[str] = []
    environment: dict[str, str] = {}
    commit_leftovers: bool = False


class StopRequest(Request, frozen=True):
    """Stop an attempt: interrupt, then terminate, then kill after `grace_s`."""

    grace_s: float | None = None


class AttemptReply(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt as its node has it now."""

    attempt: Attempt


class BranchStatusRequest(Request, frozen=True):
    """Where the attempt's branch stands."""


class BranchStatusReply(msgspec.Struct, frozen=True, kw_only=True):
    """`source` says what was read: the worktree, the branch, or the saved ref."""

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
    source: str = "worktree"


class DiffRequest(Request, frozen=True):
    """The attempt's changes against its target (default) or its base commit."""

    against: str = "target"
    context: int = 3
    path: str | None = None
    stat: bool = False


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


class LogRequest(Request, frozen=True):
    """Entries of an execution's log after number `after`, straight from the node."""

    execution_id: str
    after: int = 0
    limit: int = 1000
    grep: str | None = None
    wait_ms: int = 0


class StreamHead(msgspec.Struct, frozen=True, kw_only=True):
    """What opens a streamed reply: the media type of its bytes, and facts about them."""

    media_type: str
    headers: dict[str, str] = {}
    details: dict[str, Any] = {}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    name: str
    request: type[Request]
    #: The reply, or StreamHead where the reply's bytes are streamed.
    reply: type[msgspec.Struct]
    changing: bool
    role: Role
    method: str
    #: Below `/api/v1/attempts/{attempt_id}/`, or below `/api/v1/` for `tasks/` and `executions/`.
    path: str
    #: The sub-command of `hive attempt` and `node-agent attempt`.
    command: str
    summary: str
    errors: tuple[ErrorCode, ...] = ()
    deadline_s: float = 30.0

    @property
    def streamed(self) -> bool:
        return self.reply is StreamHead


_E = ErrorCode
_ROWS: Final = (
    Operation(
        name="start",
        request=StartRequest,
        reply=AttemptReply,
        changing=True,
        role=Role.OPERATOR,
        method="POST",
        path="tasks/{task_id}/attempts",
        command="start",
        summary="Start an attempt of a task on a node",
        errors=(
            _E.NO_CHECKOUT,
            _E.EXECUTOR_UNAVAILABLE,
            _E.NODE_FULL,
            _E.NO_COMMITS,
            _E.BRANCH_MISSING,
        ),
    ),
    Operation(
        name="stop",
        request=StopRequest,
        reply=AttemptReply,
        changing=True,
        role=Role.OPERATOR,
        method="POST",
        path="stop",
        command="stop",
        summary="Stop a running attempt",
    ),
    Operation(
        name="branch_status",
        request=BranchStatusRequest,
        reply=BranchStatusReply,
        changing=False,
        role=Role.VIEWER,
        method="GET",
        path="branch-status",
        command="branch-status",
        summary="Where the attempt's branch stands against its target and remote",
        errors=(_E.WORKTREE_GONE, _E.GIT_FAILED),
    ),
    Operation(
        name="diff",
        request=DiffRequest,
        reply=StreamHead,
        changing=False,
        role=Role.VIEWER,
        method="GET",
        path="diff",
        command="diff",
        summary="What the attempt changed",
        errors=(_E.TOO_LARGE, _E.GIT_FAILED),
        deadline_s=120.0,
    ),
    Operation(
        name="list_files",
        request=ListFilesRequest,
        reply=ListFilesReply,
        changing=False,
        role=Role.VIEWER,
        method="GET",
        path="files",
        command="files",
        summary="The files of the attempt's worktree",
        errors=(_E.NOT_FOUND, _E.NOT_A_DIRECTORY, _E.OUTSIDE),
    ),
    Operation(
        name="read_file",
        request=ReadFileRequest,
        reply=StreamHead,
        changing=False,
        role=Role.VIEWER,
        method="GET",
        path="files/{path}",
        command="cat",
        summary="One file of the attempt's worktree",
        errors=(_E.NOT_FOUND, _E.BINARY, _E.TOO_LARGE, _E.OUTSIDE),
    ),
    Operation(
        name="log",
        request=LogRequest,
        reply=StreamHead,
        changing=False,
        role=Role.VIEWER,
        method="GET",
        path="executions/{execution_id}/log",
        command="log",
        summary="Entries of an execution's log, straight from its node",
        errors=(_E.NOT_FOUND, _E.GONE),
    ),
)

#: All operations, by name.
OPERATIONS: Final[dict[str, Operation]] = {row.name: row for row in _ROWS}
