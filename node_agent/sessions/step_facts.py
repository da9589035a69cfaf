"""What the facts of a conversation change in the store: messages, requests, session, turn.

All of one step is one transaction. Must not know the machine, its lines or the process.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from node_agent.acp.steps import (
    AgentFailed,
    AgentReady,
    Fact,
    MessageMade,
    RequestMade,
    RequestWithdrawn,
    SessionBegun,
    Steered,
    TextGrew,
    TurnOver,
    UsageTold,
)
from node_agent.acp.tool_calls import TARGET_BYTES_MAX
from node_agent.request_drafts import Draft
from node_agent.run_context import OpenRequest
from node_agent.sessions import parking
from node_agent.sessions.rules import NOT_RESUMED_TEXT, SILENT, moment, silent_text
from node_agent.sessions.shown_text import ShownText
from node_agent.stamps import new_id
from node_agent.store import attempts, conversations, messages, plans, requests, sessions, turns
from node_agent.store.messages import Place
from node_agent.store.transaction import Transaction
from node_agent.store.turns import Steering, TurnEnd
from protocol.conversation import (
    TEXT_BYTES_MAX,
    AuthorKind,
    Message,
    MessageRole,
    RequestKind,
    Session,
    SessionStatus,
)
from protocol.states import AttemptPhase
from protocol.turn_requests import TurnStatus

_AUTHORS = {
    MessageRole.USER: AuthorKind.PERSON,
    MessageRole.ANSWER: AuthorKind.PERSON,
    MessageRole.SYSTEM: AuthorKind.NODE,
}
_REASON_BYTES_MAX = 500


class Talk(NamedTuple):
    """Whose conversation it is: the attempt, its session, and the agent's process."""

    attempt_id: str
    session_id: str
    execution_id: str


class Growth(NamedTuple):
    """A block of text grew: which message it will be, and by what."""

    message_id: str
    fact: TextGrew


@dataclass
class Applied:
    """What was true after the facts, for those who act on it."""

    ready: bool = False
    turn_over: TurnOver | None = None
    failed: AgentFailed | None = None
    grown: list[Growth] = field(default_factory=list)
    asked: bool = False
    steered: bool = False


async def apply_facts(
    tx: Transaction,
    talk: Talk,
    shown: ShownText,
    facts: Sequence[Fact],
    *,
    open_request: OpenRequest,
    head: str | None,
    at_ms: int,
) -> Applied:
    """Write down what the facts say. `head`: where the attempt's work stands, of a turn's end."""
    applied = Applied()
    step = _Step(tx, talk, shown, applied, open_request, head, at_ms)
    for fact in facts:
        await step.apply(fact, facts)
    await step.settle_phase()
    return applied


