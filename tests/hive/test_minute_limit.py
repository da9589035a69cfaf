"""Guessing is slowed down, by address; success is not."""

import pytest

from hive.minute_limit import MinuteLimit
from protocol.errors import ErrorCode, SkepError


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_after_so_many_failures_an_address_has_to_wait():
    """The limit is for one address and one minute, and says how long to wait."""
    clock = Clock()
    limit = MinuteLimit("failures", 3, clock)
    for _ in range(3):
        limit.check("10.0.0.1")
        limit.count("10.0.0.1")
        clock.now += 5
    with pytest.raises(SkepError) as caught:
        limit.check("10.0.0.1")
    assert caught.value.code is ErrorCode.SLOW_DOWN
    assert 40 <= caught.value.details["retry_after_s"] <= 46
    limit.check("10.0.0.2")
    clock.now += 46
    limit.check("10.0.0.1")


def test_success_is_not_counted():
    """Whoever does not fail may go on for ever."""
    limit = MinuteLimit("failures", 1, Clock())
    for _ in range(100):
        limit.check("10.0.0.1")
