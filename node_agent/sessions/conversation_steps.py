"""What a conversation does next, as is recorded of it: each step is one transaction.

Must not hold the machine nor the process: `conversation_run` does.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from node_agent.acp.steps import Prompt, Step
from node_agent.run_context import OpenRequest
from node_agent.sessions.rules import (
    CONTINUE_TEXT,
    LASTING_ERRORS,
    OWN_NAME,
    ROTATED_TEXT,
    SAID_AGAIN_TEXT,
    SILENT,
    is_too_old,
)
from node_agent.sessions.shown_text import ShownText
from node_agent.sessions.step_facts import (
    Applied,
    Talk,
    apply_facts,
    end_turn,
    give_up_steered,
    say_of_node,
    settle_phase,
    silent_reason,
)
from node_agent.stamps import id_from, new_id, now_ms
from node_agent.store import (
    attempts,
    conversations,
    messages,
    parked_turns,
    requests,
    sessions,
    turns,
)
from node_agent.store.conversations import Reach
from node_agent.store.requests import Undelivered
from node_agent.store.transaction import Transaction
from node_agent.store.turns import BegunTurn, Steering, TurnEnd
from protocol.conversation import (
    AuthorKind,
    Message,
    MessageRole,
    Session,
    SessionStatus,
    topic_of,
)
from protocol.states import AttemptPhase
from protocol.turn_requests import TurnStatus

#: Why nothing more is said to a process: its turns are done; its session is too old, or is
#: forked; the next turn is for another profile; it failed.
DONE, AGED, FORKED, OTHER_PROFILE, FAILED = "done", "aged", "forked", "other_profile", "failed"
#: Its turn waits for a usage limit to end, in no process.
PARKED = "parked"


UNFIT_TEXT = "The answer was none that the agent takes; it was told that there is none."


class Committed(NamedTuple):
    """A step to commit: the machine's state after it, how far its output is read, its effects."""

    machine: bytes
    reach: Reach
    step: Step
    head: str | None = None


class Interrupt(NamedTuple):
    """The turn that runs is to be interrupted."""

    turn_id: str


class Tell(NamedTuple):
    """The agent is to be told what became of a request of it."""

    settled: Undelivered


class Ask(NamedTuple):
    """A turn that has begun is to be given to the agent."""

    turn: BegunTurn


class Begin(NamedTuple):
    """The next turn of the queue is to begin in this process."""


class Steer(NamedTuple):
    """Something is to be said into the turn that runs."""

    steering: Steering


class Unsure(NamedTuple):
    """The turn is over, and the agent has not said whether it took in what was said into it."""

    steering: Steering


class Close(NamedTuple):
    """Nothing more is to be said to this process."""

    reason: str


Wish = Interrupt | Tell | Ask | Begin | Steer | Unsure | Close


# --- beginning ------------------------------------------------------------------------------------


class Beginning(NamedTuple):
    """The session a process begins with. `rotated`: without the agent's own, which is too old.

    `fork_of`: it is a new one, from where this one stands. `must_resume`: in the middle of a turn,
    which one that knows nothing of it could not go on with.
    """

    session: Session | None
    rotated: bool
    fork_of: Session | None
    must_resume: bool = False


async def beginning_of(tx: Transaction, attempt_id: str, now_ms: int) -> Beginning:
    """Return with which session the next process of an attempt's agent begins."""
    session = await sessions.newest_of(tx, attempt_id)
    turn = await turns.current(tx, attempt_id)
    if turn is not None and turn.parks and turn.turn.status is TurnStatus.RUNNING:
        # It goes on within a turn, however old the agent's session has become meanwhile.
        return Beginning(session, rotated=False, fork_of=None, must_resume=turn.continues)
    if session is not None and turn is not None and turn.forks and turn.execution_id is None:
        return Beginning(None, rotated=False, fork_of=session)
    return Beginning(session, session is not None and is_too_old(session, now_ms), None)


def session_id_of(execution_id: str, beginning: Beginning) -> str:
    """Return the id of the session that an execution carries on, or will begin."""
    if beginning.session is not None:
        return beginning.session.id
    return id_from(execution_id, "session")


