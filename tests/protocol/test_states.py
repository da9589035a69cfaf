"""The tables of states hold together."""

import enum
from collections.abc import Mapping
from typing import Any

import pytest

from protocol import states
from protocol.states import AttemptOutcome, AttemptPhase, ExecutionStatus, TaskStatus, may_follow

TABLES: list[tuple[type[enum.StrEnum], Mapping[Any, frozenset[Any]], enum.StrEnum]] = [
    (AttemptPhase, states.ATTEMPT_TRANSITIONS, AttemptPhase.CREATED),
    (ExecutionStatus, states.EXECUTION_TRANSITIONS, ExecutionStatus.RUNNING),
    (TaskStatus, states.TASK_TRANSITIONS, TaskStatus.DRAFT),
    (states.DeferredStatus, states.DEFERRED_TRANSITIONS, states.DeferredStatus.WAITING),
]


@pytest.mark.parametrize(("kind", "table", "first"), TABLES)
def test_each_state_has_its_row_and_can_be_reached(
    kind: type[enum.StrEnum], table: Mapping[Any, frozenset[Any]], first: enum.StrEnum
) -> None:
    """A state without a row, or one that nothing leads to, is a mistake in the table."""
    assert set(table) == set(kind)
    reached, rest = {first}, [first]
    while rest:
        found = table[rest.pop()] - reached
        reached |= found
        rest.extend(found)
    assert reached == set(kind)


@pytest.mark.parametrize(("kind", "table", "first"), TABLES)
def test_staying_is_allowed(
    kind: type[enum.StrEnum], table: Mapping[Any, frozenset[Any]], first: enum.StrEnum
) -> None:
    """Saying a state again is no change, also where nothing may follow it."""
    assert all(may_follow(table, state, state) for state in kind)


def test_an_attempt_ends_through_finishing_only() -> None:
    """No attempt ends without its leftovers being looked after."""
    before = {p for p in AttemptPhase if AttemptPhase.ENDED in states.ATTEMPT_TRANSITIONS[p]}
    assert before == {AttemptPhase.FINISHING}
    assert not may_follow(states.ATTEMPT_TRANSITIONS, AttemptPhase.RUNNING, AttemptPhase.CREATED)


def test_an_ended_execution_stays_as_it_is() -> None:
    """An execution ends once."""
    ended = set(ExecutionStatus) - {ExecutionStatus.RUNNING}
    assert all(not states.EXECUTION_TRANSITIONS[status] for status in ended)


def test_each_outcome_moves_its_task() -> None:
    """What an outcome makes of a task may follow a task that is in progress."""
    assert set(states.TASK_AFTER) == set(AttemptOutcome)
    for status in states.TASK_AFTER.values():
        assert may_follow(states.TASK_TRANSITIONS, TaskStatus.IN_PROGRESS, status)
