"""An example of each operation: a request, and the reply it may have. For descriptions and docs.

They tell one story: a task to keep sign-ins for a day, run on the node `atlas`. Must not be used
where anything is done.
"""

from typing import Final, NamedTuple

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
    CommitEntry,
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
from protocol.conversation import (
    AgentRequest,
    Answer,
    RequestKind,
    RequestOption,
    RequestStatus,
    Session,
    SessionStatus,
)
from protocol.entities import Attempt, Execution, MergeFact, ProcessIdentity, PullRequest
from protocol.operation_values import Request, StreamHead
from protocol.pull_requests import (
    AttachPrRequest,
    CreatePrReply,
    CreatePrRequest,
    PrChecks,
    PrReply,
    PrRequest,
)
from protocol.session_requests import RenameSessionRequest
from protocol.states import AttemptOutcome, AttemptPhase, ExecutionKind, ExecutionStatus
from protocol.turn_requests import (
    DropTurnsRequest,
    FollowUpRequest,
    GoOnRequest,
    InterruptRequest,
    SetTurnsRequest,
    Turn,
    TurnEdit,
    TurnsReply,
    TurnsRequest,
    TurnStatus,
)
from protocol.work_requests import (
    BranchStatusReply,
    BranchStatusRequest,
    DiffRequest,
    DiffUpdate,
    FileDiff,
    FileEntry,
    FollowDiffRequest,
    ListFilesReply,
    ListFilesRequest,
    LogRequest,
    ReadFileRequest,
)

PROJECT_ID: Final = "0199d2c0-51a7-7e20-8b6d-1f0c4e9a2d31"
NODE_ID: Final = "6f1c0b9e-4d27-8a53-b1e0-92c7d5a8f346"
CHECKOUT_ID: Final = "0199d2c1-0c42-7d19-a3f8-6e2b7a5c9d04"
TASK_ID: Final = "0199d2f1-3e80-7a55-9c17-40d8b2e6f5a1"
ATTEMPT_ID: Final = "0199d2f4-6b1e-7c3a-9f42-5d1c8e7a0b36"
EXECUTION_ID: Final = "0199d2f4-6f90-7b08-b1d5-2c9e0a4f7d83"
SCRIPT_EXECUTION_ID: Final = "0199d30a-22d4-7f61-8e3b-95c0d7a1e4f2"
TURN_ID: Final = "0199d306-9a10-7c4e-a2b9-7f3d5e8c1064"
NEXT_TURN_ID: Final = "0199d306-f7c2-7d02-b84a-0e6c9d2b5f17"
SESSION_ID: Final = "0199d2f4-70c6-7a2d-8f19-b3e5d7016c48"
REQUEST_ID: Final = "0199d306-d4e8-7f93-9a05-6b2c8e1d4f70"
BRANCH: Final = "skep/keep-sign-ins-for-a-day-8e7a0b36"
BASE: Final = "9f2d7c41b0e85a6d3c1f94e7a2b8d05c6e13f7a9"
HEAD: Final = "4be10d6f92c7a835e0d1b64f8c29a7355fd0e1c8"
MERGED: Final = "c70a5e1d3b9f2846ad57c0e91f6b83d24a5e7c90"
BEGUN_AT_MS: Final = 1_767_600_000_000
ENDED_AT_MS: Final = 1_767_600_412_000
PULL_REQUEST: Final = PullRequest(
    url="https://forge.example/acme/shop/pull/128", number=128, state="open"
)
MERGE: Final = MergeFact(
    commit=MERGED, head=HEAD, target="main", strategy="squash", at_ms=ENDED_AT_MS + 60_000
)

