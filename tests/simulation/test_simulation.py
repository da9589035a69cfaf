"""Thousands of seeded histories keep every promise, and meet every kind of fault."""

import pytest

from tests.simulation.regressions import REGRESSIONS
from tests.simulation.run import run
from tests.simulation.world import EVENTS_MIN, KINDS, MET

HISTORIES = 5_000
#: Spread over several tests, so that two workers share them.
SPAN = 500


@pytest.mark.parametrize("first", range(0, HISTORIES, SPAN))
def test_histories_keep_every_promise(first: int):
    """No history loses, repeats, invents or forgets anything, and each comes to rest in 60 s."""
    figures = run(range(first, first + SPAN))
    print(*figures.lines(), sep="\n")
    assert not figures.broken, "\n".join(figures.lines())
    assert figures.events / figures.histories >= EVENTS_MIN
    rare = [kind for kind in (*KINDS, *MET) if figures.faults[kind] < SPAN / 100]
    assert not rare, f"hardly met: {rare}"


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_what_failed_once_holds(seed: int):
    """A history that broke a promise before keeps it now."""
    figures = run([seed])
    assert not figures.broken, "\n".join(figures.lines())
