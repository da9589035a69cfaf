"""Each mutant breaks one rule, and some history within a thousand finds it out."""

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.run import run

HISTORIES_MAX = 1_000


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_found_out(name: str):
    """The world is unkind enough, and the judge looks closely enough, to see that it is broken."""
    figures = run(range(HISTORIES_MAX), MUTANTS[name], broken_max=1)
    print(*figures.lines(), sep="\n")
    assert figures.broken, f"{name!r} survived {figures.histories} histories"
