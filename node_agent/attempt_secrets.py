"""The secrets of one attempt: what, beside the node's own, is hidden in what is shown of it.

Must not hold them longer than it takes to hide them.
"""

from node_agent.execution_environment import secrets_in
from node_agent.store import plans
from node_agent.store.errors import NotStored
from node_agent.store.transaction import Transaction


async def secrets_of_attempt(tx: Transaction, attempt_id: str) -> list[bytes]:
    """Return what the environment holds that an attempt was started with."""
    try:
        return secrets_in((await plans.get(tx, attempt_id)).request.environment)
    except NotStored:
        return []
