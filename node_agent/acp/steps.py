"""What passes between the machine of an agent's conversation and the node that carries it out.

In go lines of the agent and what people want; out come lines for the agent and facts. One step is
one transaction: its facts, the machine's new state and how far the agent's output is read are
committed together, then its lines are sent. So whatever dies, each line of the agent counts once,
and each line for it is sent once. Pure values.
"""

from typing import Any

import msgspec

from node_agent.acp.reset_times import WallTime
from protocol.conversation import PlanEntry, RequestOption, ToolCall, Usage


class StepFact(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something that a step made true."""


class AgentReady(StepFact, frozen=True):
    """The agent said who it is. `capabilities`: load, resume, fork, images, steer, ..."""

    name: str = ""
    version: str = ""
    capabilities: list[str] = []


class SessionBegun(StepFact, frozen=True):
    """The agent has a session of its own for us. `resumed`: with what was said in the one we named.

    Not resumed, it knows nothing of what was said before.
    """

    agent_session_id: str
    resumed: bool = False


class TextGrew(StepFact, frozen=True):
    """A piece of a block that is not over: shown live, and not stored.

    `key` is the block's, within this execution; the `MessageMade` that ends it has the same.
    `at` is where in the block's text the piece begins, in characters.
    """

    key: str
    role: str
    at: int
    text: str


class MessageMade(StepFact, frozen=True):
    """A message is there, or (with a `key` that was there before) has changed; whole each time.

    `truncated`: some of it was cut.
    """

    key: str
    role: str
    content: str = ""
    truncated: bool = False
    tool: ToolCall | None = None
    plan: list[PlanEntry] = []
    parent_key: str | None = None
    request_key: str | None = None


class RequestMade(StepFact, frozen=True):
    """The agent asks. `key` names the request within this execution, until it is settled.

    kind: `approval` or `question`. `form` is the JSON Schema of an object. `unseen`: `tool` does
    not show all of what it acts on, so that no rule may allow it.
    """

    key: str
    kind: str
    title: str
    text: str = ""
    options: list[RequestOption] = []
    form: dict[str, Any] | None = None
    free_text: bool = False
    tool: ToolCall | None = None
    unseen: bool = False


class RequestWithdrawn(StepFact, frozen=True):
    """The agent no longer waits for this: its turn was cancelled, or it said so."""

    key: str
    reason: str


class UsageTold(StepFact, frozen=True):
    """What the agent says the session used so far."""

    usage: Usage


class TurnOver(StepFact, frozen=True):
    """The turn `turn_id` is over.

    stop_reason: end_turn, max_tokens, max_turn_requests, refusal, cancelled, or `error`, with
    `error_code` (auth_required, usage_limit, protocol, agent, session_lost) and `message`.
    `reset_at_ms`: when a usage limit ends, where the agent named it; `reset_after_ms`: how long
    after this, where it named that; `reset_by_clock`: by which clock on the wall.
    """

    turn_id: str
    stop_reason: str
    error_code: str | None = None
    message: str = ""
    usage: Usage | None = None
    reset_at_ms: int | None = None
    reset_after_ms: int | None = None
    reset_by_clock: WallTime | None = None


class Steered(StepFact, frozen=True):
    """What came of a wish to steer, by its key: taken into the turn, or not and why.

    `taken` is None where the agent ended before it said so: nobody knows.
    """

    key: str
    taken: bool | None
    message: str = ""


class AgentFailed(StepFact, frozen=True):
    """Nothing can be done with this agent process: it is to be ended. Codes as in `TurnOver`."""

    code: str
    message: str
    hint: str = ""


Fact = (
    AgentReady
    | SessionBegun
    | TextGrew
    | MessageMade
    | RequestMade
    | RequestWithdrawn
    | UsageTold
    | TurnOver
    | Steered
    | AgentFailed
)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What one input led to: facts in order, and lines for the agent, without their newline."""

    facts: list[Fact] = []
    lines: list[bytes] = []


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    """An MCP server that the agent is to be given: a program (`command`) or an address (`url`)."""

    name: str
    command: list[str] = []
    environment: dict[str, str] = {}
    url: str | None = None
    headers: dict[str, str] = {}


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """How a conversation begins with an agent process.

    `agent_session_id`: take this one up again (by resume, else by load; where the agent can do
    neither, or no longer has it, the machine begins a new one and says so by `resumed=False`).
    `fork`: begin a new one from it instead. `must_resume`: it goes on in the middle of its work,
    and one that does not know of that is of no use: better it fails (session_lost).
    """

    cwd: str
    agent_session_id: str | None = None
    fork: bool = False
    must_resume: bool = False
    mode: str | None = None
    model: str | None = None
    mcp_servers: list[McpServer] = []
    #: How to log in where the agent asks for it: one of its own methods, from its own environment.
    auth_method: str | None = None
    client_version: str = ""
    #: The agent's time zone, where that is another than this node's.
    zone: str | None = None


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """One turn's input: text, then images as (media type, base64)."""

    turn_id: str
    text: str
    images: list[tuple[str, str]] = []


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A person's answer to a request, or that there is none: exactly one field is set."""

    option: str | None = None
    text: str | None = None
    form: dict[str, Any] | None = None
    cancelled: bool = False
