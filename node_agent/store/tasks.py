"""Local tasks: born on this node and owned by it until they are shared. Each change with its op."""

import msgspec

from node_agent.store.journal import save as save_state
from node_agent.store.journal import state_of
from node_agent.store.transaction import Transaction
from protocol.entities import LocalTask
from protocol.ops import OpKind


async def save(tx: Transaction, task: LocalTask, at_ms: int) -> None:
    """Write a local task and its op."""
    await save_state(tx, OpKind.TASK, task.id, at_ms, task)


async def find(tx: Transaction, task_id: str) -> LocalTask | None:
    """Return a local task; None for one of the hive's."""
    body = await state_of(tx, OpKind.TASK, task_id)
    return None if body is None else msgspec.msgpack.decode(body, type=LocalTask)
