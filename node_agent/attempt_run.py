"""One attempt on its way: worktree, setup, agent, leftovers, cleanup, end.

A loop over what is recorded: each round reads where the attempt stands and does the next step,
so that a new process goes on where the last one was cut off. Must not start itself: the runner
does.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from node_agent.attempt_outcome import Verdict, last_of, reason_of, verdict_of
from node_agent.execution_environment import environment_of
from node_agent.execution_run import ExecutionRun, Wanted
from node_agent.executors import executor_named
from node_agent.executors.adapter import Wish
from node_agent.failpoints import failpoint
from node_agent.git.commit_identity import CommitIdentity, commit_identity
from node_agent.git.copied_files import copy_files
from node_agent.git.leftovers import commit_all
from node_agent.git.repository import Repository, open_repository
from node_agent.git.worktrees import Worktree, create_worktree, find_worktree
from node_agent.run_context import RunContext
from node_agent.stamps import new_id, now_ms
from node_agent.store import attempts, checkouts, plans
from node_agent.store.plans import Plan
from node_agent.store.transaction import Transaction
from protocol.entities import Attempt, Checkout, Execution
from protocol.errors import SkepError
from protocol.states import AttemptOutcome, AttemptPhase, ExecutionKind, ExecutionStatus

LOG: Final = logging.getLogger(__name__)
#: Starts of one step that a crash each time prevented; then something else is wrong.
_STARTS_MAX: Final = 3
#: How long a worktree that did not succeed is kept, unless someone says otherwise.
HOLD_MS: Final = 24 * 3600 * 1000
_REASON_CHARACTERS_MAX: Final = 1_000


class Standing(NamedTuple):
    """Where an attempt stands: all a round needs to know."""

    attempt: Attempt
    plan: Plan
    executions: list[Execution]
    checkout: Checkout | None


class AttemptRun:
    """An attempt that this process carries on."""

    def __init__(self, context: RunContext, attempt_id: str) -> None:
        self.attempt_id = attempt_id
        self._context = context
        self._current: ExecutionRun | None = None
        self._stop_asked = False
        self._stop_grace_s: float | None = None
        self._opened: Repository | None = None
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
            standing = await self._look()
            if standing.plan.stop_asked_at_ms is not None and not self._stop_asked:
                self._stop_asked, self._stop_grace_s = True, standing.plan.stop_grace_s
            try:
                match standing.attempt.phase:
                    case AttemptPhase.ENDED:
                        return standing.attempt
                    case AttemptPhase.CREATED:
                        await self._save(standing.attempt, phase=AttemptPhase.PREPARING)
                    case AttemptPhase.PREPARING:
                        await self._prepare(standing)
                    case AttemptPhase.RUNNING | AttemptPhase.AWAITING_INPUT:
                        await self._work(standing)
                    case AttemptPhase.FINISHING:
                        await self._finish(standing)
            except Exception as error:
                LOG.exception("attempt %s cannot go on", self.attempt_id)
                await self._give_up(error)

    async def stop(self, grace_s: float | None = None) -> None:
        """Stop what runs and begin nothing but the end. What asked for it is recorded already."""
        self._stop_asked, self._stop_grace_s = True, grace_s
        if self._current is not None:
            await self._current.stop(grace_s)

    # --- the steps ----------------------------------------------------------------------------

    async def _prepare(self, standing: Standing) -> None:
        attempt = standing.attempt
        if self._stop_asked:
            await self._decide(Verdict(AttemptOutcome.STOPPED))
            return
        try:
            repository = await self._repository(standing)
            worktree = await create_worktree(
                repository,
                self._context.worktrees_dir,
                attempt_id=attempt.id,
                branch=attempt.branch,
                base=attempt.base_commit,
            )
            await self._copy_files(standing, repository, worktree)
        except (SkepError, OSError) as error:
            await self._decide(Verdict(AttemptOutcome.FAILED, f"worktree: {_words(error)}"))
            return
        failpoint("node.attempt.worktree_made")
        if attempt.worktree != str(worktree.path):
            attempt = await self._save(attempt, worktree=str(worktree.path))
        if standing.plan.request.setup_script:
            setup = await self._once(ExecutionKind.SETUP, standing, worktree)
            if setup is None or setup.status is not ExecutionStatus.SUCCEEDED:
                await self._decide_by_executions()
                return
        await self._save((await self._look()).attempt, phase=AttemptPhase.RUNNING)
        failpoint("node.attempt.prepared")

    async def _work(self, standing: Standing) -> None:
        worktree = await self._worktree(standing)
        await self._once(ExecutionKind.AGENT, standing, worktree)
        await self._decide_by_executions()

    async def _finish(self, standing: Standing) -> None:
        warnings: list[str] = []
        worktree = await self._worktree(standing)
        request = standing.plan.request
        if worktree is not None and request.commit_leftovers:
            try:
                await self._commit_leftovers(standing, worktree)
            except (SkepError, OSError) as error:
                warnings.append(f"leftovers were not committed: {_words(error)}")
        failpoint("node.attempt.leftovers_committed")
        if worktree is not None and request.cleanup_script:
            cleanup = await self._once(ExecutionKind.CLEANUP, standing, worktree)
            if cleanup is not None and cleanup.status is not ExecutionStatus.SUCCEEDED:
                warnings.append(f"cleanup: {reason_of(cleanup)}")
        await self._end(standing, warnings)

    async def _end(self, standing: Standing, warnings: Sequence[str]) -> None:
        outcome = standing.plan.outcome or AttemptOutcome.FAILED
        reason = standing.plan.reason
        if outcome is AttemptOutcome.SUCCEEDED and warnings:
            outcome = AttemptOutcome.SUCCEEDED_WITH_WARNING
        succeeded = outcome in {AttemptOutcome.SUCCEEDED, AttemptOutcome.SUCCEEDED_WITH_WARNING}
        at_ms = now_ms()
        await self._save(
            (await self._look()).attempt,
            phase=AttemptPhase.ENDED,
            outcome=outcome,
            reason="; ".join(filter(None, [reason, *warnings]))[:_REASON_CHARACTERS_MAX] or None,
            head_commit=await self._head(standing),
            hold_until_ms=None if succeeded else at_ms + HOLD_MS,
            ended_at_ms=at_ms,
        )
        failpoint("node.attempt.ended")

    # --- executions ---------------------------------------------------------------------------

    async def _once(
        self, kind: ExecutionKind, standing: Standing, worktree: Worktree | None
    ) -> Execution | None:
        """Run the step's execution, or take it up, or return how it ended before.

        None where it must not begin any more: the attempt is being stopped, or every start of it
        was cut short.
        """
        executions = standing.executions
        while True:
            last = last_of(executions, kind)
            if last is not None and last.status is not ExecutionStatus.RUNNING:
                return last
            run = ExecutionRun(
                self._context,
                standing.attempt,
                head=lambda: self._head(standing),
                settled=self.settled.set,
            )
            if last is None:
                self.settled.set()
                starts = sum(one.kind is kind for one in executions)
                stopping = self._stop_asked and kind is not ExecutionKind.CLEANUP
                if stopping or starts >= _STARTS_MAX or worktree is None:
                    return None
            self._current = run
            try:
                if self._stop_asked and kind is not ExecutionKind.CLEANUP:
                    await run.stop(self._stop_grace_s)
                if last is None:
                    execution_id = new_id()
                    await run.run(
                        execution_id, await self._wanted(kind, execution_id, standing, worktree)
                    )
                else:
                    await run.resume(last)
            finally:
                self._current = None
            executions = (await self._look()).executions

    async def _wanted(
        self, kind: ExecutionKind, execution_id: str, standing: Standing, worktree: Worktree | None
    ) -> Wanted:
        assert worktree is not None  # noqa: S101  `_once` looked
        request = standing.plan.request
        argv: list[str] = []
        stdin, script, more = b"", None, {}
        if kind is ExecutionKind.AGENT:
            executor = executor_named(request.executor)
            launch = executor.launch(Wish(command=request.command, prompt=request.prompt))
            argv, stdin, more = launch.argv, launch.stdin, launch.environment
        elif kind is ExecutionKind.SETUP:
            script = request.setup_script
        else:
            script = request.cleanup_script
        identity = await self._identity(standing)
        environment = environment_of(
            self._context.environment,
            standing.attempt,
            node_id=self._context.node_id,
            execution_id=execution_id,
            identity=identity.environment,
            requested=request.environment | more,
        )
        return Wanted(
            kind=kind,
            argv=argv,
            cwd=worktree.path,
            environment=environment,
            stdin=stdin,
            script=script,
        )

    # --- what is recorded ---------------------------------------------------------------------

    async def _look(self) -> Standing:
        return await self._context.database.read(_standing, self.attempt_id)

    async def _save(self, attempt: Attempt, **changes: object) -> Attempt:
        changed: Attempt = await self._context.keep(_change, attempt.id, changes)
        failpoint("node.attempt.saved")
        return changed

    async def _decide_by_executions(self) -> None:
        standing = await self._look()
        stopped = self._stop_asked or standing.plan.stop_asked_at_ms is not None
        await self._decide(verdict_of(standing.executions, stop_asked=stopped))

    async def _decide(self, verdict: Verdict) -> None:
        """Settle how the attempt ends, and leave only its end to do."""
        head = await self._head(await self._look())
        await self._context.keep(_decide, self.attempt_id, verdict, head)
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
            if execution.status is ExecutionStatus.RUNNING:
                run = ExecutionRun(
                    self._context,
                    standing.attempt,
                    head=lambda: self._head(standing),
                    settled=self.settled.set,
                )
                await run.abandon(execution)
        verdict = Verdict(AttemptOutcome.FAILED, f"the node agent failed: {_words(error)}")
        if standing.attempt.phase is AttemptPhase.FINISHING:
            await self._end(standing, [verdict.reason or ""])
        else:
            await self._decide(verdict)

    # --- git ----------------------------------------------------------------------------------

    async def _repository(self, standing: Standing) -> Repository:
        """Return the checkout's repository, opened once: opening it asks git many questions."""
        if self._opened is None:
            if standing.checkout is None:
                raise checkouts.NoCheckout(standing.attempt.project_name, [])
            self._opened = await open_repository(Path(standing.checkout.path))
        return self._opened

    async def _worktree(self, standing: Standing) -> Worktree | None:
        try:
            return await find_worktree(
                await self._repository(standing), self._context.worktrees_dir, standing.attempt.id
            )
        except (SkepError, OSError) as error:
            LOG.warning("the worktree of %s cannot be looked at: %s", self.attempt_id, error)
            return None

    async def _head(self, standing: Standing) -> str | None:
        """Return where the attempt's work stands: its worktree's HEAD, else its branch."""
        try:
            worktree = await self._worktree(standing)
            if worktree is not None:
                return await worktree.commit_of("HEAD")
            repository = await self._repository(standing)
            return await repository.commit_of(f"refs/heads/{standing.attempt.branch}")
        except (SkepError, OSError) as error:
            LOG.warning("the head of %s cannot be read: %s", self.attempt_id, error)
            return None

    async def _copy_files(
        self, standing: Standing, repository: Repository, worktree: Worktree
    ) -> None:
        patterns = standing.plan.request.copy_files
        if not patterns or any(one.kind is ExecutionKind.SETUP for one in standing.executions):
            return
        copied = await copy_files(repository, worktree, patterns)
        for path, why in copied.skipped:
            LOG.warning("attempt %s: %s was not copied: %s", self.attempt_id, path, why)

    async def _commit_leftovers(self, standing: Standing, worktree: Worktree) -> None:
        message = (
            f"{standing.attempt.task_title}\n\nLeft uncommitted by {standing.attempt.executor}."
        )
        await commit_all(worktree, message, await self._identity(standing))

    async def _identity(self, standing: Standing) -> CommitIdentity:
        return await commit_identity(
            await self._repository(standing),
            setting=self._context.git_identity,
            node_name=self._context.node_name,
        )


