"""The table of cases: for each operation what is asked, and how it is seen that it happened.

A case takes an attempt, asks, and looks. Two cases of one operation have a variant in their names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.end_to_end.matrix.cell import Cell

Run = Callable[[Cell], None]


@dataclass(frozen=True)
class Case:
    """One way to use one operation."""

    operation: str
    variant: str
    run: Run

    @property
    def name(self) -> str:
        return f"{self.operation} {self.variant}".strip()


CASES: Final[list[Case]] = []


def case(operation: str, variant: str = "") -> Callable[[Run], Run]:
    """Put a function into the table."""

    def put(run: Run) -> Run:
        CASES.append(Case(operation, variant, run))
        return run

    return put
