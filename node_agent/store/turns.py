"""The turns of attempts: the one that runs, those queued behind it, and those that are over.

Each change has its op, with the prompt as it may be shown; a command may hold secrets and is in
none. Functions take the transaction they work in. Must not decide when a turn begins or ends.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from node_agent.store.journal import save as save_state
from node_agent.store.transaction import Row, Transaction
from protocol.conversation import TurnState, Usage
from protocol.errors import ErrorCode, OperationError
from protocol.ops import OpKind
from protocol.turn_requests import Turn, TurnEdit, TurnStatus

#: A longer queue is a mistake of whoever fills it.
QUEUED_MAX: Final = 100
_ID_CHARACTERS_MIN: Final = 8


class Shown(NamedTuple):
    """A text as it may be in an op: without secrets, and whether it was cut."""

    text: str = ""
    truncated: bool = False


class BegunTurn(NamedTuple):
    """A turn that has begun. Its executions are those after the first `executions_before`."""

    turn: Turn
    executions_before: int
    #: The worktree was made again for it, so the setup script is to run first.
    setup_wanted: bool
    shown: Shown
    #: As (media type, base64).
    images: Sequence[tuple[str, str]]
    #: The conversation's process that was given the prompt; None until one was.
    execution_id: str | None
    interrupt_told: bool
    stop_reason: str | None
    #: It begins a session of its own, from where the former one stands.
    forks: bool
    #: How often it waited for a usage limit; and whether it goes on in the middle of its work.
    parks: int = 0
    continues: bool = False

    @property
    def is_parked(self) -> bool:
        """Whether it has begun and waits for a usage limit to end."""
        running = self.turn.status is TurnStatus.RUNNING
        return running and self.turn.parked_until_ms is not None


_COLUMNS = "SELECT * FROM turn"
_INSERT = """
INSERT INTO turn (id, attempt_id, status, command, prompt, profile, author, created_at_ms, place,
    executions_before, setup_wanted, shown, truncated, images, forks, steers, asked_for)
VALUES (:id, :attempt_id, :status, :command, :prompt, :profile, :author, :created_at_ms,
    (SELECT coalesce(max(place), 0) + 1 FROM turn WHERE attempt_id = :attempt_id), 0, 0,
    :shown, :truncated, :images, :forks, :steers, :asked_for)
