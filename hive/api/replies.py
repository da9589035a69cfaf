"""What the API answers, as Structs: names and shapes that scripts rely on.

Must not read anything: handlers make these of rows and of what is known of connected nodes.
"""

from typing import Any, Generic, TypeVar

import msgspec

from protocol.entities import MergeFact, PullRequest
from protocol.errors import ErrorBody
from protocol.log_entries import Entry, EntryGap
from protocol.profiles import Profile

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One page of a list; `next`, where there is more, is the `cursor` of the next page."""

    items: list[T]
    next: str | None = None


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """What every failed request answers."""

    error: ErrorBody


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What is no more."""

    id: str


class NodeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many nodes are there, and how many are not."""

    online: int
    offline: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How the hive is."""

    hive_id: str
    generation: int
    version: str
    nodes: NodeCounts
    ready: bool
    started_at_ms: int


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who the caller is."""

    token_id: str
    name: str
    role: str


# --- nodes ----------------------------------------------------------------------------------------


class Slots(msgspec.Struct, frozen=True, kw_only=True):
    """Where attempts can run on a node."""

    total: int
    busy: int


class Outbox(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has not yet got safe at the hive."""

    ops: int = 0
    chunks: int = 0
    bytes: int = 0
    oldest_ms: int | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A machine. `status`: online, offline, draining, quarantined, revoked.

    `agents` are those that its executor `acp` knows by name and that are installed there.

    `instances` are the processes that claim its identity, where it is in quarantine.
    """

    id: str
    name: str
    status: str
    reason: str | None = None
    online: bool
    slots: Slots
    executors: list[str]
    agents: list[str]
    version: str
    activity: str
    last_seen_at_ms: int | None
    last_activity_at_ms: int | None
    labels: list[str]
    os: str
    arch: str
    cores: int
    memory_bytes: int
    direct_urls: list[str]
    joined_at_ms: int
    online_since_ms: int | None = None
    round_trip_ms: float | None = None
    outbox: Outbox
    instances: list[str] = []


class AvailableNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node as a place for one task: whether it can run it, and if not, why."""

    id: str
    name: str
    status: str
    slots: Slots
    executors: list[str]
    checkout_id: str | None
    last_seen_at_ms: int | None
    can_run: bool
    why_not: str
    code: str


class JoinToken(msgspec.Struct, frozen=True, kw_only=True):
    """A one-time token that lets a machine join; shown this once."""

    join_token: str
    expires_at_ms: int
    command: str


class Enrolled(msgspec.Struct, frozen=True, kw_only=True):
    """What a node learns when it joined. `keys` are the hive's raw public keys, in base64."""

    node_id: str
    name: str
    hive_id: str
    keys: dict[str, bytes]
    public_urls: list[str]


# --- projects and tasks ---------------------------------------------------------------------------


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """A project's path on one node."""

    id: str
    node_id: str
    node_name: str
    path: str
    default_branch: str | None = None
    problem: str = ""


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A repository the team works on."""

    id: str
    name: str
    repo_url: str | None
    identity: str
    default_branch: str | None
    sync_policy: str
    review: str
    setup_script: str | None
    cleanup_script: str | None
    dev_script: str | None
    copy_files: list[str]
    policies: dict[str, Any]
    profiles: dict[str, Profile]
    variables: dict[str, str]
    keep_worktree: str
    archived: bool
    recovered: bool
    version: int
    created_at_ms: int
    updated_at_ms: int
    checkouts: list[Checkout]


class ProjectProfile(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as a project wants it run. A value `secret:NAME` is a secret of the node."""

    name: str
    agent: str
    model: str | None
    mode: str | None
    arguments: list[str]
    environment: dict[str, str]


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of wanted work. `node_id` where it is a node's own, not shared."""

    id: str
    project_id: str | None
    project_name: str | None
    node_id: str | None
    title: str
    description: str
    type: str
    priority: str
    size: str | None
    base_branch: str | None
    target_branch: str | None
    status: str
    parent_id: str | None
    depends_on: list[str]
    labels: list[str]
    variables: dict[str, Any]
    position: int
    archived: bool
    recovered: bool
    version: int
    result: dict[str, Any] | None
    created_at_ms: int
    updated_at_ms: int
    completed_at_ms: int | None


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """A variable as a task has it, and where it is set: `task`, `parent` or `project`."""

    name: str
    value: str
    from_kind: str
    from_id: str


