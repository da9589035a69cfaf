"""What the ends of executions make of an attempt."""

import pytest

from node_agent.attempt_outcome import NEVER_STARTED, last_of, reason_of, verdict_of
from protocol.entities import Execution
from protocol.states import ExecutionKind, ExecutionStatus


def ended(kind: str, status: str, **fields: object) -> Execution:
    """An execution that ended so."""
    return Execution(
        id=f"{kind}-{status}",
        attempt_id="a",
        kind=ExecutionKind(kind),
        status=ExecutionStatus(status),
        **fields,
    )


SETUP = ended("setup", "succeeded", exit_code=0)
AGENT = ended("agent", "succeeded", exit_code=0)
NEVER = ended("agent", "lost", reason=NEVER_STARTED)


@pytest.mark.parametrize(
    ("executions", "outcome", "reason"),
    [
        ([SETUP, AGENT], "succeeded", None),
        ([AGENT], "succeeded", None),
        ([NEVER, AGENT], "succeeded", None),
        ([], "failed", "the agent was never started"),
        ([NEVER], "failed", "the agent was never started"),
        ([ended("agent", "failed", exit_code=3)], "failed", "exit_code 3"),
        ([ended("agent", "killed", signal=9)], "failed", "signal 9"),
        (
            [ended("agent", "failed", reason="not started: no such")],
            "failed",
            "not started: no such",
        ),
        ([ended("agent", "lost", reason="no_exit_record")], "lost", "no_exit_record"),
        ([ended("setup", "failed", exit_code=1)], "failed", "setup: exit_code 1"),
        ([ended("setup", "lost")], "lost", "setup: no_exit_record"),
        ([AGENT, ended("cleanup", "failed", exit_code=1)], "succeeded", None),
    ],
)
def test_the_verdict(executions: list[Execution], outcome: str, reason: str | None):
    """Setup and agent decide, each with its reason; cleanup does not."""
    assert verdict_of(executions, stop_asked=False) == (outcome, reason)


@pytest.mark.parametrize("executions", [[], [AGENT], [ended("agent", "killed", signal=2)]])
def test_a_stop_is_a_stop(executions: list[Execution]):
    """However its processes took it."""
    assert verdict_of(executions, stop_asked=True) == ("stopped", None)


def test_a_start_that_did_not_happen_is_not_the_last_one():
    """The execution that took its place is, or none."""
    assert last_of([NEVER], ExecutionKind.AGENT) is None
    assert last_of([AGENT, NEVER], ExecutionKind.AGENT) == AGENT
    assert last_of([SETUP], ExecutionKind.AGENT) is None


def test_reasons():
    """The recorded reason comes before signal and exit code."""
    assert reason_of(ended("agent", "killed", signal=15)) == "signal 15"
    assert reason_of(ended("agent", "failed", exit_code=2, reason="why")) == "why"
