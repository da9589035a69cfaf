"""The rows that a node's facts set: which columns each kind has, and who may overwrite them.

A row is set by the newest position alone; a lower one never overwrites, and another node's is
refused. Must not know what a fact leads to.
"""

from typing import Any, Final

from hive import projections
from hive.projections import Fact, Source
from hive.store.backend import Row, Transaction
from hive.store.link_checks import foreign
from hive.store.linking import LinkContext
from protocol.ops import OpKind

#: Columns that say who set a row and when, beside a fact's own.
PLACE: Final = ("node_id", "rank", "seq", "at_ms", "snapshot_id")
FACT_TABLES: Final[dict[OpKind, tuple[str, ...]]] = {
    OpKind.CHECKOUT: ("path", "name", "identity", "default_branch", "removed"),
    OpKind.EXECUTION: (
        "attempt_id",
        "kind",
        "script",
        "argv",
        "process",
        "head_before",
        "head_after",
        "status",
        "exit_code",
        "signal",
        "reason",
        "started_at_ms",
        "ended_at_ms",
    ),
    OpKind.ATTEMPT: (
        "task_id",
        "checkout_id",
        "task_title",
        "executor",
        "profile",
        "branch",
        "target_branch",
        "base_commit",
        "head_commit",
        "worktree",
        "phase",
        "outcome",
        "reason",
        "executions",
        "hold_until_ms",
        "fence",
        "start_key",
        "saved_ref",
        "created_at_ms",
        "ended_at_ms",
        "merges",
        "pr",
        "parked_until_ms",
        "silent_since_ms",
        "project_id",
    ),
    OpKind.SESSION: (
        "attempt_id",
        "agent_session_id",
        "agent_session_at_ms",
        "executor",
        "profile",
        "agent",
        "agent_version",
        "capabilities",
        "topic",
        "status",
        "reason",
        "message_count",
        "turn_count",
        "usage",
        "forked_from",
        "created_at_ms",
        "last_activity_at_ms",
        "closed_at_ms",
        "parked_until_ms",
    ),
    OpKind.TURN: (
        "attempt_id",
        "session_id",
        "execution_id",
        "turn_no",
        "place",
        "status",
        "prompt",
        "truncated",
        "author",
        "stop_reason",
        "head_before",
        "head_after",
        "usage",
        "created_at_ms",
        "begun_at_ms",
        "ended_at_ms",
    ),
    OpKind.MESSAGE: (
        "session_id",
        "attempt_id",
        "turn_id",
        "execution_id",
        "message_seq",
        "role",
        "author_kind",
        "author",
        "content",
        "truncated",
        "tool",
        "plan",
        "request_id",
        "parent_id",
        "created_at_ms",
        "updated_at_ms",
    ),
    OpKind.REQUEST: (
        "attempt_id",
        "session_id",
        "turn_id",
        "execution_id",
        "message_id",
        "kind",
        "title",
        "text",
        "options",
        "form",
        "free_text",
        "tool",
        "status",
        "reason",
        "answer",
        "deadline_ms",
        "reminded_at_ms",
        "opened_at_ms",
        "settled_at_ms",
    ),
}
#: What the hive itself keeps in these rows, as it begins.
BESIDE: Final[dict[OpKind, dict[str, str]]] = {
    OpKind.CHECKOUT: {"project_id": "NULL", "problem": "''"},
    OpKind.EXECUTION: {},
    OpKind.ATTEMPT: {"superseded": "0", "sync_state": "'partial'", "gone_reason": "NULL"},
    OpKind.SESSION: {"task_id": "NULL", "heartbeat_at_ms": "NULL", "created_by": "''"},
    OpKind.TURN: {},
    OpKind.MESSAGE: {"sender_id": "NULL"},
    OpKind.REQUEST: {},
}


def _upsert(kind: OpKind) -> str:
    set_by_node = (*FACT_TABLES[kind], *PLACE)
    beside = BESIDE[kind]
    columns = ", ".join(("id", *set_by_node, "forgotten_at_ms", *beside))
    values = ", ".join(
        (":id", *(f":{name}" for name in set_by_node), ":forgotten_at_ms", *beside.values()),
    )
    updates = ", ".join(f"{name} = excluded.{name}" for name in set_by_node)
    return (
        f"INSERT INTO {kind.value} ({columns}) VALUES ({values}) "  # noqa: S608  our own names
        f"ON CONFLICT (id) DO UPDATE SET {updates}, forgotten_at_ms = excluded.forgotten_at_ms"
    )


UPSERT: Final = {kind: _upsert(kind) for kind in FACT_TABLES}
SELECT: Final = {
    kind: f"SELECT * FROM {kind.value} WHERE id = :id"  # noqa: S608  our own names
    for kind in (*FACT_TABLES, OpKind.TASK)
}
NAMED: Final = {
    kind: f"""
UPDATE {kind.value} SET snapshot_id = :snapshot_id, forgotten_at_ms = NULL WHERE id = :id
"""  # noqa: S608  our own names
    for kind in projections.OWNED
}


async def present(
    tx: Transaction, kind: OpKind, source: Source, entity_id: str
) -> tuple[Row | None, bool]:
    """Return the row of an entity, and whether this source is newer. Raises FORBIDDEN."""
    row = await tx.fetch_one(SELECT[kind], {"id": entity_id})
    if row is None:
        return None, True
    if row["node_id"] != source.node_id:
        raise foreign(kind.value, entity_id)
    if not source.is_newer(row["rank"], row["seq"]):
        if source.snapshot_id is not None:
            await tx.execute(NAMED[kind], {"id": entity_id, "snapshot_id": source.snapshot_id})
        return row, False
    return row, True


async def upsert(
    tx: Transaction,
    context: LinkContext,
    source: Source,
    at_ms: int,
    fact: Fact,
    **beside: object,
) -> dict[str, Any]:
    """Write a fact over its row; return the row's new values. `beside` goes above the fact's."""
    values = {
        **fact.values,
        "id": fact.entity_id,
        "node_id": source.node_id,
        "rank": source.rank,
        "seq": source.seq,
        "at_ms": at_ms,
        "snapshot_id": source.snapshot_id,
        "forgotten_at_ms": forgotten_at_ms(context, source),
        **beside,
    }
    await tx.execute(UPSERT[fact.kind], values)
    return values


def forgotten_at_ms(context: LinkContext, source: Source) -> int | None:
    """Return since when its node no longer knows what this source tells of, if so."""
    return context.now_ms if source.before_snapshot else None
