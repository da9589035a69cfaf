"""What this node says of itself: one record, with an op only where something changed."""

import msgspec

from node_agent.store.journal import save, state_of
from node_agent.store.transaction import Transaction
from protocol.entities import NodeState
from protocol.ops import OpKind, encode_body


async def tell(tx: Transaction, node: NodeState, at_ms: int) -> bool:
    """Write the node's state and its op, unless it says what it said before."""
    if await state_of(tx, OpKind.NODE, node.id) == encode_body(node):
        return False
    await save(tx, OpKind.NODE, node.id, at_ms, node)
    return True


async def find(tx: Transaction, node_id: str) -> NodeState | None:
    """Return what the node said of itself last."""
    body = await state_of(tx, OpKind.NODE, node_id)
    return None if body is None else msgspec.msgpack.decode(body, type=NodeState)
