"""What the hive asked of nodes: stored before it is sent, and what came of each id.

An id that is gone, or that the node does not know, is never asked for again; one that is being
fetched is not asked for twice; a need without an answer is asked again at the next hello.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from hive.store import sync
from hive.store.backend import Transaction
from hive.store.link_checks import check_link
from hive.store.messages import whole_through
from protocol.digest import EMPTY
from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.messages import Need, NeedDone

#: Kinds of a need. The ids of the first two are attempts', of the third executions', of
#: the last sessions'.
FULL_ATTEMPT: Final = "full_attempt"
EXECUTIONS: Final = "executions"
LOGS: Final = "logs"
MESSAGES: Final = "messages"
KINDS: Final = frozenset({FULL_ATTEMPT, EXECUTIONS, LOGS, MESSAGES})
#: Answered needs are kept this long for people to look at; what is gone is kept for ever.
_KEPT_MS: Final = 7 * 86_400_000

_SELECT_ITEM = """
SELECT need_item.request_id, need_item.outcome, need.status FROM need_item
JOIN need ON need.request_id = need_item.request_id
WHERE need_item.node_id = :node_id AND need_item.id = :id AND need_item.kind = :kind
"""
_INSERT_NEED = """
INSERT INTO need (request_id, node_id, kind, max_bytes, status, asked_at_ms, done_at_ms)
VALUES (:request_id, :node_id, :kind, :max_bytes, 'open', :now_ms, NULL)
"""
_INSERT_ITEM = """
INSERT INTO need_item (request_id, place, node_id, kind, id, outcome, sent, reason)
VALUES (:request_id, :place, :node_id, :kind, :id, NULL, 0, '')
"""
_SELECT_NEED = """
SELECT request_id, node_id, kind, max_bytes, status FROM need WHERE request_id = :request_id
"""
_SELECT_ITEMS = """
SELECT need_item.id, log.next_chunk, log.next_entry, log.digest FROM need_item
LEFT JOIN log ON log.execution_id = need_item.id
WHERE request_id = :request_id ORDER BY place
"""
_SELECT_OPEN = """
SELECT request_id, node_id, kind, max_bytes FROM need
WHERE node_id = :node_id AND status = 'open' ORDER BY asked_at_ms, request_id
"""
_SET_OUTCOME = """
UPDATE need_item SET outcome = :outcome, sent = :sent, reason = :reason
WHERE request_id = :request_id AND id = :id
"""
_CLOSE = """
UPDATE need SET status = 'done', done_at_ms = :now_ms WHERE request_id = :request_id
"""
_SET_ATTEMPT_GONE = """
UPDATE attempt SET gone_reason = :reason WHERE id = :id AND node_id = :node_id
"""
_PRUNE_ITEMS = """
DELETE FROM need_item WHERE (outcome IS NULL OR outcome = 'sent') AND request_id IN
    (SELECT request_id FROM need WHERE status = 'done' AND done_at_ms < :before)
"""
_PRUNE_NEEDS = """
DELETE FROM need WHERE status = 'done' AND done_at_ms < :before
    AND NOT EXISTS (SELECT 1 FROM need_item WHERE need_item.request_id = need.request_id)
"""


async def store_need(tx: Transaction, node_id: str, need: Need, now_ms: int) -> Need | None:
    """Store a need; return what to send, the open need that already asks, or None."""
    if need.kind not in KINDS:
        raise ValueError(f"no kind of need is called {need.kind!r}")
    places, fetching = [], None
    for place, entity_id in enumerate(need.ids):
        asked = await _asked(tx, node_id, need.kind, entity_id)
        if asked is None:
            places.append(place)
        elif asked:
            fetching = asked
    if not places:
        return None if fetching is None else await _read(tx, fetching)
    ids = [need.ids[place] for place in places]
    values = {"request_id": need.request_id, "node_id": node_id, "kind": need.kind}
    await tx.execute(_INSERT_NEED, {**values, "max_bytes": need.max_bytes, "now_ms": now_ms})
    await tx.executemany(
        _INSERT_ITEM,
        [{**values, "place": place, "id": entity_id} for place, entity_id in enumerate(ids)],
    )
    await tx.execute(_PRUNE_ITEMS, {"before": now_ms - _KEPT_MS})
    await tx.execute(_PRUNE_NEEDS, {"before": now_ms - _KEPT_MS})
    await _refresh(tx, need.kind, ids)
    return await _read(tx, need.request_id)


async def _asked(tx: Transaction, node_id: str, kind: str, entity_id: str) -> str | None:
    """Return the open need that asks for an id; an empty string where it is gone; else None."""
    fetching = None
    rows = await tx.fetch_all(_SELECT_ITEM, {"node_id": node_id, "id": entity_id, "kind": kind})
    for row in rows:
        if row["outcome"] in sync.GONE:
            return ""
        if row["status"] == "open":
            fetching = str(row["request_id"])
    return fetching


async def _read(tx: Transaction, request_id: str) -> Need | None:
    """Return a need as it is to be sent: logs from where they stand now."""
    row = await tx.fetch_one(_SELECT_NEED, {"request_id": request_id})
    if row is None:
        return None
    items = await tx.fetch_all(_SELECT_ITEMS, {"request_id": request_id})
    need = Need(
        request_id=request_id,
        kind=row["kind"],
        ids=[item["id"] for item in items],
        max_bytes=row["max_bytes"],
    )
    if need.kind == MESSAGES:
        after = [await whole_through(tx, session_id) for session_id in need.ids]
        return msgspec.structs.replace(need, after=after)
    if need.kind != LOGS:
        return need
    return msgspec.structs.replace(
        need,
        after=[(item["next_entry"] or 1) - 1 for item in items],
        from_chunk=[item["next_chunk"] or 1 for item in items],
        # Another holder of the identity may have sent more since the need was stored: what the
        # node has must go on from exactly this.
        digests=[EMPTY if item["digest"] is None else bytes(item["digest"]) for item in items],
    )


async def is_answered_gone(tx: Transaction, node_id: str, kind: str, entity_id: str) -> bool:
    """Whether its node has answered that it has no more of this, so that nobody asks again."""
    return await _asked(tx, node_id, kind, entity_id) == ""


async def open_needs(tx: Transaction, node_id: str) -> list[Need]:
    """Return the node's needs without an answer, oldest first."""
    rows = await tx.fetch_all(_SELECT_OPEN, {"node_id": node_id})
    needs = [await _read(tx, row["request_id"]) for row in rows]
    return [need for need in needs if need is not None]


