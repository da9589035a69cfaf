"""Examples of what the API takes and answers, by Struct, for its description.

They tell the story of `protocol.operation_examples`. Must not be used where anything is done.
"""

from collections.abc import Mapping
from typing import Any, Final, get_args, get_origin

import msgspec

from hive.api import (
    attempts,
    conversation_examples,
    direct,
    enrol,
    events,
    executions,
    nodes,
    outcomes,
    profiles,
    projects,
    replies,
    starting,
    streams,
    tasks,
    templates,
    tokens,
    variables,
)
from protocol.errors import ErrorBody, ErrorCode
from protocol.log_entries import Entry
from protocol.operation_examples import (
    ATTEMPT_ID,
    BASE,
    BEGUN_AT_MS,
    BRANCH,
    CHECKOUT_ID,
    ENDED_AT_MS,
    EXECUTION_ID,
    HEAD,
    MERGE,
    NODE_ID,
    PROJECT_ID,
    PULL_REQUEST,
    TASK_ID,
)
from protocol.profiles import Profile
from protocol.states import TaskStatus

_HIVE_ID: Final = "0199d2b0-17f3-7ac4-9e01-3b5d7f9c2e48"
_ADA_ID: Final = "0199d2b2-8c05-7d6f-a4e7-c1903b5f7d26"
_KEY: Final = "0199d30c-5b77-7e13-9d24-8f60a2c4e6b8"
_ADDRESS: Final = "https://hive.acme.example"
_DIRECT_URLS: Final = ["https://atlas.acme.example:8710"]
#: Tokens and keys of examples: of the right shape, and of no use.
_SIGNED: Final = "eyJhbGciOiJFZERTQSJ9.e30.c2lnbmF0dXJl"
_ONE_TIME: Final = "skep-join-3kq8v1mzt6w0"
_SHOWN_ONCE: Final = "skep-token-7h2dq9x4ncf5"
_PUBLIC_KEY: Final = bytes(range(32))

