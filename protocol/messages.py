"""Every frame of a link: one tagged union for each direction.

Tags are explicit and for ever: a retired one moves to `RESERVED_TAGS` and is never used again.
New fields have defaults; a new message is sent only after both ends named its feature in
`hello` and `welcome`.
"""

from typing import Final

import msgspec

from protocol.errors import ErrorBody
from protocol.log_chunks import GapChunk, LogChunk
from protocol.ops import EpochState, Op, Record
from protocol.whole_numbers import Whole

#: The WebSocket subprotocols this release speaks, best first. The subprotocol is the major version.
SUBPROTOCOLS: Final = ("skep.v1",)
#: A node passes on what its agents are just writing: `LiveText`.
LIVE_TEXT: Final = "live_text"
#: What this release can do beyond the first `skep.v1`.
FEATURES: Final[tuple[str, ...]] = (LIVE_TEXT,)
#: Tags that mean something in another release: leases come with the queue.
RESERVED_TAGS: Final = frozenset(
    {"lease_granted", "lease_renew", "lease_renewed", "lease_lapsed", "work_offered", "work_taken"}
)


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    """What all frames share: immutable, fields by name, a tag under `type`."""


# --- small parts of frames ------------------------------------------------------------------------


class LogState(msgspec.Struct, frozen=True, array_like=True):
    """A log as its node holds it: its chunks end before `next_chunk`; `digest` is after them."""

    execution_id: str
    next_chunk: Whole
    next_entry: Whole
    digest: bytes


class LogMark(msgspec.Struct, frozen=True, array_like=True):
    """How far the hive holds a log: what it takes next, and the digest of what it holds.

    In a welcome, `agreed` says that the hive's digest after the node's last chunk is the node's:
    all the node has of the log is held, whatever the hive holds beyond it.
    """

    execution_id: str
    next_chunk: Whole
    next_entry: Whole
    digest: bytes
    agreed: bool = False


class EpochMark(msgspec.Struct, frozen=True, array_like=True):
    """The high-water mark of an epoch at the hive, and the hive's digest after that op."""

    epoch: Whole
    mark: Whole
    digest: bytes


class Fork(msgspec.Struct, frozen=True, array_like=True):
    """An epoch whose content differs at both ends: the hive's newest (seq, digest) pairs."""

    epoch: Whole
    digests: list[tuple[Whole, bytes]]


class ProjectLink(msgspec.Struct, frozen=True, kw_only=True):
    """What the hive made of a checkout: its project and how much of its logs to send."""

    checkout_id: str
    project_id: str | None = None
    project_name: str = ""
    sync_policy: str = "full"
    problem: str = ""


class WorktreeOver(msgspec.Struct, frozen=True, array_like=True):
    """A worktree that its project's rule keeps no longer: of the attempt that ended at that time.

    A follow-up ends it at another time, and so is not what is meant.
    """

    attempt_id: str
    ended_at_ms: Whole


class NeedOutcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of one id of a need: `sent` (and how many), `gone` (and why), or `unknown`."""

    id: str
    outcome: str
    sent: Whole = 0
    reason: str = ""


class OutboxState(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has not yet got safe at the hive."""

    ops: Whole = 0
    chunks: Whole = 0
    bytes: Whole = 0
    oldest_ms: Whole | None = None


# --- node to hive ---------------------------------------------------------------------------------


class Hello(_Message, frozen=True, tag="hello"):
    """Who is calling, what it holds. Followed by at least one `hello_logs`."""

    node_id: str
    instance: Whole
    connect_no: Whole
    host: str
    signature: bytes
    version: str
    epochs: list[EpochState]
    generation_seen: Whole = 0
    features: list[str] = []


class HelloLogs(_Message, frozen=True, tag="hello_logs"):
    """A page of the logs that are open or not fully acknowledged."""

    logs: list[LogState]
    last: bool


class Forked(_Message, frozen=True, tag="forked"):
    """The node's digest at the hive's mark differs from the one `welcome` named."""

    epoch: Whole
    seq: Whole
    digest: bytes


