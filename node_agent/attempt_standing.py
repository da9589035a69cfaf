"""Where an attempt stands: all that the next step of its way is chosen by, read at one moment.

Must not choose the step: `attempt_run` does.
"""

from typing import NamedTuple

from node_agent.executors import executor_named
from node_agent.executors.adapter import Wish
from node_agent.store import attempts, plans, turns
from node_agent.store.plans import Plan
from node_agent.store.transaction import Transaction
from node_agent.store.turns import BegunTurn
from protocol.entities import Attempt, Execution
from protocol.states import ExecutionKind, ExecutionStatus


class Standing(NamedTuple):
    """Where an attempt stands: all a round needs to know."""

    attempt: Attempt
    plan: Plan
    executions: list[Execution]
    turn: BegunTurn | None

    @property
    def converses(self) -> bool:
        """Whether the attempt's agent is spoken to, turn after turn."""
        return executor_named(self.attempt.executor).converses

    @property
    def wants_setup(self) -> bool:
        """Whether its setup is to run: an agent whose record was lost, and is back, had it."""
        begun = any(one.kind is ExecutionKind.AGENT for one in self.of_turn)
        return bool(self.plan.request.setup_script) and not begun

    @property
    def waits(self) -> bool:
        """Whether the turn waits for a usage limit to end, in no process."""
        if self.turn is None or not self.turn.is_parked or self.turn.execution_id is not None:
            return False
        return not any(is_under_way(one) for one in self.executions)

    @property
    def of_turn(self) -> list[Execution]:
        """The executions of the turn that runs, or ran last, and what has not ended before it."""
        before = 0 if self.turn is None else self.turn.executions_before
        ours = set(self.attempt.executions[before:])
        return [one for one in self.executions if one.id in ours or is_under_way(one)]

    @property
    def wish(self) -> Wish:
        """What the turn asks of the executor: without a command of its own, the attempt's."""
        request = self.plan.request
        turn = None if self.turn is None else self.turn.turn
        # What was asked for at the start was for the agent of the start.
        as_started = self.attempt.profile == request.profile
        return Wish(
            command=(turn and turn.command) or request.command,
            prompt=request.prompt if turn is None else turn.prompt,
            profile=self.attempt.profile,
            model=request.model if as_started else None,
            mode=request.mode if as_started else None,
        )


def is_under_way(execution: Execution) -> bool:
    """Whether a step of the attempt's own has not ended; scripts that were asked for are none."""
    scripts = execution.kind is ExecutionKind.SCRIPT
    return execution.status is ExecutionStatus.RUNNING and not scripts


async def standing_of(tx: Transaction, attempt_id: str) -> Standing:
    """Return where an attempt stands now."""
    attempt = await attempts.get(tx, attempt_id)
    return Standing(
        attempt,
        await plans.get(tx, attempt_id),
        await attempts.executions_of(tx, attempt_id),
        await turns.current(tx, attempt_id),
    )
