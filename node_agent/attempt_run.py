"""One attempt on its way: worktree, setup, turn after turn of the agent, leftovers, cleanup, end.

A loop over what is recorded: each round reads where the attempt stands and does the next step,
so that a new process goes on where the last one was cut off. Must not start itself: the runner
does.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from node_agent.acp.reset_times import other_zone
from node_agent.acp.steps import Opening
from node_agent.agent_mcp import tool_server, words_of
from node_agent.attempt_git import AttemptGit
from node_agent.attempt_outcome import Verdict, last_of, reason_of, verdict_of, verdict_of_turn
from node_agent.attempt_standing import Standing, is_under_way, standing_of
from node_agent.attempt_worktree import (
    branch_now,
    worktree_again,
    worktree_lock,
)
from node_agent.execution_environment import environment_of
from node_agent.execution_run import ExecutionRun, Wanted
from node_agent.executors import executor_named
from node_agent.executors.adapter import Conversing
from node_agent.failpoints import failpoint
from node_agent.git.worktrees import Worktree, create_worktree
from node_agent.launch_check import agents_path, executor_of
from node_agent.profiles import with_secrets
from node_agent.run_context import RunContext
from node_agent.sessions.conversation_run import ConversationRun
from node_agent.sessions.conversation_steps import abandon_conversation, beginning_of, session_id_of
from node_agent.sessions.parking import unpark
from node_agent.sessions.rules import LASTING_ERRORS
from node_agent.stamps import new_id, now_ms
from node_agent.store import attempts, turns
from node_agent.store.errors import StoreBroken, StoreClosed
from node_agent.store.transaction import Transaction
from node_agent.turn_steps import end_attempt, turn_over
from protocol.entities import Attempt, Execution
from protocol.errors import OperationError, SkepError
from protocol.states import AttemptOutcome, AttemptPhase, ExecutionKind, ExecutionStatus

LOG: Final = logging.getLogger(__name__)
#: What a turn consists of, before its end.
_WORKING: Final = (ExecutionKind.SETUP, ExecutionKind.AGENT)
#: Starts of one step that a crash each time prevented; then something else is wrong.
_STARTS_MAX: Final = 3
#: How long a worktree that did not succeed is kept, unless someone says otherwise.
HOLD_MS: Final = 24 * 3600 * 1000
_REASON_CHARACTERS_MAX: Final = 1_000
#: A parked turn looks at the clock at least this often.
_PARKED_LOOK_S: Final = 60.0


class _Unlaunchable(Exception):  # noqa: N818  what is so
    """This node has no longer what the turn's program needs: its profile, or a secret of that."""

    def __init__(self, error: OperationError) -> None:
        super().__init__(error.message)
        self.error = error


