"""Worktrees that are to be removed: planned before anything is touched, forgotten once it is done.

Whoever wants the worktree again before that takes the plan back. Must not remove anything itself.
"""

from typing import NamedTuple

from node_agent.store.transaction import Transaction


class Removal(NamedTuple):
    """A removal that is decided. `lose_nested`: with repositories within that no ref can keep."""

    attempt_id: str
    lose_nested: bool


_PLAN = """
INSERT INTO worktree_removal (attempt_id, lose_nested, planned_at_ms)
VALUES (:attempt_id, :lose_nested, :at_ms)
ON CONFLICT (attempt_id) DO UPDATE SET lose_nested = excluded.lose_nested
"""


async def plan(tx: Transaction, attempt_id: str, *, lose_nested: bool, at_ms: int) -> None:
    """Write down that a worktree is to be removed."""
    values = {"attempt_id": attempt_id, "lose_nested": int(lose_nested), "at_ms": at_ms}
    await tx.execute(_PLAN, values)


_FORGET = "DELETE FROM worktree_removal WHERE attempt_id = :attempt_id"


async def forget(tx: Transaction, attempt_id: str) -> None:
    """Take the plan back, or note that it was carried out."""
    await tx.execute(_FORGET, {"attempt_id": attempt_id})


_FIND = "SELECT attempt_id, lose_nested FROM worktree_removal WHERE attempt_id = :attempt_id"


async def find(tx: Transaction, attempt_id: str) -> Removal | None:
    """Return the removal that is planned of an attempt's worktree."""
    row = await tx.fetch_one(_FIND, {"attempt_id": attempt_id})
    return None if row is None else Removal(row["attempt_id"], bool(row["lose_nested"]))


_PLANNED = "SELECT attempt_id, lose_nested FROM worktree_removal ORDER BY planned_at_ms, attempt_id"


async def planned(tx: Transaction) -> list[Removal]:
    """Return all removals that are decided and not yet done."""
    rows = await tx.fetch_all(_PLANNED)
    return [Removal(row["attempt_id"], bool(row["lose_nested"])) for row in rows]
