"""Small facts a node keeps across restarts that belong to no entity: by name, as bytes."""

from node_agent.store.transaction import Transaction

_SET = """
INSERT INTO setting (name, value) VALUES (:name, :value)
ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""


async def put(tx: Transaction, name: str, value: bytes) -> None:
    """Keep a value under a name, in place of an earlier one."""
    await tx.execute(_SET, {"name": name, "value": value})


_GET = "SELECT value FROM setting WHERE name = :name"


async def get(tx: Transaction, name: str) -> bytes | None:
    """Return the value kept under a name."""
    row = await tx.fetch_one(_GET, {"name": name})
    return None if row is None else row["value"]
