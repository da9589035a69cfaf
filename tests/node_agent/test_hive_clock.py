"""The hive's time goes on, whatever happens to this machine's wall clock."""

import pytest

from node_agent.hive_clock import HiveClock


def test_the_hives_word_is_carried_on():
    """Before it, the wall clock is all there is; after it, that may jump as it likes."""
    steady, wall = [100.0], [5_000_000.0]
    clock = HiveClock(lambda: steady[0], lambda: wall[0])
    assert clock.now_s() == 5_000_000.0
    clock.heard(1_000_000_000, asked_at_s=100.0)
    assert clock.now_s() == 1_000_000.0
    steady[0] += 30
    wall[0] -= 86_400
    assert clock.now_s() == 1_000_030.0
    clock.heard(1_000_031_000, asked_at_s=130.0)
    assert clock.now_s() == 1_000_031.0


def test_a_word_that_was_on_its_way_for_long():
    """It does not set the time back by its delay; a hive whose clock was set is believed."""
    steady = [100.0]
    clock = HiveClock(lambda: steady[0], lambda: 0.0)
    clock.heard(1_000_000_000, asked_at_s=100.0)
    steady[0] += 320
    clock.heard(1_000_020_000, asked_at_s=120.0)
    assert clock.now_s() == 1_000_320.0
    clock.heard(1_000_500_000, asked_at_s=419.0)
    assert clock.now_s() == 1_000_500.0
    steady[0] += 10
    clock.heard(1_000_100_000, asked_at_s=429.0)
    assert clock.now_s() == 1_000_101.0


def test_the_clock_runs():
    """By default it is a clock of the system's that goes forward."""
    clock = HiveClock()
    clock.heard(1_000, asked_at_s=clock.steady_s())
    assert clock.now_s() >= 1.0


def test_a_word_that_comes_late_does_not_set_the_clock_back():
    """A reply that was eight seconds under way says what it was by then at the latest."""
    steady = [100.0]
    clock = HiveClock(lambda: steady[0])
    clock.heard(1_000_000_000, asked_at_s=100.0)
    steady[0] = 128.0
    clock.heard(1_000_020_000, asked_at_s=120.0)
    assert clock.now_s() == 1_000_028.0


def test_the_hives_clock_may_be_set():
    """Back, by more than the word was under way; or on."""
    steady = [100.0]
    clock = HiveClock(lambda: steady[0])
    clock.heard(1_000_000_000, asked_at_s=100.0)
    steady[0] = 120.0
    clock.heard(999_000_000, asked_at_s=118.0)
    assert clock.now_s() == 999_002.0
    steady[0] = 140.0
    clock.heard(1_000_000_000, asked_at_s=120.0)
    assert clock.now_s() == 1_000_000.0


@pytest.mark.parametrize("delays", [(9.0, 0.1, 4.0), (0.1, 9.0, 9.0), (4.0, 4.0, 0.0)])
def test_the_clock_is_off_by_no_more_than_the_quickest_word_took(delays: tuple[float, ...]):
    """Each word bounds it from both sides, whichever way held it up."""
    for way_there in (0.0, 0.5, 1.0):
        steady = [100.0]
        clock = HiveClock(lambda steady=steady: steady[0])
        for delay in delays:
            asked_s = steady[0]
            said_ms = round((asked_s + way_there * delay) * 1000)
            steady[0] += delay
            clock.heard(said_ms, asked_at_s=asked_s)
            steady[0] += 20.0
        assert abs(clock.now_s() - steady[0]) <= min(delays) + 0.001