"""


async def add(
    tx: Transaction,
    turn: Turn,
    shown: Shown,
    images: Sequence[tuple[str, str]] = (),
    *,
    forks: bool = False,
    steers: bool = False,
    asked_for: str | None = None,
) -> Turn:
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
            "shown": shown.text,
            "truncated": int(shown.truncated),
            "images": msgspec.msgpack.encode(list(images)) if images else None,
            "forks": int(forks),
            "steers": "wanted" if steers else None,
            "asked_for": asked_for,
        },
    )
    await _tell(tx, turn.id, turn.created_at_ms)
    return (await queued(tx, turn.attempt_id))[-1]


_ONE = f"{_COLUMNS} WHERE id = :id"


async def _tell(tx: Transaction, turn_id: str, at_ms: int) -> None:
    """Write the op of a turn as it stands."""
    row = await tx.fetch_one(_ONE, {"id": turn_id})
    assert row is not None  # noqa: S101  written in this transaction
    usage = row["usage"]
    state = TurnState(
        id=row["id"],
        attempt_id=row["attempt_id"],
        session_id=row["session_id"],
        execution_id=row["execution_id"],
        no=row["no"],
        place=row["place"],
        status=TurnStatus(row["status"]),
        prompt=row["shown"],
        truncated=bool(row["truncated"]),
        author=row["author"],
        stop_reason=row["stop_reason"] or row["reason"],
        head_before=row["head_before"],
        head_after=row["head_after"],
        usage=None if usage is None else msgspec.msgpack.decode(usage, type=Usage),
        created_at_ms=row["created_at_ms"],
        begun_at_ms=row["begun_at_ms"],
        ended_at_ms=row["ended_at_ms"],
    )
    await save_state(tx, OpKind.TURN, turn_id, at_ms, state)


_QUEUED = f"{_COLUMNS} WHERE attempt_id = :attempt_id AND status = 'queued' ORDER BY place"


async def queued(tx: Transaction, attempt_id: str) -> list[Turn]:
    """Return the queued turns, in the order in which they will run."""
    rows = await tx.fetch_all(_QUEUED, {"attempt_id": attempt_id})
    return [_turn(row, position=position) for position, row in enumerate(rows, 1)]


class Next(NamedTuple):
    """The first queued turn: whether it begins a session of its own, and with which profile."""

    forks: bool
    profile: str | None


_NEXT = """
SELECT forks, profile FROM turn WHERE attempt_id = :attempt_id AND status = 'queued'
ORDER BY place LIMIT 1
"""


async def next_queued(tx: Transaction, attempt_id: str) -> Next | None:
    """Return what the first queued turn needs of a process; None where none is queued."""
    row = await tx.fetch_one(_NEXT, {"attempt_id": attempt_id})
    return None if row is None else Next(bool(row["forks"]), row["profile"])


_ANY_FORKS = """
SELECT 1 FROM turn WHERE attempt_id = :attempt_id AND status = 'queued' AND forks = 1 LIMIT 1
"""


async def any_forks(tx: Transaction, attempt_id: str) -> bool:
    """Return whether a queued turn begins a session of its own: what is behind it is of that."""
    return await tx.fetch_one(_ANY_FORKS, {"attempt_id": attempt_id}) is not None


_BEGINNINGS = """
SELECT first_executions_before, asked_for FROM turn
WHERE attempt_id = :attempt_id AND no IS NOT NULL
ORDER BY first_executions_before DESC, no
"""


async def asked_for_of(tx: Transaction, attempt_id: str, place: int) -> str | None:
    """Return what the author of the turn saw that the execution at this place was begun for."""
    for row in await tx.fetch_all(_BEGINNINGS, {"attempt_id": attempt_id}):
        if row["first_executions_before"] <= place:
            asked_for: str | None = row["asked_for"]
            return asked_for
    return None


class Steering(NamedTuple):
    """A queued turn that is to be said into the one that runs. `told`: the agent was."""

    turn: Turn
    shown: Shown
    told: bool


_STEERING = """
SELECT * FROM turn WHERE attempt_id = :attempt_id AND status = 'queued' AND steers IS NOT NULL
ORDER BY steers <> 'told', place LIMIT 1
"""


async def steering(tx: Transaction, attempt_id: str) -> Steering | None:
    """Return the queued turn that is said into the one that runs, else the next that is to be."""
    row = await tx.fetch_one(_STEERING, {"attempt_id": attempt_id})
    return None if row is None else _steering(row)


async def told_steering(tx: Transaction, turn_id: str) -> Steering | None:
    """Return a turn that the agent was told, whatever has become of it since; None: it was not."""
    row = await tx.fetch_one(_ONE, {"id": turn_id})
    return None if row is None or row["steers"] != "told" else _steering(row)


def _steering(row: Row) -> Steering:
    shown = Shown(row["shown"], bool(row["truncated"]))
    return Steering(_turn(row), shown, row["steers"] == "told")


_SET_STEERS = "UPDATE turn SET steers = :steers WHERE id = :id"


async def set_steers(tx: Transaction, turn_id: str, steers: str | None) -> None:
    """Write down that the agent was `told`, or (None) that it is a turn as any other."""
    await tx.execute(_SET_STEERS, {"id": turn_id, "steers": steers})


_BEGUN = f"{_COLUMNS} WHERE attempt_id = :attempt_id AND no IS NOT NULL ORDER BY no DESC LIMIT 1"


async def current(tx: Transaction, attempt_id: str) -> BegunTurn | None:
    """Return the turn that runs, or the last one that ran; None where none has begun."""
    row = await tx.fetch_one(_BEGUN, {"attempt_id": attempt_id})
    if row is None:
        return None
    images = row["images"]
    return BegunTurn(
        _turn(row),
        row["executions_before"],
        bool(row["setup_wanted"]),
        Shown(row["shown"], bool(row["truncated"])),
        [] if images is None else msgspec.msgpack.decode(images, type=list[tuple[str, str]]),
        row["execution_id"],
        bool(row["interrupt_told"]),
        row["stop_reason"],
        bool(row["forks"]),
        row["parks"],
        bool(row["continues"]),
    )


async def running(tx: Transaction, attempt_id: str) -> Turn | None:
    """Return the turn that runs."""
    begun = await current(tx, attempt_id)
    return None if begun is None or begun.turn.status is not TurnStatus.RUNNING else begun.turn


_BEGIN = """
UPDATE turn SET status = 'running', begun_at_ms = :at_ms, executions_before = :executions_before,
    first_executions_before = :executions_before, head_before = :head,
    no = (SELECT coalesce(max(no), 0) + 1 FROM turn WHERE attempt_id = :attempt_id)
WHERE attempt_id = :attempt_id AND status = 'queued' AND place =
    (SELECT min(place) FROM turn WHERE attempt_id = :attempt_id AND status = 'queued')