class TextWarning(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person should look at before they go on. `code`: undefined, looks_secret."""

    code: str
    name: str
    message: str


class TaskPreview(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent would be given of a task."""

    title: str
    description: str
    prompt: str | None
    variables: list[Variable]
    warnings: list[TextWarning]


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A text to make tasks from. `project_id` null: for tasks of every project."""

    id: str
    project_id: str | None
    name: str
    title: str
    text: str
    version: int
    created_at_ms: int
    updated_at_ms: int


# --- attempts -------------------------------------------------------------------------------------


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """How much of an execution's log the hive holds; `closed` where its node says it has ended.

    `held_bytes` is what it takes on the hive's disk, `bytes_total` what the program printed.
    """

    entries: int
    held_bytes: int
    closed: bool
    whole: bool
    entries_total: int | None = None
    bytes_total: int | None = None
    gone: str | None = None


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One process run inside an attempt."""

    id: str
    attempt_id: str
    kind: str
    script: str | None = None
    argv: list[str] = []
    status: str
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    head_before: str | None = None
    head_after: str | None = None
    started_at_ms: int = 0
    ended_at_ms: int | None = None
    log: LogState


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a task on one node, as that node last told it.

    `reachable`, `sync_state`, `superseded` and `forgotten_at_ms` are the hive's own, beside it.
    `parked_until_ms`: its turn waits for a usage limit to end, as `reason` says, and goes on by
    itself then. `silent_since_ms`: its agent has said nothing since, for longer than is usual.
    """

    id: str
    task_id: str
    task_title: str
    project_id: str | None
    node_id: str
    node_name: str
    checkout_id: str
    executor: str
    profile: str | None
    phase: str
    outcome: str | None
    reason: str | None
    branch: str
    target_branch: str | None
    base_commit: str
    head_commit: str | None
    worktree: str | None
    saved_ref: str | None
    hold_until_ms: int | None
    start_key: str | None
    executions: list[Execution]
    sessions: list[str] = []
    sync_state: str
    synced_through_ms: int | None
    reachable: bool
    unreachable_since_ms: int | None = None
    superseded: bool
    forgotten_at_ms: int | None
    created_at_ms: int
    ended_at_ms: int | None
    merges: list[MergeFact]
    pr: PullRequest | None = None
    parked_until_ms: int | None = None
    silent_since_ms: int | None = None


class LogPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of an execution's log. `next` is the `after` of the next page.

    `closed`: nothing will follow what the last page shows. `source`: the hive, or the node itself.
    """

    entries: list[Entry]
    gaps: list[EntryGap]
    next: int
    more: bool
    closed: bool
    source: str = "hive"


class StreamConnection(msgspec.Struct, frozen=True, kw_only=True):
    """Where an attempt's streams are to be had: below each of the addresses, by the same paths.

    `direct_urls` take `token`, which only reads, until it expires; `relay_url` takes the caller's
    own.
    """

    attempt_id: str
    node_id: str
    direct_urls: list[str]
    relay_url: str
    token: str
    expires_at_ms: int
    reachable: bool


class DirectCall(msgspec.Struct, frozen=True, kw_only=True):
    """What one changing call takes at a node's own address: this token and this key, once."""

    attempt_id: str
    node_id: str
    direct_urls: list[str]
    token: str
    expires_at_ms: int
    idempotency_key: str


# --- the hive's own records -----------------------------------------------------------------------


class KeptOperation(msgspec.Struct, frozen=True, kw_only=True):
    """What an operation waits with, and what its caller had seen when it was asked.

    `held`: the hive was restored since, and a person has to confirm it.
    """

    expires_at_ms: int
    held: bool
    expected_head: str | None
    expected_execution_id: str | None
    phase: str
    delivered_at_ms: int | None
    deliveries: int


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """A changing request as its node says it carried it out."""

    status: str
    error_code: str | None
    actor: str
    head_before: str | None
    head_after: str | None
    started_at_ms: int
    ended_at_ms: int | None


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a changing request.

    `status`: sent, done, failed, unknown; of one for a node that was away (`kept`) also waiting,
    delivered, expired, cancelled. `hint` says what happens next, or what can be done.
    """

    key: str
    operation: str
    status: str
    attempt_id: str | None
    task_id: str | None
    node_id: str | None
    actor: str
    head_before: str | None
    head_after: str | None
    created_at_ms: int
    settled_at_ms: int | None
    error: ErrorBody | None = None
    reply: Any = None
    hint: str = ""
    node_name: str | None = None
    node_online: bool = False
    node_last_seen_at_ms: int | None = None
    kept: KeptOperation | None = None
    report: NodeReport | None = None


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """Who may call the hive, and as what; never the secret."""

    id: str
    name: str
    role: str
    created_at_ms: int
    expires_at_ms: int | None
    revoked_at_ms: int | None
    last_used_at_ms: int | None


class MadeToken(Token, frozen=True, kw_only=True):
    """A token just made; `token` is the secret, shown this once."""

    token: str


class Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"from_state": "from", "to_state": "to"},
):
    """One entry of the activity feed and the audit log: what happened, who did it, why, when."""

    no: int
    at_ms: int
    kind: str
    audit: bool
    actor_kind: str
    actor: str
    what: str
    what_id: str
    from_state: str | None
    to_state: str | None
    why: str
    level: str
    node_id: str | None
    project_id: str | None
    task_id: str | None
    attempt_id: str | None
    details: dict[str, Any]