_ATTEMPT: Final = Attempt(
    id=ATTEMPT_ID,
    task_id=TASK_ID,
    task_title="Keep sign-ins for a day",
    task_description="People are signed out after an hour. Keep them for 24 hours.",
    checkout_id=CHECKOUT_ID,
    project_identity="forge.example/acme/shop",
    project_name="shop",
    project_id=PROJECT_ID,
    executor="command",
    branch=BRANCH,
    target_branch="main",
    base_commit=BASE,
    worktree="/home/ada/.local/share/skep/worktrees/0199d2f4-6b1e",
    phase=AttemptPhase.RUNNING,
    executions=[EXECUTION_ID],
    created_at_ms=BEGUN_AT_MS,
)
_ENDED: Final = msgspec.structs.replace(
    _ATTEMPT,
    head_commit=HEAD,
    phase=AttemptPhase.ENDED,
    outcome=AttemptOutcome.SUCCEEDED,
    ended_at_ms=ENDED_AT_MS,
)
_EXECUTION: Final = Execution(
    id=SCRIPT_EXECUTION_ID,
    attempt_id=ATTEMPT_ID,
    kind=ExecutionKind.SCRIPT,
    script="dev",
    argv=["sh", "-c", "make serve"],
    process=ProcessIdentity(
        boot_id="5c0e1f5a-9b1c-4f0e-8a55-0d6a1c7b2e90", pid=41_207, start_time=884_120
    ),
    head_before=HEAD,
    status=ExecutionStatus.RUNNING,
    started_at_ms=ENDED_AT_MS + 5_000,
)
_REVIEW: Final = msgspec.structs.replace(
    _EXECUTION, script="review", argv=["sh", "-c", "make lint"]
)
_RUNNING_TURN: Final = Turn(
    id=TURN_ID,
    attempt_id=ATTEMPT_ID,
    status=TurnStatus.RUNNING,
    no=2,
    prompt="Add a test for the case that the clock goes back.",
    author="ada",
    created_at_ms=ENDED_AT_MS + 10_000,
    begun_at_ms=ENDED_AT_MS + 10_200,
)
_QUEUED_TURN: Final = Turn(
    id=NEXT_TURN_ID,
    attempt_id=ATTEMPT_ID,
    status=TurnStatus.QUEUED,
    position=1,
    prompt="Then update the changelog.",
    author="ada",
    created_at_ms=ENDED_AT_MS + 34_000,
)
#: A question of the agent, answered.
ANSWERED: Final = AgentRequest(
    id=REQUEST_ID,
    session_id=SESSION_ID,
    attempt_id=ATTEMPT_ID,
    turn_id=TURN_ID,
    execution_id=EXECUTION_ID,
    kind=RequestKind.QUESTION,
    title="Which clock may the test set back?",
    text="The session reads two: the server's, and the browser's.",
    options=[
        RequestOption(id="server", name="The server's"),
        RequestOption(id="browser", name="The browser's"),
    ],
    free_text=True,
    status=RequestStatus.ANSWERED,
    answer=Answer(option="server", by="ada", at_ms=ENDED_AT_MS + 33_000),
    deadline_ms=ENDED_AT_MS + 86_425_000,
    opened_at_ms=ENDED_AT_MS + 25_000,
    settled_at_ms=ENDED_AT_MS + 33_000,
)
#: The session that the turns above are of, with the topic it was given.
RENAMED: Final = Session(
    id=SESSION_ID,
    attempt_id=ATTEMPT_ID,
    executor="acp",
    agent="example-agent",
    topic="Sign-ins that last for a day",
    status=SessionStatus.OPEN,
    message_count=14,
    turn_count=1,
    created_at_ms=ENDED_AT_MS - 120_000,
    last_activity_at_ms=ENDED_AT_MS + 33_000,
)
_BRANCH_STATUS: Final = BranchStatusReply(
    branch=BRANCH,
    target_branch="main",
    head=HEAD,
    base=BASE,
    ahead=2,
    behind=1,
    remote_ahead=0,
    remote_behind=0,
    dirty=1,
    untracked=1,
    remote_head=HEAD,
    pr=PULL_REQUEST,
)
_PATCH: Final = (
    "@@ -3,5 +3,5 @@\n"
    " import time\n"
    " \n"
    "-MAX_AGE_S = 3600\n"
    "+MAX_AGE_S = 24 * 3600\n"
    " \n"
    " def expired(since):\n"
)
_FILE: Final = FileDiff(
    path="shop/sign_in.py",
    old_path=None,
    kind="modified",
    additions=1,
    deletions=1,
    binary=False,
    patch=_PATCH,
    too_large=False,
    old_mode="100644",
    new_mode="100644",
)
_COMMIT: Final = CommitEntry(
    id=HEAD,
    parents=[BASE],
    subject="Keep sign-ins for a day",
    author_name="Ada Example",
    author_email="ada@acme.example",
    authored_at_ms=ENDED_AT_MS - 9_000,
    committed_at_ms=ENDED_AT_MS - 9_000,
)
_STASH: Final = "0d5b8a7c36e1f942b07a5d8c1e39f6a4287bc05d"
_STASH_REF: Final = f"refs/skep/stash/{ATTEMPT_ID}"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


