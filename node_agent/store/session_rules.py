"""What people said of a tool once for the whole of a session: allow it, or deny it.

Functions take the transaction they work in. Must not judge a request: `request_policy` does.
"""

from typing import NamedTuple

from node_agent.store.transaction import Transaction


class SessionRule(NamedTuple):
    """`action` is allow or deny; `tool_key` names exactly one thing that an agent may ask for."""

    action: str
    tool_key: str
    author: str


_KEEP = """
INSERT INTO session_rule (session_id, tool_key, action, author, at_ms)
VALUES (:session_id, :tool_key, :action, :author, :at_ms)
ON CONFLICT (session_id, tool_key) DO UPDATE SET action = excluded.action,
    author = excluded.author, at_ms = excluded.at_ms
"""


async def keep(tx: Transaction, session_id: str, rule: SessionRule, at_ms: int) -> None:
    """Remember a rule for as long as its session is; a later one of the same takes its place."""
    await tx.execute(_KEEP, {"session_id": session_id, **rule._asdict(), "at_ms": at_ms})


_RULES = """
SELECT action, tool_key, author FROM session_rule WHERE session_id = :session_id
ORDER BY at_ms, tool_key
"""


async def rules_of(tx: Transaction, session_id: str) -> list[SessionRule]:
    """Return what was said for the whole of a session."""
    rows = await tx.fetch_all(_RULES, {"session_id": session_id})
    return [SessionRule(row["action"], row["tool_key"], row["author"]) for row in rows]
