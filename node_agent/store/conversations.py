"""How far the conversation with each agent process is, and what is still to be said to it.

Written in the transaction of the step it belongs to. Must not know what a machine's state means,
nor the lines.
"""

from collections.abc import Sequence
from typing import NamedTuple

from node_agent.store.transaction import Transaction


class Reach(NamedTuple):
    """Up to where an agent's output is read: where the next line begins.

    `segment` and `offset` are a place in the spool at or before it; `stdout_bytes` says which byte
    of the stream it is. Of stderr, `stderr_bytes` were passed over.
    """

    segment: int = 0
    offset: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0


class Conversation(NamedTuple):
    """A conversation with one process. `closing`: nothing more is said to it, for this reason.

    `silent_ms`: how long nothing was heard since `heard_at_ms`, as far as that was counted.
    """

    execution_id: str
    session_id: str
    machine: bytes
    reach: Reach
    input_bytes: int
    ready: bool
    closing: str | None
    heard_at_ms: int
    silent_ms: int


_INSERT = """
INSERT INTO conversation (execution_id, session_id, machine, spool_segment, spool_offset,
    stdout_bytes, stderr_bytes, input_bytes)
VALUES (:execution_id, :session_id, :machine, 0, 0, 0, 0, 0)
"""


async def begin(tx: Transaction, execution_id: str, session_id: str, machine: bytes) -> None:
    """Write down that a conversation begins, with nothing read or said."""
    values = {"execution_id": execution_id, "session_id": session_id, "machine": machine}
    await tx.execute(_INSERT, values)


_FIND = "SELECT * FROM conversation WHERE execution_id = :execution_id"


async def find(tx: Transaction, execution_id: str) -> Conversation | None:
    """Return how far a conversation is; None where it has not begun."""
    row = await tx.fetch_one(_FIND, {"execution_id": execution_id})
    if row is None:
        return None
    return Conversation(
        row["execution_id"],
        row["session_id"],
        row["machine"],
        Reach(row["spool_segment"], row["spool_offset"], row["stdout_bytes"], row["stderr_bytes"]),
        row["input_bytes"],
        bool(row["ready"]),
        row["closing"],
        row["heard_at_ms"],
        row["silent_ms"],
    )


_STEP = """
UPDATE conversation SET machine = :machine, spool_segment = :segment, spool_offset = :offset,
    stdout_bytes = :stdout_bytes, stderr_bytes = :stderr_bytes, heard_at_ms = :at_ms, silent_ms = 0
WHERE execution_id = :execution_id
"""
_SAY = "INSERT INTO agent_input (execution_id, at, line) VALUES (:execution_id, :at, :line)"
_SAID = "UPDATE conversation SET input_bytes = :to WHERE execution_id = :execution_id"
_INPUT_BYTES = "SELECT input_bytes FROM conversation WHERE execution_id = :execution_id"


async def step(
    tx: Transaction,
    execution_id: str,
    machine: bytes,
    reach: Reach,
    lines: Sequence[bytes],
    *,
    at_ms: int,
) -> int:
    """Write down a step; return how many bytes were ever to be said to the process."""
    values = {"execution_id": execution_id, "machine": machine, "at_ms": at_ms}
    await tx.execute(_STEP, {**values, **reach._asdict()})
    row = await tx.fetch_one(_INPUT_BYTES, {"execution_id": execution_id})
    at = 0 if row is None else int(row["input_bytes"])
    for line in lines:
        await tx.execute(_SAY, {"execution_id": execution_id, "at": at, "line": line})
        at += len(line)
    if lines:
        await tx.execute(_SAID, {"execution_id": execution_id, "to": at})
    return at


_SILENT = "UPDATE conversation SET silent_ms = :silent_ms WHERE execution_id = :execution_id"


async def count_silence(tx: Transaction, execution_id: str, silent_ms: int) -> None:
    """Write down for how long nothing was heard since the last step."""
    await tx.execute(_SILENT, {"execution_id": execution_id, "silent_ms": silent_ms})


_READY = "UPDATE conversation SET ready = 1 WHERE execution_id = :execution_id"


async def set_ready(tx: Transaction, execution_id: str) -> None:
    """Write down that the agent takes prompts."""
    await tx.execute(_READY, {"execution_id": execution_id})


_CLOSE = """
UPDATE conversation SET closing = coalesce(closing, :reason) WHERE execution_id = :execution_id
"""


async def close(tx: Transaction, execution_id: str, reason: str) -> None:
    """Write down that nothing more is said to this process."""
    await tx.execute(_CLOSE, {"execution_id": execution_id, "reason": reason})


_UNSAID = "SELECT at, line FROM agent_input WHERE execution_id = :execution_id ORDER BY at"


async def unsaid(tx: Transaction, execution_id: str) -> tuple[int, bytes] | None:
    """Return what the supervisor may not have, and where it begins; None where it has all."""
    rows = await tx.fetch_all(_UNSAID, {"execution_id": execution_id})
    return (rows[0]["at"], b"".join(row["line"] for row in rows)) if rows else None


_TAKEN = """
DELETE FROM agent_input WHERE execution_id = :execution_id AND at + length(line) <= :through
"""


async def taken(tx: Transaction, execution_id: str, through: int) -> None:
    """Forget what the supervisor has: the first so many bytes of all the input."""
    await tx.execute(_TAKEN, {"execution_id": execution_id, "through": through})


_FORGET = (
    "DELETE FROM agent_input WHERE execution_id = :execution_id",
    "DELETE FROM conversation WHERE execution_id = :execution_id",
)


async def forget(tx: Transaction, execution_id: str) -> None:
    """Forget all of a conversation whose process has ended."""
    for statement in _FORGET:
        await tx.execute(statement, {"execution_id": execution_id})
