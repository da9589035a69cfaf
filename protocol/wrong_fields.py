"""What is wrong with a value that was sent, in words that name its field. Pure."""

import re
from typing import Final, NamedTuple

import msgspec

#: Where msgspec says what is wrong: `... - at `$.field``.
_PLACE: Final = re.compile(r" - at `\$\.?(.*?)`$")
_MISSING: Final = re.compile(r"missing required field `(.+?)`")
_UNKNOWN: Final = re.compile(r"contains unknown field `(.+?)`")
_NO_CHOICE: Final = re.compile(r"[Ii]nvalid enum value (.*)", re.DOTALL)
#: What was sent is told again no longer than this.
_VALUE_CHARACTERS_MAX: Final = 100


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
    if wrong := _NO_CHOICE.fullmatch(message):
        value = wrong[1]
        if len(value) > _VALUE_CHARACTERS_MAX:
            value = f"{value[:_VALUE_CHARACTERS_MAX]}...'"
        message = f"{value} is none of its values"
    if place:
        message = f"{place}: {message[:1].lower()}{message[1:]}"
    return WrongField(place, message)


def _within(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def choices_of(kind: type[msgspec.Struct], field: str) -> list[str]:
    """Return the words a field may hold, where it holds one of a few; `field` as told above."""
    types = [msgspec.inspect.type_info(kind)]
    for step in re.findall(r"\[[^\]]*\]|[^.\[\]]+", field):
        types = [inner for one in types for inner in _inside(one, step)]
    words: list[str] = []
    for one in types:
        if isinstance(one, msgspec.inspect.EnumType):
            words += [str(member.value) for member in one.cls]
        elif isinstance(one, msgspec.inspect.LiteralType):
            words += [str(value) for value in one.values]
    return words


def _inside(kind: msgspec.inspect.Type, step: str) -> list[msgspec.inspect.Type]:
    """The types that a step leads to: the items of a list for `[0]`, else a field of that name."""
    if step.startswith("["):
        return _members(kind.item_type) if isinstance(kind, msgspec.inspect.ListType) else []
    if not isinstance(kind, msgspec.inspect.StructType):
        return []
    return [
        one for field in kind.fields if field.encode_name == step for one in _members(field.type)
    ]


def _members(kind: msgspec.inspect.Type) -> list[msgspec.inspect.Type]:
    """A type, or those of a union; without what is said about them."""
    if isinstance(kind, msgspec.inspect.Metadata):
        return _members(kind.type)
    if isinstance(kind, msgspec.inspect.UnionType):
        return [inner for one in kind.types for inner in _members(one)]
    return [kind]
