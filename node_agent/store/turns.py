"""The turns of attempts: the one that runs, those queued behind it, and those that are over.

None of it is in an op: a command may hold secrets. Functions take the transaction they work in.
Must not decide when a turn begins or ends.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from node_agent.store.transaction import Row, Transaction
from protocol.errors import ErrorCode, OperationError
from protocol.turn_requests import Turn, TurnEdit, TurnStatus

#: A longer queue is a mistake of whoever fills it.
QUEUED_MAX: Final = 100
_ID_CHARACTERS_MIN: Final = 8


class BegunTurn(NamedTuple):
    """A turn that has begun. Its executions are those after the first `executions_before`."""

    turn: Turn
    executions_before: int
    #: The worktree was made again for it, so the setup script is to run first.
    setup_wanted: bool


_COLUMNS = """
SELECT id, attempt_id, status, no, command, prompt, profile, author, reason, created_at_ms,
    begun_at_ms, ended_at_ms, interrupt_asked_at_ms, executions_before, setup_wanted
FROM turn
"""
_INSERT = """
INSERT INTO turn (id, attempt_id, status, command, prompt, profile, author, created_at_ms, place,
    executions_before, setup_wanted)
VALUES (:id, :attempt_id, :status, :command, :prompt, :profile, :author, :created_at_ms,
    (SELECT coalesce(max(place), 0) + 1 FROM turn WHERE attempt_id = :attempt_id), 0, 0)
"""


async def add(tx: Transaction, turn: Turn) -> Turn:
    """Put a turn at the end of its attempt's queue. Raises SLOW_DOWN where that is full."""
    if len(await queued(tx, turn.attempt_id)) >= QUEUED_MAX:
        raise OperationError(
            ErrorCode.SLOW_DOWN,
            f"{QUEUED_MAX} turns are queued already",
            hint="Wait until some have run, or drop some.",
        )
    await tx.execute(
        _INSERT,
        {
            "id": turn.id,
            "attempt_id": turn.attempt_id,
            "status": TurnStatus.QUEUED.value,
            "command": turn.command,
            "prompt": turn.prompt,
            "profile": turn.profile,
            "author": turn.author,
            "created_at_ms": turn.created_at_ms,
        },
    )
    return (await queued(tx, turn.attempt_id))[-1]


_QUEUED = f"{_COLUMNS} WHERE attempt_id = :attempt_id AND status = 'queued' ORDER BY place"


async def queued(tx: Transaction, attempt_id: str) -> list[Turn]:
    """Return the queued turns, in the order in which they will run."""
    rows = await tx.fetch_all(_QUEUED, {"attempt_id": attempt_id})
    return [_turn(row, position=position) for position, row in enumerate(rows, 1)]


_BEGUN = f"{_COLUMNS} WHERE attempt_id = :attempt_id AND no IS NOT NULL ORDER BY no DESC LIMIT 1"


async def current(tx: Transaction, attempt_id: str) -> BegunTurn | None:
    """Return the turn that runs, or the last one that ran; None where none has begun."""
    row = await tx.fetch_one(_BEGUN, {"attempt_id": attempt_id})
    if row is None:
        return None
    return BegunTurn(_turn(row), row["executions_before"], bool(row["setup_wanted"]))


async def running(tx: Transaction, attempt_id: str) -> Turn | None:
    """Return the turn that runs."""
    begun = await current(tx, attempt_id)
    return None if begun is None or begun.turn.status is not TurnStatus.RUNNING else begun.turn


_BEGIN = """
UPDATE turn SET status = 'running', begun_at_ms = :at_ms, executions_before = :executions_before,
    no = (SELECT coalesce(max(no), 0) + 1 FROM turn WHERE attempt_id = :attempt_id)
WHERE attempt_id = :attempt_id AND status = 'queued' AND place =
    (SELECT min(place) FROM turn WHERE attempt_id = :attempt_id AND status = 'queued')
"""


async def begin_next(
    tx: Transaction, attempt_id: str, *, executions_before: int, at_ms: int
) -> Turn | None:
    """Begin the first queued turn; None where none is queued."""
    values = {"attempt_id": attempt_id, "executions_before": executions_before, "at_ms": at_ms}
    if not await tx.execute(_BEGIN, values):
        return None
    return await running(tx, attempt_id)


_END = """
UPDATE turn SET status = 'ended', reason = :reason, ended_at_ms = :at_ms
WHERE attempt_id = :attempt_id AND status = 'running'
"""


