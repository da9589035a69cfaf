"""A turn that met a usage limit waits for its end: parked, hurried, and on its way again.

Each function is part of one transaction: turn, attempt and session tell the same. Must not wait,
nor speak to an agent: `attempt_run` waits, the next process of the conversation is spoken to.
"""

from typing import Final, NamedTuple

import msgspec

from node_agent.acp.reset_times import moment_of
from node_agent.acp.steps import TurnOver
from node_agent.sessions.rules import PARKS_MAX, moment, parked_until_ms
from node_agent.store import attempts, operations, parked_turns, plans, sessions, transcripts, turns
from node_agent.store.transaction import Transaction
from node_agent.store.turns import BegunTurn
from protocol.conversation import AuthorKind, Message, MessageRole
from protocol.entities import OperationRecord
from protocol.errors import ErrorCode, OperationError
from protocol.turn_requests import Turn

_REASON_BYTES_MAX: Final = 500
#: Messages that are looked at, newest first, for whether an agent did anything in a turn.
_LOOKED_AT: Final = 50
#: What an agent needs to be able to, to go on later in what it was at.
_TAKES_UP: Final = frozenset({"load", "resume"})
_CANNOT_TEXT: Final = (
    " This agent cannot take its session up again later, so the turn does not wait for that."
)
_TOO_OFTEN_TEXT: Final = f" The turn has waited for limits {PARKS_MAX} times; it waits no more."


class Limit(NamedTuple):
    """A limit whose end is known: what the agent said, as it may be shown and as it came."""

    reset_at_ms: int
    shown: str
    words: str


class Parked(NamedTuple):
    """Until when a turn waits; None where it does not, with why where people should know."""

    until_ms: int | None = None
    why_not: str = ""


def reset_at_ms(over: TurnOver, said_at_ms: int) -> int | None:
    """Return when the limit ends that a turn met, as its agent said it then; None: not told."""
    if over.reset_at_ms is not None:
        return over.reset_at_ms
    if over.reset_after_ms is not None:
        return said_at_ms + over.reset_after_ms
    return None if over.reset_by_clock is None else moment_of(over.reset_by_clock, said_at_ms)


def parked_text(words: str, until_ms: int) -> str:
    """Return what the transcript says of a turn that was parked."""
    return (
        f"The agent met a usage limit: {words} The turn waits, with the worktree as it is, and goes"
        f" on by itself at {moment(until_ms)}; `go-on` has it go on now, `interrupt` ends it."
    )


async def park(
    tx: Transaction,
    attempt_id: str,
    session_id: str,
    limit: Limit,
    *,
    head: str | None,
    at_ms: int,
) -> Parked:
    """Have the turn that runs wait for a limit's end, where it can and nobody wants it to stop."""
    turn = await turns.current(tx, attempt_id)
    plan = await plans.get(tx, attempt_id)
    if turn is None or plan.stop_asked_at_ms or turn.turn.interrupt_asked_at_ms:
        return Parked()
    session = await sessions.get(tx, session_id)
    if not _TAKES_UP & set(session.capabilities):
        return Parked(None, _CANNOT_TEXT)
    if turn.parks >= PARKS_MAX:
        return Parked(None, _TOO_OFTEN_TEXT)
    until_ms = parked_until_ms(at_ms, limit.reset_at_ms, turn.parks)
    continues = turn.continues or await _has_worked(tx, session_id, turn, limit.words)
    await parked_turns.park(tx, turn.turn.id, until_ms=until_ms, continues=continues)
    words = limit.shown.encode()[:_REASON_BYTES_MAX].decode("utf-8", "ignore")
    reason = f"usage_limit: {words}" if words else "usage_limit"
    attempt = await attempts.get(tx, attempt_id)
    parked = msgspec.structs.replace(
        attempt,
        parked_until_ms=until_ms,
        silent_since_ms=None,
        reason=reason,
        head_commit=head or attempt.head_commit,
    )
    await attempts.save(tx, parked, at_ms)
    waits = msgspec.structs.replace(session, parked_until_ms=until_ms, reason=reason)
    await sessions.save(tx, waits, at_ms)
    return Parked(until_ms)


async def hurry(
    tx: Transaction,
    attempt_id: str,
    turn_id: str | None,
    record: OperationRecord,
    body_hash: str,
    at_ms: int,
) -> Turn:
    """Have a parked turn go on now; key, effect and answer are one commit. Raises NO_TURN."""
    before = await operations.answered_before(tx, record, body_hash)
    if before is not None:
        return msgspec.msgpack.decode(before, type=Turn)
    turn = await turns.current(tx, attempt_id)
    if turn is None or not turn.is_parked or turn_id not in {None, turn.turn.id}:
        raise OperationError(
            ErrorCode.NO_TURN,
            "no turn of this attempt waits for a usage limit"
            if turn_id is None
            else f"the turn {turn_id[:60]} does not wait for a usage limit",
            hint="An attempt whose turn waits shows until when.",
        )
    await parked_turns.hurry(tx, turn.turn.id, at_ms)
    await _tell(tx, attempt_id, await turns.running(tx, attempt_id), at_ms)
    hurried = await turns.running(tx, attempt_id) or turn.turn
    await operations.answer(tx, record, body_hash, msgspec.msgpack.encode(hurried))
    return hurried


async def unpark(tx: Transaction, attempt_id: str, at_ms: int) -> bool:
    """Have the turn wait no longer, to go on or to end; False where it did not wait."""
    turn = await turns.current(tx, attempt_id)
    if turn is None or not turn.is_parked:
        return False
    await parked_turns.unpark(tx, turn.turn.id)
    await _tell(tx, attempt_id, None, at_ms)
    return True


async def _tell(tx: Transaction, attempt_id: str, waiting: Turn | None, at_ms: int) -> None:
    """Have attempt and session say until when their turn waits, or that it does not."""
    until_ms = None if waiting is None else waiting.parked_until_ms
    attempt = await attempts.get(tx, attempt_id)
    reason = None if until_ms is None else attempt.reason
    told = msgspec.structs.replace(attempt, parked_until_ms=until_ms, reason=reason)
    await attempts.save(tx, told, at_ms)
    session = await sessions.newest_of(tx, attempt_id)
    if session is not None and session.parked_until_ms is not None:
        waits = msgspec.structs.replace(session, parked_until_ms=until_ms, reason=reason)
        await sessions.save(tx, waits, at_ms)


async def _has_worked(tx: Transaction, session_id: str, turn: BegunTurn, words: str) -> bool:
    """Whether the agent did anything for a turn, by its transcript; in doubt it did."""
    page = await transcripts.page(tx, session_id, after=None, limit=_LOOKED_AT)
    said_by_people = 0
    for message in reversed(page):
        if message.turn_id not in {None, turn.turn.id}:
            return False
        if message.turn_id is None or message.role is MessageRole.SYSTEM:
            continue
        if message.role is MessageRole.USER and message.author_kind is AuthorKind.PERSON:
            # The second is one that was said into the turn: the agent has taken it in.
            said_by_people += 1
            if said_by_people > 1:
                return True
        elif not _is_the_limit(message, words):
            return True
    return len(page) == _LOOKED_AT


def _is_the_limit(message: Message, words: str) -> bool:
    """Whether an agent's message is no work of its own, but what it then failed with."""
    said = message.content.strip()
    return message.role is MessageRole.ASSISTANT and bool(said) and said in words
