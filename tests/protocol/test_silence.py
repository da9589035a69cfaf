"""A project's limit of an agent's silence, as people write it."""

import pytest

from protocol.errors import ErrorCode, OperationError
from protocol.silence import silence_stop_s_of_settings


def test_a_limit():
    """A number of seconds; without one no agent is stopped."""
    assert silence_stop_s_of_settings({"silence_stop_s": 1800}) == 1800.0
    assert silence_stop_s_of_settings({"silence_stop_s": 1.0}) == 1.0
    assert silence_stop_s_of_settings({}) is None
    assert silence_stop_s_of_settings({"silence_stop_s": None}) is None


@pytest.mark.parametrize("value", [0, -1, 0.5, True, "60", [], 10**9, float("nan"), float("inf")])
def test_what_is_no_limit(value: object):
    """It is refused with the field, never taken for another."""
    with pytest.raises(OperationError) as caught:
        silence_stop_s_of_settings({"silence_stop_s": value})
    assert (caught.value.code, caught.value.details["field"]) == (
        ErrorCode.INVALID,
        "policies.silence_stop_s",
    )