_ENTRY: Final = Entry(n=1, at_ms=BEGUN_AT_MS + 800, stream="stdout", text="collected 42 items")
_EXECUTION: Final = replies.Execution(
    id=EXECUTION_ID,
    attempt_id=ATTEMPT_ID,
    kind="agent",
    argv=["sh", "-c", "make test"],
    status="succeeded",
    exit_code=0,
    head_before=BASE,
    head_after=HEAD,
    started_at_ms=BEGUN_AT_MS + 600,
    ended_at_ms=ENDED_AT_MS,
    log=replies.LogState(
        entries=128, held_bytes=2_310, closed=True, whole=True, entries_total=128, bytes_total=9_744
    ),
)
_ATTEMPT: Final = replies.Attempt(
    id=ATTEMPT_ID,
    task_id=TASK_ID,
    task_title="Keep sign-ins for a day",
    project_id=PROJECT_ID,
    node_id=NODE_ID,
    node_name="atlas",
    checkout_id=CHECKOUT_ID,
    executor="command",
    profile=None,
    phase="ended",
    outcome="succeeded",
    reason=None,
    branch=BRANCH,
    target_branch="main",
    base_commit=BASE,
    head_commit=HEAD,
    worktree="/home/ada/.local/share/skep/worktrees/0199d2f4-6b1e",
    saved_ref=None,
    hold_until_ms=None,
    start_key=None,
    executions=[_EXECUTION],
    sync_state="complete",
    synced_through_ms=ENDED_AT_MS + 40,
    reachable=True,
    superseded=False,
    forgotten_at_ms=None,
    created_at_ms=BEGUN_AT_MS,
    ended_at_ms=ENDED_AT_MS,
    merges=[MERGE],
    pr=PULL_REQUEST,
)
_NODE: Final = replies.Node(
    id=NODE_ID,
    name="atlas",
    status="online",
    online=True,
    slots=replies.Slots(total=2, busy=1),
    executors=["acp", "command"],
    agents=["claude"],
    version="0.3.0",
    activity="busy",
    last_seen_at_ms=ENDED_AT_MS,
    last_activity_at_ms=ENDED_AT_MS - 4_000,
    labels=["linux", "fast-disk"],
    os="linux",
    arch="x86_64",
    cores=8,
    memory_bytes=34_359_738_368,
    direct_urls=_DIRECT_URLS,
    joined_at_ms=BEGUN_AT_MS - 86_400_000,
    online_since_ms=BEGUN_AT_MS - 3_600_000,
    round_trip_ms=12.4,
    outbox=replies.Outbox(ops=1, chunks=2, bytes=18_211, oldest_ms=120),
)
_PROFILE: Final = Profile(
    agent="claude", model="opus", mode="plan", environment={"ANTHROPIC_API_KEY": "secret:MODEL_KEY"}
)
_PROJECT: Final = replies.Project(
    id=PROJECT_ID,
    name="shop",
    repo_url="https://forge.example/acme/shop.git",
    identity="forge.example/acme/shop",
    default_branch="main",
    sync_policy="full",
    review="on",
    setup_script="make deps",
    cleanup_script=None,
    dev_script="make serve",
    copy_files=[".env"],
    variables={"TEST_COMMAND": "make test"},
    profiles={"careful": _PROFILE},
    policies={"requests": {"allow": ["read"], "deny": ["execute:*:rm *"]}},
    keep_worktree="until_done",
    archived=False,
    recovered=False,
    version=3,
    created_at_ms=BEGUN_AT_MS - 86_000_000,
    updated_at_ms=BEGUN_AT_MS - 7_200_000,
    checkouts=[
        replies.Checkout(
            id=CHECKOUT_ID,
            node_id=NODE_ID,
            node_name="atlas",
            path="/home/ada/shop",
            default_branch="main",
        )
    ],
)
_TEXT: Final = "People are signed out after an hour. Keep them for ${HOURS} hours."
_TASK: Final = replies.Task(
    id=TASK_ID,
    project_id=PROJECT_ID,
    project_name="shop",
    node_id=None,
    title="Keep sign-ins for a day",
    description=_TEXT,
    type="feature",
    priority="normal",
    size=None,
    base_branch="main",
    target_branch="main",
    status="in_review",
    parent_id=None,
    depends_on=[],
    labels=["sign-in"],
    variables={"HOURS": "24"},
    position=0,
    archived=False,
    recovered=False,
    version=4,
    result={"attempt_id": ATTEMPT_ID, "branch": BRANCH},
    created_at_ms=BEGUN_AT_MS - 600_000,
    updated_at_ms=ENDED_AT_MS,
    completed_at_ms=None,
)
_TEMPLATE: Final = replies.Template(
    id="0199d2d4-7a31-7b90-8c52-e6f1a09d3b47",
    project_id=PROJECT_ID,
    name="bug",
    title="Fix: ",
    text="Write a test that fails first. The tests run with ${TEST_COMMAND}.",
    version=1,
    created_at_ms=BEGUN_AT_MS - 80_000_000,
    updated_at_ms=BEGUN_AT_MS - 80_000_000,
)
_VARIABLE: Final = replies.Variable(name="HOURS", value="24", from_kind="task", from_id=TASK_ID)
_TOKEN: Final = replies.Token(
    id=_ADA_ID,
    name="ada",
    role="maintainer",
    created_at_ms=BEGUN_AT_MS - 86_400_000,
    expires_at_ms=None,
    revoked_at_ms=None,
    last_used_at_ms=ENDED_AT_MS,
)
_OPERATION: Final = replies.Operation(
    key=_KEY,
    operation="push",
    status="waiting",
    attempt_id=ATTEMPT_ID,
    task_id=TASK_ID,
    node_id=NODE_ID,
    actor="ada",
    head_before=None,
    head_after=None,
    created_at_ms=ENDED_AT_MS + 120_000,
    settled_at_ms=None,
    hint="It leaves when atlas connects.",
    node_name="atlas",
    node_online=False,
    node_last_seen_at_ms=ENDED_AT_MS + 60_000,
    kept=replies.KeptOperation(
        expires_at_ms=ENDED_AT_MS + 604_920_000,
        held=False,
        expected_head=HEAD,
        expected_execution_id=EXECUTION_ID,
        phase="ended",
        delivered_at_ms=None,
        deliveries=0,
    ),
)
_ERROR: Final = ErrorBody(
    code=ErrorCode.EXPECTED_HEAD_MOVED.value,
    message="the branch has moved since it was shown",
    hint="Look at it again, and ask once more with the head it has now.",
    details={"expected_head": BASE, "head": HEAD},
)

