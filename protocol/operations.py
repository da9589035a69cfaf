"""The table of operations: what may be asked of a node, by whom, and what it answers.

From this one table come the node's dispatcher, the hive's routes, the node's own routes, the
`hive attempt` and `node-agent attempt` commands and the OpenAPI page. One more operation is one
entry here, one function at the node and one test.
"""

import enum
from typing import Final

import msgspec

from protocol.attempt_requests import AttemptReply, StartRequest, StopRequest
from protocol.errors import ErrorCode
from protocol.operation_values import Request, StreamHead
from protocol.work_requests import (
    BranchStatusReply,
    BranchStatusRequest,
    DiffRequest,
    FollowDiffRequest,
    ListFilesReply,
    ListFilesRequest,
    LogRequest,
    ReadFileRequest,
)


class Role(enum.IntEnum):
    """What a person or token may do; each includes those below it. The auditor stands apart."""

    AUDITOR = 0
    VIEWER = 1
    OPERATOR = 2
    MAINTAINER = 3
    ADMIN = 4


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
    #: The streamed reply has no end of its own: each piece of it goes at once.
    live: bool = False

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
        name="follow_diff",
        request=FollowDiffRequest,
        reply=StreamHead,
        changing=False,
        role=Role.VIEWER,
        method="GET",
        path="diff/stream",
        command="follow-diff",
        summary="What the attempt changed, then each change as it happens",
        errors=(_E.TOO_LARGE, _E.GIT_FAILED, _E.SLOW_DOWN),
        deadline_s=120.0,
        live=True,
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
