"""The head a command is meant for: as its node has it, or as the hive last heard of it.

Must not guess: where the hive has heard of none, there is none.
"""

from typing import Any

from hive.client import HiveClient, path_of
from protocol.errors import ErrorCode, SkepError


def head_to_expect(hive: HiveClient, attempt: str, *, may_be_away: bool) -> str | None:
    """Return the head as it is now; where its node may be away and is, the one last heard of."""
    try:
        head: str | None = hive.get(f"attempts/{path_of(attempt)}/branch-status")["head"]
    except SkepError as error:
        if error.code is not ErrorCode.NODE_OFFLINE:
            raise
        if not may_be_away:
            error.hint = f"{error.hint} With --when online it is done then."
            raise
        head = _last_heard(hive, attempt)
    return head


def _last_heard(hive: HiveClient, attempt: str) -> str | None:
    """Return the head its last turn ended with, or the one a later operation left."""
    shown = hive.get(f"attempts/{path_of(attempt)}")
    ended_at_ms = shown["ended_at_ms"]
    if ended_at_ms is None:
        # It runs, and moves its head as it likes.
        return None
    done = hive.get("operations", attempt=shown["id"], status="done")
    later = [(_told(one)["at_ms"], _told(one)["head"]) for one in done["items"]]
    heads = [(at_ms, head) for at_ms, head in later if head and (at_ms or 0) >= ended_at_ms]
    newest = max(heads, default=(0, shown["head_commit"]))
    return newest[1] or None


def _told(operation: dict[str, Any]) -> dict[str, Any]:
    """What the node says of it, by the node's clock; else what the hive recorded."""
    report = operation["report"]
    if report is not None:
        return {"at_ms": report["ended_at_ms"], "head": report["head_after"]}
    return {"at_ms": operation["settled_at_ms"], "head": operation["head_after"]}
