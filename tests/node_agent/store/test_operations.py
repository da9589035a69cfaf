"""Idempotency keys: one effect, one answer, and the op that tells of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.store.database import Database
from node_agent.store.journal import SqliteJournal
from node_agent.store.operations import SqliteKeyLedger, answer, answered_before, entity_id_of
from protocol.entities import OperationRecord
from protocol.errors import ErrorBody, ErrorCode, OperationError
from protocol.ops import OpKind, decode_body


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A state database with an open epoch."""
    opened = await Database.open(tmp_path / "state.db", "state", on_fatal=lambda _: None)
    await SqliteJournal(opened).open_epoch(1)
    yield opened
    await opened.close()


def record(key: str = "k", operation: str = "merge", **fields: object) -> OperationRecord:
    """An operation that was asked for."""
    return OperationRecord(
        **({"key": key, "operation": operation, "status": "started", "started_at_ms": 5} | fields)
    )


@pytest.mark.asyncio
async def test_intent_then_result(database: Database):
    """An INTENT is known and unsettled until its RESULT, which is told by an op."""
    ledger = SqliteKeyLedger(database)
    assert await ledger.find("k") is None
    assert await ledger.intend(record(), "hash") is None
    (known,) = await ledger.unsettled()
    assert (known.record, known.body_hash, known.settled) == (record(), "hash", False)
    done = record(status="done", ended_at_ms=9)
    await ledger.settle(done, reply=b"reply")
    known = await ledger.find("k")
    assert known is not None
    assert (known.record, known.reply, known.error) == (done, b"reply", None)
    assert await ledger.unsettled() == []
    (op,) = await SqliteJournal(database).ops_after(1, 0, ops_max=9, bytes_max=9999)
    assert (op.kind, op.entity_id) == (OpKind.OPERATION, entity_id_of("k"))
    assert decode_body(op.kind, op.body) == done


@pytest.mark.asyncio
async def test_a_second_intent_gets_what_is_known(database: Database):
    """Whoever comes second learns who was first, and changes nothing."""
    ledger = SqliteKeyLedger(database)
    await ledger.intend(record(), "hash")
    known = await ledger.intend(record(operation="push"), "other")
    assert known is not None
    assert (known.record.operation, known.body_hash) == ("merge", "hash")


@pytest.mark.asyncio
async def test_a_failure_is_an_answer_too(database: Database):
    """It is given again under the same key, with all it said."""
    ledger = SqliteKeyLedger(database)
    await ledger.intend(record(), "hash")
    error = ErrorBody(code="conflict", message="m", hint="h", details={"files": ["a"]})
    await ledger.settle(record(status="failed"), error=error)
    known = await ledger.find("k")
    assert known is not None
    assert known.error == error
    with pytest.raises(OperationError) as again:
        await database.read(answered_before, record(), "hash")
    assert (again.value.code, again.value.details) == (ErrorCode.CONFLICT, {"files": ["a"]})


@pytest.mark.asyncio
async def test_answered_in_the_effects_own_transaction(database: Database):
    """The same request gets the same answer; another one under the key is refused."""
    assert await database.read(answered_before, record(), "hash") is None
    await database.write(answer, record(), "hash", b"reply")
    assert await database.read(answered_before, record(), "hash") == b"reply"
    for other, body_hash in (
        (record(), "other"),
        (record(operation="push"), "hash"),
        (record(attempt_id="a2"), "hash"),
    ):
        with pytest.raises(OperationError) as refused:
            await database.read(answered_before, other, body_hash)
        assert refused.value.code is ErrorCode.KEY_REUSED
    await SqliteKeyLedger(database).intend(record("k2"), "hash")
    with pytest.raises(OperationError) as busy:
        await database.read(answered_before, record("k2"), "hash")
    assert busy.value.code is ErrorCode.IN_PROGRESS


@pytest.mark.asyncio
async def test_many_old_keys_are_forgotten(database: Database):
    """However many there are, with their records; ops that told of them stay."""
    ledger = SqliteKeyLedger(database)
    for number in range(1_100):
        await database.write(answer, record(str(number), started_at_ms=number), "h", b"r")
    assert await ledger.expire(1_050) == 1_050
    assert await ledger.find("1049") is None
    assert await ledger.find("1050") is not None
    journal = SqliteJournal(database)
    assert len((await journal.snapshot())[1]) == 50
    assert (await journal.epochs())[0].last == 1_100
