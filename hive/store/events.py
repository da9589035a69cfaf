"""The activity feed and the audit log: what changed, who did it, why, when. Never changed."""

import json
from typing import Any, Final

import msgspec

from hive.projections import EventDraft
from hive.store.backend import Row, Transaction

_RAISE = "UPDATE hive SET event_no = event_no + 1 WHERE id = 1 RETURNING event_no"
_INSERT = """
INSERT INTO event (no, at_ms, kind, audit, actor_kind, actor, what, what_id, from_state, to_state,
    why, level, node_id, project_id, task_id, attempt_id, details)
VALUES (:no, :at_ms, :kind, :audit, :actor_kind, :actor, :what, :what_id, :from_state, :to_state,
    :why, :level, :node_id, :project_id, :task_id, :attempt_id, :details)
"""
_COLUMNS = """
SELECT no, at_ms, kind, audit, actor_kind, actor, what, what_id, from_state, to_state, why, level,
    node_id, project_id, task_id, attempt_id, details
FROM event
"""
#: Filters a list of events takes, each the name of a column.
FILTERS: Final = ("node_id", "project_id", "task_id", "attempt_id", "kind")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One entry. `no` orders the feed and continues a page."""

    no: int
    at_ms: int
    kind: str
    audit: bool
    actor_kind: str
    actor: str
    what: str
    what_id: str
    from_state: str | None
    to_state: str | None
    why: str
    level: str
    node_id: str | None
    project_id: str | None
    task_id: str | None
    attempt_id: str | None
    details: dict[str, Any]


async def record(tx: Transaction, draft: EventDraft, now_ms: int) -> int:
    """Write an event; return its number."""
    row = await tx.fetch_one(_RAISE)
    if row is None:
        raise LookupError("the hive's own row is missing")
    values = msgspec.structs.asdict(draft)
    # Where a node is the actor, it is named by its id.
    values["actor"] = draft.actor or (draft.node_id or "")
    values["audit"] = int(draft.audit)
    values["details"] = json.dumps(draft.details)
    await tx.execute(_INSERT, {**values, "no": row["event_no"], "at_ms": now_ms})
    return int(row["event_no"])


async def list_events(
    tx: Transaction,
    *,
    before: int | None = None,
    after: int | None = None,
    audit: bool = False,
    limit: int = 50,
    **filters: str | None,
) -> list[Event]:
    """Return events, newest first; or, with `after`, those that follow it, oldest first.

    `audit` asks for the audit log alone. `filters` are named in `FILTERS`.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    conditions = [f"{name} = :{name}" for name in FILTERS if name in given]
    if audit:
        conditions.append("audit = 1")
    if after is not None:
        conditions.append("no > :after")
    if before is not None:
        conditions.append("no < :before")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    order = "ASC" if after is not None else "DESC"
    rows = await tx.fetch_all(
        f"{_COLUMNS} {where} ORDER BY no {order} LIMIT :limit",
        {**given, "before": before, "after": after, "limit": limit},
    )
    return [_event(row) for row in rows]


def _event(row: Row) -> Event:
    values = {name: row[name] for name in Event.__struct_fields__}
    values["audit"] = bool(values["audit"])
    values["details"] = json.loads(values["details"])
    return Event(**values)