async def open_conversation(
    tx: Transaction,
    talk: Talk,
    committed: Committed,
    beginning: Beginning,
    *,
    at_ms: int,
) -> None:
    """Write down that a conversation with a new process begins, with the first it is told."""
    attempt = await attempts.get(tx, talk.attempt_id)
    session = await sessions.find(tx, talk.session_id)
    if session is None:
        session = Session(
            id=talk.session_id,
            attempt_id=attempt.id,
            executor=attempt.executor,
            profile=attempt.profile,
            created_at_ms=at_ms,
        )
    if (source := beginning.fork_of) is not None:
        session = msgspec.structs.replace(
            session,
            forked_from=source.id,
            agent_session_id=source.agent_session_id,
            agent_session_at_ms=source.agent_session_at_ms,
        )
        # The turn that forks had opened it.
        left = await sessions.get(tx, source.id)
        if left.status is SessionStatus.OPEN:
            rested = msgspec.structs.replace(left, status=SessionStatus.IDLE)
            await sessions.save(tx, rested, at_ms)
    changes: dict[str, object] = {"status": SessionStatus.OPEN, "profile": attempt.profile}
    if beginning.rotated:
        changes |= {"agent_session_id": None, "agent_session_at_ms": None}
    await sessions.save(tx, msgspec.structs.replace(session, **changes), at_ms)
    await conversations.begin(tx, talk.execution_id, talk.session_id, committed.machine)
    await _write(tx, talk, committed, at_ms)
    if beginning.rotated:
        await say_of_node(tx, talk, (ROTATED_TEXT, False), at_ms)


# --- going on -------------------------------------------------------------------------------------


async def next_wish(tx: Transaction, talk: Talk, now_ms: int) -> Wish | None:
    """Return what people want of this conversation next, or what follows by itself."""
    stored = await conversations.find(tx, talk.execution_id)
    if stored is None or stored.closing is not None:
        return None
    turn = await turns.current(tx, talk.attempt_id)
    if turn is not None and turn.is_parked and turn.execution_id == talk.execution_id:
        return Close(PARKED)
    runs = turn is not None and turn.turn.status is TurnStatus.RUNNING
    ours = turn is not None and turn.execution_id == talk.execution_id
    asked = turn is not None and turn.turn.interrupt_asked_at_ms is not None
    if turn is not None and asked and runs and ours and not turn.interrupt_told:
        return Interrupt(turn.turn.id)
    settled = await requests.undelivered(tx, talk.execution_id)
    if settled:
        return Tell(settled[0])
    steering = await turns.steering(tx, talk.attempt_id)
    if turn is not None and runs:
        if ours and steering is not None and not steering.told:
            return Steer(steering)
        # One that is not ours yet: it may be given at once, the machine keeps it until it can.
        return None if ours else Ask(turn)
    if steering is not None and steering.told:
        # Until the agent says whether it took it, nobody knows whether it is a turn still.
        return Unsure(steering)
    attempt = await attempts.get(tx, talk.attempt_id)
    if turn is not None and turn.stop_reason in LASTING_ERRORS:
        return Close(FAILED)
    following = await turns.next_queued(tx, talk.attempt_id)
    if attempt.phase is AttemptPhase.FINISHING or following is None:
        return Close(DONE)
    if following.forks:
        return Close(FORKED)
    if following.profile not in {None, attempt.profile}:
        return Close(OTHER_PROFILE)
    session = await sessions.get(tx, talk.session_id)
    return Close(AGED) if is_too_old(session, now_ms) else Begin()


async def commit_step(
    tx: Transaction,
    talk: Talk,
    shown: ShownText,
    committed: Committed,
    open_request: OpenRequest,
    at_ms: int,
) -> Applied:
    """Commit a step: its facts, the machine's state, what is read, what is to be said."""
    await _write(tx, talk, committed, at_ms)
    applied = await apply_facts(
        tx,
        talk,
        shown,
        committed.step.facts,
        open_request=open_request,
        head=committed.head,
        at_ms=at_ms,
    )
    if applied.failed is not None:
        # In the same commit: else what is queued would be given to a process that takes nothing.
        await conversations.close(tx, talk.execution_id, FAILED)
    return applied


async def told_interrupt(tx: Transaction, turn_id: str) -> None:
    """Write down that the agent is told of an interrupt."""
    await turns.interrupt_told(tx, turn_id)


async def told_steering(tx: Transaction, turn_id: str) -> None:
    """Write down that the agent was told what is to be said into its turn."""
    await turns.set_steers(tx, turn_id, "told")


async def give_up_steering(tx: Transaction, talk: Talk, turn_id: str, at_ms: int) -> None:
    """Wait no longer for the agent's word on whether it took this in."""
    steering = await turns.steering(tx, talk.attempt_id)
    if steering is not None and steering.turn.id == turn_id:
        await give_up_steered(tx, talk, steering, at_ms)


async def told_answer(tx: Transaction, talk: Talk, settled: Undelivered, at_ms: int) -> None:
    """Write down that the agent is told what became of its request."""
    await requests.delivered(tx, settled.request.id)
    await settle_phase(tx, talk, at_ms)


