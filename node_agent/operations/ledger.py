"""What the dispatcher asks of the place where idempotency keys are kept.

The node's store implements it. A key stands there before its effect does (INTENT), or in one
transaction with it where the effect is rows of our own; its answer (RESULT) stands there before
the caller gets it.
"""

from typing import NamedTuple, Protocol

import msgspec

from protocol.entities import OperationRecord
from protocol.errors import ErrorBody


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in an INTENT beside its record, so that a crash's remains can be judged.

    `plan` is what the operation will do, exactly: it is written just before it acts.
    """

    request: bytes
    expected_head: str | None = None
    project_id: str | None = None
    plan: bytes | None = None


class KnownKey(NamedTuple):
    """What is known of a key. Neither `reply` nor `error`: an INTENT without its RESULT."""

    record: OperationRecord
    body_hash: str
    reply: bytes | None
    error: ErrorBody | None
    asked: Asked | None = None

    @property
    def settled(self) -> bool:
        return self.reply is not None or self.error is not None


class KeyLedger(Protocol):
    """The idempotency keys of this node's changing operations."""

    async def find(self, key: str) -> KnownKey | None:
        """Return what is known of a key."""

    async def intend(
        self, record: OperationRecord, body_hash: str, asked: Asked | None = None
    ) -> KnownKey | None:
        """Write an INTENT; returns what was there where the key is known already."""

    async def note(self, record: OperationRecord, asked: Asked) -> None:
        """Write beside an INTENT what will be done; nothing once it is settled."""

    async def settle(
        self, record: OperationRecord, *, reply: bytes | None = None, error: ErrorBody | None = None
    ) -> None:
        """Write the RESULT of an INTENT, and the op that tells of it."""

    async def unsettled(self) -> list[KnownKey]:
        """Return the INTENTs without a RESULT: a crash came between."""
