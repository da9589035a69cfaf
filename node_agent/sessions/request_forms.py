"""A filled form against the JSON Schema it was asked with. Pure.

As far as agents ask by forms: one object of plain values. Known words: type, properties, required,
additionalProperties (false), enum, const, oneOf and anyOf of constants, items, minItems, maxItems,
uniqueItems, minLength, maxLength, pattern, minimum, maximum, exclusiveMinimum, exclusiveMaximum,
and the formats email, uri, date and date-time. Other words are left to the agent.
"""

import datetime as dt
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from protocol.errors import ErrorCode, OperationError

_DEPTH_MAX: Final = 8
_PATTERN_CHARACTERS_MAX: Final = 200
_TEXT_FOR_PATTERN_MAX: Final = 256
#: Parts of a pattern that may match more or less of a text: each multiplies the ways to try.
_OPEN_REPEAT: Final = re.compile(r"[*+]|\{\d*,\d*\}")
_OPEN_REPEATS_MAX: Final = 2
_OPTIONAL_PARTS_MAX: Final = 8


class FormInvalid(OperationError):  # noqa: N818  named as its code is
    """A value does not fit its place in the form; `field` names the place."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(
            ErrorCode.INVALID,
            f"{field}: {message}",
            hint="The request's `form` says what each field takes.",
            field=field,
        )


def check_form(schema: Mapping[str, Any], filled: Mapping[str, Any]) -> None:
    """Raise FormInvalid where a filled form is not what was asked for."""
    _check_object(schema, filled, "form", 0)


def _check(schema: Any, value: Any, field: str, depth: int) -> None:
    if not isinstance(schema, Mapping):
        return
    if depth > _DEPTH_MAX:
        raise FormInvalid(field, "the form is nested too deeply to be checked")
    kinds = schema.get("type")
    if kinds is not None:
        named = kinds if isinstance(kinds, list) else [kinds]
        if not any(_TYPES.get(kind, _anything)(value) for kind in named):
            raise FormInvalid(field, f"it is to be of type {' or '.join(map(str, named))}")
    allowed = _constants(schema)
    if allowed is not None and not any(_same(value, one) for one in allowed):
        shown = ", ".join(str(one) for one in allowed[:20])
        raise FormInvalid(field, f"it is to be one of: {shown}")
    if isinstance(value, str):
        _check_text(schema, value, field)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        _check_number(schema, value, field)
    elif isinstance(value, list):
        _check_list(schema, value, field, depth)
    elif isinstance(value, dict):
        _check_object(schema, value, field, depth)


def _check_object(
    schema: Mapping[str, Any], value: Mapping[str, Any], field: str, depth: int
) -> None:
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    for name in _list_of(schema.get("required")):
        if name not in value:
            raise FormInvalid(f"{field}.{name}", "it is missing")
    for name, one in value.items():
        if name in properties:
            _check(properties[name], one, f"{field}.{name}", depth + 1)
        elif schema.get("additionalProperties") is False or (properties and depth == 0):
            raise FormInvalid(f"{field}.{name}", "the form has no such field")


def _check_text(schema: Mapping[str, Any], value: str, field: str) -> None:
    least, most = _number_of(schema, "minLength"), _number_of(schema, "maxLength")
    if least is not None and len(value) < least:
        raise FormInvalid(field, f"it has fewer than {least:g} characters")
    if most is not None and len(value) > most:
        raise FormInvalid(field, f"it has more than {most:g} characters")
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and not _matches(pattern, value):
        raise FormInvalid(field, f"it does not match {pattern[:80]}")
    check = _FORMATS.get(str(schema.get("format")))
    if check is not None and not check(value):
        raise FormInvalid(field, f"it is no {schema['format']}")


def _matches(pattern: str, value: str) -> bool:
    """Whether a text matches; a pattern that could take long is left to the agent."""
    short = len(pattern) <= _PATTERN_CHARACTERS_MAX and len(value) <= _TEXT_FOR_PATTERN_MAX
    few = (
        len(_OPEN_REPEAT.findall(pattern)) <= _OPEN_REPEATS_MAX
        and pattern.count("?") <= _OPTIONAL_PARTS_MAX
    )
    # A repeat of a repeat, or of a choice, can take for ever in this engine; so can many in a row.
    if not (short and few) or re.search(r"[*+}]\)?[*+{]|\)[*+{]", pattern):
        return True
    try:
        return re.search(pattern, value) is not None
    except (re.error, RecursionError):
        return True


def _check_number(schema: Mapping[str, Any], value: float, field: str) -> None:
    for word, is_wrong, says in _BOUNDS:
        bound = _number_of(schema, word)
        if bound is not None and is_wrong(value, bound):
            raise FormInvalid(field, f"it is {says} {bound:g}")


def _check_list(schema: Mapping[str, Any], value: list[Any], field: str, depth: int) -> None:
    least, most = _number_of(schema, "minItems"), _number_of(schema, "maxItems")
    if least is not None and len(value) < least:
        raise FormInvalid(field, f"it names fewer than {least:g}")
    if most is not None and len(value) > most:
        raise FormInvalid(field, f"it names more than {most:g}")
    if schema.get("uniqueItems") is True and any(
        _same(one, other) for at, one in enumerate(value) for other in value[:at]
    ):
        raise FormInvalid(field, "it names one thing twice")
    for at, one in enumerate(value):
        _check(schema.get("items"), one, f"{field}.{at}", depth + 1)


def _constants(schema: Mapping[str, Any]) -> list[Any] | None:
    """Return the values that are allowed; None where they are not listed."""
    if "const" in schema:
        return [schema["const"]]
    if isinstance(schema.get("enum"), list):
        return list(schema["enum"])
    for word in ("oneOf", "anyOf"):
        choices = schema.get(word)
        if isinstance(choices, list) and all(
            isinstance(one, Mapping) and "const" in one for one in choices
        ):
            return [one["const"] for one in choices]
    return None


def _same(one: Any, other: Any) -> bool:
    # In Python a true is a one; in JSON it is not.
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _list_of(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _number_of(schema: Mapping[str, Any], word: str) -> float | None:
    value = schema.get(word)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _anything(_: Any) -> bool:
    return True


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and (
        isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    )


_TYPES: Final[dict[Any, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_whole,
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


_BOUNDS: Final[tuple[tuple[str, Callable[[float, float], bool], str], ...]] = (
    ("minimum", operator.lt, "less than"),
    ("maximum", operator.gt, "more than"),
    ("exclusiveMinimum", operator.le, "not more than"),
    ("exclusiveMaximum", operator.ge, "not less than"),
)


def _is_uri(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return bool(parts.scheme) and bool(parts.netloc or parts.path)


def _is_date(value: str) -> bool:
    try:
        dt.date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_date_time(value: str) -> bool:
    try:
        dt.datetime.fromisoformat(value)
    except ValueError:
        return False
    return "T" in value.upper()


_FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "email": lambda value: re.fullmatch(r"[^@\s]+@[^@\s]+", value) is not None,
    "uri": _is_uri,
    "date": _is_date,
    "date-time": _is_date_time,
}
