"""What the API answers of conversations, as Structs: sessions, messages, pages of transcripts.

Must not read anything: see `replies`.
"""

import msgspec

from protocol.conversation import PlanEntry, ToolCall, Usage


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation with an agent. `external`: the agent is no node's, and the hive keeps it.

    `status`: open, idle, closed. `rotation_due`: the agent's own session beneath is so old that the
    next turn should begin a fresh one; the history stays one. `closes_at_ms`: when an external
    session that gives no sign of life is closed.
    """

    id: str
    external: bool
    attempt_id: str | None
    task_id: str | None
    task_title: str | None
    project_id: str | None
    node_id: str | None
    node_name: str | None
    reachable: bool
    agent_session_id: str | None
    agent_session_at_ms: int | None
    rotation_due: bool
    executor: str
    profile: str | None
    agent: str | None
    agent_version: str | None
    capabilities: list[str]
    topic: str
    status: str
    reason: str | None
    message_count: int
    turn_count: int
    usage: Usage | None = None
    forked_from: str | None = None
    created_at_ms: int
    last_activity_at_ms: int
    heartbeat_at_ms: int | None = None
    closes_at_ms: int | None = None
    closed_at_ms: int | None
    parked_until_ms: int | None = None
    forgotten_at_ms: int | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a transcript. `seq` orders a session, from 1; never a time.

    `role`: user, assistant, thinking, tool, plan, system, question, answer. `truncated`: the whole
    text stands in the log of its execution.
    """

    id: str
    session_id: str
    attempt_id: str | None
    turn_id: str | None
    execution_id: str | None
    seq: int
    role: str
    author_kind: str
    author: str
    content: str
    truncated: bool
    tool: ToolCall | None
    plan: list[PlanEntry]
    request_id: str | None
    parent_id: str | None
    created_at_ms: int
    updated_at_ms: int


class SessionTurn(msgspec.Struct, frozen=True, kw_only=True):
    """One go of the agent. `no` from 1 once it has begun; `place` orders those that are queued.

    `status`: queued, running, ended, dropped. `stop_reason`: why it ended, in the agent's word
    where it has one. `head_before`, `head_after`: where the attempt's work stood.
    """

    id: str
    attempt_id: str
    session_id: str | None
    execution_id: str | None
    no: int | None
    place: int
    status: str
    prompt: str
    truncated: bool
    author: str
    stop_reason: str | None
    head_before: str | None
    head_after: str | None
    usage: Usage | None
    created_at_ms: int
    begun_at_ms: int | None
    ended_at_ms: int | None


class MessageGap(msgspec.Struct, frozen=True, kw_only=True):
    """Messages of the session that are not here: their first and last `seq`, and why.

    `lost`: nobody is expected to bring them (their node was asked and has no more of them, or was
    revoked); others may yet come.
    """

    gap: tuple[int, int]
    reason: str
    lost: bool = False


class MessagePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a session, oldest first.

    `previous`: where there is more before it, the `before` of that page; `next`: where there is
    more after it, the `after` of that page. `message_count`: messages of the session in all.
    """

    items: list[Message]
    gaps: list[MessageGap]
    previous: int | None
    next: int | None
    message_count: int


class SentMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one message: `id` is its sender's.

    In a node's session it became a turn; its messages come from there. `kept`: it becomes one once
    its node is there, behind what waits before it; `key` names the operation.
    """

    id: str
    duplicate: bool
    kept: bool = False
    key: str | None = None
    message_id: str | None = None
    seq: int | None = None
    turn_id: str | None = None


class SentMessages(msgspec.Struct, frozen=True, kw_only=True):
    """How many messages were new, how many had been sent before, and each of them.

    `kept`: how many of the new ones wait for their node, and may still expire.
    """

    persisted: int
    duplicates: int
    kept: int = 0
    items: list[SentMessage]
