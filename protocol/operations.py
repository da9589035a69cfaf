"""The table of operations: what may be asked of a node, by whom, and what it answers.

From this one table come the node's dispatcher, the hive's routes, the node's own routes, the
`hive attempt` and `node-agent attempt` commands and the OpenAPI page. One more operation is one
entry here, one function at the node and one test.
"""

import enum
from typing import Final

import msgspec

from protocol.attempt_requests import (
    AttemptReply,
    CleanupRequest,
    ExecutionReply,
    HoldRequest,
    ReleaseRequest,
    ReviewRequest,
    RunScriptRequest,
    StartRequest,
    StopRequest,
)
from protocol.entities import PullRequest
from protocol.errors import ErrorCode
from protocol.operation_values import Request, StreamHead
from protocol.pull_requests import (
    AttachPrRequest,
    CreatePrReply,
    CreatePrRequest,
    PrReply,
    PrRequest,
)
from protocol.turn_requests import (
    DropTurnsRequest,
    FollowUpRequest,
    InterruptRequest,
    SetTurnsRequest,
    Turn,
    TurnsReply,
    TurnsRequest,
)
from protocol.work_requests import (
    BranchStatusReply,
    BranchStatusRequest,
    DiffRequest,
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

    @property
    def streamed(self) -> bool:
        return self.reply is StreamHead


_E = ErrorCode
#: What may go wrong between a node and the forge that has its repository.
_FORGE: Final = (
    _E.NO_FORGE,
    _E.CLI_MISSING,
    _E.NOT_LOGGED_IN,
    _E.AUTH,
    _E.FORGE_FAILED,
    _E.FORGE_LIMIT,
)
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
        summary="Stop a running attempt, and the scripts that run in its worktree",
    ),
    Operation(
        name="follow_up",
        request=FollowUpRequest,
        reply=Turn,
        changing=True,
        role=Role.OPERATOR,
        method="POST",
        path="follow-up",
        command="follow-up",
        summary="Give the attempt another turn, at once or when the one that runs has ended",
        errors=(_E.SESSION_LOST, _E.NODE_FULL, _E.NO_CHECKOUT, _E.RUNNING),
    ),
    Operation(
        name="turns",
        request=TurnsRequest,
        reply=TurnsReply,
        changing=False,
        role=Role.VIEWER,
        method="GET",
        path="turns",
        command="turns",
        summary="The turn that runs, and those that are queued behind it",
    ),
    Operation(
        name="set_turns",
        request=SetTurnsRequest,
        reply=TurnsReply,
        changing=True,
        role=Role.OPERATOR,
        method="PUT",
        path="turns",
        command="set-turns",
        summary="Put the queued turns into another order, and edit them",
        errors=(_E.CONFLICT,),
    ),
    Operation(
        name="drop_turns",
        request=DropTurnsRequest,
        reply=TurnsReply,
        changing=True,
        role=Role.OPERATOR,
        method="DELETE",
        path="turns",
        command="drop-turns",
        summary="Take queued turns out of the queue",
        errors=(_E.NO_TURN,),
    ),
    Operation(
        name="interrupt",
        request=InterruptRequest,
        reply=Turn,
        changing=True,
        role=Role.OPERATOR,
        method="POST",
        path="interrupt",
        command="interrupt",
        summary="Interrupt the turn that runs; the next one follows, or the attempt ends",
        errors=(_E.NO_TURN,),
    ),
    Operation(
        name="review",
        request=ReviewRequest,
        reply=ExecutionReply,
        changing=True,
        role=Role.OPERATOR,
        method="POST",
        path="review",
        command="review",
        summary="Have the attempt's work reviewed",
        errors=(
            _E.EXECUTOR_UNAVAILABLE,
            _E.RUNNING,
            _E.BRANCH_MISSING,
            _E.NOT_FOUND,
            _E.SESSION_LOST,
        ),
        deadline_s=120.0,
    ),
    Operation(
        name="run_script",
        request=RunScriptRequest,
        reply=ExecutionReply,
        changing=True,
        role=Role.OPERATOR,
        method="POST",
        path="scripts/{name}",
        command="run-script",
        summary="Run one of the project's scripts in the attempt's worktree",
        errors=(_E.NO_SCRIPT, _E.RUNNING, _E.SESSION_LOST),
        deadline_s=120.0,
    ),
    Operation(
        name="hold",
        request=HoldRequest,
        reply=AttemptReply,
        changing=True,
        role=Role.OPERATOR,
        method="POST",
        path="hold",
        command="hold",
        summary="Keep the attempt's worktree",
        errors=(_E.WORKTREE_GONE,),
    ),
    Operation(
        name="release",
        request=ReleaseRequest,
        reply=AttemptReply,
        changing=True,
        role=Role.OPERATOR,
        method="POST",
        path="release",
        command="release",
        summary="Hold the attempt's worktree no longer",
    ),
    Operation(
        name="cleanup",
        request=CleanupRequest,
        reply=AttemptReply,
        changing=True,
        role=Role.MAINTAINER,
        method="POST",
        path="cleanup",
        command="cleanup",
        summary="Remove the attempt's worktree; its branch and what was saved stay",
        errors=(_E.UNSAVED_WORK, _E.RUNNING, _E.HELD),
        deadline_s=120.0,
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
    Operation(
        name="create_pr",
        request=CreatePrRequest,
        reply=CreatePrReply,
        changing=True,
        role=Role.MAINTAINER,
        method="POST",
        path="pr",
        command="pr",
        summary="Open a pull request from the attempt's branch, pushing it where need be",
        errors=(
            *_FORGE,
            _E.TARGET_MISSING,
            _E.EXISTS,
            _E.FORCE_PUSH_REQUIRED,
            _E.EXPECTED_HEAD_MOVED,
            _E.GIT_FAILED,
        ),
        deadline_s=90.0,
    ),
    Operation(
        name="attach_pr",
        request=AttachPrRequest,
        reply=PullRequest,
        changing=True,
        role=Role.MAINTAINER,
        method="POST",
        path="pr/attach",
        command="attach-pr",
        summary="Name the pull request that belongs to the attempt",
        errors=(*_FORGE, _E.NOT_FOUND),
    ),
    Operation(
        name="pr",
        request=PrRequest,
        reply=PrReply,
        changing=False,
        role=Role.VIEWER,
        method="GET",
        path="pr",
        command="pr-state",
        summary="How the attempt's pull request stands: state, checks, whether it can be merged",
        errors=(*_FORGE, _E.NOT_FOUND),
    ),
)

#: All operations, by name.
OPERATIONS: Final[dict[str, Operation]] = {row.name: row for row in _ROWS}