async def asked_turn(tx: Transaction, talk: Talk, turn: BegunTurn, at_ms: int) -> None:
    """Write down that the agent is given a turn: the turn's prompt is a message from now on."""
    await turns.prompted(tx, turn.turn.id, talk.session_id, talk.execution_id, at_ms)
    session = await sessions.get(tx, talk.session_id)
    topic = session.topic or topic_of(turn.shown.text)
    opened = msgspec.structs.replace(session, status=SessionStatus.OPEN, topic=topic)
    if turn.parks and not turn.continues:
        # What a person said once stands in the transcript once.
        await say_of_node(tx, talk, (SAID_AGAIN_TEXT, False), at_ms)
        await sessions.save(tx, opened, at_ms)
        return
    message = Message(
        id=new_id(),
        session_id=talk.session_id,
        attempt_id=talk.attempt_id,
        turn_id=turn.turn.id,
        execution_id=talk.execution_id,
        seq=0,
        role=MessageRole.USER,
        author_kind=AuthorKind.PERSON,
        author=turn.turn.author,
        content=turn.shown.text,
        truncated=turn.shown.truncated,
    )
    if turn.continues:
        # Not a person's word: it says so.
        message = msgspec.structs.replace(
            message,
            author_kind=AuthorKind.NODE,
            author=OWN_NAME,
            content=CONTINUE_TEXT,
            truncated=False,
        )
    await messages.save(tx, message, at_ms)
    await sessions.save(tx, opened, at_ms)


async def begin_turn(tx: Transaction, talk: Talk, head: str | None, at_ms: int) -> bool:
    """Begin the next queued turn in this process; False where none is queued any more."""
    attempt = await attempts.get(tx, talk.attempt_id)
    begun = await turns.begin_next(
        tx,
        talk.attempt_id,
        executions_before=attempt.executions.index(talk.execution_id),
        head=head,
        at_ms=at_ms,
    )
    return begun is not None


async def close_conversation(tx: Transaction, talk: Talk, reason: str) -> bool:
    """Write down that nothing more is said to the process; False where a turn came meanwhile."""
    if reason == DONE and await turns.next_queued(tx, talk.attempt_id) is not None:
        attempt = await attempts.get(tx, talk.attempt_id)
        if attempt.phase is not AttemptPhase.FINISHING:
            return False
    await conversations.close(tx, talk.execution_id, reason)
    return True


async def _write(tx: Transaction, talk: Talk, committed: Committed, at_ms: int) -> None:
    lines = [line + b"\n" for line in committed.step.lines]
    await conversations.step(
        tx, talk.execution_id, committed.machine, committed.reach, lines, at_ms=at_ms
    )


def prompt_of(turn: BegunTurn) -> Prompt:
    """Return a turn as its agent is given it: whole, or to go on with where it was cut off."""
    if turn.continues:
        return Prompt(turn_id=turn.turn.id, text=CONTINUE_TEXT)
    return Prompt(turn_id=turn.turn.id, text=turn.turn.prompt or "", images=_images(turn.images))


def _images(images: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(media_type, content) for media_type, content in images]


# --- ending ---------------------------------------------------------------------------------------


async def end_conversation(
    tx: Transaction, talk: Talk, *, reason: str, how: str = "", head: str | None, at_ms: int
) -> None:
    """Write down that the agent's process has ended: what it had begun is over, what it asked too.

    A turn that was never given to it, though it took others, waits for the next process, and so
    does one that is parked. `how`: by which exit code or signal.
    """
    await requests.withdraw_all(tx, talk.execution_id, "the agent's process ended", at_ms)
    await settle_phase(tx, talk, at_ms)
    stored = await conversations.find(tx, talk.execution_id)
    turn = await turns.current(tx, talk.attempt_id)
    if stored is not None and turn is not None and turn.turn.status is TurnStatus.RUNNING:
        attempt = await attempts.get(tx, talk.attempt_id)
        if turn.is_parked and turn.execution_id == talk.execution_id:
            await parked_turns.release(tx, turn.turn, len(attempt.executions))
        elif turn.execution_id == talk.execution_id:
            ended = f"The agent's process ended{how} before the turn was over."
            await say_of_node(tx, talk, (ended, False), at_ms)
            end = TurnEnd(_told(reason, how), reason, head=head)
            if stored.closing == SILENT:
                end = TurnEnd(await silent_reason(tx, talk), SILENT, head=head)
            await end_turn(tx, talk, end, at_ms)
        elif stored.ready and talk.execution_id in attempt.executions:
            await turns.move(tx, turn.turn, len(attempt.executions))
    await conversations.forget(tx, talk.execution_id)


async def abandon_conversation(tx: Transaction, attempt_id: str, execution_id: str) -> None:
    """End what is on record of a conversation that this node could not carry on."""
    stored = await conversations.find(tx, execution_id)
    if stored is not None:
        talk = Talk(attempt_id, stored.session_id, execution_id)
        await end_conversation(tx, talk, reason="agent_ended", head=None, at_ms=now_ms())


def _told(reason: str, how: str) -> str:
    return {
        "agent_ended": f"agent_ended: the agent's process ended{how} before the turn was over",
        "lost": "lost: nobody knows how the agent's process ended",
    }.get(reason, reason)