async def end(tx: Transaction, attempt_id: str, reason: str | None, at_ms: int) -> None:
    """End the turn that runs, if there is one."""
    await tx.execute(_END, {"attempt_id": attempt_id, "reason": reason, "at_ms": at_ms})


_DROP = """
UPDATE turn SET status = 'dropped', reason = :reason, ended_at_ms = :at_ms
WHERE attempt_id = :attempt_id AND status = 'queued' AND (:id IS NULL OR id = :id)
"""


async def drop(
    tx: Transaction, attempt_id: str, reason: str, at_ms: int, *, turn_id: str | None = None
) -> int:
    """Take one queued turn, or all of them, out of the queue; return how many."""
    return await tx.execute(
        _DROP, {"attempt_id": attempt_id, "id": turn_id, "reason": reason, "at_ms": at_ms}
    )


_ASK_INTERRUPT = """
UPDATE turn SET interrupt_asked_at_ms = :at_ms WHERE attempt_id = :attempt_id AND status = 'running'
"""


async def ask_interrupt(tx: Transaction, attempt_id: str, at_ms: int) -> None:
    """Write down that the turn that runs is to be interrupted."""
    await tx.execute(_ASK_INTERRUPT, {"attempt_id": attempt_id, "at_ms": at_ms})


_WANT_SETUP = "UPDATE turn SET setup_wanted = 1 WHERE attempt_id = :attempt_id AND no = :no"


async def want_setup(tx: Transaction, turn: Turn) -> None:
    """Write down that the setup script is to run before this turn does."""
    await tx.execute(_WANT_SETUP, {"attempt_id": turn.attempt_id, "no": turn.no})


_SET = """
UPDATE turn SET place = :place, prompt = coalesce(:prompt, prompt),
    command = coalesce(:command, command)
WHERE id = :id AND attempt_id = :attempt_id AND status = 'queued'
"""


async def set_queue(tx: Transaction, attempt_id: str, items: Sequence[TurnEdit]) -> None:
    """Put the queue into the order of `items` and edit it.

    Raises CONFLICT where it does not name each queued turn once: someone else was faster.
    """
    found = {turn.id for turn in await queued(tx, attempt_id)}
    named = [item.id for item in items]
    if len(named) != len(found) or set(named) != found:
        raise OperationError(
            ErrorCode.CONFLICT,
            "the queue is another than the one you name",
            hint="Read it again: a turn has begun, or someone else changed it.",
            queued=[turn.id for turn in await queued(tx, attempt_id)],
        )
    row = await tx.fetch_one(_LAST_PLACE, {"attempt_id": attempt_id})
    last = 0 if row is None else int(row["place"])
    for place, item in enumerate(items, last + 1):
        values = {"id": item.id, "prompt": item.prompt, "command": item.command}
        await tx.execute(_SET, {**values, "attempt_id": attempt_id, "place": place})


_LAST_PLACE = "SELECT coalesce(max(place), 0) AS place FROM turn WHERE attempt_id = :attempt_id"


async def resolve(tx: Transaction, attempt_id: str, text: str) -> Turn:
    """Return the queued turn a person means: its id, or 8 or more of its first or last digits.

    Raises NO_TURN where there is none, or more than one.
    """
    digits = text.replace("-", "").strip().lower()
    fitting = [
        turn
        for turn in await queued(tx, attempt_id)
        if turn.id == text
        or (
            len(digits) >= _ID_CHARACTERS_MIN
            and (
                turn.id.replace("-", "").startswith(digits)
                or turn.id.replace("-", "").endswith(digits)
            )
        )
    ]
    if len(fitting) != 1:
        raise OperationError(
            ErrorCode.NO_TURN,
            f"no queued turn of this attempt is {text[:60]!r}",
            hint="`turns` lists those that are queued; one that has begun can be interrupted.",
        )
    return fitting[0]


def _turn(row: Row, *, position: int | None = None) -> Turn:
    return Turn(
        id=row["id"],
        attempt_id=row["attempt_id"],
        status=TurnStatus(row["status"]),
        no=row["no"],
        position=position,
        command=row["command"],
        prompt=row["prompt"],
        profile=row["profile"],
        author=row["author"],
        reason=row["reason"],
        created_at_ms=row["created_at_ms"],
        begun_at_ms=row["begun_at_ms"],
        ended_at_ms=row["ended_at_ms"],
        interrupt_asked_at_ms=row["interrupt_asked_at_ms"],
    )
