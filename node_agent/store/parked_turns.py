"""The turn of an attempt that has begun and waits for a usage limit to end.

Beside the turns' own store, which tells who runs and who is next. Must not decide how long it
waits.
"""

from node_agent.store.transaction import Transaction
from protocol.turn_requests import Turn

_PARK = """
UPDATE turn SET parked_until_ms = :until_ms, parks = parks + 1, continues = :continues
WHERE id = :id AND status = 'running'
"""


async def park(tx: Transaction, turn_id: str, *, until_ms: int, continues: bool) -> None:
    """Have the turn that runs wait; `continues`: some of its work is done already."""
    values = {"id": turn_id, "until_ms": until_ms, "continues": int(continues)}
    await tx.execute(_PARK, values)


_RELEASE = """
UPDATE turn SET execution_id = NULL, executions_before = :executions_before, setup_wanted = 0
WHERE id = :id
"""


async def release(tx: Transaction, turn: Turn, executions_before: int) -> None:
    """Take a parked turn from its agent's process, which has ended: the next one gets it."""
    await tx.execute(_RELEASE, {"id": turn.id, "executions_before": executions_before})


_CONTINUES = """
SELECT 1 FROM turn WHERE attempt_id = :attempt_id AND no IS NOT NULL AND parks > 0
    AND first_executions_before <= :former AND executions_before > :former
    AND (executions_before > :place OR execution_id = :execution_id OR NOT EXISTS (
        -- It ended before it was given the prompt, and no other turn was begun by then.
        SELECT 1 FROM turn AS later WHERE later.attempt_id = :attempt_id
            AND later.no > turn.no AND later.first_executions_before <= :place))
LIMIT 1
"""


async def continues(
    tx: Transaction, attempt_id: str, execution_id: str, *, place: int, former: int
) -> bool:
    """Whether an agent's run, at this place, goes on with the turn that left the `former` run."""
    values = {
        "attempt_id": attempt_id,
        "execution_id": execution_id,
        "place": place,
        "former": former,
    }
    return await tx.fetch_one(_CONTINUES, values) is not None


_UNPARK = "UPDATE turn SET parked_until_ms = NULL WHERE id = :id"


async def unpark(tx: Transaction, turn_id: str) -> None:
    """Have the turn wait no longer."""
    await tx.execute(_UNPARK, {"id": turn_id})


_SOONER = "UPDATE turn SET parked_until_ms = min(parked_until_ms, :at_ms) WHERE id = :id"


async def hurry(tx: Transaction, turn_id: str, at_ms: int) -> None:
    """Have the turn wait until this moment at most."""
    await tx.execute(_SOONER, {"id": turn_id, "at_ms": at_ms})
