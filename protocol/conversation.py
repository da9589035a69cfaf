"""Sessions, turns, messages and requests: what a conversation with an agent consists of.

All are entities of the node that runs the agent, each a whole state in an op of its own. What of a
text does not fit into an op is cut (`truncated`) and stands whole in the execution's log.
"""

import enum
from typing import Any, Final

import msgspec

from protocol.session_requests import TOPIC_CHARACTERS_MAX
from protocol.turn_requests import TurnStatus

#: Of a message's or a tool's text, in UTF-8; so that the whole op stays below its bound.
TEXT_BYTES_MAX: Final = 40 * 1024


class SessionStatus(enum.StrEnum):
    """`OPEN`: a turn runs, is parked, or a request waits. `IDLE`: none. `CLOSED`: until resumed."""

    OPEN = "open"
    IDLE = "idle"
    CLOSED = "closed"


class MessageRole(enum.StrEnum):
    """What a message is."""

    USER = "user"
    ASSISTANT = "assistant"
    THINKING = "thinking"
    TOOL = "tool"
    PLAN = "plan"
    SYSTEM = "system"
    QUESTION = "question"
    ANSWER = "answer"


class AuthorKind(enum.StrEnum):
    """Who wrote it."""

    PERSON = "person"
    AGENT = "agent"
    NODE = "node"


class RequestKind(enum.StrEnum):
    """What an agent wants of a person: an answer to a question, or a yes to a tool."""

    QUESTION = "question"
    APPROVAL = "approval"


class RequestStatus(enum.StrEnum):
    """A request is settled once."""

    OPEN = "open"
    ANSWERED = "answered"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent says it used. `cost` in `currency`, as a decimal text; None: not said."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    thought_tokens: int | None = None
    context_tokens: int | None = None
    context_tokens_max: int | None = None
    cost: str | None = None
    currency: str | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation with the agent of one attempt; one history, whatever it rested on before.

    `agent_session_id` is the agent's own session that it rests on now, since
    `agent_session_at_ms`. `parked_until_ms`: its turn waits for a usage limit to end, as `reason`
    says, and goes on by itself then.
    """

    id: str
    attempt_id: str
    agent_session_id: str | None = None
    agent_session_at_ms: int | None = None
    executor: str
    profile: str | None = None
    agent: str | None = None
    agent_version: str | None = None
    #: What the agent says it can: `load`, `resume`, `fork`, `images`, `steer`, ...
    capabilities: list[str] = []
    topic: str = ""
    status: SessionStatus = SessionStatus.IDLE
    reason: str | None = None
    message_count: int = 0
    turn_count: int = 0
    usage: Usage | None = None
    forked_from: str | None = None
    created_at_ms: int = 0
    last_activity_at_ms: int = 0
    closed_at_ms: int | None = None
    parked_until_ms: int | None = None


class TurnState(msgspec.Struct, frozen=True, kw_only=True):
    """A turn as its node carried it out. `prompt` is redacted, and cut like a message's text.

    `no` counts those that have begun; `place` orders those that have not.
    """

    id: str
    attempt_id: str
    session_id: str | None = None
    execution_id: str | None = None
    no: int | None = None
    place: int = 0
    status: TurnStatus
    prompt: str = ""
    truncated: bool = False
    author: str = ""
    stop_reason: str | None = None
    head_before: str | None = None
    head_after: str | None = None
    usage: Usage | None = None
    created_at_ms: int = 0
    begun_at_ms: int | None = None
    ended_at_ms: int | None = None


class FileDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool call did, or wants to do, to one file. `old_text` None: the file is new."""

    path: str
    old_text: str | None = None
    new_text: str = ""
    truncated: bool = False


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A tool the agent used. `kind` and `status` are the agent protocol's words.

    kind: read, edit, delete, move, search, execute, think, fetch, switch_mode, other.
    status: pending, in_progress, completed, failed, cancelled.
    """

    id: str
    name: str = ""
    kind: str = "other"
    status: str = "pending"
    target: str = ""
    input: str = ""
    output: str = ""
    diffs: list[FileDiff] = []
    locations: list[str] = []


class PlanEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One step of an agent's plan. status: pending, in_progress, completed."""

    content: str
    status: str = "pending"
    priority: str = "medium"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a transcript. `seq` orders a session, from 1 without holes; never a clock.

    A message that changes (a tool call's status, a plan) keeps its id and its seq.
    """

    id: str
    session_id: str
    attempt_id: str
    turn_id: str | None = None
    execution_id: str | None = None
    seq: int
    role: MessageRole
    author_kind: AuthorKind
    author: str = ""
    content: str = ""
    truncated: bool = False
    tool: ToolCall | None = None
    plan: list[PlanEntry] = []
    request_id: str | None = None
    parent_id: str | None = None
    created_at_ms: int = 0
    updated_at_ms: int = 0


class RequestOption(msgspec.Struct, frozen=True, kw_only=True):
    """One way to answer. kind: allow_once, allow_always, reject_once, reject_always, or empty."""

    id: str
    name: str
    kind: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a person said, or a policy of the node: one of `option`, `text` and `form`."""

    option: str | None = None
    text: str | None = None
    form: dict[str, Any] | None = None
    by: str = ""
    #: `person`, or `policy` where a rule that a person set answered.
    by_kind: str = "person"
    at_ms: int = 0


class AgentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent asks of people. It survives every restart, and nobody invents its answer.

    `form` is the JSON Schema of an object; `free_text` says that any text will do.
    """

    id: str
    session_id: str | None = None
    attempt_id: str
    turn_id: str | None = None
    execution_id: str | None = None
    message_id: str | None = None
    kind: RequestKind
    title: str
    text: str = ""
    options: list[RequestOption] = []
    form: dict[str, Any] | None = None
    free_text: bool = False
    tool: ToolCall | None = None
    status: RequestStatus = RequestStatus.OPEN
    reason: str | None = None
    answer: Answer | None = None
    deadline_ms: int | None = None
    reminded_at_ms: int | None = None
    opened_at_ms: int = 0
    settled_at_ms: int | None = None


def topic_of(text: str) -> str:
    """Return the topic that a first message gives its session: its first line, cut."""
    lines = text.strip().splitlines()
    return lines[0].strip()[:TOPIC_CHARACTERS_MAX] if lines else ""


def cut_text(text: str, bytes_max: int = TEXT_BYTES_MAX) -> tuple[str, bool]:
    """Return as much of a text as fits, never half a character, and whether some is missing."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= bytes_max:
        return text, False
    return encoded[:bytes_max].decode("utf-8", "ignore"), True
