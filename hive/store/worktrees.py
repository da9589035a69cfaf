"""Which worktrees on a node are kept no longer, by the rule of their project. Read only.

The rule is `keep_worktree`, and is for attempts that succeeded and that nobody holds: the others
are held by their node, for a time that stands in the attempt. Must not decide what becomes of the
work in a worktree: the node saves it.
"""

from typing import Final

from hive.store.backend import Transaction
from protocol.messages import WorktreeOver
from protocol.states import AttemptOutcome, AttemptPhase, TaskStatus

#: Once its task is done, cancelled, put away or deleted; once it has ended; so many hours later.
UNTIL_DONE: Final = "until_done"
AFTER_END: Final = "after_end"
_HOUR_MS: Final = 3600 * 1000
_SELECT_OVER: Final = """
SELECT attempt.id, attempt.ended_at_ms
FROM attempt
LEFT JOIN task ON task.id = attempt.task_id
LEFT JOIN project ON project.id = attempt.project_id
WHERE attempt.node_id = :node_id AND attempt.worktree IS NOT NULL AND attempt.phase = :ended
    AND attempt.outcome IN (:succeeded, :warned) AND attempt.hold_until_ms IS NULL
    AND attempt.ended_at_ms IS NOT NULL AND attempt.forgotten_at_ms IS NULL
    AND CASE COALESCE(project.keep_worktree, :until_done)
        WHEN :until_done THEN task.status IN (:done, :cancelled) OR task.archived = 1
            OR task.deleted_at_ms IS NOT NULL
        WHEN :after_end THEN 1 = 1
        ELSE attempt.ended_at_ms + CAST(project.keep_worktree AS INTEGER) * :hour_ms < :now_ms
    END
ORDER BY attempt.ended_at_ms, attempt.id LIMIT :limit
"""
_SELECT_NODES: Final = (
    "SELECT DISTINCT node_id FROM attempt WHERE task_id = :task_id AND worktree IS NOT NULL"
)


async def over(tx: Transaction, node_id: str, *, now_ms: int, limit: int) -> list[WorktreeOver]:
    """Return the worktrees of a node that are kept no longer, the longest over first."""
    rows = await tx.fetch_all(
        _SELECT_OVER,
        {
            "node_id": node_id,
            "ended": AttemptPhase.ENDED.value,
            "succeeded": AttemptOutcome.SUCCEEDED.value,
            "warned": AttemptOutcome.SUCCEEDED_WITH_WARNING.value,
            "done": TaskStatus.DONE.value,
            "cancelled": TaskStatus.CANCELLED.value,
            "until_done": UNTIL_DONE,
            "after_end": AFTER_END,
            "hour_ms": _HOUR_MS,
            "now_ms": now_ms,
            "limit": limit,
        },
    )
    return [WorktreeOver(row["id"], row["ended_at_ms"]) for row in rows]


async def nodes_of_task(tx: Transaction, task_id: str) -> list[str]:
    """Return the nodes with a worktree of a task's attempts."""
    rows = await tx.fetch_all(_SELECT_NODES, {"task_id": task_id})
    return [row["node_id"] for row in rows]
