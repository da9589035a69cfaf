"""Forgetting what one hive had, when the node joins another: that one has nothing yet.

One unit for each database file. Must not be run for the same hive again: its marks are its own.
"""

from node_agent.store import settings
from node_agent.store.transaction import Transaction

_LINKED_HIVE = "hive the marks are of"
_NO_MARKS = "UPDATE epoch SET mark_seen = 0"
_NO_LINKS = "DELETE FROM project_link"
# A log that is deleted stays acknowledged: there is nothing left to send.
_NO_ACKS = "UPDATE log SET acked_chunk = 1, safe = 0 WHERE purged_at_ms IS NULL"


async def hive_of_marks(tx: Transaction) -> str | None:
    """Return the hive whose marks, links and acknowledgements are kept; None before the first."""
    kept = await settings.get(tx, _LINKED_HIVE)
    return None if kept is None else kept.decode()


async def forget_acknowledgements(tx: Transaction) -> None:
    """Forget which chunks a hive holds and which logs its backups do (the log database)."""
    await tx.execute(_NO_ACKS, {})


async def take_marks_of(tx: Transaction, hive_id: str) -> None:
    """Forget marks and links, and keep those of this hive from now on (the state database)."""
    await tx.execute(_NO_MARKS, {})
    await tx.execute(_NO_LINKS, {})
    await settings.put(tx, _LINKED_HIVE, hive_id.encode())
