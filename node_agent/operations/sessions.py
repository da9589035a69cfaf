"""`rename_session`, as an operation: another topic for a session of this node."""

import unicodedata
from collections.abc import Callable
from typing import Final

import msgspec

from node_agent.attempt_secrets import secrets_of_attempt
from node_agent.operations.asking import Asking
from node_agent.operations.attempts import attempt_of
from node_agent.redaction import Redactor
from node_agent.stamps import now_ms
from node_agent.store import operations, sessions
from node_agent.store.database import Database
from node_agent.store.errors import NotStored
from node_agent.store.transaction import Transaction
from node_agent.turn_steps import done_record
from protocol.conversation import Session, topic_of
from protocol.entities import OperationRecord
from protocol.errors import ErrorCode, OperationError
from protocol.session_requests import RenameSessionRequest

#: Categories of what is no part of a line: control characters, ends of lines and paragraphs.
_BREAKS: Final = frozenset({"Cc", "Zl", "Zp", "Cs"})


class SessionOperations:
    """Changes sessions. `secrets` gives the node's values to hide, as they are now."""

    def __init__(self, database: Database, secrets: Callable[[], list[bytes]]) -> None:
        self._database = database
        self._secrets = secrets

    async def rename(self, asking: Asking) -> Session:
        """Give a session another topic; key, topic and answer are one transaction."""
        request = asking.request
        assert isinstance(request, RenameSessionRequest)  # noqa: S101  the table's own pairing
        found = await self._database.read(sessions.find, request.session_id)
        if found is None or found.attempt_id != asking.attempt_id:
            raise NotStored(
                "session", request.session_id, hint="node-agent sessions, on the node, lists them."
            )
        await attempt_of(self._database, asking)
        said = request.topic.strip()
        if not said or any(unicodedata.category(one) in _BREAKS for one in said):
            raise OperationError(
                ErrorCode.INVALID,
                "topic: it is one line of text, and not blank",
                hint="Leave out line breaks and other control characters.",
                field="topic",
            )
        own = await self._database.read(secrets_of_attempt, found.attempt_id)
        redactor = Redactor([*self._secrets(), *own])
        shown = redactor.whole(said.encode("utf-8", "replace")).decode("utf-8", "replace")
        record = done_record(
            asking.operation.name, asking.key or "", asking.attempt_id, asking.actor
        )
        return await self._database.write(
            _rename, found.id, topic_of(shown), record, asking.body_hash
        )


async def _rename(
    tx: Transaction, session_id: str, topic: str, record: OperationRecord, body_hash: str
) -> Session:
    before = await operations.answered_before(tx, record, body_hash)
    if before is not None:
        return msgspec.msgpack.decode(before, type=Session)
    renamed = await sessions.rename(tx, session_id, topic, now_ms())
    await operations.answer(tx, record, body_hash, msgspec.msgpack.encode(renamed))
    return renamed
