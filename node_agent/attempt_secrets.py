"""The secrets of one attempt: what, beside the node's own, is hidden in what is shown of it.

Must not hold them longer than it takes to hide them.
"""

from typing import Any

from node_agent.execution_environment import secrets_in
from node_agent.redaction import Redactor
from node_agent.store import plans
from node_agent.store.errors import NotStored
from node_agent.store.transaction import Transaction


async def secrets_of_attempt(tx: Transaction, attempt_id: str) -> list[bytes]:
    """Return what the environment holds that an attempt was started with."""
    try:
        return secrets_in((await plans.get(tx, attempt_id)).request.environment)
    except NotStored:
        return []


def without_secrets(value: Any, redactor: Redactor) -> Any:
    """Return a JSON value with the secrets in its texts hidden; names of fields stay."""
    match value:
        case str():
            return redactor.whole(value.encode("utf-8", "replace")).decode("utf-8", "replace")
        case dict():
            return {name: without_secrets(one, redactor) for name, one in value.items()}
        case list():
            return [without_secrets(one, redactor) for one in value]
    return value
