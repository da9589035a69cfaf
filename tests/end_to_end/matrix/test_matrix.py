"""Every operation of the table, by every way, in every kind of repository, seen by plain git."""

import pytest

from protocol.errors import ErrorCode, SkepError
from protocol.operations import OPERATIONS
from tests.end_to_end.matrix.cases import CASES
from tests.end_to_end.matrix.cell import Cell, RefusedAsMeant
from tests.end_to_end.matrix.fields import (
    HELD_ELSEWHERE,
    LEFT_OPEN,
    NOT_OFFERED,
    REFUSED,
    Field,
    all_fields,
    offered,
)
from tests.end_to_end.matrix.installed import Installed
from tests.end_to_end.matrix.repositories import KINDS, UNBORN
from tests.end_to_end.matrix.ways import WAYS, Asked, Direct

FIELDS = all_fields()


def test_every_row_has_a_case() -> None:
    """A new operation fails here until the matrix drives it, or says who does."""
    assert {case.operation for case in CASES} | HELD_ELSEWHERE == set(OPERATIONS)
    assert not {case.operation for case in CASES} & HELD_ELSEWHERE


def test_the_matrix_is_whole() -> None:
    """Every operation goes every way that has it, meets every kind; and every kind, every way."""
    driven = {(field.case.operation, field.way.name) for field in FIELDS}
    assert driven == {(case.operation, way.name) for case in CASES for way in offered(case)}
    met = {(field.case.name, field.kind.name) for field in FIELDS if field.kind is not UNBORN}
    assert met == {(case.name, kind.name) for case in CASES for kind in KINDS}
    assert {(field.kind.name, field.way.name) for field in FIELDS} >= {
        (kind.name, way.name) for kind in KINDS for way in WAYS
    }
    kinds = {kind.name for kind in (*KINDS, UNBORN)}
    assert {operation for operation, _ in [*REFUSED, *NOT_OFFERED]} <= set(OPERATIONS)
    assert {kind for _, kind in REFUSED} <= kinds
    assert set(REFUSED) >= LEFT_OPEN


@pytest.mark.parametrize("field", FIELDS, ids=[field.name for field in FIELDS])
def test_an_operation(installed: Installed, field: Field) -> None:
    """It happens as plain git sees it; or is refused as it has to be, and nothing changed."""
    plot = installed.plot(field.kind)
    refused = frozenset({field.refused} if field.refused else ())
    cell = Cell(
        plot=plot,
        way=field.way,
        operation=field.case.operation,
        refused=refused,
        left_open=field.left_open,
    )
    whole = False
    try:
        field.case.run(cell)
        whole = not refused
    except RefusedAsMeant:
        whole = True
    finally:
        if not whole:
            # What failed half way leaves its attempt to nobody.
            plot.shared = ""
    assert whole


@pytest.mark.parametrize(
    ("operation", "named", "code"),
    [
        ("rename_branch", "branch", ErrorCode.INVALID_NAME),
        ("target_branch", "branch", ErrorCode.INVALID),
        ("rebase", "new_base", ErrorCode.INVALID),
    ],
)
def test_names_that_no_branch_may_have(
    installed: Installed, operation: str, named: str, code: ErrorCode
) -> None:
    """A name that is an option, an expression or two lines is refused before git sees it."""
    plot = installed.plot(KINDS[0])
    cell = Cell(plot=plot, way=WAYS[0], operation=operation, refused=frozenset({code}))
    cell.take()
    turned, joined = "a\u202eb", "ü\u200d"
    names = [
        "-f",
        "--force",
        "a b",
        "it's",
        "new\nline",
        turned,
        joined,
        "main^",
        "a..b",
        "HEAD@{1}",
    ]
    for number, name in enumerate(names):
        cell.way = WAYS[number % len(WAYS)]
        with pytest.raises(RefusedAsMeant):
            cell.ask(**{named: name})


def test_what_is_not_offered_is_not_there(installed: Installed) -> None:
    """The listener starts nothing; by its task a log cannot be had."""
    plot = installed.plot(KINDS[0])
    cell = Cell(plot=plot, way=WAYS[0], operation="log")
    cell.take()
    started = Asked(OPERATIONS["start"], {"command": "true"}, cell.attempt, cell.task, "")
    before = cell.seen()
    with pytest.raises(SkepError) as refused:
        Direct().ask(installed.ground, started)
    assert refused.value.code is ErrorCode.NOT_FOUND
    assert cell.seen() == before
    [execution, *_] = installed.ground.owner.attempt(cell.attempt)["executions"]
    with installed.ground.hive_client() as hive, pytest.raises(SkepError) as by_task:
        hive.get(f"tasks/{cell.task}/attempt/executions/{execution['id']}/log")
    assert by_task.value.code is ErrorCode.NOT_FOUND
