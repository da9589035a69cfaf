"""The attempts of this node: starting them, stopping them, and the tasks that carry them on.

Owns the slots and who works on which attempt. Must not know how an attempt's steps are done
(`attempt_run`), nor ask whether the caller may: that is settled before.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from node_agent.attempt_run import AttemptRun
from node_agent.attempt_worktree import check_can_go_on, repository_of
from node_agent.execution_environment import check_environment, secrets_in
from node_agent.executors.adapter import Wish
from node_agent.failpoints import failpoint
from node_agent.git.refs import attempt_branch, check_ref_name
from node_agent.git.repository import default_branch, open_repository, resolve_base
from node_agent.git.worktrees import check_root
from node_agent.launch_check import check_launch, executor_of
from node_agent.log_ends import say_log_end_again
from node_agent.run_context import RunContext
from node_agent.script_runs import ScriptRuns
from node_agent.sessions.follow_ups import images_of
from node_agent.sessions.parking import hurry
from node_agent.sessions.shown_text import ShownText
from node_agent.stamps import new_id, now_ms
from node_agent.store import attempts, checkouts, operations, plans, tasks, turns
from node_agent.store.contract import LogGrew
from node_agent.store.requests import RequestChanged
from node_agent.store.transaction import Transaction
from node_agent.store.turns import Shown
from node_agent.task_end import cancel_all
from node_agent.turn_steps import (
    NodeFull,
    Wanted,
    ask_interrupt,
    ask_stop,
    done_record,
    take_follow_up,
)
from node_agent.upkeep import DiskFull, check_room
from protocol.attempt_requests import AttemptReply, StartRequest
from protocol.entities import Attempt, Checkout, LocalTask, OperationRecord
from protocol.errors import ErrorCode, OperationError, SkepError
from protocol.states import AttemptPhase
from protocol.turn_requests import FollowUpRequest, GoOnRequest, InterruptRequest, Turn, TurnStatus

LOG: Final = logging.getLogger(__name__)
#: What of a task's text travels with its attempt; the rest stands where the task does.
TITLE_CHARACTERS_MAX: Final = 300
DESCRIPTION_BYTES_MAX: Final = 32 * 1024
#: Pauses between tries to carry an attempt on; after the last it waits for the next start.
_AGAIN_S: Final = (5.0, 15.0, 60.0, 300.0, 300.0, 300.0)
_SCRIPT_BYTES_MAX: Final = 256 * 1024
_PROMPT_BYTES_MAX: Final = 4 * 1024 * 1024


class StartKey(NamedTuple):
    """The idempotency key a start was asked under, the hash of what was asked, and by whom."""

    key: str
    body_hash: str
    actor: str
    #: Of one that waited at the hive: the newest run of the agent that its author saw.
    asked_for: str | None = None


class AttemptRunner:
    """Starts and carries on the attempts of this node."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._runs: dict[str, AttemptRun] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: Attempts that went on while the run of their last turn was about to let go of them.
        self._again: set[str] = set()
        self.scripts = ScriptRuns(context)
        self._closing = False
        self._upkeep: set[asyncio.Task[None]] = set()
        self._stop_listening = [
            context.chunks.listen(self._log_grew),
            context.database.listen(self._heard),
        ]

    # --- for callers --------------------------------------------------------------------------

    async def start(
        self, request: StartRequest, key: StartKey, *, fence: str | None = None
    ) -> AttemptReply:
        """Begin an attempt; it, its task, the key and this answer are one commit.

        Raises NoCheckout, ExecutorUnavailable, NodeFull, DiskFull, NoCommits, BranchMissing and
        INVALID before anything of the attempt exists.
        """
        executor = check_launch(
            request,
            Wish(
                command=request.command,
                prompt=request.prompt,
                profile=request.profile,
                model=request.model,
                mode=request.mode,
            ),
            self._context,
        )
        if executor.converses and request.prompt is None:
            request = msgspec.structs.replace(request, prompt=_task_text(request))
        _check_sizes(request)
        check_environment(request.environment)
        await self._check_room()
        checkout = await self._checkout(request)
        attempt = await self._planned(request, checkout, key.key, fence)
        reply, begun = await self._context.database.write(
            _begin,
            attempt,
            request,
            shown_prompt(self._context, request.prompt, request.environment),
            key,
            self._context.slots,
        )
        failpoint("node.start.committed")
        if begun:
            self.resume(attempt.id)
        return reply

    async def stop(self, attempt_id: str, grace_s: float | None = None) -> AttemptReply:
        """Ask an attempt to stop; one that has ended is answered as it is."""
        attempt = await self._context.database.write(ask_stop, attempt_id, grace_s)
        failpoint("node.stop.recorded")
        run = self._runs.get(attempt_id)
        if run is not None and attempt.phase is not AttemptPhase.ENDED:
            await run.stop(grace_s)
        await self.scripts.stop(attempt_id, grace_s)
        return AttemptReply(attempt=attempt)

    async def follow_up(self, attempt_id: str, request: FollowUpRequest, key: StartKey) -> Turn:
        """Begin another turn, or queue it behind the one that runs; with its key, in one commit.

        Raises ExecutorUnavailable, INVALID, NoCheckout, SessionLost, NodeFull and Running.
        """
        attempt, plan = await self._context.database.read(_with_plan, attempt_id)
        converses = executor_of(plan.request, self._context).converses
        if converses and request.profile and plan.request.command is not None:
            raise OperationError(
                ErrorCode.NOT_AVAILABLE,
                "the agent of this attempt is run by its command line, not by a profile",
                hint="Leave the profile out; for another agent start another attempt.",
                field="profile",
            )
        wish = Wish(
            command=request.command or plan.request.command,
            prompt=request.prompt,
            profile=request.profile or attempt.profile,
        )
        check_launch(plan.request, wish, self._context)
        await self._check_room()
        if attempt.phase is AttemptPhase.ENDED:
            repository = await repository_of(self._context.database, attempt)
            await check_can_go_on(self._context, repository, attempt)
        turn = Turn(
            id=new_id(),
            attempt_id=attempt_id,
            status=TurnStatus.QUEUED,
            command=request.command,
            prompt=request.prompt,
            profile=request.profile,
            author=key.actor,
            created_at_ms=now_ms(),
        )
        record = done_record("follow_up", key.key, attempt_id, key.actor, head=attempt.head_commit)
        taken = await self._context.database.write(
            take_follow_up,
            Wanted(
                turn,
                self._shown(request.prompt, plan),
                images_of(request),
                forks=request.from_turn is not None,
                steers=request.steer,
                asked_for=key.asked_for,
                session_id=request.session,
            ),
            record,
            key.body_hash,
            self._context.slots,
        )
        failpoint("node.follow_up.committed")
        self.resume(attempt_id).wake()
        return taken

    async def shown_prompts(
        self, attempt_id: str, prompts: Mapping[str, str | None]
    ) -> dict[str, Shown]:
        """Return these prompts of an attempt's turns as they may be shown, where they are given."""
        _, plan = await self._context.database.read(_with_plan, attempt_id)
        return {
            turn_id: self._shown(prompt, plan)
            for turn_id, prompt in prompts.items()
            if prompt is not None
        }

    def _shown(self, prompt: str | None, plan: plans.Plan) -> Shown:
        return shown_prompt(self._context, prompt, plan.request.environment)

    async def interrupt(self, attempt_id: str, request: InterruptRequest, key: StartKey) -> Turn:
        """Interrupt the turn that runs. Raises NO_TURN."""
        record = done_record("interrupt", key.key, attempt_id, key.actor)
        turn = await self._context.database.write(
            ask_interrupt, attempt_id, request.turn, record, key.body_hash
        )
        failpoint("node.interrupt.recorded")
        run = self._runs.get(attempt_id)
        if run is not None:
            await run.interrupt(turn.id)
        return turn

    async def go_on(self, attempt_id: str, request: GoOnRequest, key: StartKey) -> Turn:
        """Go on now with the turn that waits for a usage limit. Raises NO_TURN."""
        record = done_record("go_on", key.key, attempt_id, key.actor)
        turn = await self._context.database.write(
            hurry, attempt_id, request.turn, record, key.body_hash, self._context.clock()
        )
        run = self._runs.get(attempt_id)
        if run is not None:
            run.wake()
        return turn

    def resume(self, attempt_id: str) -> AttemptRun:
        """Carry an attempt on from what is recorded of it."""
        run = AttemptRun(self._context, attempt_id)
        if attempt_id in self._runs:
            self._again.add(attempt_id)
        if self._closing or attempt_id in self._runs:
            return self._runs.get(attempt_id, run)
        self._runs[attempt_id] = run
        self._tasks[attempt_id] = asyncio.create_task(
            self._carry(run), name=f"attempt {attempt_id}"
        )
        return run

    async def wait_ended(self, attempt_id: str) -> Attempt:
        """Wait until an attempt that this process carries on has ended; return it."""
        while (task := self._tasks.get(attempt_id)) is not None:
            await asyncio.wait([task])
        return await self._context.database.read(attempts.get, attempt_id)

    async def busy_slots(self) -> int:
        """Return how many slots are taken."""
        return await self._context.database.read(attempts.busy_slots)

    def take(self, context: RunContext) -> None:
        """Begin attempts in other surroundings from now on: a new name of the node, other slots."""
        self._context = context
        self.scripts.take(context)

    @property
    def slots(self) -> int:
        return self._context.slots

    async def close(self) -> None:
        """Let go of all attempts. Their processes go on; the next start takes them up."""
        self._closing = True
        for stop_listening in self._stop_listening:
            stop_listening()
        await cancel_all([*self._tasks.values(), *self._upkeep])
        await self.scripts.close()

    # --- inside -------------------------------------------------------------------------------

    async def _carry(self, run: AttemptRun) -> None:
        try:
            for pause_s in _AGAIN_S:
                try:
                    attempt = await run.run()
                except Exception:
                    # Recorded as it stands. A supervisor out of breath may answer later on.
                    LOG.exception("attempt %s is left where it stands", run.attempt_id)
                    await asyncio.sleep(pause_s)
                else:
                    LOG.info("attempt %s ended: %s", run.attempt_id, attempt.outcome)
                    return
        finally:
            self._runs.pop(run.attempt_id, None)
            self._tasks.pop(run.attempt_id, None)
            if run.attempt_id in self._again:
                self._again.discard(run.attempt_id)
                self.resume(run.attempt_id)

    def _heard(self, events: Sequence[object]) -> None:
        """Have agents told what became of their requests, as the store has it."""
        for event in events:
            if isinstance(event, RequestChanged) and event.attempt_id in self._runs:
                self._runs[event.attempt_id].wake()

    def _log_grew(self, grew: LogGrew) -> None:
        """Say a log's end anew where a closed log grew: it was numbered on from the hive's."""
        if grew.closed and not self._closing:
            task = asyncio.create_task(self._say_log_end_again(grew.execution_id))
            self._upkeep.add(task)
            task.add_done_callback(self._upkeep.discard)

    async def _say_log_end_again(self, execution_id: str) -> None:
        try:
            await say_log_end_again(self._context.database, self._context.chunks, execution_id)
        except SkepError as error:
            LOG.warning("the end of log %s was not said anew: %s", execution_id, error)

    async def _check_room(self) -> None:
        try:
            check_room(self._context.database.path.parent)
        except DiskFull as error:
            with contextlib.suppress(SkepError):
                await self._context.notices.tell(
                    "error", "disk_full", error.message, hint=error.hint
                )
            raise

    async def _checkout(self, request: StartRequest) -> Checkout:
        return await self._context.database.read(_find_checkout, request)

    async def _planned(
        self, request: StartRequest, checkout: Checkout, key: str, fence: str | None
    ) -> Attempt:
        """Return the attempt as it begins, with everything that can fail looked at in git."""
        repository = await open_repository(Path(checkout.path))
        await asyncio.to_thread(check_root, repository, self._context.worktrees_dir)
        base_commit = await resolve_base(repository, request.base_branch)
        if request.target_branch is not None:
            check_ref_name("target_branch", request.target_branch)
        target = request.target_branch or request.base_branch or await default_branch(repository)
        link = await self._context.database.read(checkouts.link_of, checkout.id)
        attempt_id = new_id()
        shown = ShownText([*self._context.secrets(), *secrets_in(request.environment)])
        title = shown.text(_title(request))[0][:TITLE_CHARACTERS_MAX]
        description, _ = shown.text(request.task_description)
        return Attempt(
            id=attempt_id,
            task_id=request.task_id or new_id(),
            task_title=title,
            task_description=cut_text(description, DESCRIPTION_BYTES_MAX),
            checkout_id=checkout.id,
            project_identity=checkout.identity,
            project_name=(link.project_name if link else "") or checkout.name,
            project_id=request.project_id or (link.project_id if link else None),
            executor=request.executor,
            profile=request.profile,
            branch=attempt_branch(title, attempt_id),
            target_branch=target,
            base_commit=base_commit,
            phase=AttemptPhase.CREATED,
            fence=fence,
            start_key=key,
            created_at_ms=now_ms(),
        )


