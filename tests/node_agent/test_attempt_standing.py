"""Whether an attempt's turn waits, and which processes its next step has to do with."""

import msgspec

from node_agent.attempt_standing import Standing
from node_agent.executors.adapter import Wish
from node_agent.store.plans import Plan
from node_agent.store.turns import BegunTurn, Shown
from protocol.attempt_requests import StartRequest
from protocol.entities import Attempt, Execution
from protocol.states import AttemptPhase, ExecutionKind, ExecutionStatus
from protocol.turn_requests import Turn, TurnStatus

ATTEMPT = Attempt(
    id="a",
    task_id="t",
    task_title="T",
    checkout_id="c",
    project_identity="p",
    project_name="P",
    executor="acp",
    branch="b",
    phase=AttemptPhase.RUNNING,
    executions=["first", "second"],
)


def execution(name: str, status: ExecutionStatus, kind: str = "agent") -> Execution:
    """One of its executions."""
    return Execution(id=name, attempt_id="a", kind=ExecutionKind(kind), status=status)


def standing(
    *executions: Execution, until_ms: int | None = 1, of: str | None = None, before: int = 2
) -> Standing:
    """An attempt whose turn is parked, unless told otherwise, with these processes."""
    turn = Turn(id="turn", attempt_id="a", status=TurnStatus.RUNNING, parked_until_ms=until_ms)
    begun = BegunTurn(turn, before, False, Shown(), [], of, False, None, False)
    plan = Plan(StartRequest(), None, None, None, None)
    return Standing(ATTEMPT, plan, list(executions), begun)


def test_a_turn_waits_in_no_process() -> None:
    """Parked, taken from its agent, and nothing of the attempt's own under way."""
    ended = execution("first", ExecutionStatus.SUCCEEDED)
    assert standing(ended).waits
    assert standing(ended, execution("dev", ExecutionStatus.RUNNING, "script")).waits
    assert not standing(ended, until_ms=None).waits
    assert not standing(ended, of="first").waits
    assert not standing(execution("first", ExecutionStatus.RUNNING)).waits


def test_what_has_not_ended_is_seen_to_first() -> None:
    """A process that was the turn's before it was parked is taken up, if its end is not known."""
    ended = execution("first", ExecutionStatus.SUCCEEDED)
    left = execution("second", ExecutionStatus.RUNNING)
    assert standing(ended, left).of_turn == [left]
    assert standing(ended).of_turn == []
    assert standing(ended, before=0).of_turn == [ended]


def test_what_a_turn_asks_of_the_executor() -> None:
    """Its own prompt; model and mode of the start only where the agent is that of the start."""
    request = StartRequest(command="make", prompt="begin", profile="one", model="m", mode="plan")
    plan = Plan(request, None, None, None, None)
    turn = Turn(id="turn", attempt_id="a", status=TurnStatus.RUNNING, prompt="go on")
    begun = BegunTurn(turn, 2, False, Shown(), [], None, False, None, False)
    one = msgspec.structs.replace(ATTEMPT, profile="one")
    wish = Standing(one, plan, [], begun).wish
    assert wish == Wish(command="make", prompt="go on", profile="one", model="m", mode="plan")
    assert Standing(one, plan, [], None).wish.prompt == "begin"
    other = msgspec.structs.replace(ATTEMPT, profile="two")
    wish = Standing(other, plan, [], begun).wish
    assert wish == Wish(command="make", prompt="go on", profile="two", model=None, mode=None)
