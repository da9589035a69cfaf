"""Whole numbers that wire and stores can hold; others are found before anything is done.

JSON knows no bound, msgpack and SQLite do. Must not know what a number means.
"""

from typing import Any, Final

import msgspec

WHOLE_NUMBER_MIN: Final = -(2**63)
WHOLE_NUMBER_MAX: Final = 2**63 - 1


def field_out_of_range(request: msgspec.Struct) -> str:
    """Return the name of the first field with a number that cannot be held, or nothing."""
    for field in msgspec.structs.fields(type(request)):
        if not _holds(getattr(request, field.name)):
            return field.encode_name
    return ""


def _holds(value: Any) -> bool:
    if isinstance(value, int):
        return WHOLE_NUMBER_MIN <= value <= WHOLE_NUMBER_MAX
    if isinstance(value, msgspec.Struct):
        return not field_out_of_range(value)
    if isinstance(value, dict):
        return all(_holds(item) for item in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return all(_holds(item) for item in value)
    return True
