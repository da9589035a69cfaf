"""At the start, before anything is reported: what became of the attempts this node was running.

Each is taken up where it stands; the call returns once the fate of every process is known. Must
not start anything that was not recorded as wanted.
"""

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from node_agent.attempt_runner import AttemptRunner
from node_agent.execution_run import begun_in, record_begin, remove_run_folder
from node_agent.executors import executor_named
from node_agent.log_ends import say_log_end_again
from node_agent.run_context import RunContext, when_there_is_room
from node_agent.store import attempts
from node_agent.store.transaction import Transaction
from protocol.entities import Execution
from protocol.states import AttemptPhase, ExecutionKind, ExecutionStatus

LOG: Final = logging.getLogger(__name__)
#: A process whose fate is not known by then is reported as it was recorded, and looked at on.
SETTLE_S_MAX: Final = 60.0
#: In which phases an attempt would begin an execution of this kind.
_BEGINS_IN: Final = {
    ExecutionKind.SETUP: frozenset({AttemptPhase.CREATED, AttemptPhase.PREPARING}),
    ExecutionKind.AGENT: frozenset(
        {AttemptPhase.CREATED, AttemptPhase.PREPARING, AttemptPhase.RUNNING}
    ),
    ExecutionKind.CLEANUP: frozenset({AttemptPhase.FINISHING}),
}


class Recovered(NamedTuple):
    """What was found: attempts taken up, logs closed, and run folders removed."""

    attempts: int
    logs_closed: int
    folders_removed: int


async def recover(context: RunContext, runner: AttemptRunner) -> Recovered:
    """Take up every attempt that has not ended, and every script that runs."""
    await _take_back(context)
    unended = await context.database.read(attempts.unended)
    runs = [runner.resume(attempt.id) for attempt in unended]
    settled = [*(run.settled for run in runs), *await runner.scripts.resume_all()]
    waiting = [asyncio.ensure_future(event.wait()) for event in settled]
    if waiting:
        _, late = await asyncio.wait(waiting, timeout=SETTLE_S_MAX)
        for waiter in late:
            waiter.cancel()
        if late:
            LOG.warning("%d attempts and scripts are still being looked at", len(late))
    closed = await _close_orphaned_logs(context)
    removed = await _remove_left_folders(context)
    if runs:
        LOG.info("attempts taken up: %d", len(runs))
    return Recovered(len(runs), closed, removed)


async def _take_back(context: RunContext) -> None:
    """Record again what began and is not known: the state was restored from a copy of before.

    Else the attempt would begin it a second time, perhaps beside the first.
    """
    names = await asyncio.to_thread(_folder_names, context.runs_dir)
    for name, known in (await context.database.read(_executions, names)).items():
        begun = None if known is not None else begun_in(context.run_folder(name))
        if begun is not None and await context.keep(_record_again, begun):
            LOG.warning("%s is taken up again; its record was lost", context.run_folder(name))


async def _record_again(tx: Transaction, begun: Execution) -> bool:
    attempt = await attempts.find(tx, begun.attempt_id)
    if attempt is None or attempt.phase not in _BEGINS_IN.get(begun.kind, ()):
        return False
    # What was said with an agent is gone with the record of it.
    if executor_named(attempt.executor).converses or await attempts.running_of(tx, attempt.id):
        return False
    await record_begin(tx, begun)
    return True


async def _close_orphaned_logs(context: RunContext) -> int:
    """Close the logs that no execution will ever write to: the state was restored from a copy.

    Of those that are closed, say the end anew where they were renumbered and it was not said.
    """
    closed = 0
    for state in await context.chunks.logs_to_name():
        execution = await context.database.read(attempts.find_execution, state.execution_id)
        if execution is not None and execution.status is ExecutionStatus.RUNNING:
            continue
        log = await context.chunks.log(state.execution_id)
        if log is not None and log.closed:
            await say_log_end_again(context.database, context.chunks, state.execution_id)
        elif log is not None:
            await when_there_is_room(partial(context.chunks.close_log, state.execution_id))
            closed += 1
    return closed


async def _remove_left_folders(context: RunContext) -> int:
    """Remove the run folders of executions whose end is recorded."""
    names = await asyncio.to_thread(_folder_names, context.runs_dir)
    found = await context.database.read(_executions, names)
    removed = 0
    for name, execution in found.items():
        # One that nobody knows may hold the only copy of its output: a person has to look.
        if execution is not None and execution.status is not ExecutionStatus.RUNNING:
            await asyncio.to_thread(remove_run_folder, context.run_folder(name))
            removed += 1
        elif execution is None:
            LOG.warning("%s belongs to no execution this node knows", context.run_folder(name))
    return removed


def _folder_names(runs_dir: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in runs_dir.iterdir() if entry.is_dir())
    except FileNotFoundError:
        return []


async def _executions(tx: Transaction, names: list[str]) -> dict[str, Execution | None]:
    return {name: await attempts.find_execution(tx, name) for name in names}
