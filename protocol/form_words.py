"""A form that an agent asks with, in words: a line for each field. Pure.

For people at a command line; what it does not know of a JSON Schema it leaves out.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

_CHOICES_SHOWN_MAX: Final = 20
_BOUNDS: Final = (
    ("minimum", "at least {}"),
    ("maximum", "at most {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("pattern", "like {}"),
)


def form_lines(form: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a form asks, a field a line: its name, what it takes, what it is for."""
    fields = form.get("properties")
    needed = form.get("required")
    for name, field in fields.items() if isinstance(fields, Mapping) else ():
        if not isinstance(field, Mapping):
            continue
        words = [_kind(field)]
        if isinstance(needed, list) and name in needed:
            words.append("needed")
        for word, says in _BOUNDS:
            if isinstance(field.get(word), int | float | str):
                words.append(says.format(field[word]))
        about = field.get("description") or field.get("title")
        told = f" - {about}" if isinstance(about, str) and about else ""
        yield f"{name}: {', '.join(words)}{told}"


def _kind(field: Mapping[str, Any]) -> str:
    """Return what a field takes: one of these, some of these, or a value of its type."""
    items = field.get("items")
    some = field.get("type") == "array" and isinstance(items, Mapping)
    choices = _choices(items if some and isinstance(items, Mapping) else field)
    if choices:
        listed = ", ".join(choices[:_CHOICES_SHOWN_MAX])
        more = ", ..." if len(choices) > _CHOICES_SHOWN_MAX else ""
        return f"{'some' if some else 'one'} of {listed}{more}"
    kind = field.get("type")
    return kind if isinstance(kind, str) else "any value"


def _choices(field: Mapping[str, Any]) -> list[str]:
    plain = field.get("enum")
    if isinstance(plain, list):
        return [str(one) for one in plain]
    for word in ("oneOf", "anyOf"):
        titled = field.get(word)
        if isinstance(titled, list) and titled:
            found = [one for one in titled if isinstance(one, Mapping) and "const" in one]
            if len(found) == len(titled):
                return [_titled(one) for one in found]
    return []


def _titled(choice: Mapping[str, Any]) -> str:
    value, title = str(choice["const"]), choice.get("title")
    return value if title in (None, "", value) else f"{value} ({title})"
