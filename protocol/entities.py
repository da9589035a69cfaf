"""The records a node owns, as both ends know them.

Every field that came after the first release has a default, and unknown fields are ignored, so a
record reads on both sides of an upgrade. Times are wall-clock milliseconds, for people only.
"""

import builtins

import msgspec

from protocol.states import AttemptOutcome, AttemptPhase, ExecutionKind, ExecutionStatus


class NodeState(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself. Entity id: the node's."""

    id: str
    name: str
    slots: int
    executors: list[str] = []
    #: Agents that the executor `acp` knows by name and that are installed there.
    agents: list[str] = []
    os: str = ""
    arch: str = ""
    version: str = ""
    labels: list[str] = []
    cores: int = 0
    memory_bytes: int = 0
    #: Where clients may reach this node straight, without the hive between.
    direct_urls: list[str] = []


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """A project's path on one node. `identity` is the repository's: see `docs/glossary.md`."""

    id: str
    path: str
    name: str
    identity: str
    default_branch: str | None = None
    removed: bool = False


class LocalTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task born on a node, owned by it until it is shared."""

    id: str
    title: str
    description: str = ""
    checkout_id: str = ""
    created_at_ms: int = 0


class MergeFact(msgspec.Struct, frozen=True, kw_only=True):
    """A merge of the attempt's commits that its target has: `commit` took in `head`."""

    commit: str
    head: str
    target: str
    strategy: str
    at_ms: int = 0


class PullRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt's pull request, as last seen. `state`: open, draft, closed or merged."""

    url: str
    number: int
    state: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a task on one node.

    It carries its project's identity and its task's text, so that a hive that lost both can
    rebuild them. `start_key` is the idempotency key of the command that asked for it.
    `parked_until_ms`: its turn waits for a usage limit to end and goes on by itself then; `reason`
    says which limit. `silent_since_ms`: its agent has said nothing since, for longer than is usual.
    """

    id: str
    task_id: str
    task_title: str
    task_description: str = ""
    checkout_id: str
    project_identity: str
    project_name: str
    project_id: str | None = None
    executor: str
    profile: str | None = None
    branch: str
    target_branch: str | None = None
    base_commit: str = ""
    head_commit: str | None = None
    worktree: str | None = None
    phase: AttemptPhase
    outcome: AttemptOutcome | None = None
    reason: str | None = None
    executions: list[str] = []
    hold_until_ms: int | None = None
    fence: str | None = None
    start_key: str | None = None
    saved_ref: str | None = None
    merges: list[MergeFact] = []
    created_at_ms: int = 0
    ended_at_ms: int | None = None
    pr: PullRequest | None = None
    parked_until_ms: int | None = None
    silent_since_ms: int | None = None


class ProcessIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which process this is, across restarts and reuse of numbers."""

    boot_id: str
    pid: int
    start_time: int


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One process run inside an attempt. `script` is which one, of a script that was asked for."""

    id: str
    attempt_id: str
    kind: ExecutionKind
    script: str | None = None
    argv: list[str] = []
    process: ProcessIdentity | None = None
    head_before: str | None = None
    head_after: str | None = None
    status: ExecutionStatus
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    started_at_ms: int = 0
    ended_at_ms: int | None = None


class LogEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What the whole log of an ended execution is. Entity id: the execution's.

    `digest` is that of the decoded bytes of its segments, in order: `log_chunks.ContentDigest`.
    `chain` is the running digest after its last chunk, by which a hive tells a log that is whole
    from one that is as long and of another history.
    """

    execution_id: str
    chunks: int
    entries: int
    bytes: int
    digest: builtins.bytes = b""
    chain: builtins.bytes = b""


class OperationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A changing operation as its node carried it out. Entity id: the idempotency key's digest."""

    key: str
    operation: str
    attempt_id: str | None = None
    actor: str = ""
    status: str = "done"
    error_code: str | None = None
    head_before: str | None = None
    head_after: str | None = None
    started_at_ms: int = 0
    ended_at_ms: int | None = None


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person should know about the node: disk full, record quarantined, ..."""

    id: str
    level: str
    code: str
    message: str
    hint: str = ""
    attempt_id: str | None = None


class Withheld(msgspec.Struct, frozen=True, kw_only=True):
    """Stands under the number of an op that the hive refused three times."""

    reason: str
    kind: str = ""
