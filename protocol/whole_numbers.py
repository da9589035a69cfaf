"""Whole numbers that wire and stores can hold; others are found before anything is done.

JSON knows no bound, msgpack and SQLite do. Must not know what a number means.
"""

from typing import Annotated, Any, Final

import msgspec

WHOLE_NUMBER_MIN: Final = -(2**63)
WHOLE_NUMBER_MAX: Final = 2**63 - 1
#: A number of a frame: msgpack carries some that no store holds, and a frame with one is none.
Whole = Annotated[int, msgspec.Meta(ge=WHOLE_NUMBER_MIN, le=WHOLE_NUMBER_MAX)]


def following(number: int) -> int:
    """Return the next number, or the greatest that can be held where that is it."""
    return min(number, WHOLE_NUMBER_MAX - 1) + 1


def field_out_of_range(request: msgspec.Struct) -> str:
    """Return the name of the first field with a number that cannot be held, or nothing."""
    for field in msgspec.structs.fields(type(request)):
        if not holds(getattr(request, field.name)):
            return field.encode_name
    return ""


def holds(value: Any) -> bool:
    """Whether every whole number in a value, however deep, is one that can be held."""
    if isinstance(value, int):
        return WHOLE_NUMBER_MIN <= value <= WHOLE_NUMBER_MAX
    if isinstance(value, msgspec.Struct):
        return not field_out_of_range(value)
    if isinstance(value, dict):
        return all(holds(item) for item in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return all(holds(item) for item in value)
    return True