"""


async def begin_next(
    tx: Transaction, attempt_id: str, *, executions_before: int, head: str | None, at_ms: int
) -> Turn | None:
    """Begin the first queued turn, with the attempt's work at `head`; None where none is queued."""
    values = {
        "attempt_id": attempt_id,
        "executions_before": executions_before,
        "head": head,
        "at_ms": at_ms,
    }
    if not await tx.execute(_BEGIN, values):
        return None
    begun = await running(tx, attempt_id)
    if begun is not None:
        await _tell(tx, begun.id, at_ms)
    return begun


_PROMPTED = """
UPDATE turn SET session_id = :session_id, execution_id = :execution_id WHERE id = :id
"""


async def prompted(
    tx: Transaction, turn_id: str, session_id: str, execution_id: str, at_ms: int
) -> None:
    """Write down to which process, and as part of which session, the turn's prompt is given."""
    values = {"id": turn_id, "session_id": session_id, "execution_id": execution_id}
    await tx.execute(_PROMPTED, values)
    await _tell(tx, turn_id, at_ms)


_MOVE = """
UPDATE turn SET executions_before = :executions_before, first_executions_before =
    CASE WHEN parks = 0 THEN :executions_before ELSE first_executions_before END
WHERE id = :id
"""


async def move(tx: Transaction, turn: Turn, executions_before: int) -> None:
    """Have a turn that was begun and not given to an agent wait for the next process."""
    await tx.execute(_MOVE, {"id": turn.id, "executions_before": executions_before})


_INTERRUPT_TOLD = "UPDATE turn SET interrupt_told = 1 WHERE id = :id"


async def interrupt_told(tx: Transaction, turn_id: str) -> None:
    """Write down that the agent was told to interrupt this turn."""
    await tx.execute(_INTERRUPT_TOLD, {"id": turn_id})


class TurnEnd(NamedTuple):
    """How a turn ended. `stop_reason` is the agent's word, where it has one for it."""

    reason: str | None
    stop_reason: str | None = None
    usage: Usage | None = None
    head: str | None = None


_END = """
UPDATE turn SET status = 'ended', reason = :reason, stop_reason = :stop_reason, usage = :usage,
    head_after = :head, ended_at_ms = :at_ms
WHERE id = :id
"""


async def end(tx: Transaction, attempt_id: str, end: TurnEnd, at_ms: int) -> None:
    """End the turn that runs, if there is one."""
    turn = await running(tx, attempt_id)
    if turn is None:
        return
    usage = None if end.usage is None else msgspec.msgpack.encode(end.usage)
    values = {**end._asdict(), "usage": usage, "id": turn.id, "at_ms": at_ms}
    await tx.execute(_END, values)
    await _tell(tx, turn.id, at_ms)


_DROP = """
UPDATE turn SET status = 'dropped', reason = :reason, ended_at_ms = :at_ms WHERE id = :id
"""


async def drop(
    tx: Transaction, attempt_id: str, reason: str, at_ms: int, *, turn_id: str | None = None
) -> int:
    """Take one queued turn, or all of them, out of the queue; return how many."""
    going = [turn for turn in await queued(tx, attempt_id) if turn_id in {None, turn.id}]
    for turn in going:
        await tx.execute(_DROP, {"id": turn.id, "reason": reason, "at_ms": at_ms})
        await _tell(tx, turn.id, at_ms)
    return len(going)


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
    command = coalesce(:command, command), shown = coalesce(:shown, shown),
    truncated = coalesce(:truncated, truncated)
WHERE id = :id AND attempt_id = :attempt_id AND status = 'queued'
"""


async def set_queue(
    tx: Transaction,
    attempt_id: str,
    items: Sequence[TurnEdit],
    shown: Mapping[str, Shown],
    at_ms: int,
) -> None:
    """Put the queue into the order of `items` and edit it; `shown` has each new prompt by id.

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
    said = await steering(tx, attempt_id)
    for item in items:
        if said is not None and said.told and item.id == said.turn.id and item.prompt is not None:
            raise OperationError(
                ErrorCode.CONFLICT,
                "this was said into the turn that runs already",
                hint="Say what is to be changed in another follow-up.",
                turn=item.id,
            )
    row = await tx.fetch_one(_LAST_PLACE, {"attempt_id": attempt_id})
    last = 0 if row is None else int(row["place"])
    for place, item in enumerate(items, last + 1):
        new = shown.get(item.id)
        values = {
            "id": item.id,
            "attempt_id": attempt_id,
            "place": place,
            "prompt": item.prompt,
            "command": item.command,
            "shown": None if new is None else new.text,
            "truncated": None if new is None else int(new.truncated),
        }
        await tx.execute(_SET, values)
        await _tell(tx, item.id, at_ms)


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
        parked_until_ms=row["parked_until_ms"],
    )