class _Step:
    def __init__(
        self,
        tx: Transaction,
        talk: Talk,
        shown: ShownText,
        applied: Applied,
        open_request: OpenRequest,
        head: str | None,
        at_ms: int,
    ) -> None:
        self._tx = tx
        self._talk = talk
        self._shown = shown
        self._applied = applied
        self._open_request = open_request
        #: The requests of this step, id by key.
        self._requests: dict[str, str] = {}
        self._head = head
        self._at_ms = at_ms
        self._phase_may_change = False

    async def apply(self, fact: Fact, facts: Sequence[Fact]) -> None:
        """Write down one of the step's facts."""
        match fact:
            case TextGrew():
                message_id = await messages.id_of(self._tx, self._place(fact.key))
                self._applied.grown.append(Growth(message_id, fact))
            case MessageMade():
                # A message that shows a request names it, so the request is there first.
                for asked in facts:
                    if isinstance(asked, RequestMade) and asked.key == fact.request_key:
                        message_id = await messages.id_of(self._tx, self._place(fact.key))
                        await self._request(asked, message_id)
                await self._message(fact)
            case RequestMade():
                await self._request(fact, None)
            case RequestWithdrawn():
                await self._withdrawn(fact)
            case AgentReady():
                await self._change_session(
                    agent=fact.name[:200],
                    agent_version=fact.version[:200],
                    capabilities=[one[:100] for one in fact.capabilities[:50]],
                )
            case SessionBegun():
                await self._session_begun(fact)
            case UsageTold():
                await self._change_session(usage=fact.usage)
            case TurnOver():
                await self._turn_over(fact)
            case Steered():
                self._applied.steered = True
                await self._steered(fact)
            case AgentFailed():
                self._applied.failed = fact
                over = self._applied.turn_over
                # What the turn's end has said already is not said again.
                told = None if over is not None and over.message == fact.message else fact.message
                text = "\n".join(filter(None, (told, fact.hint)))
                if text:
                    await say_of_node(self._tx, self._talk, self._shown.text(text), self._at_ms)

    # --- messages -----------------------------------------------------------------------------

    def _place(self, key: str) -> Place:
        return Place(self._talk.session_id, self._talk.execution_id, key)

    async def _message(self, fact: MessageMade) -> None:
        role = MessageRole(fact.role)
        cut_at = TARGET_BYTES_MAX
        if fact.tool is None:
            cut_at = 0 if fact.truncated else TEXT_BYTES_MAX
        content, truncated = self._shown.text(fact.content, cut_at=cut_at)
        truncated = truncated or fact.truncated
        tool = None
        if fact.tool is not None:
            # Beside a text there is less room for what the tool said.
            tool, cut = self._shown.tool(fact.tool, 44 * 1024 - len(content.encode()))
            truncated = truncated or cut
        turn = await turns.running(self._tx, self._talk.attempt_id)
        parent_id = request_id = None
        if fact.parent_key is not None:
            parent_id = await messages.known_id(self._tx, self._talk.execution_id, fact.parent_key)
        message_id = await messages.id_of(self._tx, self._place(fact.key))
        if fact.request_key is not None:
            request_id = self._requests.get(fact.request_key)
        before = await messages.find(self._tx, message_id)
        if before is not None and request_id is None:
            request_id = before.request_id
        message = Message(
            id=message_id,
            session_id=self._talk.session_id,
            attempt_id=self._talk.attempt_id,
            turn_id=None if turn is None else turn.id,
            execution_id=self._talk.execution_id,
            seq=0,
            role=role,
            author_kind=_AUTHORS.get(role, AuthorKind.AGENT),
            content=content,
            truncated=truncated,
            tool=tool,
            plan=self._shown.plan(fact.plan),
            request_id=request_id,
            parent_id=parent_id,
        )
        await messages.save(self._tx, message, self._at_ms)

    # --- requests -----------------------------------------------------------------------------

    async def _request(self, fact: RequestMade, message_id: str | None) -> None:
        if fact.key in self._requests:
            return
        asked = self._shown.request(fact)
        turn = await turns.running(self._tx, self._talk.attempt_id)
        draft = Draft(
            execution_id=self._talk.execution_id,
            key=fact.key,
            attempt_id=self._talk.attempt_id,
            kind=RequestKind(asked.kind),
            title=asked.title,
            session_id=self._talk.session_id,
            turn_id=None if turn is None else turn.id,
            message_id=message_id,
            text=asked.text,
            options=asked.options,
            form=asked.form,
            free_text=asked.free_text,
            tool=asked.tool,
            unseen=asked.unseen,
        )
        request = await self._open_request(self._tx, draft, self._at_ms)
        self._requests[fact.key] = request.id
        self._applied.asked = True
        self._phase_may_change = True

    async def _withdrawn(self, fact: RequestWithdrawn) -> None:
        shown, _ = self._shown.text(fact.reason, _REASON_BYTES_MAX)
        await requests.withdraw(self._tx, self._talk.execution_id, fact.key, shown, self._at_ms)
        self._phase_may_change = True

    async def settle_phase(self) -> None:
        """Have the attempt wait for input just as long as a request of it is open."""
        if self._phase_may_change:
            await settle_phase(self._tx, self._talk, self._at_ms)

    # --- session and turn ---------------------------------------------------------------------

    async def _change_session(self, **changes: object) -> Session:
        session = await sessions.get(self._tx, self._talk.session_id)
        changed = msgspec.structs.replace(session, **changes)
        if changed == session:
            return session
        return await sessions.save(self._tx, changed, self._at_ms)

    async def _session_begun(self, fact: SessionBegun) -> None:
        session = await sessions.get(self._tx, self._talk.session_id)
        forgot = session.agent_session_id is not None and not fact.resumed
        begun_ms = session.agent_session_at_ms if fact.resumed else self._at_ms
        await self._change_session(
            agent_session_id=fact.agent_session_id,
            agent_session_at_ms=begun_ms or self._at_ms,
        )
        await conversations.set_ready(self._tx, self._talk.execution_id)
        self._applied.ready = True
        if forgot:
            await say_of_node(self._tx, self._talk, (NOT_RESUMED_TEXT, False), self._at_ms)

    async def _steered(self, fact: Steered) -> None:
        """Have what was taken into the turn be a message of it; what was not waits as a turn."""
        steering = await turns.told_steering(self._tx, fact.key)
        if steering is None:
            return
        if fact.taken is None:
            if steering.turn.status is TurnStatus.QUEUED:
                await give_up_steered(self._tx, self._talk, steering, self._at_ms)
            return
        if not fact.taken:
            await turns.set_steers(self._tx, fact.key, None)
            return
        running = await turns.current(self._tx, self._talk.attempt_id)
        message = Message(
            id=new_id(),
            session_id=self._talk.session_id,
            attempt_id=self._talk.attempt_id,
            turn_id=None if running is None else running.turn.id,
            execution_id=self._talk.execution_id,
            seq=0,
            role=MessageRole.USER,
            author_kind=AuthorKind.PERSON,
            author=steering.turn.author,
            content=steering.shown.text,
            truncated=steering.shown.truncated,
        )
        await messages.save(self._tx, message, self._at_ms)
        await turns.drop(
            self._tx,
            self._talk.attempt_id,
            "it was said into the turn that ran",
            self._at_ms,
            turn_id=fact.key,
        )

    async def _turn_over(self, fact: TurnOver) -> None:
        self._applied.turn_over = fact
        failed = fact.stop_reason == "error"
        word = (fact.error_code or "error") if failed else self._shown.text(fact.stop_reason)[0]
        told, cut = self._shown.text(fact.message)
        running = await turns.running(self._tx, self._talk.attempt_id)
        ours = running is not None and running.id == fact.turn_id
        if ours and word != "end_turn" and await was_silent(self._tx, self._talk):
            # However it took the interrupt: it is over because its agent was silent.
            end = TurnEnd(await silent_reason(self._tx, self._talk), SILENT, fact.usage, self._head)
            await end_turn(self._tx, self._talk, end, self._at_ms)
            return
        reset_at_ms = parking.reset_at_ms(fact, self._at_ms)
        parked = parking.Parked()
        if ours and word == "usage_limit" and reset_at_ms is not None:
            parked = await self._park(parking.Limit(reset_at_ms, told, fact.message))
        if parked.until_ms is not None:
            text = parking.parked_text(told, parked.until_ms)
            await say_of_node(self._tx, self._talk, (text, cut), self._at_ms)
            return
        if failed:
            ends = "" if reset_at_ms is None else f" The limit ends at {moment(reset_at_ms)}."
            text = f"The turn ended: {word.replace('_', ' ')}. {told}{ends}{parked.why_not}"
            await say_of_node(self._tx, self._talk, (text, cut), self._at_ms)
        if not ours:
            return
        reason = "succeeded" if word == "end_turn" else word
        if failed and told:
            reason = f"{word}: {told.encode()[:_REASON_BYTES_MAX].decode('utf-8', 'ignore')}"
        if word == "cancelled":
            # What it asked by tools goes with it; ended by itself, it may ask for the answer later.
            await requests.withdraw_of_turn(
                self._tx,
                self._talk.execution_id,
                fact.turn_id,
                "the turn was interrupted",
                self._at_ms,
            )
            self._phase_may_change = True
        end = TurnEnd(reason, word, fact.usage, self._head)
        await end_turn(self._tx, self._talk, end, self._at_ms)

    async def _park(self, limit: parking.Limit) -> parking.Parked:
        return await parking.park(
            self._tx,
            self._talk.attempt_id,
            self._talk.session_id,
            limit,
            head=self._head,
            at_ms=self._at_ms,
        )


