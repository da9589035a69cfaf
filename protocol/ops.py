"""Ops: the numbered state changes of a node's journal, and the kinds there are.

A state op carries the whole state of its entity, so that the newest one is enough. A kind that a
hive does not know is stored as it came and applied after an upgrade.
"""

import enum
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from protocol import conversation, entities, limits
from protocol.whole_numbers import Whole


class OpKind(enum.StrEnum):
    """What an op is about. Retired kinds stay listed in `RESERVED_KINDS`."""

    NODE = "node"
    CHECKOUT = "checkout"
    TASK = "task"
    ATTEMPT = "attempt"
    EXECUTION = "execution"
    LOG_END = "log_end"
    OPERATION = "operation"
    NOTICE = "notice"
    SESSION = "session"
    TURN = "turn"
    MESSAGE = "message"
    REQUEST = "request"
    WITHHELD = "withheld"


#: Kinds that will mean something once leases are there, or once did.
RESERVED_KINDS: Final = frozenset({"slot"})

#: The type of each kind's body.
BODIES: Final[dict[OpKind, type[msgspec.Struct]]] = {
    OpKind.NODE: entities.NodeState,
    OpKind.CHECKOUT: entities.Checkout,
    OpKind.TASK: entities.LocalTask,
    OpKind.ATTEMPT: entities.Attempt,
    OpKind.EXECUTION: entities.Execution,
    OpKind.LOG_END: entities.LogEnd,
    OpKind.OPERATION: entities.OperationRecord,
    OpKind.NOTICE: entities.Notice,
    OpKind.SESSION: conversation.Session,
    OpKind.TURN: conversation.TurnState,
    OpKind.MESSAGE: conversation.Message,
    OpKind.REQUEST: conversation.AgentRequest,
    OpKind.WITHHELD: entities.Withheld,
}


class Op(msgspec.Struct, frozen=True, array_like=True):
    """One state change. Its epoch and number stand in the frame or row around it.

    `body` is msgpack of the kind's Struct, at most `limits.OP_BODY_BYTES_MAX` bytes.
    """

    kind: str
    entity_id: str
    at_ms: Whole
    body: bytes


class Position(NamedTuple):
    """Where a state stands in one node's history: (epoch, seq). Ranks of epochs order them."""

    epoch: Whole
    seq: Whole


class Record(msgspec.Struct, frozen=True, array_like=True):
    """The state of one entity outside the journal's order: in a snapshot or a backfill answer."""

    kind: str
    entity_id: str
    at_ms: Whole
    body: bytes
    epoch: Whole = 0
    seq: Whole = 0


class EpochState(msgspec.Struct, frozen=True, array_like=True):
    """What a node holds of one epoch: ops `first_kept`..`last`, and the digest after `last`.

    `first_kept == last + 1` where everything is pruned.
    """

    epoch: Whole
    first_kept: Whole
    last: Whole
    digest: bytes


def encode_body(body: msgspec.Struct) -> bytes:
    """Encode an entity's state for an op or a record."""
    return _ENCODER.encode(body)


def decode_body(kind: str, body: bytes) -> msgspec.Struct | None:
    """Decode the body of a known kind; None where the kind is unknown.

    Raises msgspec.ValidationError where the body is not what its kind says.
    """
    try:
        decoder = _DECODERS[OpKind(kind)]
    except ValueError:
        return None
    return decoder.decode(body)


def record_pages(records: Sequence[Record]) -> list[list[Record]]:
    """Cut records into pages a frame can carry; one empty page where there are none."""
    pages: list[list[Record]] = [[]]
    nbytes = 0
    for record in records:
        full = len(pages[-1]) >= limits.RECORDS_PER_PAGE_MAX
        if pages[-1] and (full or nbytes + len(record.body) > limits.RECORDS_PAGE_BYTES_MAX):
            pages.append([])
            nbytes = 0
        pages[-1].append(record)
        nbytes += len(record.body)
    return pages


_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: Final[dict[OpKind, msgspec.msgpack.Decoder[msgspec.Struct]]] = {
    kind: msgspec.msgpack.Decoder(body) for kind, body in BODIES.items()
}
