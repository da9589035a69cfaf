"""What every operation rests on: the base of requests, a streamed reply's head, a row, roles."""

import enum
from typing import Any, Final

import msgspec

from protocol.errors import ErrorCode

#: Paths that begin with one of these stand directly below `/api/v1/`, not below an attempt.
ROOTS: Final = ("tasks/", "executions/", "requests/", "sessions/")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all requests: fields by name, unknown ones refused at the edge."""


class StreamHead(msgspec.Struct, frozen=True, kw_only=True):
    """What opens a streamed reply: the media type of its bytes, and facts about them."""

    media_type: str
    headers: dict[str, str] = {}
    details: dict[str, Any] = {}


class Role(enum.IntEnum):
    """What a person or token may do; each includes those below it. The auditor stands apart."""

    AUDITOR = 0
    VIEWER = 1
    OPERATOR = 2
    MAINTAINER = 3
    ADMIN = 4


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    name: str
    request: type[Request]
    #: The reply, or StreamHead where the reply's bytes are streamed.
    reply: type[msgspec.Struct]
    changing: bool
    role: Role
    method: str
    #: Below `/api/v1/attempts/{attempt_id}/`, or below `/api/v1/` for those of `ROOTS`.
    path: str
    #: The sub-command of `hive attempt` and `node-agent attempt`.
    command: str
    summary: str
    errors: tuple[ErrorCode, ...] = ()
    deadline_s: float = 30.0
    #: It changes git, and is refused where the head is not `expected_head`, if that is given.
    takes_head: bool = False
    #: It is for the attempt whatever its agent does: kept for later, it outlives another run.
    any_run: bool = False
    #: What it asks for is done one behind the other, in the order in which it was asked.
    queues: bool = False
    #: The streamed reply has no end of its own: each piece of it goes at once.
    live: bool = False

    @property
    def streamed(self) -> bool:
        return self.reply is StreamHead
