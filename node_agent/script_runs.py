"""Scripts and reviews that were asked for: executions beside an attempt's turns.

Owns their tasks, from the record of the beginning to the end. They take no slot and change nothing
of their attempt's phase. Must not decide who may ask for one.
"""

import asyncio
import logging
from typing import Final

import msgspec

from node_agent.attempt_worktree import repository_of, worktree_again, worktree_lock
from node_agent.execution_environment import environment_of
from node_agent.execution_run import ExecutionRun, Wanted, new_execution, record_begin
from node_agent.failpoints import failpoint
from node_agent.git.commit_identity import commit_identity
from node_agent.git.repository import Repository
from node_agent.git.worktrees import Worktree, find_worktree
from node_agent.run_context import RunContext
from node_agent.stamps import new_id, now_ms
from node_agent.store import attempts, operations, plans, removals
from node_agent.store.errors import StoreBroken, StoreClosed
from node_agent.store.transaction import Transaction
from node_agent.task_end import cancel_all
from node_agent.turn_steps import DEV, NodeFull, Running, check_not_worn
from protocol.attempt_requests import ExecutionReply
from protocol.entities import Attempt, Execution, OperationRecord
from protocol.errors import SkepError
from protocol.states import AttemptPhase, ExecutionKind, ExecutionStatus

LOG: Final = logging.getLogger(__name__)
#: Scripts of all attempts that may run at a time: they take no slot, but are processes as well.
SCRIPTS_MAX: Final = 32
#: How long a worktree is kept that was made again for a script of an ended attempt.
HOLD_MS: Final = 24 * 3600 * 1000
#: Where an attempt is while its worktree is another's to write to.
_AT_WORK: Final = frozenset(AttemptPhase) - {AttemptPhase.ENDED}
_NOT_YET: Final = frozenset({AttemptPhase.CREATED, AttemptPhase.PREPARING})


