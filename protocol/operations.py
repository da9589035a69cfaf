"""The table of operations: what may be asked of a node, by whom, and what it answers.

From this one table come the node's dispatcher, the hive's routes, the node's own routes, the
`hive attempt` and `node-agent attempt` commands and the OpenAPI page. One more operation is one
entry here, one function at the node, and its cases in `tests/end_to_end/matrix`.
"""

import enum
from typing import Final

import msgspec

from protocol.answer_requests import AnswerRequest
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
from protocol.branch_requests import (
    AbortConflictsRequest,
    CommitsReply,
    CommitsRequest,
    CompareRequest,
    MergeReply,
    MergeRequest,
    PushReply,
    PushRequest,
    RebaseReply,
    RebaseRequest,
    RenameBranchReply,
    RenameBranchRequest,
    StashPopReply,
    StashPopRequest,
    StashReply,
    StashRequest,
    TargetBranchRequest,
)
from protocol.conversation import AgentRequest
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
    #: Below `/api/v1/attempts/{attempt_id}/`, or below `/api/v1/` for those of `ROOTS`.
    path: str
    #: The sub-command of `hive attempt` and `node-agent attempt`.
    command: str
    summary: str
    errors: tuple[ErrorCode, ...] = ()
    deadline_s: float = 30.0
    #: It changes git, and is refused where the head is not `expected_head`, if that is given.
    takes_head: bool = False
    #: The streamed reply has no end of its own: each piece of it goes at once.
    live: bool = False

    @property
    def streamed(self) -> bool:
        return self.reply is StreamHead