_SELECT_ATTEMPTS = """
SELECT DISTINCT execution.attempt_id FROM need_item
JOIN execution ON execution.id = need_item.id
WHERE need_item.request_id = :request_id AND need_item.kind = 'logs'
"""


async def attempts_asked(tx: Transaction, request_id: str) -> list[str]:
    """Return the attempts a need asked for logs of."""
    rows = await tx.fetch_all(_SELECT_ATTEMPTS, {"request_id": request_id})
    return [row["attempt_id"] for row in rows]


async def need_done(
    tx: Transaction, node_id: str, link_no: int, done: NeedDone, now_ms: int
) -> None:
    """Store what became of each id. Raises FORBIDDEN for a need that another node was asked."""
    await check_link(tx, node_id, link_no)
    need = await tx.fetch_one(_SELECT_NEED, {"request_id": done.request_id})
    if need is None:
        # A hive restored from a backup does not know what it asked; nothing hangs on the answer.
        return
    if need["node_id"] != node_id:
        raise RemoteProtocolError(
            ErrorCode.FORBIDDEN, "the need was another node's", named=done.request_id
        )
    items = await tx.fetch_all(_SELECT_ITEMS, {"request_id": done.request_id})
    asked = [item["id"] for item in items]
    for outcome in done.outcomes:
        if outcome.id not in asked:
            continue
        await tx.execute(
            _SET_OUTCOME,
            {
                "request_id": done.request_id,
                "id": outcome.id,
                "outcome": outcome.outcome,
                "sent": outcome.sent,
                "reason": outcome.reason[:200],
            },
        )
        if outcome.outcome in sync.GONE:
            reason = outcome.reason[:200] or outcome.outcome
            await _set_gone(tx, node_id, need["kind"], outcome.id, reason)
    await tx.execute(_CLOSE, {"request_id": done.request_id, "now_ms": now_ms})
    await _refresh(tx, need["kind"], asked)


_SELECT_MISSED = """
SELECT DISTINCT kind, id FROM need_item
WHERE node_id = :node_id AND outcome IN ('gone', 'unknown')
"""
_FORGET_MISSED = """
DELETE FROM need_item WHERE node_id = :node_id AND outcome IN ('gone', 'unknown')
"""
_FORGET_LOGS_GONE = "UPDATE log SET gone_reason = NULL WHERE node_id = :node_id"
_FORGET_ATTEMPTS_GONE = "UPDATE attempt SET gone_reason = NULL WHERE node_id = :node_id"


async def forget_missed(tx: Transaction, node_id: str) -> None:
    """Another holder of the node's identity may have what was answered to be gone or unknown."""
    values = {"node_id": node_id}
    missed = await tx.fetch_all(_SELECT_MISSED, values)
    for statement in (_FORGET_MISSED, _FORGET_LOGS_GONE, _FORGET_ATTEMPTS_GONE):
        await tx.execute(statement, values)
    for row in missed:
        await _refresh(tx, row["kind"], [row["id"]])


async def _set_gone(tx: Transaction, node_id: str, kind: str, entity_id: str, reason: str) -> None:
    if kind == LOGS:
        await sync.set_log_gone(tx, node_id, entity_id, reason)
    elif kind in {FULL_ATTEMPT, EXECUTIONS}:
        await tx.execute(_SET_ATTEMPT_GONE, {"id": entity_id, "node_id": node_id, "reason": reason})


async def _refresh(tx: Transaction, kind: str, asked: Sequence[str]) -> None:
    for entity_id in asked:
        if kind in {FULL_ATTEMPT, EXECUTIONS}:
            await sync.refresh(tx, entity_id)
        elif kind == LOGS:
            await sync.refresh_of_execution(tx, entity_id)