class WantedScript(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: `script` for a shell, or `argv`; `name` is what people call it."""

    name: str
    script: str | None = None
    argv: list[str] = []
    stdin: bytes = b""
    environment: dict[str, str] = {}


class ScriptRuns:
    """The scripts this process runs."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._runs: dict[str, tuple[str, ExecutionRun]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    def take(self, context: RunContext) -> None:
        """Begin scripts in other surroundings from now on."""
        self._context = context

    async def start(
        self, attempt_id: str, wanted: WantedScript, record: OperationRecord, body_hash: str
    ) -> ExecutionReply:
        """Begin a script in the attempt's worktree, made again if need be.

        The key, the record of the execution and this answer are one commit. Raises Running,
        SessionLost and what git says.
        """
        context = self._context
        await context.database.read(check_may_begin, attempt_id, wanted.name)
        attempt = await context.database.read(attempts.get, attempt_id)
        repository = await repository_of(context.database, attempt)
        execution_id = new_id()
        # The lock is held until the execution is recorded: from then on no removal takes the
        # worktree away.
        async with worktree_lock(attempt_id):
            worktree = await self._worktree(repository, attempt)
            what = await self._wanted(wanted, execution_id, attempt, repository, worktree)
            execution = new_execution(
                context, attempt_id, execution_id, what, head=await worktree.commit_of("HEAD")
            )
            reply, begun = await context.database.write(
                _begin, execution, wanted.name, record, body_hash
            )
        failpoint("node.script.recorded")
        if begun:
            self._carry(attempt, execution, what)
        return reply

    async def stop(self, attempt_id: str, grace_s: float | None) -> None:
        """Ask an attempt's scripts to stop."""
        for owner, run in list(self._runs.values()):
            if owner == attempt_id:
                await run.stop(grace_s)

    async def resume_all(self) -> list[asyncio.Event]:
        """Take up the scripts another process began; return what is set as each fate is known."""
        found = await self._context.database.read(attempts.running_executions)
        events = []
        for execution in found:
            if execution.kind is ExecutionKind.SCRIPT:
                attempt = await self._context.database.read(attempts.get, execution.attempt_id)
                events.append(self._carry(attempt, execution, None))
        return events

    async def close(self) -> None:
        """Let go of all scripts. Their processes go on; the next start takes them up."""
        self._closing = True
        await cancel_all(list(self._tasks.values()))

    async def wait_ended(self, execution_id: str) -> None:
        """Wait until a script that this process carries on has ended."""
        task = self._tasks.get(execution_id)
        if task is not None:
            await asyncio.wait([task])

    # --- inside -------------------------------------------------------------------------------

    def _carry(
        self, attempt: Attempt, execution: Execution, wanted: Wanted | None
    ) -> asyncio.Event:
        settled = asyncio.Event()
        run = ExecutionRun(
            self._context, attempt, head=lambda: self._head(attempt), settled=settled.set
        )
        if self._closing:
            settled.set()
            return settled
        self._runs[execution.id] = (attempt.id, run)
        self._tasks[execution.id] = asyncio.create_task(
            self._run(run, execution, wanted, settled), name=f"script {execution.id}"
        )
        return settled

    async def _run(
        self, run: ExecutionRun, execution: Execution, wanted: Wanted | None, settled: asyncio.Event
    ) -> None:
        try:
            done = await (
                run.resume(execution) if wanted is None else run.launch(execution, wanted)
            )
            LOG.info("script %s of %s: %s", execution.script, execution.attempt_id, done.status)
        except (StoreBroken, StoreClosed):
            # This process is about to end; the next one takes the script up.
            LOG.exception("script %s is left where it stands", execution.id)
        except Exception:
            # Recorded as running: nothing of it may be left that nobody follows.
            LOG.exception("script %s cannot be carried on", execution.id)
            await self._abandon(run, execution)
        finally:
            settled.set()
            self._runs.pop(execution.id, None)
            self._tasks.pop(execution.id, None)

    async def _abandon(self, run: ExecutionRun, execution: Execution) -> None:
        try:
            await run.abandon(execution)
        except (SkepError, OSError):
            # It stands as running, and the next start of the node agent looks again.
            LOG.exception("script %s cannot be ended", execution.id)

    async def _worktree(self, repository: Repository, attempt: Attempt) -> Worktree:
        if attempt.phase in _AT_WORK:
            # Its own run sees to the worktree.
            found = await find_worktree(repository, self._context.worktrees_dir, attempt.id)
            if found is not None:
                return found
        return await worktree_again(
            self._context, repository, attempt.id, hold_until_ms=now_ms() + HOLD_MS
        )

    async def _wanted(
        self,
        wanted: WantedScript,
        execution_id: str,
        attempt: Attempt,
        repository: Repository,
        worktree: Worktree,
    ) -> Wanted:
        context = self._context
        identity = await commit_identity(
            repository, setting=context.git_identity, node_name=context.node_name
        )
        plan = await context.database.read(plans.get, attempt.id)
        environment = environment_of(
            context.environment,
            attempt,
            node_id=context.node_id,
            execution_id=execution_id,
            identity=identity.environment,
            requested=plan.request.environment | wanted.environment,
        )
        return Wanted(
            kind=ExecutionKind.SCRIPT,
            name=wanted.name,
            argv=wanted.argv,
            cwd=worktree.path,
            environment=environment,
            stdin=wanted.stdin,
            script=wanted.script,
        )

    async def _head(self, attempt: Attempt) -> str | None:
        try:
            repository = await repository_of(self._context.database, attempt)
            worktree = await find_worktree(repository, self._context.worktrees_dir, attempt.id)
            return None if worktree is None else await worktree.commit_of("HEAD")
        except (SkepError, OSError) as error:
            LOG.warning("the head of %s cannot be read: %s", attempt.id, error)
            return None


async def check_may_begin(tx: Transaction, attempt_id: str, name: str) -> None:
    """Raise Running where the worktree has no room for this script now, NodeFull beyond the bound.

    And CONFLICT for an attempt that has run all that it may.

    One script at a time; beside a turn only `dev`, which is made to run beside others.
    """
    attempt = await attempts.get(tx, attempt_id)
    await check_not_worn(tx, attempt)
    if attempt.phase in _NOT_YET:
        raise Running("the attempt's preparation", hint="Ask again when its agent runs.")
    if attempt.phase in _AT_WORK and name != DEV:
        raise Running("a turn", hint="Wait until the attempt has ended, interrupt it or stop it.")
    for one in await attempts.running_of(tx, attempt_id):
        if one.kind is ExecutionKind.SCRIPT and (one.script == name or name != DEV != one.script):
            raise Running(
                f"the script {one.script}", hint="Wait until it has ended, or stop the attempt."
            )
    everywhere = await attempts.running_executions(tx)
    if sum(one.kind is ExecutionKind.SCRIPT for one in everywhere) >= SCRIPTS_MAX:
        raise NodeFull(SCRIPTS_MAX)


async def _begin(
    tx: Transaction, execution: Execution, name: str, record: OperationRecord, body_hash: str
) -> tuple[ExecutionReply, bool]:
    before = await operations.answered_before(tx, record, body_hash)
    if before is not None:
        return msgspec.msgpack.decode(before, type=ExecutionReply), False
    await check_may_begin(tx, execution.attempt_id, name)
    await removals.forget(tx, execution.attempt_id)
    assert execution.status is ExecutionStatus.RUNNING  # noqa: S101  as new ones are
    await record_begin(tx, execution)
    reply = ExecutionReply(execution=execution)
    await operations.answer(tx, record, body_hash, msgspec.msgpack.encode(reply))
    return reply, True