async def _find_checkout(tx: Transaction, request: StartRequest) -> Checkout:
    if request.checkout_id:
        return await checkouts.resolve(tx, request.checkout_id)
    if request.project_id:
        linked = await checkouts.for_project(tx, request.project_id)
        if linked:
            return linked[0]
    if request.project:
        return await checkouts.resolve(tx, request.project)
    present = await checkouts.present(tx)
    if len(present) == 1 and not request.project_id:
        return present[0]
    raise checkouts.NoCheckout(request.project_id or "", [checkout.name for checkout in present])


async def _begin(
    tx: Transaction,
    attempt: Attempt,
    request: StartRequest,
    shown: Shown,
    key: StartKey,
    slots: int,
) -> tuple[AttemptReply, bool]:
    """Write all of a start, unless its key was answered before; say whether it was written."""
    at_ms = attempt.created_at_ms
    # Of no attempt yet: asked again, it planned another one, and is the same all the same.
    record = OperationRecord(
        key=key.key,
        operation="start",
        actor=key.actor,
        status="done",
        head_after=attempt.base_commit,
        started_at_ms=at_ms,
        ended_at_ms=at_ms,
    )
    before = await operations.answered_before(tx, record, key.body_hash)
    if before is not None:
        return msgspec.msgpack.decode(before, type=AttemptReply), False
    if await attempts.busy_slots(tx) >= slots:
        raise NodeFull(slots)
    if request.task_id is None:
        task = LocalTask(
            id=attempt.task_id,
            title=attempt.task_title,
            description=attempt.task_description,
            checkout_id=attempt.checkout_id,
            created_at_ms=at_ms,
        )
        await tasks.save(tx, task, at_ms)
    await attempts.save(tx, attempt, at_ms)
    await plans.save(tx, attempt.id, request)
    await _first_turn(tx, attempt, request, shown, key.actor)
    reply = AttemptReply(attempt=attempt)
    record = msgspec.structs.replace(record, attempt_id=attempt.id)
    await operations.answer(tx, record, key.body_hash, msgspec.msgpack.encode(reply))
    return reply, True


