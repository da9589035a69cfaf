"""One asking of an operation, and its streamed answer, as the functions see them.

Pure values; who asked was settled before one of these is made.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from protocol.errors import ErrorCode, OperationError
from protocol.operation_values import Request, StreamHead
from protocol.operations import Operation

#: Who asks through the local socket: the node's own operator.
LOCAL_ACTOR: Final = "node-operator"


class Plan(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a changing operation will do, exactly. Base of each operation's own."""

    #: The attempt's commit before, and after where that is known by now.
    head_before: str | None = None
    head_after: str | None = None


@dataclass(frozen=True, kw_only=True)
class Asking:
    """An operation that is to be carried out, by whom and for what."""

    operation: Operation
    attempt_id: str
    request: Request
    #: The request's bytes as they were sent: two with one key are the same only if these are.
    body_hash: str
    actor: str
    key: str | None = None
    expected_head: str | None = None
    #: The newest run of the agent that the caller knew of, empty for none; None: it does not say.
    expected_execution: str | None = None
    fence: str | None = None
    #: The project the hive vouched for; None where the node's own operator asks.
    project_id: str | None = None
    #: Writes down what will be done, before it is; see `OperationFunction.resume`.
    intend: Callable[[Plan], Awaitable[None]] | None = None


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """A changing operation that a crash cut short, as it is asked to be brought to an end."""

    asking: Asking
    #: What it was about to do; whether it did is to be seen.
    plan: bytes
    #: So long ago that nobody waits for it any more: what is not done is not begun.
    late: bool

    def check_wanted(self) -> None:
        """Raise OperationError where what was not done is not to be done any more."""
        check_wanted(self.asking, late=self.late)


def check_wanted(asking: Asking, *, late: bool) -> None:
    """Raise OperationError where nobody waits any more for what a crash kept from being done."""
    if late:
        raise OperationError(
            ErrorCode.DEADLINE_PASSED,
            f"the node stopped before it could {asking.operation.name.replace('_', ' ')};"
            " nothing was changed",
            hint="Look at the attempt, then ask again under another key.",
        )


@dataclass(frozen=True)
class Streamed:
    """A streamed answer: what opens it, and its bytes. `pieces` is closed by whoever reads it."""

    head: StreamHead
    pieces: AsyncIterator[bytes]


def decode_request(operation: Operation, body: bytes) -> Request:
    """Decode a request's msgpack; raises OperationError naming the field that is wrong."""
    try:
        return msgspec.msgpack.decode(body or b"\x80", type=operation.request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise OperationError(
            ErrorCode.INVALID,
            f"{operation.name} cannot take this request: {error}",
            hint="Is the caller of a newer release? Upgrade the node.",
        ) from error