class LogProbe(_Message, frozen=True, tag="log_probe"):
    """The two ends hold different logs under one id: the node's digests, by chunk, newest first."""

    execution_id: str
    digests: list[tuple[Whole, bytes]]


class Ops(_Message, frozen=True, tag="ops"):
    """Ops `first_seq`, `first_seq + 1`, ... of one epoch."""

    epoch: Whole
    first_seq: Whole
    ops: list[Op]


class Snapshot(_Message, frozen=True, tag="snapshot"):
    """A page of the state of all a node owns, as of position (`epoch`, `seq`)."""

    snapshot_id: str
    epoch: Whole
    seq: Whole
    records: list[Record]
    last: bool


class Skip(_Message, frozen=True, tag="skip"):
    """The node no longer has ops up to `through`; a snapshot before this frame stands for them."""

    epoch: Whole
    through: Whole
    digest: bytes


class Fetched(_Message, frozen=True, tag="fetched"):
    """A chunk that answers a need; the log it belongs to takes it as if it had streamed."""

    request_id: str
    chunk: LogChunk | GapChunk


class Records(_Message, frozen=True, tag="records"):
    """A page of state that answers a need; never new ops."""

    request_id: str
    records: list[Record]


class NeedDone(_Message, frozen=True, tag="need_done"):
    """A need is answered: what became of each id. `more` where `max_bytes` ended it early."""

    request_id: str
    outcomes: list[NeedOutcome]
    more: bool = False


class Result(_Message, frozen=True, tag="result"):
    """The answer to a call: `body` (the reply, msgpack) or `error`."""

    call_id: str
    body: bytes = b""
    error: ErrorBody | None = None


class Opened(_Message, frozen=True, tag="opened"):
    """A streamed reply begins; `body` is the operation's reply Struct, msgpack."""

    call_id: str
    body: bytes


class Part(_Message, frozen=True, tag="part"):
    """Piece `n` (from 0) of a streamed reply: the very bytes a viewer's HTTP response carries."""

    call_id: str
    n: Whole
    data: bytes


class End(_Message, frozen=True, tag="end"):
    """A streamed reply is over; `error` where it broke off."""

    call_id: str
    error: ErrorBody | None = None


class Heartbeat(_Message, frozen=True, tag="heartbeat"):
    """The node lives; what it is doing and what it still has to send."""

    n: Whole
    activity: str = "idle"
    slots_total: Whole = 0
    slots_busy: Whole = 0
    outbox: OutboxState = OutboxState()


class LiveText(_Message, frozen=True, tag="live_text"):
    """A piece of a message that an agent is just writing. Feature `live_text`.

    Never stored, acknowledged or sent again, and dropped where the link is busy: the message itself
    comes as an op. `message_id` is the one it will have; `at` is where in its text the piece
    begins, in characters, so that a reader can join pieces and see that one is missing.
    """

    session_id: str
    message_id: str
    role: str
    at: Whole
    text: str


class NodePong(_Message, frozen=True, tag="pong"):
    """The answer to a `ping`."""

    n: Whole


# --- hive to node ---------------------------------------------------------------------------------


class Challenge(_Message, frozen=True, tag="challenge"):
    """First frame of a link: sign this."""

    hive_id: str
    nonce: bytes


class Welcome(_Message, frozen=True, tag="welcome"):
    """The link is accepted. Followed by at least one `welcome_logs`.

    `newest` is the latest position the hive has seen of this node; `snapshot_wanted` where it holds
    only a part of a snapshot. `keys` are the hive's public keys for capabilities, by key id.
    """

    hive_id: str
    generation: Whole
    link_no: Whole
    hive_time_ms: Whole
    marks: list[EpochMark]
    credit: Whole
    newest: tuple[Whole, Whole] | None = None
    snapshot_wanted: bool = False
    forks: list[Fork] = []
    features: list[str] = []
    keys: dict[str, bytes] = {}


class WelcomeLogs(_Message, frozen=True, tag="welcome_logs"):
    """A page of cursors: one for each log the hello named."""

    marks: list[LogMark]
    last: bool


