"""Numbers at and beyond what can be held, wherever they stand in a request."""

from typing import Any

import msgspec
import pytest

from protocol.whole_numbers import (
    WHOLE_NUMBER_MAX,
    WHOLE_NUMBER_MIN,
    field_out_of_range,
    following,
)


class Inner(msgspec.Struct):
    """A part of a request."""

    size: int = 0


class Outer(msgspec.Struct, rename={"count": "n"}):
    """A request with all that can hold a number."""

    count: Any = None
    inner: Inner = msgspec.field(default_factory=Inner)


@pytest.mark.parametrize("number", [WHOLE_NUMBER_MIN - 1, WHOLE_NUMBER_MAX + 1, 10**30])
def test_what_cannot_be_held_is_named(number: int) -> None:
    """By the name its sender used, also where it stands deeper."""
    assert field_out_of_range(Outer(count=number)) == "n"
    assert field_out_of_range(Outer(count=[1, {"a": (number,)}])) == "n"
    assert field_out_of_range(Outer(inner=Inner(number))) == "inner"


@pytest.mark.parametrize("number", [WHOLE_NUMBER_MIN, -1, 0, True, WHOLE_NUMBER_MAX])
def test_what_can_be_held_passes(number: int) -> None:
    """The bounds themselves are in; so is all that is no whole number."""
    assert field_out_of_range(Outer(count=[number, 1e300, "9" * 99, None])) == ""
    assert field_out_of_range(Outer(inner=Inner(number))) == ""


def test_none_follows_the_greatest() -> None:
    """The next number can be held as well."""
    assert [following(n) for n in (0, WHOLE_NUMBER_MAX - 1)] == [1, WHOLE_NUMBER_MAX]
    assert following(WHOLE_NUMBER_MAX) == WHOLE_NUMBER_MAX
