"""What a node may delete of what it keeps: the rules, without doing it. Pure.

While a hive is joined nothing goes that it has not acknowledged; where it keeps backups, nothing
that is not in every one of them. Acknowledged means "stop resending"; this says "may be deleted".
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from node_agent.store.log_purge import ClosedLog


class Standing(NamedTuple):
    """How far the hive is trusted with what this node has.

    `backups`: None while nothing is known of the hive's; `safe`: of each epoch, what every backup
    has of this node's history; `marks`: what the hive has acknowledged; `unstreamed`: checkouts
    whose logs it never keeps.
    """

    joined: bool
    backups: bool | None = None
    safe: Mapping[int, int] = {}
    marks: Mapping[int, int] = {}
    unstreamed: frozenset[str] = frozenset()


def ops_to_prune(standing: Standing, epoch: int, older_through: int) -> int:
    """Return through which op an epoch may go; `older_through`: the last one of great age."""
    if not standing.joined:
        return older_through
    marked = standing.marks.get(epoch, 0)
    if standing.backups:
        return min(marked, standing.safe.get(epoch, 0))
    if standing.backups is None:
        return 0
    return min(marked, older_through)


def may_purge(standing: Standing, log: ClosedLog) -> bool:
    """Whether a closed log may be deleted at all."""
    if not standing.joined or log.checkout_id in standing.unstreamed:
        return True
    if standing.backups is None:
        return False
    return log.acknowledged and (log.safe or not standing.backups)


def logs_to_purge(
    standing: Standing,
    logs: Iterable[ClosedLog],
    *,
    kept_bytes: int,
    older_than_ms: int,
    bytes_max: int,
) -> list[str]:
    """Return the logs to delete: those of great age, and the oldest beyond the size.

    `logs` are in order of age, `kept_bytes` what all logs take together.
    """
    purged = []
    for log in logs:
        if log.closed_at_ms >= older_than_ms and kept_bytes <= bytes_max:
            break
        if may_purge(standing, log):
            purged.append(log.execution_id)
            kept_bytes -= log.blob_bytes
    return purged
