"""A command is for the run its caller saw: the first, that one, and no other."""

import pytest

from node_agent.operations.expectations import check_expected_execution
from protocol.errors import ErrorCode, OperationError


@pytest.mark.parametrize(
    ("expected", "runs"),
    [(None, ["e1", "e2"]), ("", []), ("", ["e1"]), ("e1", ["e1"]), ("e2", ["e1", "e2"])],
)
def test_it_is_the_run_that_was_meant(expected: str | None, runs: list[str]) -> None:
    """Not said, or the newest, or the first where none had begun yet."""
    check_expected_execution(expected, runs)


@pytest.mark.parametrize(
    ("expected", "runs"), [("", ["e1", "e2"]), ("e1", ["e1", "e2"]), ("e9", ["e1"])]
)
def test_it_is_another_run(expected: str, runs: list[str]) -> None:
    """A run that began since is another; the error names it."""
    with pytest.raises(OperationError) as caught:
        check_expected_execution(expected, runs)
    assert caught.value.code is ErrorCode.EXPECTED_EXECUTION_MOVED
    assert caught.value.details["execution_id"] == runs[-1]
