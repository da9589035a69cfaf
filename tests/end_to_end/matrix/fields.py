"""Which fields the matrix has: every case by every way, and every case in every kind of repository.

Also what is not offered by a way, and where a refusal is what has to come.
"""

from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

from protocol.errors import ErrorCode
from protocol.operations import OPERATIONS
from tests.end_to_end.matrix import branch_cases, life_cases, reading_cases
from tests.end_to_end.matrix.cases import CASES, Case
from tests.end_to_end.matrix.repositories import KINDS, ODD, UNBORN, Kind
from tests.end_to_end.matrix.ways import WAYS, HiveCommand, Way

#: The modules whose import fills the table of cases.
TABLES: Final = (branch_cases, life_cases, reading_cases)
#: Rows that other tests hold, by every way: name them here, or they fail the matrix. What an agent
#: asks, and what a conversation is called, has nothing to do with its repository: `test_requests`,
#: `test_conversations`, and of the direct way `test_direct`.
HELD_ELSEWHERE: Final = frozenset({"answer", "rename_session"})
#: What a way does not offer, and why.
NOT_OFFERED: Final = {
    ("start", "direct"): "a capability is for an attempt, and a start makes one",
    ("start", "node to node"): "a start is asked of the hive, or of the node itself",
    ("start", "by task"): "it is by task wherever it is asked of the hive",
    ("log", "by task"): "a log is an execution's",
}
_E = ErrorCode
#: Where an operation has to be refused, with which code, and nothing may have changed.
REFUSED: Final[dict[tuple[str, str], ErrorCode]] = {
    ("start", "unborn"): _E.NO_COMMITS,
    ("merge", "conflicting"): _E.CONFLICTS,
    ("rebase", "conflicting"): _E.CONFLICTS,
    ("merge", "rebase in progress"): _E.REBASE_IN_PROGRESS,
    ("push", "rebase in progress"): _E.REBASE_IN_PROGRESS,
    ("rebase", "rebase in progress"): _E.REBASE_IN_PROGRESS,
    ("rename_branch", "rebase in progress"): _E.REBASE_IN_PROGRESS,
    ("stash", "rebase in progress"): _E.REBASE_IN_PROGRESS,
    ("stash_pop", "rebase in progress"): _E.REBASE_IN_PROGRESS,
    ("create_pr", "rebase in progress"): _E.REBASE_IN_PROGRESS,
    ("rebase", "dirty"): _E.CHECKOUT_DIRTY,
    ("rebase", "detached"): _E.CONFLICT,
    ("merge", "target dirty"): _E.CHECKOUT_DIRTY,
}
#: Cases whose requests name files.
PATHS_NAMED: Final = frozenset({"read_file", "diff of one file", "list_files"})
#: Refusals that leave the worktree where a person goes on.
LEFT_OPEN: Final = frozenset({("rebase", "conflicting")})


@dataclass(frozen=True)
class Field:
    """One case, in one kind of repository, by one way."""

    case: Case
    kind: Kind
    way: Way

    @property
    def name(self) -> str:
        return f"{self.kind.name}: {self.case.name}, {self.way.name}".replace(" ", "_")

    @property
    def refused(self) -> ErrorCode | None:
        return REFUSED.get((self.case.operation, self.kind.name))

    @property
    def left_open(self) -> bool:
        return (self.case.operation, self.kind.name) in LEFT_OPEN


def offered(case: Case) -> list[Way]:
    """The ways that offer a case's operation."""
    return [way for way in WAYS if (case.operation, way.name) not in NOT_OFFERED]


def all_fields() -> list[Field]:
    """Every field, kind by kind, so that those of one kind run together.

    Beyond the plain repository the ways take turns. A command costs a process of Python's, so that
    its turn comes less often.
    """
    plain, *others = KINDS
    rounds = [way for way in WAYS for _ in range(1 if isinstance(way, HiveCommand) else 3)]
    cases = sorted(CASES, key=lambda case: list(OPERATIONS).index(case.operation))
    found = [Field(case, plain, way) for case in cases for way in offered(case)]
    for number, kind in enumerate(others):
        for place, case in enumerate(cases):
            turns = islice(cycle(rounds), place + number, None)
            found.append(Field(case, kind, next(way for way in turns if way in offered(case))))
        # What names files by their paths, by every way that has to carry such names.
        if kind is ODD:
            named = [case for case in cases if case.name in PATHS_NAMED]
            found += [Field(case, kind, way) for case in named for way in offered(case)]
    starts = [case for case in cases if case.operation == "start"]
    found += [Field(case, UNBORN, way) for case in starts for way in offered(case)]
    return list(dict.fromkeys(found))
