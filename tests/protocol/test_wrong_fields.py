"""What is wrong with what was sent names the field."""

from typing import Annotated, Any, Literal

import msgspec
import pytest

from protocol.states import ExecutionStatus
from protocol.wrong_fields import WrongField, choices_of, wrong_field


class _Item(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    size: Annotated[int, msgspec.Meta(le=100)] = 0
    outcome: ExecutionStatus | msgspec.UnsetType | None = msgspec.UNSET


class _Asked(msgspec.Struct):
    items: list[_Item] = []
    kind: Literal["a", "b"] = "a"


@pytest.mark.parametrize(
    ("sent", "wrong"),
    [
        ({"items": 7}, WrongField("items", "items: expected `array`, got `int`")),
        ({"items": [{}]}, WrongField("items[0].id", "items[0].id is needed")),
        (
            {"items": [{"id": "a", "size": 500}]},
            WrongField("items[0].size", "items[0].size: expected `int` <= 100"),
        ),
        (
            {"items": [{"id": "a", "sise": 1}]},
            WrongField("items[0].sise", "there is no field items[0].sise"),
        ),
        ({"kind": "c"}, WrongField("kind", "kind: 'c' is none of its values")),
        ({"kind": "c" * 999}, WrongField("kind", f"kind: '{'c' * 99}...' is none of its values")),
        (7, WrongField("", "Expected `object`, got `int`")),
    ],
)
def test_the_field_is_named(sent: Any, wrong: WrongField):
    """Where it is nested, with the way to it."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(sent, _Asked)
    assert wrong_field(caught.value) == wrong


@pytest.mark.parametrize(
    ("sent", "field"),
    [({"items": [{}]}, "asked.items[0].id"), (7, "asked"), ({"items": 7}, "asked.items")],
)
def test_the_way_begins_where_the_value_stands(sent: Any, field: str):
    """A value that is itself a field of another is named with it."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(sent, _Asked)
    wrong = wrong_field(caught.value, "asked")
    assert wrong.field == field
    assert field in wrong.message


def test_the_choices_of_a_field():
    """Also where it is nested, or may be left out; of any other there are none."""
    assert choices_of(_Asked, "kind") == ["a", "b"]
    assert choices_of(_Asked, "items[12].outcome") == [str(one) for one in ExecutionStatus]
    for field in ("", "items", "items[0]", "items[0].id", "items[0].none", "none", "kind.a"):
        assert choices_of(_Asked, field) == [], field