async def end_turn(tx: Transaction, talk: Talk, end: TurnEnd, at_ms: int) -> None:
    """End the turn that runs, with its attempt's work where it is, and let the session rest."""
    await turns.end(tx, talk.attempt_id, end, at_ms)
    attempt = await attempts.get(tx, talk.attempt_id)
    moved = msgspec.structs.replace(
        attempt, head_commit=end.head or attempt.head_commit, silent_since_ms=None
    )
    if moved != attempt:
        await attempts.save(tx, moved, at_ms)
    session = await sessions.get(tx, talk.session_id)
    rested = msgspec.structs.replace(
        session, status=SessionStatus.IDLE, turn_count=session.turn_count + 1
    )
    await sessions.save(tx, rested, at_ms)


async def was_silent(tx: Transaction, talk: Talk) -> bool:
    """Whether the agent's process is being stopped for its silence."""
    stored = await conversations.find(tx, talk.execution_id)
    return stored is not None and stored.closing == SILENT


async def silent_reason(tx: Transaction, talk: Talk) -> str:
    """Return the reason of a turn whose agent was stopped for its silence."""
    limit_s = (await plans.get(tx, talk.attempt_id)).request.silence_stop_s or 0.0
    return f"{SILENT}: {silent_text(limit_s)}"


async def settle_phase(tx: Transaction, talk: Talk, at_ms: int) -> None:
    """Have the attempt wait for input just as long as a request of it is open."""
    waits = bool(await requests.count_open(tx, talk.attempt_id))
    phase = AttemptPhase.AWAITING_INPUT if waits else AttemptPhase.RUNNING
    attempt = await attempts.get(tx, talk.attempt_id)
    at_work = attempt.phase in {AttemptPhase.RUNNING, AttemptPhase.AWAITING_INPUT}
    if at_work and attempt.phase is not phase:
        await attempts.save(tx, msgspec.structs.replace(attempt, phase=phase), at_ms)


async def give_up_steered(tx: Transaction, talk: Talk, steering: Steering, at_ms: int) -> None:
    """Say that nobody knows whether the agent took this in; said again it might be done twice."""
    reason = "the agent did not say whether it took this in"
    text = f"{reason.capitalize()}; it is not said again by itself:\n\n{steering.shown.text}"
    await say_of_node(tx, talk, (text, steering.shown.truncated), at_ms)
    await turns.drop(tx, talk.attempt_id, reason, at_ms, turn_id=steering.turn.id)


async def say_of_node(tx: Transaction, talk: Talk, text: tuple[str, bool], at_ms: int) -> None:
    """Write a message of the node's own into the transcript."""
    turn = await turns.running(tx, talk.attempt_id)
    message = Message(
        id=new_id(),
        session_id=talk.session_id,
        attempt_id=talk.attempt_id,
        turn_id=None if turn is None else turn.id,
        execution_id=talk.execution_id,
        seq=0,
        role=MessageRole.SYSTEM,
        author_kind=AuthorKind.NODE,
        content=text[0],
        truncated=text[1],
    )
    await messages.save(tx, message, at_ms)