class Ack(_Message, frozen=True, tag="ack"):
    """All ops of `epoch` up to `seq` are committed: stop resending (not: delete)."""

    link_no: Whole
    generation: Whole
    epoch: Whole
    seq: Whole


class LogAck(_Message, frozen=True, tag="log_ack"):
    """Chunks of these logs before `next_chunk` are committed."""

    link_no: Whole
    generation: Whole
    marks: list[LogMark]


class LogAgreed(_Message, frozen=True, tag="log_agreed"):
    """The newest chunk of a probe that the hive holds too (0: none), and where the log stands."""

    mark: LogMark
    through: Whole


class Credit(_Message, frozen=True, tag="credit"):
    """Chunk bytes the node may have sent on this link in all; any left allows a whole chunk."""

    total: Whole


class HeartbeatReply(_Message, frozen=True, tag="heartbeat_reply"):
    """Answers a heartbeat; repeats marks and credit, so that a lost or lowered one is noticed."""

    n: Whole
    hive_time_ms: Whole
    marks: list[EpochMark]
    credit: Whole


class Ping(_Message, frozen=True, tag="ping"):
    """Measures the control round trip."""

    n: Whole


class Need(_Message, frozen=True, tag="need"):
    """The hive asks for what it lacks.

    For kind `logs`, `after` (entries), `from_chunk` and `digests` (of the chunks before it) stand
    beside `ids`: where the log stands at the hive, so that what follows is of the same history.
    """

    request_id: str
    kind: str
    ids: list[str]
    after: list[Whole] = []
    from_chunk: list[Whole] = []
    digests: list[bytes] = []
    max_bytes: Whole = 0


class Call(_Message, frozen=True, tag="call"):
    """A command on an attempt (or, for `start`, on the node). `capability` is checked again.

    `expected_execution` is the newest run of the agent that the caller knew of, empty where it knew
    of none: a command that waited is not for a follow-up that came meanwhile.
    """

    call_id: str
    operation: str
    attempt_id: str
    body: bytes
    capability: str
    time_left_ms: Whole
    idempotency_key: str | None = None
    expected_head: str | None = None
    expected_execution: str | None = None
    fence: str | None = None


class PartCredit(_Message, frozen=True, tag="part_credit"):
    """Part bytes of this call the node may have sent in all."""

    call_id: str
    total: Whole


class Cancel(_Message, frozen=True, tag="cancel"):
    """The caller of this call is gone."""

    call_id: str


class Links(_Message, frozen=True, tag="links"):
    """Which project each checkout belongs to, and how much of its logs the hive wants.

    `over`: worktrees that may go, of attempts that succeeded. The node saves what is in them.
    """

    links: list[ProjectLink]
    over: list[WorktreeOver] = []


class Safe(_Message, frozen=True, tag="safe"):
    """What every verified backup holds: epochs through a seq, and whole logs. It may be deleted.

    Both are named with their running digest: what is as long and of another history is not it.
    """

    epochs: list[tuple[Whole, Whole, bytes]]
    logs: list[tuple[str, bytes]] = []
    #: False where the hive keeps no backups: then age and size decide.
    backups: bool = True


class Draining(_Message, frozen=True, tag="draining"):
    """The hive is about to close; come back after `retry_after_ms`."""

    retry_after_ms: Whole


NodeMessage = (
    Hello
    | HelloLogs
    | Forked
    | LogProbe
    | Ops
    | Snapshot
    | Skip
    | LogChunk
    | GapChunk
    | Fetched
    | Records
    | NeedDone
    | Result
    | Opened
    | Part
    | End
    | Heartbeat
    | LiveText
    | NodePong
)

HiveMessage = (
    Challenge
    | Welcome
    | WelcomeLogs
    | Ack
    | LogAck
    | LogAgreed
    | Credit
    | HeartbeatReply
    | Ping
    | Need
    | Call
    | PartCredit
    | Cancel
    | Links
    | Safe
    | Draining
)
