"""Drops what a node said under the ids of another's, before their owner was known.

Whose an attempt, a session or an execution is, its own node tells; a hive that was put back from a
copy knows it again only then. Must not judge what is said after that: it is refused as it comes.
"""

from typing import Final

from hive.store.backend import Transaction
from hive.store.linking import LinkContext
from hive.store.links import audit_refusal

#: Where things name their attempt. An external session (no node) is nobody's to drop.
_OF_ATTEMPT: Final = {
    table: f"""
DELETE FROM {table} WHERE attempt_id = :id AND node_id <> :node_id RETURNING id, node_id
"""  # noqa: S608  our own names
    for table in ("execution", "session", "turn", "request")
}
#: Messages by their place: without `forgotten_at_ms` it would read all there are, and at each new
#: session. What is forgotten is in no page anyway.
_OF_SESSION: Final = (
    """
DELETE FROM message WHERE session_id = :id AND forgotten_at_ms IS NULL AND node_id <> :node_id
RETURNING node_id
""",
    "DELETE FROM turn WHERE session_id = :id AND node_id <> :node_id RETURNING node_id",
    "DELETE FROM message_gap WHERE session_id = :id AND node_id <> :node_id RETURNING node_id",
)
_DROP_LOG: Final = """
DELETE FROM log WHERE execution_id = :id AND node_id <> :node_id RETURNING node_id
"""
_DROP_CHUNKS: Final = "DELETE FROM chunk WHERE execution_id = :id"


async def drop_of_attempt(
    tx: Transaction, context: LinkContext, attempt_id: str, node_id: str
) -> None:
    """Drop what other nodes told under the id of this node's attempt, with all that hangs on it."""
    dropped: dict[str, set[str]] = {}
    tellers: set[str] = set()
    for table, statement in _OF_ATTEMPT.items():
        rows = await tx.fetch_all(statement, {"id": attempt_id, "node_id": node_id})
        dropped[table] = {row["id"] for row in rows}
        tellers |= {row["node_id"] for row in rows}
    for execution_id in dropped["execution"]:
        await _drop_log(tx, execution_id, node_id)
    for session_id in dropped["session"]:
        await _drop_said(tx, session_id, node_id)
    await _audit(tx, context, tellers, attempt_id, "it had told of another node's attempt")


async def drop_of_session(
    tx: Transaction, context: LinkContext, session_id: str, node_id: str
) -> None:
    """Drop what other nodes said under the id of this node's session."""
    tellers = await _drop_said(tx, session_id, node_id)
    why = "it had sent messages under the id of another node's session"
    await _audit(tx, context, tellers, session_id, why)


async def drop_of_execution(
    tx: Transaction, context: LinkContext, execution_id: str, node_id: str
) -> None:
    """Drop the log that another node sent under the id of this node's execution."""
    tellers = await _drop_log(tx, execution_id, node_id)
    why = "it had sent a log under the id of another node's execution"
    await _audit(tx, context, tellers, execution_id, why)


async def _drop_said(tx: Transaction, session_id: str, node_id: str) -> set[str]:
    place = {"id": session_id, "node_id": node_id}
    return {
        row["node_id"] for statement in _OF_SESSION for row in await tx.fetch_all(statement, place)
    }


async def _drop_log(tx: Transaction, execution_id: str, node_id: str) -> set[str]:
    rows = await tx.fetch_all(_DROP_LOG, {"id": execution_id, "node_id": node_id})
    if rows:
        await tx.execute(_DROP_CHUNKS, {"id": execution_id})
    return {row["node_id"] for row in rows}


async def _audit(
    tx: Transaction, context: LinkContext, tellers: set[str], named: str, why: str
) -> None:
    for node_id in sorted(tellers):
        await audit_refusal(tx, node_id, why, named, context.now_ms)
