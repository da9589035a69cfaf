"""What is wrong with a value that was sent, in words that name its field. Pure."""

import re
from typing import Final, NamedTuple

import msgspec

#: Where msgspec says what is wrong: `... - at `$.field``.
_PLACE: Final = re.compile(r" - at `\$\.?(.*?)`$")
_MISSING: Final = re.compile(r"missing required field `(.+?)`")
_UNKNOWN: Final = re.compile(r"contains unknown field `(.+?)`")


class WrongField(NamedTuple):
    """The field at fault, empty where it is the whole, and a message that names it."""

    field: str
    message: str


def wrong_field(error: msgspec.ValidationError, within: str = "") -> WrongField:
    """Return which field of a value is wrong, and how; `within` names the field that holds it."""
    text = str(error)
    found = _PLACE.search(text)
    place = _within(within, found[1]) if found and found[1] else within
    message = _PLACE.sub("", text)
    if missing := _MISSING.search(message):
        field = _within(place, missing[1])
        return WrongField(field, f"{field} is needed")
    if unknown := _UNKNOWN.search(message):
        field = _within(place, unknown[1])
        return WrongField(field, f"there is no field {field}")
    if place:
        message = f"{place}: {message[:1].lower()}{message[1:]}"
    return WrongField(place, message)


def _within(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