_DIFF: Final = {"base": BASE, "head": HEAD, "source": "worktree", "files": [_FILE]}
_COMPARED: Final = {
    "from": BASE,
    "to": HEAD,
    "commits": [_COMMIT],
    "more_commits": False,
    "source": "worktree",
    "base": BASE,
    "head": HEAD,
    "files": [_FILE],
}
_UPDATE: Final = DiffUpdate(
    base=BASE,
    head=HEAD,
    source="worktree",
    whole=True,
    changed=[_FILE],
    removed=[],
    cursor="1:5d1c8e7a0b36",
)
_LOG_PAGE: Final = {
    "entries": [
        {"n": 1, "at_ms": BEGUN_AT_MS + 800, "stream": "stdout", "text": "collected 42 items"},
        {"n": 2, "at_ms": BEGUN_AT_MS + 4_100, "stream": "stdout", "text": "42 passed"},
    ],
    "gaps": [],
    "next": 2,
    "more": False,
    "closed": True,
}


class Example(NamedTuple):
    """One call of an operation: what is asked, and what may be answered.

    `content` is the text of a streamed reply, of which `reply` is the head.
    """

    request: Request
    reply: msgspec.Struct
    content: str | None = None


def _streamed(request: Request, media_type: str, content: str, **headers: str) -> Example:
    return Example(request, StreamHead(media_type=media_type, headers=headers), content)


