"""What an idempotency key stands for, and what is asked of the place where keys are kept.

The node's store implements that. A key stands there before its effect does (INTENT), or in one
transaction with it where the effect is rows of our own; its answer (RESULT) stands there before
the caller gets it.
"""

from typing import NamedTuple, Protocol

import msgspec

from protocol.entities import OperationRecord
from protocol.errors import ErrorBody, ErrorCode, OperationError, operation_error


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

    def answer_again(self, operation: str, attempt_id: str, body_hash: str) -> bytes:
        """Return what the key was answered before; `attempt_id` is empty where none is named.

        Raises what it failed with; IN_PROGRESS; KEY_REUSED where it stands for something else.
        """
        record = self.record
        check_same(
            record.key,
            (record.operation, attempt_id and (record.attempt_id or ""), self.body_hash),
            (operation, attempt_id, body_hash),
        )
        if self.error is not None:
            raise operation_error(self.error)
        if self.reply is None:
            raise in_progress(record.key)
        return self.reply


def check_same(key: str, known: tuple[str, str, str], asked: tuple[str, str, str]) -> None:
    """Raise KEY_REUSED unless operation, attempt and hash of the body are those of the key."""
    if known != asked:
        raise OperationError(
            ErrorCode.KEY_REUSED,
            "this idempotency key belongs to another request",
            hint="Take a new key for each new request; repeat one only with the same content.",
            key=key,
        )


def in_progress(key: str) -> OperationError:
    """Return the error of a key whose operation is at work."""
    return OperationError(
        ErrorCode.IN_PROGRESS,
        "this operation is under way",
        hint="Ask again with the same key for its result.",
        key=key,
    )


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