class AttemptRun:
    """An attempt that this process carries on."""

    def __init__(self, context: RunContext, attempt_id: str) -> None:
        self.attempt_id = attempt_id
        self._context = context
        self._git = AttemptGit(context)
        self._current: ExecutionRun | None = None
        #: The turn that `_current` is the agent of, and the one last asked to be interrupted.
        self._current_turn: str | None = None
        self._interrupted: str | None = None
        self._stop_asked = False
        self._stop_grace_s: float | None = None
        self._woken = asyncio.Event()
        #: Set once it is known what became of a process that ran when this was taken up.
        self.settled = asyncio.Event()

    async def run(self) -> Attempt:
        """Carry the attempt to its end."""
        try:
            return await self._carry_on()
        finally:
            self.settled.set()

    async def _carry_on(self) -> Attempt:
        while True:
            self._woken.clear()
            standing = await self._look()
            if standing.plan.stop_asked_at_ms is not None and not self._stop_asked:
                self._stop_asked, self._stop_grace_s = True, standing.plan.stop_grace_s
            try:
                match standing.attempt.phase:
                    case AttemptPhase.ENDED:
                        return standing.attempt
                    case AttemptPhase.CREATED:
                        await self._save(phase=AttemptPhase.PREPARING)
                    case AttemptPhase.PREPARING:
                        await self._prepare(standing)
                    case AttemptPhase.RUNNING | AttemptPhase.AWAITING_INPUT:
                        if standing.waits:
                            await self._wait_parked(standing)
                        else:
                            await self._work(standing)
                    case AttemptPhase.FINISHING:
                        await self._finish(standing)
            except (StoreBroken, StoreClosed):
                # This process is about to end, and that is no reason for the program to: the next
                # one takes it up.
                raise
            except Exception as error:
                LOG.exception("attempt %s cannot go on", self.attempt_id)
                await self._give_up(error)

    async def stop(self, grace_s: float | None = None) -> None:
        """Stop what runs and begin nothing but the end. What asked for it is recorded already."""
        self._stop_asked, self._stop_grace_s = True, grace_s
        self._woken.set()
        if self._current is not None:
            await self._current.stop(grace_s)

    async def interrupt(self, turn_id: str) -> None:
        """Interrupt this turn, if it is the one that runs. It is recorded already."""
        self._interrupted = turn_id
        self._woken.set()
        if self._current is None:
            return
        if self._current_turn == turn_id:
            await self._current.interrupt()
        else:
            # A conversation has turns of its own, and knows which of them runs.
            self._current.wake()

    def wake(self) -> None:
        """Have the agent's conversation, if there is one, look again what is wanted."""
        self._woken.set()
        if self._current is not None:
            self._current.wake()

    # --- the steps ----------------------------------------------------------------------------

    async def _prepare(self, standing: Standing) -> None:
        attempt = standing.attempt
        if self._stop_asked:
            await self._decide(Verdict(AttemptOutcome.STOPPED))
            return
        try:
            repository = await self._git.repository(standing)
            worktree = await create_worktree(
                repository,
                self._context.worktrees_dir,
                attempt_id=attempt.id,
                branch=attempt.branch,
                base=attempt.base_commit,
                branch_now=functools.partial(branch_now, self._context.database, attempt.id),
            )
            await self._git.copy_files(standing, repository, worktree)
        except (SkepError, OSError) as error:
            await self._decide(Verdict(AttemptOutcome.FAILED, f"worktree: {_words(error)}"))
            return
        failpoint("node.attempt.worktree_made")
        if attempt.worktree != str(worktree.path):
            await self._save(worktree=str(worktree.path))
        if standing.wants_setup:
            setup = await self._once(ExecutionKind.SETUP, standing, worktree)
            if setup is None or setup.status is not ExecutionStatus.SUCCEEDED:
                await self._turn_over()
                return
        await self._save(phase=AttemptPhase.RUNNING)
        failpoint("node.attempt.prepared")

    async def _work(self, standing: Standing) -> None:
        try:
            worktree, standing = await self._worktree_for_turn(standing)
        except (SkepError, OSError) as error:
            await self._decide(Verdict(AttemptOutcome.FAILED, f"worktree: {_words(error)}"))
            return
        again = standing.turn is not None and standing.turn.setup_wanted
        if again and standing.plan.request.setup_script:
            setup = await self._once(ExecutionKind.SETUP, standing, worktree)
            if setup is None or setup.status is not ExecutionStatus.SUCCEEDED:
                await self._turn_over()
                return
            standing = await self._look()
        try:
            await self._once(ExecutionKind.AGENT, standing, worktree)
        except _Unlaunchable as unlaunchable:
            # What is queued may be for another profile.
            reason = _with_hint(unlaunchable.error)
            await self._decide(Verdict(AttemptOutcome.FAILED, reason), go_on=True)
            return
        await self._turn_over()

    async def _wait_parked(self, standing: Standing) -> None:
        """Wait until the usage limit ends that the turn met, or until it is to end before."""
        assert standing.turn is not None  # noqa: S101  it is what waits
        self.settled.set()
        if self._stop_asked:
            await self._decide(Verdict(AttemptOutcome.STOPPED))
            return
        if self._is_interrupted(standing):
            await self._decide(Verdict(AttemptOutcome.FAILED, "interrupted"), go_on=True)
            return
        left_s = ((standing.turn.turn.parked_until_ms or 0) - self._context.clock()) / 1000
        if left_s <= 0:
            await self._context.keep(unpark, self.attempt_id, self._context.clock())
            failpoint("node.turn.unparked")
            return
        # A wall clock may be set: it is looked at again.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left_s, _PARKED_LOOK_S)):
                await self._woken.wait()

    async def _worktree_for_turn(self, standing: Standing) -> tuple[Worktree | None, Standing]:
        """Return the worktree, made again where it is gone and nothing of the turn began yet."""
        begun = any(last_of(standing.of_turn, kind) for kind in _WORKING)
        if begun or self._stop_asked:
            return await self._git.worktree(standing), standing
        # A removal that is under way ends first: what is there then stays there.
        async with worktree_lock(self.attempt_id):
            standing = await self._look()
            worktree = await self._git.worktree(standing)
            if worktree is not None and standing.attempt.worktree is not None:
                return worktree, standing
            if standing.turn is not None:
                await self._context.keep(turns.want_setup, standing.turn.turn)
            repository = await self._git.repository(standing)
            worktree = await worktree_again(
                self._context, repository, self.attempt_id, hold_until_ms=None
            )
        failpoint("node.turn.worktree_made")
        return worktree, await self._look()

    async def _finish(self, standing: Standing) -> None:
        warnings: list[str] = []
        worktree = await self._git.worktree(standing)
        request = standing.plan.request
        if worktree is not None and request.commit_leftovers:
            try:
                await self._git.commit_leftovers(standing, worktree)
            except (SkepError, OSError) as error:
                warnings.append(f"leftovers were not committed: {_words(error)}")
        failpoint("node.attempt.leftovers_committed")
        if worktree is not None and request.cleanup_script:
            cleanup = await self._once(ExecutionKind.CLEANUP, standing, worktree)
            if cleanup is not None and cleanup.status is not ExecutionStatus.SUCCEEDED:
                warnings.append(f"cleanup: {reason_of(cleanup)}")
        await self._end(standing, warnings)

    async def _end(self, standing: Standing, warnings: Sequence[str]) -> None:
        # Read anew: someone may have asked for a hold since.
        standing = await self._look()
        outcome = standing.plan.outcome or AttemptOutcome.FAILED
        reason = standing.plan.reason
        if outcome is AttemptOutcome.SUCCEEDED and warnings:
            outcome = AttemptOutcome.SUCCEEDED_WITH_WARNING
        succeeded = outcome in {AttemptOutcome.SUCCEEDED, AttemptOutcome.SUCCEEDED_WITH_WARNING}
        at_ms = now_ms()
        held = standing.plan.hold_until_ms or 0
        hold_until_ms = None if succeeded else at_ms + HOLD_MS
        changes = {
            "outcome": outcome,
            "reason": "; ".join(filter(None, [reason, *warnings]))[:_REASON_CHARACTERS_MAX] or None,
            "head_commit": await self._git.head(standing),
            "hold_until_ms": held if held > at_ms else hold_until_ms,
            "ended_at_ms": at_ms,
        }
        goes_on = await self._context.keep(end_attempt, self.attempt_id, changes)
        failpoint("node.attempt.ended")
        if goes_on:
            # Whoever stopped it stopped what was then; a follow-up that came after is meant.
            self._stop_asked, self._stop_grace_s = False, None

    # --- executions ---------------------------------------------------------------------------

    async def _once(
        self, kind: ExecutionKind, standing: Standing, worktree: Worktree | None
    ) -> Execution | None:
        """Run the step's execution, or take it up, or return how it ended before.

        None where it must not begin any more: the attempt is being stopped, or every start of it
        was cut short.
        """
        executions = standing.of_turn
        turn_id = None if standing.turn is None else standing.turn.turn.id
        while True:
            last = last_of(executions, kind)
            if last is not None and last.status is not ExecutionStatus.RUNNING:
                return last
            execution_id, wanted = new_id() if last is None else last.id, None
            if last is None:
                self.settled.set()
                starts = sum(one.kind is kind for one in executions)
                stopping = self._stop_asked and kind is not ExecutionKind.CLEANUP
                if stopping or starts >= _STARTS_MAX or worktree is None:
                    return None
            try:
                companion = self._conversation(
                    kind, standing, execution_id, worktree, begun=last is not None
                )
                if last is None:
                    wanted = await self._wanted(kind, execution_id, standing, worktree)
            except OperationError as error:
                if last is not None or kind is not ExecutionKind.AGENT:
                    raise
                raise _Unlaunchable(error) from error
            run = ExecutionRun(
                self._context,
                standing.attempt,
                head=lambda: self._git.head(standing),
                settled=self.settled.set,
                companion=companion,
            )
            self._current = run
            self._current_turn = turn_id if kind is ExecutionKind.AGENT else None
            try:
                if self._stop_asked and kind is not ExecutionKind.CLEANUP:
                    await run.stop(self._stop_grace_s)
                elif kind is ExecutionKind.AGENT and self._is_interrupted(standing):
                    await run.interrupt()
                if last is not None:
                    await run.resume(last)
                elif wanted is not None:
                    await run.run(execution_id, wanted)
            finally:
                self._current = self._current_turn = None
            after = await self._look()
            if after.waits:
                return None
            executions = after.of_turn

    def _conversation(
        self,
        kind: ExecutionKind,
        standing: Standing,
        execution_id: str,
        worktree: Worktree | None,
        *,
        begun: bool,
    ) -> ConversationRun | None:
        """Return what speaks to the agent; None where it is not spoken to."""
        executor = executor_of(standing.plan.request, self._context)
        if kind is not ExecutionKind.AGENT or not executor.converses:
            return None
        conversing = Conversing()
        servers = [tool_server(self._context.data_dir, standing.attempt.id, execution_id)]
        environment = dict(self._context.environment)
        if worktree is not None:
            try:
                launch = executor.launch(standing.wish)
            except OperationError:
                # This node's settings may have changed since; what runs goes on all the same.
                if not begun:
                    raise
            else:
                conversing = launch.conversing or conversing
                servers = servers if launch.tools_word is None else []
                environment |= launch.chosen_environment
        environment |= standing.plan.request.environment
        logged_in = any(environment.get(name, "").strip() for name in conversing.login_variables)
        opening = Opening(
            cwd="" if worktree is None else str(worktree.path),
            mode=conversing.mode,
            model=conversing.model,
            auth_method=conversing.auth_method if logged_in else None,
            mcp_servers=servers,
            zone=other_zone(environment, self._context.environment),
        )
        return ConversationRun(
            self._context,
            standing.attempt,
            execution_id,
            opening,
            head=lambda: self._git.head(standing),
            silence_stop_s=standing.plan.request.silence_stop_s,
        )

    def _is_interrupted(self, standing: Standing) -> bool:
        if standing.turn is None:
            return False
        turn = standing.turn.turn
        return turn.interrupt_asked_at_ms is not None or self._interrupted == turn.id

    async def _wanted(
        self, kind: ExecutionKind, execution_id: str, standing: Standing, worktree: Worktree | None
    ) -> Wanted:
        assert worktree is not None  # noqa: S101  `_once` looked
        request = standing.plan.request
        argv: list[str] = []
        stdin, script = b"", None
        more: dict[str, str] = {}
        if kind is ExecutionKind.AGENT:
            launch = executor_of(request, self._context).launch(standing.wish)
            server = tool_server(self._context.data_dir, standing.attempt.id, execution_id)
            argv = [*launch.argv, *words_of(launch.tools_word, server)]
            stdin = launch.stdin
            if launch.conversing is not None:
                more["PATH"] = agents_path(self._context)
            more |= with_secrets(launch.chosen_environment, self._context.secrets_by_name())
            set_already = {**self._context.environment, **more, **request.environment}
            more |= {
                name: value for name, value in launch.environment.items() if name not in set_already
            }
        elif kind is ExecutionKind.SETUP:
            script = request.setup_script
        else:
            script = request.cleanup_script
        identity = await self._git.identity(standing)
        environment = environment_of(
            self._context.environment,
            standing.attempt,
            node_id=self._context.node_id,
            execution_id=execution_id,
            identity=identity.environment,
            requested=more | request.environment,
            session_id=await self._session_id(kind, execution_id, standing),
        )
        return Wanted(
            kind=kind,
            argv=argv,
            cwd=worktree.path,
            environment=environment,
            stdin=stdin,
            script=script,
        )

    async def _session_id(
        self, kind: ExecutionKind, execution_id: str, standing: Standing
    ) -> str | None:
        """Return the session a program belongs to, which its agent may be about to begin."""
        beginning = await self._context.database.read(
            beginning_of, standing.attempt.id, self._context.clock()
        )
        converses = executor_named(standing.attempt.executor).converses
        if kind is ExecutionKind.AGENT and converses:
            return session_id_of(execution_id, beginning)
        return None if beginning.session is None else beginning.session.id

    # --- what is recorded ---------------------------------------------------------------------

    async def _look(self) -> Standing:
        return await self._context.database.read(standing_of, self.attempt_id)

    async def _save(self, **changes: object) -> None:
        await self._context.keep(_change, self.attempt_id, changes)
        failpoint("node.attempt.saved")

    async def _turn_over(self) -> None:
        """Begin the next turn; without one, settle how the attempt ends by the last."""
        standing = await self._look()
        stopped = self._stop_asked or standing.plan.stop_asked_at_ms is not None
        if standing.waits and not stopped:
            # A script that began meanwhile is none of its turn's.
            return
        if not standing.of_turn and standing.converses and not stopped:
            # Begun while the agent's process ended: it waits for the next one.
            return
        verdict = verdict_of(
            standing.of_turn, stop_asked=stopped, interrupted=self._is_interrupted(standing)
        )
        # Where its agent never ran, the next one would not either.
        go_on = last_of(standing.of_turn, ExecutionKind.AGENT) is not None
        if standing.converses and not stopped and standing.turn is not None:
            turn = standing.turn
            ended = verdict.outcome is AttemptOutcome.SUCCEEDED
            if verdict.outcome is not AttemptOutcome.LOST and (turn.stop_reason or ended):
                verdict = verdict_of_turn(turn.stop_reason, turn.turn.reason)
            go_on = go_on and turn.stop_reason not in LASTING_ERRORS
        await self._decide(verdict, go_on=go_on)

    async def _decide(self, verdict: Verdict, *, go_on: bool = False) -> None:
        """Settle how the attempt ends, and leave only its end to do; or `go_on` with what waits."""
        head = await self._git.head(await self._look())
        if await self._context.keep(turn_over, self.attempt_id, verdict, head, go_on=go_on):
            failpoint("node.turn.begun")
        else:
            failpoint("node.attempt.decided")

    async def _give_up(self, error: Exception) -> None:
        """End an attempt over a fault of ours, leaving no process of it behind."""
        standing = await self._look()
        await self._context.notices.tell(
            "error",
            "attempt_broke",
            f"the attempt {self.attempt_id} could not go on: {_words(error)}",
            hint="Its worktree and branch are kept. See the node agent's own log.",
            attempt_id=self.attempt_id,
        )
        for execution in standing.executions:
            if is_under_way(execution):
                run = ExecutionRun(
                    self._context,
                    standing.attempt,
                    head=lambda: self._git.head(standing),
                    settled=self.settled.set,
                )
                await run.abandon(execution)
                await self._context.keep(abandon_conversation, self.attempt_id, execution.id)
        verdict = Verdict(AttemptOutcome.FAILED, f"the node agent failed: {_words(error)}")
        if standing.attempt.phase is AttemptPhase.FINISHING:
            await self._end(standing, [verdict.reason or ""])
        else:
            await self._decide(verdict)


async def _change(tx: Transaction, attempt_id: str, changes: dict[str, Any]) -> None:
    # As it is now: operations change other parts of it meanwhile.
    attempt = await attempts.get(tx, attempt_id)
    await attempts.save(tx, msgspec.structs.replace(attempt, **changes), now_ms())


def _words(error: Exception) -> str:
    """Return an error as a reason people read."""
    words = error.message if isinstance(error, SkepError) else str(error) or type(error).__name__
    return words[:_REASON_CHARACTERS_MAX]


def _with_hint(error: OperationError) -> str:
    """Return an error as a reason people read, with what to do about it."""
    words = f"{error.code.value}: " + ". ".join(filter(None, [error.message, error.hint]))
    return words[:_REASON_CHARACTERS_MAX]
