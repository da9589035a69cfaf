"""Watches over the silence of one conversation's agent: tells people, and says when it is to end.

It ends an agent only where its project says so, and neither while a person is asked something. How
silence is counted is `silence`'s; the end itself is the conversation's.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from node_agent.run_context import RunContext
from node_agent.sessions.rules import SILENT, length, silent_text
from node_agent.sessions.silence import Silence
from node_agent.sessions.step_facts import Talk, say_of_node
from node_agent.store import attempts, conversations, requests, turns
from node_agent.store.transaction import Transaction


class SilenceWatch:
    """The watch over one agent process, for as long as this node agent carries it on."""

    def __init__(self, context: RunContext, stop_s: float | None) -> None:
        self._context = context
        self._stop_s = stop_s or 0.0
        self._silence = Silence(context.silence_s, self._stop_s)
        self._was_asked = False
        self._told_people = False

    @property
    def was_told(self) -> bool:
        """Whether people were told that the agent is silent, and nothing was heard of it since."""
        return self._told_people

    async def take_up(self, talk: Talk, silent_ms: int) -> None:
        """Go on where the node agent before this one was."""
        attempt = await self._context.database.read(attempts.get, talk.attempt_id)
        self._told_people = told = attempt.silent_since_ms is not None
        self._silence.begin(self._now_s(), silent_s=silent_ms / 1000, told=told)

    def begin(self) -> None:
        """The agent was given something to do, or an answer."""
        self._silence.begin(self._now_s())

    def heard(self) -> None:
        """The agent said something."""
        self._told_people = False
        self._silence.heard(self._now_s())

    def end(self) -> None:
        """The turn is over."""
        self._silence.end()

    def due_s(self) -> float | None:
        """Return in how many seconds to look again; None where that is not needed."""
        return self._silence.due_s()

    async def look(self, talk: Talk, *, asked: bool) -> bool:
        """Look how silent it is, and tell people; return whether the agent is to be stopped.

        `asked`: it waits for an answer by its own protocol.
        """
        if self._silence.due_s() is None:
            return False
        waits = asked or bool(
            await self._context.database.read(requests.count_open, talk.attempt_id)
        )
        was_asked, self._was_asked = self._was_asked, waits
        if waits or was_asked:
            # What it waits for is a person's to say: its silence begins with the answer.
            self._silence.begin(self._now_s())
            return False
        before_s = self._silence.silent_s
        self._silence.look(self._now_s())
        if self._stop_s and self._silence.silent_s > before_s:
            silent_ms = int(self._silence.silent_s * 1000)
            await self._context.keep(conversations.count_silence, talk.execution_id, silent_ms)
        if self._silence.is_to_tell():
            await self._tell(talk)
        return self._silence.is_to_stop()

    async def _tell(self, talk: Talk) -> None:
        self._silence.told()
        spoken = length(self._context.silence_s)
        stops = f"after {length(self._stop_s)} it is stopped" if self._stop_s else "it goes on"
        text = f"The agent has said nothing for {spoken}; {stops}."
        if not await self._context.keep(_tell_silence, talk, text, self._context.clock()):
            return
        self._told_people = True
        await self._context.notices.tell(
            "warning",
            "agent_silent",
            f"an agent has said nothing for {spoken}",
            hint="Look at its log; interrupt the turn or stop the attempt if it hangs.",
            attempt_id=talk.attempt_id,
        )

    def stopping(self, talk: Talk) -> Callable[[Transaction], Awaitable[None]]:
        """Return what writes down that the agent is stopped for it, as part of a transaction."""
        text = f"The agent is stopped: {silent_text(self._stop_s)}."
        return partial(_stopping, talk=talk, text=text, at_ms=self._context.clock())

    def _now_s(self) -> float:
        return self._context.clock() / 1000


async def spoke_again(tx: Transaction, talk: Talk, at_ms: int) -> None:
    """Write down that an agent that was silent has said something."""
    attempt = await attempts.get(tx, talk.attempt_id)
    if attempt.silent_since_ms is not None:
        heard = msgspec.structs.replace(attempt, silent_since_ms=None)
        await attempts.save(tx, heard, at_ms)


async def _tell_silence(tx: Transaction, talk: Talk, text: str, at_ms: int) -> bool:
    stored = await conversations.find(tx, talk.execution_id)
    turn = await turns.running(tx, talk.attempt_id)
    if stored is None or turn is None or turn.parked_until_ms is not None:
        return False
    await say_of_node(tx, talk, (text, False), at_ms)
    attempt = await attempts.get(tx, talk.attempt_id)
    silent = msgspec.structs.replace(attempt, silent_since_ms=stored.heard_at_ms)
    await attempts.save(tx, silent, at_ms)
    return True


async def _stopping(tx: Transaction, *, talk: Talk, text: str, at_ms: int) -> None:
    await conversations.close(tx, talk.execution_id, SILENT)
    await say_of_node(tx, talk, (text, False), at_ms)
