"""What a conversation with one agent process stands at: all that its machine knows, as one value.

Bounded, whatever the agent sends. From its bytes a new machine goes on exactly.
"""

import enum
from typing import Final

import msgspec

from node_agent.acp.steps import Opening, Prompt
from protocol.conversation import ToolCall

#: Tool calls that are remembered whole, so that an update can be told whole.
CALLS_MAX: Final = 64
#: What they may hold together; those that are over are forgotten first.
CALLS_BYTES_MAX: Final = 256 * 1024
#: Ids of tool calls that were forgotten: what is said of them later is not told any more.
FORGOTTEN_MAX: Final = 256
#: Requests that may wait for people at the same time.
REQUESTS_MAX: Final = 64
#: Lines that are no messages, in a row and before any other, until the program is taken for
#: something else.
UNREADABLE_LINES_MAX: Final = 100


class Phase(enum.StrEnum):
    """How far the conversation is."""

    NEW = "new"
    INITIALIZING = "initializing"
    AUTHENTICATING = "authenticating"
    OPENING = "opening"
    SETTING = "setting"
    READY = "ready"
    OVER = "over"


class SentKind(enum.StrEnum):
    """What a request of ours was for."""

    INITIALIZE = "initialize"
    AUTHENTICATE = "authenticate"
    NEW = "new"
    RESUME = "resume"
    LOAD = "load"
    FORK = "fork"
    SETTING = "setting"
    PING = "ping"
    PROMPT = "prompt"
    STEER = "steer"


class Sent(msgspec.Struct, frozen=True):
    """A request of ours that is not answered. `about`: the setting, or the wish to steer."""

    kind: SentKind
    about: str = ""


class OpenBlock(msgspec.Struct):
    """A text that is still growing."""

    key: str
    role: str
    text: str = ""
    bytes: int = 0
    truncated: bool = False
    message_id: str | None = None
    parent_key: str | None = None


class KnownCall(msgspec.Struct):
    """A tool call, as it was last told. `unseen`: some of what it acts on was cut.

    `begun`: the agent said that it begins, in the turn with this number.
    """

    key: str
    call: ToolCall
    truncated: bool = False
    unseen: bool = False
    aimed: bool = False
    begun: bool = False
    turn_no: int = 0
    parent_key: str | None = None
    request_key: str | None = None


class AnswerForm(enum.StrEnum):
    """What the agent understands as an answer to its request."""

    PERMISSION = "permission"
    ELICITATION = "elicitation"
    ADDRESS = "address"


class OpenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request of the agent that waits for a person.

    `field` is the one field of its form that an option or a text fills, `field_type` its JSON type;
    `text_field` the one that takes free text. `elicitation_id`: by which the agent tells of it.
    """

    rpc_id: str
    answer: AnswerForm
    options: list[tuple[str, str]] = []
    field: str | None = None
    field_type: str = "string"
    text_field: str | None = None
    call_id: str | None = None
    elicitation_id: str | None = None


class OpenTurn(msgspec.Struct):
    """The turn that the agent is at."""

    id: str
    interrupted: bool = False


class Failure(msgspec.Struct, frozen=True):
    """Why nothing can be done with this process any more."""

    code: str
    message: str


class AgentAbilities(msgspec.Struct):
    """What the agent said it can, and how one logs in to it."""

    names: list[str] = []
    login_hint: str = ""
    auth_methods: list[str] = []


class MachineState(msgspec.Struct, kw_only=True):
    """All that a machine knows. Numbers only grow."""

    phase: Phase = Phase.NEW
    opening: Opening | None = None
    abilities: AgentAbilities = msgspec.field(default_factory=AgentAbilities)
    agent_session_id: str | None = None
    #: It was taken up by `load`: what comes before it is ready is what was said before.
    replaying: bool = False
    sent: dict[int, Sent] = msgspec.field(default_factory=dict)
    next_rpc_id: int = 0
    next_key: int = 1
    #: Ways to open the session that were tried and refused.
    tried: list[SentKind] = msgspec.field(default_factory=list)
    #: A prompt that waits for the session.
    kept: Prompt | None = None
    turn: OpenTurn | None = None
    #: How many turns the agent was given; what comes behind one is still of that.
    turn_no: int = 0
    plan_key: str | None = None
    block: OpenBlock | None = None
    calls: dict[str, KnownCall] = msgspec.field(default_factory=dict)
    forgotten: list[str] = msgspec.field(default_factory=list)
    requests: dict[str, OpenRequest] = msgspec.field(default_factory=dict)
    #: When a usage limit that the agent told of ends.
    limit_reset_at_ms: int | None = None
    unreadable_lines: int = 0
    failure: Failure | None = None

    def begin_turn(self, turn_id: str) -> None:
        """Have a turn run; what is told from now on is of it."""
        self.turn, self.turn_no, self.plan_key = OpenTurn(id=turn_id), self.turn_no + 1, None

    def take_key(self, kind: str) -> str:
        """Return a key that no message or request of this execution had before."""
        key = f"{kind}{self.next_key}"
        self.next_key += 1
        return key


def encode_state(state: MachineState) -> bytes:
    """Return a state as bytes."""
    return msgspec.msgpack.encode(state)


def decode_state(encoded: bytes) -> MachineState:
    """Return the state that `encode_state` made the bytes of. Raises msgspec.MsgspecError."""
    return msgspec.msgpack.decode(encoded, type=MachineState)