_INSTANCES: Final[tuple[msgspec.Struct, ...]] = (
    # What is asked for.
    attempts.AttemptsQuery(task=TASK_ID, status="succeeded"),
    attempts.AttemptQuery(wait_ended_s=60.0),
    direct.DirectCall(operation="merge", request={"strategy": "squash"}),
    enrol.Enrolment(
        join_token=_ONE_TIME,
        public_key="AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        proof="c2lnbmF0dXJl",
        name="atlas",
    ),
    events.EventsQuery(kind="task_changed", audit=True),
    executions.ExecutionsQuery(attempt=ATTEMPT_ID),
    executions.LogQuery(after=100, limit=500, grep="FAILED"),
    nodes.EditNode(draining=True, labels=["linux", "fast-disk"]),
    nodes.ReleaseNode(instance=4_611_686_018_427_387_904),
    outcomes.OperationsQuery(status="waiting"),
    projects.NewProject(
        name="shop", repo_url="https://forge.example/acme/shop.git", default_branch="main"
    ),
    projects.EditProject(setup_script="make deps", keep_worktree="48", version=2),
    profiles.SetProfile(**msgspec.structs.asdict(_PROFILE)),
    starting.StartAttempt(node_id="atlas", command="sh -c 'make test'", base_branch="main"),
    streams.StreamQuery(topics=[f"attempt:{ATTEMPT_ID}", "nodes"]),
    tasks.TasksQuery(project="shop", status=TaskStatus.IN_REVIEW),
    tasks.NewTask(
        project="shop",
        title="Keep sign-ins for a day",
        description=_TEXT,
        base_branch="main",
        labels=["sign-in"],
        variables={"HOURS": "24"},
    ),
    tasks.EditTask(priority="high", status=TaskStatus.READY, version=3),
    templates.TemplatesQuery(project="shop"),
    templates.NewTemplate(name="bug", text=_TEMPLATE.text, title="Fix: ", project="shop"),
    templates.EditTemplate(title="Fix: ", version=1),
    variables.PreviewQuery(prompt="Keep sign-ins for ${HOURS} hours."),
    variables.SetVariable(value="24"),
    tokens.NewToken(name="ada", role="maintainer", ttl_s=2_592_000),
    tokens.NewJoinToken(label="atlas", ttl_s=3_600),
    # What is answered.
    replies.Deleted(id=TASK_ID),
    replies.ProjectProfile(name="careful", **msgspec.structs.asdict(_PROFILE)),
    replies.Status(
        hive_id=_HIVE_ID,
        generation=1_767_500_000,
        version="0.3.0",
        nodes=replies.NodeCounts(online=2, offline=1),
        ready=True,
        started_at_ms=1_767_500_000_000,
    ),
    replies.Me(token_id=_ADA_ID, name="ada", role="maintainer"),
    replies.AvailableNode(
        id=NODE_ID,
        name="atlas",
        status="online",
        slots=replies.Slots(total=2, busy=2),
        executors=["command"],
        checkout_id=CHECKOUT_ID,
        last_seen_at_ms=ENDED_AT_MS,
        can_run=False,
        why_not="all 2 slots are busy",
        code="node_full",
    ),
    replies.JoinToken(
        join_token=_ONE_TIME,
        expires_at_ms=BEGUN_AT_MS,
        command=f"node-agent join {_ADDRESS} {_ONE_TIME}",
    ),
    replies.Enrolled(
        node_id=NODE_ID,
        name="atlas",
        hive_id=_HIVE_ID,
        keys={"k1": _PUBLIC_KEY},
        public_urls=[_ADDRESS],
    ),
    replies.LogPage(entries=[_ENTRY], gaps=[], next=1, more=False, closed=True),
    replies.StreamConnection(
        attempt_id=ATTEMPT_ID,
        node_id=NODE_ID,
        direct_urls=_DIRECT_URLS,
        relay_url=_ADDRESS,
        token=_SIGNED,
        expires_at_ms=ENDED_AT_MS + 900_000,
        reachable=True,
    ),
    replies.DirectCall(
        attempt_id=ATTEMPT_ID,
        node_id=NODE_ID,
        direct_urls=_DIRECT_URLS,
        token=_SIGNED,
        expires_at_ms=ENDED_AT_MS + 60_000,
        idempotency_key=_KEY,
    ),
    replies.TaskPreview(
        title="Keep sign-ins for a day",
        description=_TEXT.replace("${HOURS}", "24"),
        prompt="Keep sign-ins for 24 hours.",
        variables=[_VARIABLE],
        warnings=[],
    ),
    replies.MadeToken(**msgspec.structs.asdict(_TOKEN), token=_SHOWN_ONCE),
    replies.Event(
        no=2_041,
        at_ms=ENDED_AT_MS,
        kind="task_changed",
        audit=False,
        actor_kind="node",
        actor=NODE_ID,
        what="task",
        what_id=TASK_ID,
        from_state="in_progress",
        to_state="in_review",
        why="its attempt succeeded",
        level="info",
        node_id=NODE_ID,
        project_id=PROJECT_ID,
        task_id=TASK_ID,
        attempt_id=ATTEMPT_ID,
        details={},
    ),
    replies.ErrorReply(error=_ERROR),
    _ATTEMPT,
    _EXECUTION,
    _NODE,
    _OPERATION,
    _PROJECT,
    _TASK,
    _TEMPLATE,
    _TOKEN,
    _VARIABLE,
)
_BY_KIND: Final[Mapping[type[msgspec.Struct], msgspec.Struct]] = {
    type(one): one for one in (*_INSTANCES, *conversation_examples.INSTANCES)
}
#: An attempt that has just begun, as the request that began it answers.
STARTED: Final = msgspec.structs.replace(
    _ATTEMPT,
    phase="preparing",
    outcome=None,
    head_commit=None,
    executions=[],
    synced_through_ms=BEGUN_AT_MS + 30,
    ended_at_ms=None,
    merges=[],
    pr=None,
)
#: What a stream of live events looks like.
LIVE_EVENTS: Final = (
    f'id: 1767500000.2041\nevent: attempt.changed\ndata: {{"attempt":"{ATTEMPT_ID}"}}\n\n'
)


def example_of(kind: Any) -> msgspec.Struct | None:
    """Return an example of a Struct of the API; None where there is none."""
    if get_origin(kind) is replies.Page:
        (item,) = get_args(kind)
        return replies.Page(items=[_BY_KIND[item]])
    return _BY_KIND.get(kind)
