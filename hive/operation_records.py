"""The proxy's records in the hive's store."""

import msgspec

from hive.api.context import now_ms
from hive.operation_proxy import Recorded, Target
from hive.store import operations
from hive.store.backend import Database
from protocol.attempt_requests import AttemptReply
from protocol.errors import ErrorBody


class StoredRecords:
    """Writes each changing call down before it leaves, and what became of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self,
        *,
        key: str,
        body_hash: str,
        operation: str,
        target: Target,
        actor: str,
        expected_head: str | None,
        body: bytes | None,
    ) -> Recorded | None:
        """Record a call before it leaves; return the record of that key where there is one."""
        row = await self._database.write(
            operations.begin,
            key=key,
            body_hash=body_hash,
            operation=operation,
            actor=actor,
            expected_head=expected_head,
            now_ms=now_ms(),
            node_id=target.node_id,
            attempt_id=target.attempt_id or None,
            task_id=target.task_id,
            project_id=target.project_id,
            body=body,
        )
        if row is None:
            return None
        sent = await self._database.read(operations.sent_body, key)
        return msgspec.structs.replace(recorded_of(row), body=sent)

    async def send_again(self, key: str, node_id: str, body: bytes | None) -> None:
        """Record that a recorded call leaves once more, to this node, and as what."""
        await self._database.write(operations.send_again, key, node_id, body)

    async def settle(
        self, key: str, *, status: str, reply: bytes | None, error: ErrorBody | None
    ) -> None:
        """Record what became of a call."""
        await self._database.write(
            operations.settle,
            key,
            status=status,
            now_ms=now_ms(),
            reply=reply,
            error=None if error is None else msgspec.json.encode(error).decode(),
            attempt_id=None if reply is None else _attempt_of(reply),
        )


def recorded_of(row: operations.OperationRow) -> Recorded:
    """Return a stored record as the proxy judges it."""
    return Recorded(
        key=row.key,
        body_hash=row.body_hash,
        actor=row.actor,
        status=row.status,
        node_id=row.node_id,
        reply=row.reply,
        error=error_of(row),
    )


def error_of(row: operations.OperationRow) -> ErrorBody | None:
    """Return the error a call ended with, if it did."""
    return None if row.error is None else msgspec.json.decode(row.error, type=ErrorBody)


def _attempt_of(reply: bytes) -> str | None:
    """Return the attempt a reply is about: for `start` nobody knew it before."""
    try:
        return msgspec.msgpack.decode(reply, type=AttemptReply).attempt.id
    except msgspec.ValidationError:
        return None