async def _standing(tx: Transaction, attempt_id: str) -> Standing:
    attempt = await attempts.get(tx, attempt_id)
    return Standing(
        attempt,
        await plans.get(tx, attempt_id),
        await attempts.executions_of(tx, attempt_id),
        await checkouts.find(tx, attempt.checkout_id),
    )


async def _change(tx: Transaction, attempt_id: str, changes: dict[str, object]) -> Attempt:
    """Change fields of the attempt as it is stored: an operation may have changed others."""
    changed = msgspec.structs.replace(await attempts.get(tx, attempt_id), **changes)
    await attempts.save(tx, changed, now_ms())
    return changed


async def _decide(tx: Transaction, attempt_id: str, verdict: Verdict, head: str | None) -> None:
    attempt = await attempts.get(tx, attempt_id)
    await plans.decide(tx, attempt_id, verdict.outcome, verdict.reason)
    finishing = msgspec.structs.replace(
        attempt, phase=AttemptPhase.FINISHING, head_commit=head or attempt.head_commit
    )
    await attempts.save(tx, finishing, now_ms())


def _words(error: Exception) -> str:
    """Return an error as a reason people read."""
    words = error.message if isinstance(error, SkepError) else str(error) or type(error).__name__
    return words[:_REASON_CHARACTERS_MAX]