_E = ErrorCode
#: What may go wrong between a node and the forge that has its repository.
_LOGIN: Final = (_E.CLI_MISSING, _E.NOT_LOGGED_IN, _E.AUTH)
_FORGE: Final = (_E.NO_FORGE, *_LOGIN, _E.FORGE_FAILED, _E.FORGE_LIMIT)
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
        name="answer",
        request=AnswerRequest,
        reply=AgentRequest,
        changing=True,
        role=Role.OPERATOR,
        method="POST",
        path="requests/{request_id}/answer",
        command="answer",
        summary="Answer what an agent asks; the first answer counts",
        errors=(_E.ALREADY_ANSWERED, _E.EXPIRED, _E.CANCELLED),
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
        name="commits",
        request=CommitsRequest,
        reply=CommitsReply,
        changing=False,
        role=Role.VIEWER,
        method="GET",
        path="commits",
        command="commits",
        summary="The attempt's own commits",
        errors=(_E.INVALID, _E.WORKTREE_GONE, _E.GIT_FAILED),
    ),
    Operation(
        name="compare",
        request=CompareRequest,
        reply=StreamHead,
        changing=False,
        role=Role.VIEWER,
        method="GET",
        path="compare",
        command="compare",
        summary="What one branch or commit has that another has not",
        errors=(_E.BRANCH_MISSING, _E.WORKTREE_GONE, _E.GIT_FAILED),
        deadline_s=120.0,
    ),
    Operation(
        name="merge",
        request=MergeRequest,
        reply=MergeReply,
        changing=True,
        role=Role.MAINTAINER,
        method="POST",
        path="merge",
        command="merge",
        summary="Merge the attempt's commits into its target branch",
        errors=(
            _E.CONFLICTS,
            _E.NOTHING_TO_MERGE,
            _E.TARGET_MOVED,
            _E.BRANCH_MISSING,
            _E.REBASE_IN_PROGRESS,
            _E.CHECKOUT_DIRTY,
            _E.EXPECTED_HEAD_MOVED,
            _E.IN_PROGRESS,
        ),
        deadline_s=300.0,
        takes_head=True,
    ),
    Operation(
        name="push",
        request=PushRequest,
        reply=PushReply,
        changing=True,
        role=Role.MAINTAINER,
        method="POST",
        path="push",
        command="push",
        summary="Push the attempt's branch to its remote",
        errors=(
            _E.FORCE_PUSH_REQUIRED,
            _E.PUSH_REJECTED,
            _E.NO_REMOTE,
            _E.AUTH,
            _E.REBASE_IN_PROGRESS,
            _E.EXPECTED_HEAD_MOVED,
            _E.IN_PROGRESS,
        ),
        deadline_s=300.0,
        takes_head=True,
    ),
    Operation(
        name="rebase",
        request=RebaseRequest,
        reply=RebaseReply,
        changing=True,
        role=Role.MAINTAINER,
        method="POST",
        path="rebase",
        command="rebase",
        summary="Put the attempt's commits on top of its target branch",
        errors=(
            _E.CONFLICTS,
            _E.REBASE_IN_PROGRESS,
            _E.CHECKOUT_DIRTY,
            _E.BRANCH_MISSING,
            _E.EXPECTED_HEAD_MOVED,
            _E.IN_PROGRESS,
        ),
        deadline_s=300.0,
        takes_head=True,
    ),
    Operation(
        name="abort_conflicts",
        request=AbortConflictsRequest,
        reply=BranchStatusReply,
        changing=True,
        role=Role.MAINTAINER,
        method="POST",
        path="conflicts/abort",
        command="abort-conflicts",
        summary="Abort what stands half done in the attempt's worktree",
        errors=(_E.NOTHING_TO_ABORT, _E.WORKTREE_GONE, _E.EXPECTED_HEAD_MOVED, _E.IN_PROGRESS),
        deadline_s=120.0,
        takes_head=True,
    ),
    Operation(
        name="target_branch",
        request=TargetBranchRequest,
        reply=BranchStatusReply,
        changing=True,
        role=Role.MAINTAINER,
        method="POST",
        path="target-branch",
        command="target-branch",
        summary="Change the branch that the attempt's work goes to",
        errors=(_E.BRANCH_MISSING, _E.IN_PROGRESS),
    ),
    Operation(
        name="rename_branch",
        request=RenameBranchRequest,
        reply=RenameBranchReply,
        changing=True,
        role=Role.MAINTAINER,
        method="POST",
        path="rename-branch",
        command="rename-branch",
        summary="Give the attempt's branch another name",
        errors=(
            _E.INVALID_NAME,
            _E.EXISTS,
            _E.OPEN_PR,
            _E.REBASE_IN_PROGRESS,
            _E.WORKTREE_GONE,
            _E.EXPECTED_HEAD_MOVED,
            _E.IN_PROGRESS,
        ),
        deadline_s=60.0,
        takes_head=True,
    ),
    Operation(
        name="stash",
        request=StashRequest,
        reply=StashReply,
        changing=True,
        role=Role.OPERATOR,
        method="POST",
        path="stash",
        command="stash",
        summary="Put the worktree's uncommitted work aside",
        errors=(
            _E.NOTHING_TO_STASH,
            _E.CONFLICTS,
            _E.REBASE_IN_PROGRESS,
            _E.WORKTREE_GONE,
            _E.EXPECTED_HEAD_MOVED,
            _E.IN_PROGRESS,
        ),
        deadline_s=120.0,
        takes_head=True,
    ),
    Operation(
        name="stash_pop",
        request=StashPopRequest,
        reply=StashPopReply,
        changing=True,
        role=Role.OPERATOR,
        method="POST",
        path="stash/pop",
        command="stash-pop",
        summary="Bring the newest stash back into the worktree",
        errors=(
            _E.NOTHING_TO_STASH,
            _E.CONFLICTS,
            _E.CHECKOUT_DIRTY,
            _E.REBASE_IN_PROGRESS,
            _E.WORKTREE_GONE,
            _E.EXPECTED_HEAD_MOVED,
            _E.IN_PROGRESS,
        ),
        deadline_s=120.0,
        takes_head=True,
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
            _E.PUSH_REJECTED,
            _E.NO_REMOTE,
            _E.REBASE_IN_PROGRESS,
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

#: Paths that begin with one of these stand directly below `/api/v1/`, not below an attempt.
ROOTS: Final = ("tasks/", "executions/", "requests/")

#: All operations, by name.
OPERATIONS: Final[dict[str, Operation]] = {row.name: row for row in _ROWS}
