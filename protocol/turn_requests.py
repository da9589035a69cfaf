"""Requests and replies of operations on an attempt's turns: follow-ups, the queue, interrupts."""

import enum
from typing import Annotated

import msgspec

from protocol.operation_values import Request

Text = Annotated[str, msgspec.Meta(max_length=256 * 1024)]
Command = Annotated[str, msgspec.Meta(min_length=1, max_length=64 * 1024)]


class TurnStatus(enum.StrEnum):
    """Where a turn stands. `DROPPED`: taken out of the queue, and never begun."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"
    DROPPED = "dropped"


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One go of the agent. `position` from 1 while it is queued, `no` from 1 once it has begun.

    `parked_until_ms`: it has begun, and waits for a usage limit to end.
    """

    id: str
    attempt_id: str
    status: TurnStatus
    no: int | None = None
    position: int | None = None
    command: str | None = None
    prompt: str | None = None
    profile: str | None = None
    author: str = ""
    reason: str | None = None
    created_at_ms: int = 0
    begun_at_ms: int | None = None
    ended_at_ms: int | None = None
    interrupt_asked_at_ms: int | None = None
    parked_until_ms: int | None = None


class FollowUpRequest(Request, frozen=True):
    """Give the agent more to do. With a prompt alone, the attempt's own command gets it as input.

    `images`, `from_turn`, `steer` and `session` need an executor that keeps a session; without one
    they are refused. `steer`: say it into the turn that runs; where that was over before, it is
    queued. `session`: only where the attempt still goes on in this one.
    """

    prompt: Text | None = None
    command: Command | None = None
    profile: str | None = None
    images: list[str] = msgspec.field(default_factory=list)
    from_turn: int | None = None
    steer: bool = False
    session: str | None = None


class TurnsRequest(Request, frozen=True):
    """List the turn that runs and those that are queued."""


class TurnsReply(msgspec.Struct, frozen=True, kw_only=True):
    """The queued turns in the order in which they will run, and the one that runs now."""

    items: list[Turn]
    running: Turn | None = None


class TurnEdit(msgspec.Struct, frozen=True, kw_only=True):
    """A queued turn by its id; what is given beside it takes the place of what it was."""

    id: str
    prompt: Text | None = None
    command: Command | None = None


class SetTurnsRequest(Request, frozen=True):
    """Put the queue into this order and edit its turns: `items` names each queued turn once."""

    items: Annotated[list[TurnEdit], msgspec.Meta(max_length=1000)]


class DropTurnsRequest(Request, frozen=True):
    """Take a turn out of the queue, by id; or, with `all`, every one that is queued."""

    turn: str | None = None
    all: bool = False


class InterruptRequest(Request, frozen=True):
    """Interrupt the turn that runs. `turn`: only if it is still this one."""

    turn: str | None = None


class GoOnRequest(Request, frozen=True):
    """Go on now with the turn that waits for a usage limit. `turn`: only if it is this one."""

    turn: str | None = None
