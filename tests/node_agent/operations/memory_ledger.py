"""A ledger of keys in memory, for tests of the dispatcher."""

from node_agent.operations.ledger import Asked, KnownKey
from protocol.entities import OperationRecord
from protocol.errors import ErrorBody


class MemoryLedger:
    """Keeps keys as the store does, and the order of what was written."""

    def __init__(self) -> None:
        self.keys: dict[str, KnownKey] = {}
        self.written: list[str] = []
        #: What stood beside each INTENT; it is gone from the key once that is settled.
        self.intended: dict[str, Asked | None] = {}

    async def find(self, key: str) -> KnownKey | None:
        return self.keys.get(key)

    async def intend(
        self, record: OperationRecord, body_hash: str, asked: Asked | None = None
    ) -> KnownKey | None:
        if record.key in self.keys:
            return self.keys[record.key]
        self.keys[record.key] = KnownKey(record, body_hash, None, None, asked)
        self.written.append("intent")
        self.intended[record.key] = asked
        return None

    async def note(self, record: OperationRecord, asked: Asked) -> None:
        known = self.keys[record.key]
        self.keys[record.key] = known._replace(record=record, asked=asked)
        self.written.append("note")

    async def settle(
        self, record: OperationRecord, *, reply: bytes | None = None, error: ErrorBody | None = None
    ) -> None:
        known = self.keys[record.key]
        self.keys[record.key] = KnownKey(record, known.body_hash, reply, error)
        self.written.append(f"result {record.status}")

    async def unsettled(self) -> list[KnownKey]:
        return [known for known in self.keys.values() if not known.settled]
