"""The hive's time goes on, whatever happens to this machine's wall clock."""

from node_agent.hive_clock import HiveClock


def test_the_hives_word_is_carried_on():
    """Before it, the wall clock is all there is; after it, that may jump as it likes."""
    steady, wall = [100.0], [5_000_000.0]
    clock = HiveClock(lambda: steady[0], lambda: wall[0])
    assert clock.now_s() == 5_000_000.0
    clock.heard(1_000_000_000)
    assert clock.now_s() == 1_000_000.0
    steady[0] += 30
    wall[0] -= 86_400
    assert clock.now_s() == 1_000_030.0
    clock.heard(1_000_031_000)
    assert clock.now_s() == 1_000_031.0


def test_the_clock_runs():
    """By default it is a clock of the system's that goes forward."""
    clock = HiveClock()
    clock.heard(1_000)
    assert clock.now_s() >= 1.0
