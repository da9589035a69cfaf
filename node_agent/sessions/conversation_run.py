"""Carries on the conversation with one agent process: its output in, its input out, step by step.

Reads the execution's spool with a reader of its own, beside the log's. What a step makes true, the
machine's state, how far the output is read and what is to be said are committed together; then it
is said, by byte offset, so that a repeat after a crash is dropped at the supervisor. What people
want is read from the store whenever `wake` is called. Must not decide how the attempt ends.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from node_agent.acp.machine import AgentMachine
from node_agent.acp.requests import UnfitReply
from node_agent.acp.state import decode_state, encode_state
from node_agent.acp.steps import MessageMade, Opening, Reply, Step, TurnOver
from node_agent.executions import ExitRecord, Output, RunningExecution, read_exit
from node_agent.failpoints import failpoint
from node_agent.run_context import RunContext
from node_agent.sessions import conversation_steps as steps
from node_agent.sessions.agent_lines import AgentLines, Missing
from node_agent.sessions.conversation_steps import (
    Ask,
    Begin,
    Close,
    Committed,
    Interrupt,
    Steer,
    Tell,
    Unsure,
    Wish,
    session_id_of,
)
from node_agent.sessions.rules import SILENT
from node_agent.sessions.shown_text import LiveText, ShownText
from node_agent.sessions.silence_watch import SilenceWatch, spoke_again
from node_agent.sessions.step_facts import Applied, Growth, Talk
from node_agent.spool import SpoolPosition, SpoolReader
from node_agent.store import conversations
from node_agent.store.transaction import Transaction
from node_agent.supervisor_connection import RequestRefusedError, SupervisorUnreachableError
from protocol.entities import Attempt
from protocol.limits import MIB

LOG: Final = logging.getLogger(__name__)
#: As much of the output is read for one step.
_READ_BYTES: Final = 256 * 1024
#: How long a silent agent is waited for at a time.
_IDLE_S: Final = 60.0
#: What the supervisor did not take, or did not hear, is said to it again after this.
_AGAIN_S: Final = 0.25
#: An agent that asks and asks and reads no answer is ended; the largest prompt is much smaller.
_UNSAID_BYTES_MAX: Final = 64 * MIB
#: A turn that is to be stopped gets so long to end by itself, within the grace of the stop.
_STOP_TURN_S_MAX: Final = 3.0
#: An agent that has opened its session and then says nothing gets its prompt after this: it need
#: not answer what it does not know.
_SET_UP_S: Final = 15.0
#: The name under which it tells how far it has read.
READER: Final = "conversation"


class ConversationRun:
    """The conversation with one execution's process, for as long as this process carries it on."""

    def __init__(
        self,
        context: RunContext,
        attempt: Attempt,
        execution_id: str,
        opening: Opening,
        *,
        head: Callable[[], Awaitable[str | None]],
        silence_stop_s: float | None = None,
    ) -> None:
        self._context = context
        self._talk = Talk(attempt.id, "", execution_id)
        self._opening = opening
        self._head = head
        self._machine = AgentMachine(None)
        self._lines = AgentLines()
        self._shown = ShownText()
        self._live: dict[str, LiveText] = {}
        self._silence = SilenceWatch(context, silence_stop_s)
        self._woken = asyncio.Event()
        #: Input that the supervisor may not have, and where it begins.
        self._unsaid = b""
        self._unsaid_at = 0
        self._say_again = False
        #: Why nothing more is said to the process, and by when it is to have ended.
        self._closing: str | None = None
        self._stdin_closed = False
        self._end_by_s: float | None = None
        self._stop_grace_s: float | None = None
        self._stop_by_s: float | None = None
        self._stop_told = False
        #: By when the agent is to have said whether it took in what was said into its turn.
        self._sure_by_s: float | None = None
        #: By when a process that closed its input is to have ended.
        self._deaf_by_s: float | None = None
        #: By when it is to say that its session is set up, or anything.
        self._set_up_by_s: float | None = None

    # --- for others ---------------------------------------------------------------------------

    @property
    def reader(self) -> str:
        return READER

    def hide(self, hidden: list[bytes]) -> None:
        """Take the values that nobody may see."""
        self._shown = ShownText(hidden)

    def wake(self) -> None:
        """Look again what is wanted: a turn was queued or interrupted, a request was settled."""
        self._woken.set()

    def stop(self, grace_s: float | None) -> None:
        """Interrupt the turn, and stop the process once it is over or will not be."""
        self._stop_grace_s = self._context.grace_s if grace_s is None else grace_s
        wait_s = min(_STOP_TURN_S_MAX, self._stop_grace_s / 2)
        self._stop_by_s = asyncio.get_running_loop().time() + wait_s
        self._stop_told = False
        self.wake()

    async def follow(self, running: RunningExecution) -> None:
        """Carry it on until the process has ended and all it said is taken in."""
        await self._open()
        reach = self._lines.reach
        own = running.second_reader(
            READER,
            SpoolPosition(reach.segment, reach.offset),
            (reach.stdout_bytes, reach.stderr_bytes),
        )
        try:
            await self._check_in_step(running)
            lost = await self._carry_on(running, own)
        finally:
            await own.close()
        await self._end(lost=lost)

    async def drain(self, run_folder: Path, *, lost: bool) -> None:
        """Take in the rest of what a process said that no longer runs."""
        if not await self._load():
            return
        reach = self._lines.reach
        reader = SpoolReader(
            run_folder,
            SpoolPosition(reach.segment, reach.offset),
            (reach.stdout_bytes, reach.stderr_bytes),
        )
        reader.sealed = lost
        try:
            while not reader.finished:
                await self._take_in(reader)
                if reader.exhausted:
                    break
        finally:
            reader.close()
        await self._end(lost=lost)

    # --- beginning ----------------------------------------------------------------------------

    async def _open(self) -> None:
        """Take the conversation up where it is, or begin it."""
        if await self._load():
            return
        beginning = await self._context.database.read(
            steps.beginning_of, self._talk.attempt_id, self._context.clock()
        )
        session = beginning.session
        # As the process was told it in its environment.
        named = session_id_of(self._talk.execution_id, beginning)
        self._talk = self._talk._replace(session_id=named)
        source = None if beginning.rotated else beginning.fork_of or session
        opening = msgspec.structs.replace(
            self._opening,
            agent_session_id=None if source is None else source.agent_session_id,
            fork=beginning.fork_of is not None,
            must_resume=beginning.must_resume,
        )
        committed = self._committed(self._machine.begin(opening))
        await self._context.keep(
            steps.open_conversation,
            self._talk,
            committed,
            beginning,
            at_ms=self._context.clock(),
        )
        failpoint("node.conversation.opened")
        await self._load()

    async def _load(self) -> bool:
        """Take up what is stored of the conversation; False where nothing is."""
        stored = await self._context.database.read(conversations.find, self._talk.execution_id)
        if stored is None:
            return False
        self._talk = self._talk._replace(session_id=stored.session_id)
        self._machine = AgentMachine(decode_state(stored.machine))
        self._lines = AgentLines(stored.reach)
        self._closing = stored.closing
        unsaid = await self._context.database.read(conversations.unsaid, self._talk.execution_id)
        self._unsaid_at, self._unsaid = unsaid or (stored.input_bytes, b"")
        await self._silence.take_up(self._talk, stored.silent_ms)
        if self._closing == SILENT:
            self.stop(None)
        self.wake()
        return True

    async def _check_in_step(self, running: RunningExecution) -> None:
        """Have nothing to do with a process that was told more than is on record here.

        The store was put back to a former state: what is said next would be taken for a repeat of
        what was said then, and arrive in part.
        """
        try:
            taken = int((await running.status())["stdin_bytes"])
        except SupervisorUnreachableError:
            # It is about to end; or it says so once it is asked to take something.
            return
        if taken > self._unsaid_at + len(self._unsaid):
            await self._commit(
                self._machine.give_up("it was told more than this node has on record")
            )

    # --- going on -----------------------------------------------------------------------------

    async def _carry_on(self, running: RunningExecution, own: RunningExecution) -> bool:
        """Go on until the output's end; return whether nobody knows how the process ended."""
        output: asyncio.Task[Output] | None = None
        try:
            while True:
                if self._woken.is_set():
                    self._woken.clear()
                    await self._do_what_is_wanted()
                    await self._watch_silence()
                await self._settle()
                await self._say(running)
                await self._close_or_stop(running)
                if output is None:
                    output = asyncio.ensure_future(own.wait_output(_IDLE_S))
                await self._wait(output)
                if self._sure_by_s is not None and self._now_s() >= self._sure_by_s:
                    self.wake()
                if not output.done():
                    await self._watch_silence()
                    continue
                seen, output = output.result(), None
                if seen in {Output.ENDED, Output.LOST}:
                    return seen is Output.LOST
                if seen is Output.GREW:
                    before = self._lines.reach.segment
                    if await self._take_in(own.reader):
                        self._silence.heard()
                        self._set_up_by_s = None
                    await self._tell_consumed(running, before)
        finally:
            if output is not None:
                output.cancel()
                # Not awaited: who is cancelled meanwhile is to hear of it.
                await asyncio.wait({output})

    async def _wait(self, output: asyncio.Task[Output]) -> None:
        """Wait for output, for a wake, or until something is due."""
        if self._woken.is_set():
            return
        woken = asyncio.ensure_future(self._woken.wait())
        now_s = self._now_s()
        due = (self._end_by_s, self._stop_by_s, self._sure_by_s, self._set_up_by_s)
        due_s = [by_s - now_s for by_s in (*due, self._deaf_by_s) if by_s is not None]
        if self._say_again:
            due_s.append(_AGAIN_S)
        if (silent_s := self._silence.due_s()) is not None:
            due_s.append(silent_s)
        timeout_s = max(0.0, min(due_s)) if due_s else None
        try:
            await asyncio.wait(
                {output, woken}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            woken.cancel()

    async def _settle(self) -> None:
        """Have an agent that opened its session, and says nothing since, get its prompt."""
        if not self._machine.is_setting:
            self._set_up_by_s = None
        elif self._set_up_by_s is None:
            self._set_up_by_s = self._now_s() + _SET_UP_S
        elif self._now_s() >= self._set_up_by_s:
            self._set_up_by_s = None
            await self._commit(self._machine.settle())

    async def _take_in(self, reader: SpoolReader) -> bool:
        """Take in what there is to read; return whether the agent said something."""
        position = reader.position
        pieces = reader.read(_READ_BYTES)
        if self._machine.is_over:
            # A program that was no agent may print a thousand million lines meanwhile.
            self._lines.pass_over(position, pieces)
            return bool(pieces)
        found = self._lines.take(position, pieces)
        if reader.finished:
            found += self._lines.rest()
        await self._hear(found)
        return bool(found)

    async def _hear(self, found: Sequence[bytes | Missing]) -> None:
        """Commit, as one step, what these lines say."""
        steps_of_lines = [
            self._machine.tell(_missing_text(line))
            if isinstance(line, Missing)
            else self._machine.receive(line)
            for line in found
        ]
        if steps_of_lines:
            facts = [fact for step in steps_of_lines for fact in step.facts]
            lines = [line for step in steps_of_lines for line in step.lines]
            spoke = partial(spoke_again, talk=self._talk, at_ms=self._context.clock())
            again = spoke if self._silence.was_told else None
            await self._commit(Step(facts=facts, lines=lines), again)

    # --- steps --------------------------------------------------------------------------------

    async def _do_what_is_wanted(self) -> None:
        """Do what people want of the conversation, and what follows by itself, one by one."""
        if self._stop_grace_s is not None and not self._stop_told:
            self._stop_told = True
            await self._commit(self._machine.interrupt())
        while True:
            wish = await self._context.database.read(
                steps.next_wish, self._talk, self._context.clock()
            )
            if not isinstance(wish, Unsure):
                self._sure_by_s = None
            elif self._sure_by_s is None:
                self._sure_by_s = self._now_s() + self._context.grace_s
            stopping = self._stop_grace_s is not None
            if wish is None or (stopping and isinstance(wish, Ask | Begin)):
                return
            if self._sure_by_s is not None and self._now_s() < self._sure_by_s:
                return
            self._sure_by_s = None
            await self._do(wish)

    async def _do(self, wish: Wish) -> None:
        at_ms = self._context.clock()
        match wish:
            case Interrupt():
                await self._commit(
                    self._machine.interrupt(), partial(steps.told_interrupt, turn_id=wish.turn_id)
                )
            case Steer():
                turn = wish.steering.turn
                await self._commit(
                    self._machine.steer(turn.prompt or "", turn.id),
                    partial(steps.told_steering, turn_id=turn.id),
                )
            case Unsure():
                turn_id = wish.steering.turn.id
                await self._context.keep(steps.give_up_steering, self._talk, turn_id, at_ms)
            case Tell():
                settled = wish.settled
                try:
                    step = self._machine.reply(settled.key, settled.reply)
                except UnfitReply as error:
                    # Better no answer than another one than was meant.
                    LOG.warning("an answer to %s does not fit: %s", settled.request.id, error)
                    step = self._machine.reply(settled.key, Reply(cancelled=True))
                    told = self._machine.tell(f"{steps.UNFIT_TEXT} ({error})")
                    step = Step(facts=[*step.facts, *told.facts], lines=step.lines)
                await self._commit(
                    step,
                    partial(steps.told_answer, talk=self._talk, settled=settled, at_ms=at_ms),
                )
                self._silence.begin()
                failpoint("node.conversation.answered")
            case Ask():
                self._silence.begin()
                await self._commit(
                    self._machine.prompt(steps.prompt_of(wish.turn)),
                    partial(steps.asked_turn, talk=self._talk, turn=wish.turn, at_ms=at_ms),
                )
                failpoint("node.conversation.asked")
            case Begin():
                if (rest := self._machine.rest()).facts:
                    # Said behind the turn that is over, it stands before what is asked next.
                    await self._commit(rest)
                head = await self._head()
                await self._context.keep(steps.begin_turn, self._talk, head, at_ms)
                failpoint("node.conversation.turn_begun")
            case Close():
                if await self._context.keep(steps.close_conversation, self._talk, wish.reason):
                    self._closing = wish.reason
                    failpoint("node.conversation.closing")

    async def _commit(
        self, step: Step, also: Callable[[Transaction], Awaitable[None]] | None = None
    ) -> Applied:
        """Commit a step with what goes with it, then hand on what is shown live."""
        over = any(isinstance(fact, TurnOver) for fact in step.facts)
        committed = self._committed(step, await self._head() if over else None)
        failpoint("node.conversation.before_step")
        applied = await self._context.keep(
            _commit,
            also,
            self._talk,
            self._shown,
            committed,
            self._context.open_request,
            self._context.clock(),
        )
        failpoint("node.conversation.stepped")
        if step.lines:
            self._queue_lines(step)
        for growth in applied.grown:
            self._grow(growth)
        for fact in step.facts:
            if isinstance(fact, MessageMade):
                self._live.pop(fact.key, None)
        if applied.turn_over is not None:
            self._live.clear()
            self._silence.end()
        if applied.failed is not None and self._closing is None:
            self._closing = steps.FAILED
        if applied.turn_over is not None or applied.ready or applied.asked or applied.steered:
            self.wake()
        return applied

    def _committed(self, step: Step, head: str | None = None) -> Committed:
        return Committed(encode_state(self._machine.state), self._lines.reach, step, head)

    def _queue_lines(self, step: Step) -> None:
        self._unsaid += b"".join(line + b"\n" for line in step.lines)

    def _grow(self, growth: Growth) -> None:
        fact = growth.fact
        live = self._live.setdefault(fact.key, self._shown.live())
        at, text = live.grow(fact.at, fact.text)
        if text:
            self._context.live(self._talk.session_id, growth.message_id, at, text, fact.role)

    # --- what is said -------------------------------------------------------------------------

    async def _say(self, running: RunningExecution) -> None:
        """Give the supervisor what it may not have."""
        self._say_again = False
        taken = None
        try:
            while self._unsaid:
                taken = await running.give_stdin(self._unsaid_at, self._unsaid)
                self._unsaid = self._unsaid[taken - self._unsaid_at :]
                self._unsaid_at = taken
        except SupervisorUnreachableError:
            # It is out of breath, or has ended: the output's end tells.
            self._say_again = True
        except RequestRefusedError as error:
            if error.reason == "stdin_full":
                self._say_again = True
            else:
                LOG.warning("an agent is not told more: %s", error)
                self._unsaid = b""
                if self._is_to_stay and self._deaf_by_s is None:
                    self._deaf_by_s = self._now_s() + self._context.grace_s
        if taken is not None:
            failpoint("node.conversation.said")
            await self._context.keep(conversations.taken, self._talk.execution_id, taken)
        if len(self._unsaid) > _UNSAID_BYTES_MAX and self._closing is None:
            await self._commit(self._machine.give_up("it does not read what it is told"))
        if self._deaf_by_s is not None and self._now_s() >= self._deaf_by_s:
            self._deaf_by_s = None
            # Of one that has ended only the rest is to be read: all that counts.
            ended = read_exit(self._context.run_folder(self._talk.execution_id)) is not None
            if self._is_to_stay and not ended:
                await self._commit(
                    self._machine.give_up("it closed its input, and can be told nothing")
                )

    async def _close_or_stop(self, running: RunningExecution) -> None:
        """End the process's input once nothing more is to be said; stop it where it stays on."""
        now_s = self._now_s()
        if self._stop_by_s is not None:
            if now_s >= self._stop_by_s or not self._machine_at_work():
                asked = await _asked(running.stop(self._stop_grace_s))
                self._stop_by_s = None if asked else self._now_s() + _AGAIN_S
            return
        # What a process does not take that is to end anyway, it need not hear.
        if self._closing is None or (self._unsaid and not self._say_again):
            return
        if not self._stdin_closed:
            self._stdin_closed = True
            self._end_by_s = now_s + self._context.grace_s
            # Unheard, the stop that follows ends it too.
            await _asked(running.close_stdin())
            failpoint("node.conversation.input_closed")
        elif self._end_by_s is not None and now_s >= self._end_by_s:
            asked = await _asked(running.stop(self._context.grace_s))
            self._end_by_s = None if asked else self._now_s() + _AGAIN_S

    @property
    def _is_to_stay(self) -> bool:
        """Whether the process is not ending anyway, each in its own time."""
        return self._closing is None and self._stop_grace_s is None

    def _machine_at_work(self) -> bool:
        return self._machine.state.turn is not None

    async def _tell_consumed(self, running: RunningExecution, before: int) -> None:
        segment = self._lines.reach.segment
        if segment > before:
            with contextlib.suppress(SupervisorUnreachableError, RequestRefusedError):
                await running.consumed(segment, READER)

    # --- silence ------------------------------------------------------------------------------

    async def _watch_silence(self) -> None:
        """Tell of an agent that is silent; end it where its project says so."""
        asked = bool(self._machine.state.requests)
        if not await self._silence.look(self._talk, asked=asked):
            return
        self._silence.end()
        if self._closing is not None or self._stop_grace_s is not None:
            # It is ending already.
            return
        await self._commit(self._machine.interrupt(), self._silence.stopping(self._talk))
        self._closing = SILENT
        self.stop(None)

    # --- end ----------------------------------------------------------------------------------

    async def _end(self, *, lost: bool) -> None:
        """Take down that the process has ended."""
        await self._hear(self._lines.rest())
        record = read_exit(self._context.run_folder(self._talk.execution_id))
        how = "" if record is None else _how(record)
        await self._commit(self._machine.finish(f"the agent's process ended{how}"))
        await self._context.keep(
            steps.end_conversation,
            self._talk,
            reason="lost" if lost else "agent_ended",
            how=how,
            head=await self._head(),
            at_ms=self._context.clock(),
        )
        failpoint("node.conversation.ended")

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()


async def _commit(
    tx: Transaction,
    also: Callable[[Transaction], Awaitable[None]] | None,
    *step: object,
) -> Applied:
    if also is not None:
        await also(tx)
    return await steps.commit_step(tx, *step)  # type: ignore[arg-type]


async def _asked(request: Awaitable[None]) -> bool:
    """Ask something of the supervisor; False where it did not hear it."""
    try:
        await request
    except SupervisorUnreachableError:
        return False
    except RequestRefusedError as error:
        LOG.warning("a supervisor refuses: %s", error)
    return True


def _missing_text(missing: Missing) -> str:
    return (
        f"{missing.size_bytes} bytes of what the agent said could not be read"
        f" ({missing.reason}); what they said is not known."
    )


def _how(record: ExitRecord) -> str:
    if record.signal is not None:
        return f" by signal {record.signal}"
    return "" if record.exit_code is None else f" with exit code {record.exit_code}"
