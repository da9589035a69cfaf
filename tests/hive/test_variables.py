"""Variables put into text: what is nearer wins, and what is unknown stays as it was."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive.variables import (
    TEXT_BYTES_MAX,
    VALUE_BYTES_MAX,
    VARIABLES_MAX,
    Level,
    Variable,
    check,
    expand,
    inherited,
)
from protocol.errors import OperationError


def of(**values: str) -> list[Variable]:
    """Variables of one task."""
    return inherited([Level(kind="task", id="t", variables=values)])


@pytest.mark.parametrize(
    ("text", "expected", "undefined"),
    [
        ("paint $COLOUR", "paint red", []),
        ("paint ${COLOUR}ish", "paint redish", []),
        ("$COLOURS", "$COLOURS", ["COLOURS"]),
        ("$$COLOUR costs $$5", "$COLOUR costs $5", []),
        ("$5, $(pwd), ${}, ${9}, $", "$5, $(pwd), ${}, ${9}, $", []),
        ("${MISSING} $MISSING ${OTHER}", "${MISSING} $MISSING ${OTHER}", ["MISSING", "OTHER"]),
        ("${COLOUR", "${COLOUR", []),
        ("$NESTED", "$COLOUR ${NESTED}", []),
        ("$EMPTY.", ".", []),
        ("$ÄPFEL", "$ÄPFEL", []),
    ],
)
def test_uses_are_put_in(text: str, expected: str, undefined: list[str]) -> None:
    """Both forms, a literal dollar, and what is no use of a variable at all."""
    found = expand(text, of(COLOUR="red", NESTED="$COLOUR ${NESTED}", EMPTY=""), "prompt")
    assert (found.text, found.undefined) == (expected, undefined)


@given(st.text(alphabet="ab_ \n{}()"))
def test_a_text_without_dollars_is_left_alone(text: str) -> None:
    """Nothing else means anything."""
    assert expand(text, of(a="x", b="y"), "prompt").text == text


def test_the_nearest_wins() -> None:
    """A task's own before its parent's, and that before its project's."""
    found = inherited(
        [
            Level(kind="task", id="t", variables={"A": "task"}),
            Level(kind="parent", id="p", variables={"A": "parent", "B": "parent"}),
            Level(kind="project", id="s", variables={"A": "shop", "B": "shop", "C": "shop"}),
        ]
    )
    assert [(one.name, one.value, one.from_kind, one.from_id) for one in found] == [
        ("A", "task", "task", "t"),
        ("B", "parent", "parent", "p"),
        ("C", "shop", "project", "s"),
    ]


def test_a_text_that_grows_too_long_is_refused() -> None:
    """Not cut: an agent would work on half of what was meant."""
    with pytest.raises(OperationError, match="more than") as caught:
        expand("$A" * 100, of(A="x" * (TEXT_BYTES_MAX // 100 + 1)), "prompt")
    assert caught.value.details["field"] == "prompt"
    with pytest.raises(OperationError, match="more than"):
        expand("$A " + "x" * (TEXT_BYTES_MAX - 10), of(A="y" * 13), "title")
    long = "x" * (TEXT_BYTES_MAX + 1)
    assert expand(long, [], "prompt").text == long


def test_a_text_that_would_fill_the_memory_is_never_made() -> None:
    """Tens of thousands of uses of a long value are refused at the first that is too much."""
    tracemalloc.start()
    try:
        with pytest.raises(OperationError, match="more than"):
            expand("$A" * 16_000, of(A="x" * VALUE_BYTES_MAX), "prompt")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 16 * 1024 * 1024


@pytest.mark.parametrize(
    ("variables", "field"),
    [
        ({"9A": ""}, "variables.9A"),
        ({"": ""}, "variables."),
        ({"A B": ""}, "variables.A B"),
        ({"A": "x" * 8193}, "variables.A"),
        ({"A": "\0"}, "variables.A"),
        ({f"A{n}": "" for n in range(VARIABLES_MAX + 1)}, "variables"),
    ],
)
def test_what_cannot_be_a_variable_is_refused(variables: dict[str, str], field: str) -> None:
    """The field at fault is named."""
    with pytest.raises(OperationError) as caught:
        check(variables)
    assert caught.value.details["field"] == field
