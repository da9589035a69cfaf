"""Idempotency keys: what was asked under each, and what it was answered.

A RESULT and its op are one transaction. Must not run operations.
"""

import hashlib

import msgspec

from node_agent.operations.ledger import Asked, KnownKey
from node_agent.store.database import Database
from node_agent.store.journal import forget, save
from node_agent.store.transaction import Row, Transaction
from protocol.entities import OperationRecord
from protocol.errors import ErrorBody
from protocol.ops import OpKind

_EXPIRED_ROWS_MAX = 500


class SqliteKeyLedger:
    """The ledger of keys in the node's state database. A `KeyLedger`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, key: str) -> KnownKey | None:
        return await self._database.read(find, key)

    async def intend(
        self, record: OperationRecord, body_hash: str, asked: Asked | None = None
    ) -> KnownKey | None:
        return await self._database.write(_intend, record, body_hash, asked)

    async def note(self, record: OperationRecord, asked: Asked) -> None:
        await self._database.write(_note, record, asked)

    async def settle(
        self, record: OperationRecord, *, reply: bytes | None = None, error: ErrorBody | None = None
    ) -> None:
        await self._database.write(_settle, record, reply, error)

    async def unsettled(self) -> list[KnownKey]:
        return await self._database.read(_unsettled)

    async def expire(self, before_ms: int) -> int:
        """Forget the settled keys older than that; return how many."""
        expired = 0
        while dropped := await self._database.write(_expire, before_ms):
            expired += dropped
        return expired


def entity_id_of(key: str) -> str:
    """Return the id of a key's record in ops: a key itself may be of any form and length."""
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


_FIND = "SELECT key, body_hash, intent, asked, reply, error FROM operation_key WHERE key = :key"


async def find(tx: Transaction, key: str) -> KnownKey | None:
    """Return what is known of a key."""
    row = await tx.fetch_one(_FIND, {"key": key})
    return None if row is None else _known(row)


def _known(row: Row) -> KnownKey:
    error, asked = row["error"], row["asked"]
    return KnownKey(
        msgspec.msgpack.decode(row["intent"], type=OperationRecord),
        row["body_hash"],
        row["reply"],
        None if error is None else msgspec.msgpack.decode(error, type=ErrorBody),
        None if asked is None else msgspec.msgpack.decode(asked, type=Asked),
    )


_INSERT = """
INSERT INTO operation_key (key, body_hash, intent, asked, reply, started_at_ms)
VALUES (:key, :body_hash, :intent, :asked, :reply, :started_at_ms)
"""


async def _intend(
    tx: Transaction, record: OperationRecord, body_hash: str, asked: Asked | None
) -> KnownKey | None:
    known = await find(tx, record.key)
    if known is None:
        await _insert(tx, record, body_hash, None, asked)
    return known


async def _insert(
    tx: Transaction,
    record: OperationRecord,
    body_hash: str,
    reply: bytes | None,
    asked: Asked | None = None,
) -> None:
    await tx.execute(
        _INSERT,
        {
            "key": record.key,
            "body_hash": body_hash,
            "intent": msgspec.msgpack.encode(record),
            "asked": None if asked is None else msgspec.msgpack.encode(asked),
            "reply": reply,
            "started_at_ms": record.started_at_ms,
        },
    )


async def answered_before(tx: Transaction, record: OperationRecord, body_hash: str) -> bytes | None:
    """Return what this key was answered before; None where it is new. Raises as `answer_again`."""
    known = await find(tx, record.key)
    if known is None:
        return None
    return known.answer_again(record.operation, record.attempt_id or "", body_hash)


async def answer(tx: Transaction, record: OperationRecord, body_hash: str, reply: bytes) -> None:
    """Write a new key with its RESULT at once: the effect is rows of the same transaction."""
    await _insert(tx, record, body_hash, reply)
    await _tell(tx, record)


_NOTE = """
UPDATE operation_key SET intent = :intent, asked = :asked
WHERE key = :key AND reply IS NULL AND error IS NULL
"""


async def _note(tx: Transaction, record: OperationRecord, asked: Asked) -> None:
    await tx.execute(
        _NOTE,
        {
            "key": record.key,
            "intent": msgspec.msgpack.encode(record),
            "asked": msgspec.msgpack.encode(asked),
        },
    )


_SETTLE = """
UPDATE operation_key SET intent = :intent, asked = NULL, reply = :reply, error = :error
WHERE key = :key
"""


async def _settle(
    tx: Transaction, record: OperationRecord, reply: bytes | None, error: ErrorBody | None
) -> None:
    await tx.execute(
        _SETTLE,
        {
            "key": record.key,
            "intent": msgspec.msgpack.encode(record),
            "reply": reply,
            "error": None if error is None else msgspec.msgpack.encode(error),
        },
    )
    await _tell(tx, record)


async def _tell(tx: Transaction, record: OperationRecord) -> None:
    at_ms = record.ended_at_ms or record.started_at_ms
    await save(tx, OpKind.OPERATION, entity_id_of(record.key), at_ms, record)


_UNSETTLED = """
SELECT key, body_hash, intent, asked, reply, error FROM operation_key
WHERE reply IS NULL AND error IS NULL ORDER BY started_at_ms, key
"""


async def _unsettled(tx: Transaction) -> list[KnownKey]:
    return [_known(row) for row in await tx.fetch_all(_UNSETTLED)]


_EXPIRED = """
SELECT key FROM operation_key
WHERE started_at_ms < :before_ms AND (reply IS NOT NULL OR error IS NOT NULL)
ORDER BY started_at_ms LIMIT :limit
"""
_DROP = "DELETE FROM operation_key WHERE key = :key"


async def _expire(tx: Transaction, before_ms: int) -> int:
    rows = await tx.fetch_all(_EXPIRED, {"before_ms": before_ms, "limit": _EXPIRED_ROWS_MAX})
    for row in rows:
        await tx.execute(_DROP, {"key": row["key"]})
        await forget(tx, OpKind.OPERATION, entity_id_of(row["key"]))
    return len(rows)
