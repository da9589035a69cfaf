"""What the hive asked of nodes: stored before it is sent, and what came of each id.

An id that is gone, or that the node does not know, is never asked for again, nor are messages where
its node told of all it has; one that is being fetched is not asked for twice; a need without an
answer is asked again at the next hello.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from hive.store import message_gaps, sessions, sync
from hive.store.backend import Change, Row, Transaction
from hive.store.link_checks import check_link
from protocol.conversation import Message, Session
from protocol.digest import EMPTY
from protocol.errors import ErrorCode, RemoteProtocolError
from protocol.messages import Need, NeedDone, NeedOutcome
from protocol.ops import OpKind, Record, decode_body
from protocol.whole_numbers import holds

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
INSERT INTO need_item (request_id, place, node_id, kind, id, outcome, sent, reason, due,
    told_through, stale)
VALUES (:request_id, :place, :node_id, :kind, :id, NULL, 0, '', 0, 0, 0)
"""
_SELECT_NEED = """
SELECT request_id, node_id, kind, max_bytes, status FROM need WHERE request_id = :request_id
"""
_SELECT_ITEMS = """
SELECT need_item.id, need_item.due, need_item.told_through, need_item.stale, log.next_chunk,
    log.next_entry, log.digest
FROM need_item
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
    """Return the open need that asks for an id; empty where there is nothing to get; else None."""
    if kind == MESSAGES and await _has_all_there_is(tx, entity_id):
        return ""
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
        after = [await message_gaps.settled_through(tx, session_id) for session_id in need.ids]
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
    asked = {item["id"]: item for item in items}
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
        if need["kind"] == MESSAGES:
            # Only the last one may have been cut short.
            cut = done.more and outcome is done.outcomes[-1]
            await _messages_told(tx, node_id, outcome, asked[outcome.id], cut=cut)
    await tx.execute(_CLOSE, {"request_id": done.request_id, "now_ms": now_ms})
    await _refresh(tx, need["kind"], list(asked))


# --- messages -------------------------------------------------------------------------------------

_SET_DUE = """
UPDATE need_item SET due = :due
WHERE request_id = :request_id AND node_id = :node_id AND id = :id AND kind = 'messages'
"""
_SET_TOLD = """
UPDATE need_item SET told_through = :through
WHERE request_id = :request_id AND node_id = :node_id AND id = :id AND kind = 'messages'
"""


async def _has_all_there_is(tx: Transaction, session_id: str) -> bool:
    due = await message_gaps.due_of(tx, session_id)
    return 0 < due <= await message_gaps.settled_through(tx, session_id)


async def records_came(
    tx: Transaction, node_id: str, request_id: str, records: Sequence[Record]
) -> None:
    """Note how far an answer tells of a session's messages: it tells of them in their order."""
    told: dict[str, int] = {}
    asked = {"request_id": request_id, "node_id": node_id}
    for record in records:
        body = _body_of(record)
        if isinstance(body, Session):
            await tx.execute(_SET_DUE, {**asked, "id": body.id, "due": body.message_count})
        elif isinstance(body, Message):
            told[body.session_id] = body.seq
    for session_id, through in told.items():
        await tx.execute(_SET_TOLD, {**asked, "id": session_id, "through": through})


def _body_of(record: Record) -> msgspec.Struct | None:
    """Return what a record tells of a conversation; None for others, and what cannot be kept."""
    if record.kind not in {OpKind.SESSION, OpKind.MESSAGE}:
        return None
    try:
        body = decode_body(record.kind, record.body)
    except msgspec.DecodeError:
        return None
    return body if holds(body) else None


async def _messages_told(
    tx: Transaction, node_id: str, outcome: NeedOutcome, item: Row, *, cut: bool
) -> None:
    """A node has told of its messages of a session: of all of them, or as far as it came."""
    ids = await sessions.live_ids_of(tx, node_id, outcome.id)
    if ids is None:
        return
    if outcome.outcome in sync.GONE:
        through = await message_gaps.due_of(tx, outcome.id)
    elif item["stale"]:
        return
    elif cut:
        through = item["told_through"]
    else:
        # What lies before one that is here was sent before it. What was said since is not meant.
        through = max(item["due"], await message_gaps.held_of(tx, outcome.id))
    await message_gaps.record(tx, node_id, outcome.id, through)
    # What was on its way may be lost now: whoever waits for it looks again.
    tx.note(Change(kind="session.changed", ids=ids))


_FORGET_MESSAGES_GONE = """
DELETE FROM need_item
WHERE node_id = :node_id AND kind = 'messages' AND outcome IN ('gone', 'unknown')
"""
#: From where on these ask was known before: what opened since is not among what they tell of.
_SET_STALE = """
UPDATE need_item SET stale = 1
WHERE node_id = :node_id AND kind = 'messages' AND outcome IS NULL
"""


async def forget_messages_missed(tx: Transaction, node_id: str) -> None:
    """A node has told anew of all it owns: what it lacked before, it may have now."""
    for statement in (_FORGET_MESSAGES_GONE, _SET_STALE):
        await tx.execute(statement, {"node_id": node_id})
    await message_gaps.forget_of_node(tx, node_id)


# --- another history ------------------------------------------------------------------------------

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
    await forget_messages_missed(tx, node_id)
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