_JSON: Final = "application/json"
#: By the name of the operation: one for each row of the table.
EXAMPLES: Final[dict[str, Example]] = {
    "start": Example(
        StartRequest(
            checkout_id=CHECKOUT_ID,
            project="shop",
            project_id=PROJECT_ID,
            task_id=TASK_ID,
            task_title="Keep sign-ins for a day",
            task_description="People are signed out after an hour. Keep them for 24 hours.",
            command="sh -c 'make test'",
            base_branch="main",
            target_branch="main",
            copy_files=[".env"],
            environment={"CI": "1"},
        ),
        AttemptReply(attempt=_ATTEMPT),
    ),
    "stop": Example(
        StopRequest(grace_s=10.0),
        AttemptReply(
            attempt=msgspec.structs.replace(
                _ENDED, outcome=AttemptOutcome.STOPPED, reason="stopped by ada"
            )
        ),
    ),
    "follow_up": Example(
        FollowUpRequest(prompt="Add a test for the case that the clock goes back."),
        _RUNNING_TURN,
    ),
    "turns": Example(TurnsRequest(), TurnsReply(items=[_QUEUED_TURN], running=_RUNNING_TURN)),
    "set_turns": Example(
        SetTurnsRequest(items=[TurnEdit(id=NEXT_TURN_ID, prompt="Then update the changelog.")]),
        TurnsReply(items=[_QUEUED_TURN], running=_RUNNING_TURN),
    ),
    "drop_turns": Example(
        DropTurnsRequest(turn=NEXT_TURN_ID), TurnsReply(items=[], running=_RUNNING_TURN)
    ),
    "interrupt": Example(
        InterruptRequest(turn=TURN_ID),
        msgspec.structs.replace(_RUNNING_TURN, interrupt_asked_at_ms=ENDED_AT_MS + 40_000),
    ),
    "go_on": Example(
        GoOnRequest(turn=TURN_ID),
        msgspec.structs.replace(_RUNNING_TURN, parked_until_ms=ENDED_AT_MS + 40_000),
    ),
    "answer": Example(AnswerRequest(request_id=REQUEST_ID, option="server"), ANSWERED),
    "rename_session": Example(
        RenameSessionRequest(session_id=SESSION_ID, topic=RENAMED.topic), RENAMED
    ),
    "review": Example(
        ReviewRequest(what="base", base_branch="main", command="sh -c 'make lint'"),
        ExecutionReply(execution=_REVIEW),
    ),
    "run_script": Example(RunScriptRequest(name="dev"), ExecutionReply(execution=_EXECUTION)),
    "hold": Example(
        HoldRequest(until_ms=ENDED_AT_MS + 86_400_000),
        AttemptReply(
            attempt=msgspec.structs.replace(_ENDED, hold_until_ms=ENDED_AT_MS + 86_400_000)
        ),
    ),
    "release": Example(ReleaseRequest(), AttemptReply(attempt=_ENDED)),
    "cleanup": Example(
        CleanupRequest(save=True),
        AttemptReply(
            attempt=msgspec.structs.replace(
                _ENDED, worktree=None, saved_ref=f"refs/skep/saved/{ATTEMPT_ID}"
            )
        ),
    ),
    "branch_status": Example(BranchStatusRequest(), _BRANCH_STATUS),
    "diff": _streamed(DiffRequest(path="shop/sign_in.py"), _JSON, _json(_DIFF)),
    "follow_diff": _streamed(
        FollowDiffRequest(against="base"), "application/x-ndjson", _json(_UPDATE) + "\n"
    ),
    "commits": Example(
        CommitsRequest(limit=20), CommitsReply(head=HEAD, base=BASE, commits=[_COMMIT])
    ),
    "compare": _streamed(CompareRequest(from_="main", to=BRANCH), _JSON, _json(_COMPARED)),
    "merge": Example(
        MergeRequest(strategy="squash", message="Keep sign-ins for a day"),
        MergeReply(commit=MERGED, target="main", target_before=BASE, head=HEAD, strategy="squash"),
    ),
    "push": Example(
        PushRequest(force=True, expected_remote_head=BASE),
        PushReply(
            remote="origin",
            url="https://forge.example/acme/shop.git",
            ref=f"refs/heads/{BRANCH}",
            before=BASE,
            after=HEAD,
            head=HEAD,
            forced=True,
        ),
    ),
    "rebase": Example(
        RebaseRequest(new_base="main"),
        RebaseReply(head=HEAD, head_before="7d3e90b1c45f2a86e0931dbf57ca84e26d1b0f93", onto=BASE),
    ),
    "abort_conflicts": Example(AbortConflictsRequest(), _BRANCH_STATUS),
    "target_branch": Example(
        TargetBranchRequest(branch="release-2"),
        msgspec.structs.replace(_BRANCH_STATUS, target_branch="release-2", behind=0),
    ),
    "rename_branch": Example(
        RenameBranchRequest(branch="longer-sign-ins"),
        RenameBranchReply(branch="longer-sign-ins", branch_before=BRANCH, head=HEAD),
    ),
    "stash": Example(
        StashRequest(message="before the rebase"),
        StashReply(ref=_STASH_REF, commit=_STASH, head=HEAD, depth=1),
    ),
    "stash_pop": Example(
        StashPopRequest(), StashPopReply(ref=_STASH_REF, commit=_STASH, head=HEAD, depth=0)
    ),
    "list_files": Example(
        ListFilesRequest(path="shop", limit=100),
        ListFilesReply(
            path="shop",
            entries=[
                FileEntry(name="pages", kind="directory"),
                FileEntry(name="sign_in.py", kind="file", size=1_204),
            ],
        ),
    ),
    "read_file": _streamed(
        ReadFileRequest(path="shop/sign_in.py", bytes_max=65_536),
        "text/plain; charset=utf-8",
        "import time\n\nMAX_AGE_S = 24 * 3600\n",
        **{"Skep-File-Size": "35", "Skep-First-Byte": "0", "Skep-Source": "worktree"},
    ),
    "log": _streamed(
        LogRequest(execution_id=EXECUTION_ID, after=0, limit=100), _JSON, _json(_LOG_PAGE)
    ),
    "create_pr": Example(
        CreatePrRequest(title="Keep sign-ins for a day", body="Was an hour.", target="main"),
        CreatePrReply(
            url=PULL_REQUEST.url, number=128, state="open", target_branch="main", head=HEAD
        ),
    ),
    "attach_pr": Example(AttachPrRequest(number=128), PULL_REQUEST),
    "pr": Example(
        PrRequest(),
        PrReply(
            url=PULL_REQUEST.url,
            number=128,
            state="open",
            title="Keep sign-ins for a day",
            branch=BRANCH,
            target_branch="main",
            head=HEAD,
            mergeable=True,
            mergeable_state="clean",
            checks=PrChecks(state="pending", total=3, passed=2, pending=1),
            as_of_ms=ENDED_AT_MS + 90_000,
        ),
    ),
}