async def _first_turn(
    tx: Transaction, attempt: Attempt, request: StartRequest, shown: Shown, author: str
) -> None:
    turn = Turn(
        id=new_id(),
        attempt_id=attempt.id,
        status=TurnStatus.QUEUED,
        command=request.command,
        prompt=request.prompt,
        profile=request.profile,
        author=author,
        created_at_ms=attempt.created_at_ms,
    )
    await turns.add(tx, turn, shown)
    await turns.begin_next(
        tx,
        attempt.id,
        executions_before=0,
        head=attempt.base_commit,
        at_ms=attempt.created_at_ms,
    )


async def _with_plan(tx: Transaction, attempt_id: str) -> tuple[Attempt, plans.Plan]:
    return await attempts.get(tx, attempt_id), await plans.get(tx, attempt_id)


def _task_text(request: StartRequest) -> str:
    """Return what an agent is told of a task that nobody gave it a prompt for."""
    return "\n\n".join(filter(None, (request.task_title, request.task_description)))


def shown_prompt(context: RunContext, prompt: str | None, environment: Mapping[str, str]) -> Shown:
    """Return a prompt as it may be shown."""
    if not prompt:
        return Shown()
    hidden = [*context.secrets(), *secrets_in(environment)]
    return Shown(*ShownText(hidden).text(prompt))


def _title(request: StartRequest) -> str:
    for text in (request.task_title, request.prompt, request.command):
        line = (text or "").strip().partition("\n")[0].strip()
        if line:
            return line
    return "task"


def cut_text(text: str, bytes_max: int) -> str:
    """Return `text`, cut to so many bytes of UTF-8 where it is longer, which then shows."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= bytes_max:
        return encoded.decode()
    mark = " [...]"
    return encoded[: bytes_max - len(mark)].decode("utf-8", "ignore") + mark


def _check_sizes(request: StartRequest) -> None:
    for field, text, bytes_max in (
        ("setup_script", request.setup_script, _SCRIPT_BYTES_MAX),
        ("cleanup_script", request.cleanup_script, _SCRIPT_BYTES_MAX),
        ("dev_script", request.dev_script, _SCRIPT_BYTES_MAX),
        ("command", request.command, _SCRIPT_BYTES_MAX),
        ("prompt", request.prompt, _PROMPT_BYTES_MAX),
    ):
        if len((text or "").encode("utf-8", "surrogateescape")) > bytes_max:
            raise OperationError(
                ErrorCode.TOO_LARGE,
                f"{field} is longer than {bytes_max} bytes",
                hint="Put it into a file of the repository.",
                field=field,
            )
