"""Runs of a session's messages that its node was asked for and has no more than the hive: lost.

Each is a row, so that a hole that opens later is not taken for one of these. Must not know how
nodes are asked: `needs` does.
"""

from collections.abc import Sequence
from typing import Final

from hive.store.backend import Transaction
from protocol.whole_numbers import following

Run = tuple[int, int]

#: Runs that are passed over to find the first place to ask for; a session has few.
_PASSED_MAX: Final = 1_000
#: How many messages there are as its node tells it, and the last one that is here.
_ENDS: Final = """
SELECT message_count, (
    SELECT max(message_seq) FROM message
    WHERE message.session_id = session.id AND message.forgotten_at_ms IS NULL
) AS held_through
FROM session WHERE id = :session_id
"""
_AT: Final = """
SELECT 1 FROM message
WHERE session_id = :session_id AND forgotten_at_ms IS NULL AND message_seq = :place
"""
#: The highest place up to which nothing is missing from a place on, where that one is there.
_WHOLE_THROUGH: Final = """
SELECT min(message_seq) AS through FROM message
WHERE session_id = :session_id AND forgotten_at_ms IS NULL AND message_seq >= :place
    AND NOT EXISTS (
        SELECT 1 FROM message AS following
        WHERE following.session_id = message.session_id AND following.forgotten_at_ms IS NULL
            AND following.message_seq = message.message_seq + 1
    )
"""
_GAP_OVER: Final = """
SELECT last_seq FROM message_gap
WHERE session_id = :session_id AND first_seq <= :place AND last_seq >= :place
ORDER BY first_seq DESC LIMIT 1
"""
_BETWEEN: Final = """
SELECT first_seq, last_seq FROM message_gap
WHERE session_id = :session_id AND first_seq <= :last AND last_seq >= :first ORDER BY first_seq
"""
_MISSING: Final = """
SELECT before + 1 AS first_seq, message_seq - 1 AS last_seq FROM (
    SELECT message_seq, lag(message_seq, 1, 0) OVER (ORDER BY message_seq) AS before FROM message
    WHERE session_id = :session_id AND forgotten_at_ms IS NULL
) AS place
WHERE message_seq > before + 1 AND before < :through ORDER BY before
"""
_DROP: Final = """
DELETE FROM message_gap WHERE session_id = :session_id AND first_seq <= :through
"""
_INSERT: Final = """
INSERT INTO message_gap (session_id, node_id, first_seq, last_seq)
VALUES (:session_id, :node_id, :first_seq, :last_seq)
"""
_FORGET: Final = "DELETE FROM message_gap WHERE node_id = :node_id"


async def due_of(tx: Transaction, session_id: str) -> int:
    """Return how many messages a session has, as far as anyone told; 0 where it is not known."""
    ends = await tx.fetch_one(_ENDS, {"session_id": session_id})
    return 0 if ends is None else max(ends["message_count"], ends["held_through"] or 0)


async def held_of(tx: Transaction, session_id: str) -> int:
    """Return the last place of a session of which the message is here."""
    ends = await tx.fetch_one(_ENDS, {"session_id": session_id})
    return 0 if ends is None else ends["held_through"] or 0


async def settled_through(tx: Transaction, session_id: str) -> int:
    """Return the place up to which each message of a session is here or known to be lost."""
    through = 0
    for _ in range(_PASSED_MAX):
        place = {"session_id": session_id, "place": following(through)}
        if await tx.fetch_one(_AT, place) is not None:
            row = await tx.fetch_one(_WHOLE_THROUGH, place)
            through = following(through) if row is None else row["through"]
            continue
        gap = await tx.fetch_one(_GAP_OVER, place)
        if gap is None:
            break
        through = gap["last_seq"]
    return through


async def between(tx: Transaction, session_id: str, first: int, last: int) -> list[Run]:
    """Return the runs known to be lost that have to do with these places, in order."""
    rows = await tx.fetch_all(_BETWEEN, {"session_id": session_id, "first": first, "last": last})
    return [(row["first_seq"], row["last_seq"]) for row in rows]


def parted(missing: Sequence[Run], gaps: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Part missing runs by the gaps: what is lost, and what may yet come. All in order. Pure."""
    lost, coming, at = [], [], 0
    for first, last in missing:
        while at < len(gaps) and gaps[at][1] < first:
            at += 1
        place, number = first, at
        while place <= last and number < len(gaps) and gaps[number][0] <= last:
            begin, end = max(place, gaps[number][0]), min(last, gaps[number][1])
            number += 1
            if end < begin:
                continue
            if begin > place:
                coming.append((place, begin - 1))
            lost.append((begin, end))
            place = end + 1
        if place <= last:
            coming.append((place, last))
    return lost, coming


async def record(tx: Transaction, node_id: str, session_id: str, through: int) -> None:
    """A node has told of all its messages up to a place: what is missing there is lost."""
    values = {"session_id": session_id, "node_id": node_id, "through": through}
    rows = await tx.fetch_all(_MISSING, values)
    runs = [(row["first_seq"], min(row["last_seq"], through)) for row in rows]
    held = await held_of(tx, session_id)
    if held < through:
        runs.append((held + 1, through))
    await tx.execute(_DROP, values)
    await tx.executemany(
        _INSERT, [{**values, "first_seq": first, "last_seq": last} for first, last in runs]
    )


async def forget_of_node(tx: Transaction, node_id: str) -> None:
    """What a node lacked it may have now."""
    await tx.execute(_FORGET, {"node_id": node_id})
