"""Variables in a task's text, `$NAME` or `${NAME}`: of the task, its parents, its project. Pure.

What is nearer wins. A value is put in as it is: nothing in it is looked at again, so a value can
neither call another nor itself. `$$` is one dollar. Must not read rows; and secrets have no place
here, since what is put in goes into records and logs.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from protocol.errors import ErrorCode, OperationError

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
#: Variables of one task or project, and the bytes of a value.
VARIABLES_MAX: Final = 100
VALUE_BYTES_MAX: Final = 8 * 1024
#: A text with its variables put in: a task's prompt has to pass as a request.
TEXT_BYTES_MAX: Final = 128 * 1024
#: A task that would have more parents is refused; a longer line of them is a mistake.
PARENTS_MAX: Final = 32
#: Parents whose variables hold: more than that, since with a task move all that stand below it.
PARENTS_READ_MAX: Final = 1024

_USE: Final = re.compile(
    rf"\$(?:(?P<dollar>\$)|\{{(?P<braced>{NAME.pattern})\}}|(?P<plain>{NAME.pattern}))", re.ASCII
)


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """A variable as a task has it. `from_kind`: task, parent or project."""

    name: str
    value: str
    from_kind: str
    from_id: str


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """Where variables are set: a task, one of its parents, or its project."""

    kind: str
    id: str
    variables: Mapping[str, str]


class Expanded(msgspec.Struct, frozen=True, kw_only=True):
    """A text with its variables put in; what is not defined stands as it was."""

    text: str
    undefined: list[str]


def inherited(levels: Sequence[Level]) -> list[Variable]:
    """Return the variables that hold, by name; `levels` from the task outwards."""
    found: dict[str, Variable] = {}
    for level in levels:
        for name, value in level.variables.items():
            found.setdefault(
                name, Variable(name=name, value=value, from_kind=level.kind, from_id=level.id)
            )
    return [found[name] for name in sorted(found)]


def expand(text: str, variables: Sequence[Variable], field: str) -> Expanded:
    """Put the variables into a text. Raises INVALID where it grows beyond `TEXT_BYTES_MAX`."""
    values = {variable.name: variable.value for variable in variables}
    sizes = {name: len(value.encode()) for name, value in values.items()}
    undefined: dict[str, None] = {}
    bytes_max = max(TEXT_BYTES_MAX, len(text.encode()))
    put_in_bytes = 0

    def put_in(match: re.Match[str]) -> str:
        nonlocal put_in_bytes
        if match["dollar"]:
            return "$"
        name = match["braced"] or match["plain"]
        if name in values:
            put_in_bytes += sizes[name]
            # Before it is made: a text of many uses could grow to thousands of times its size.
            if put_in_bytes > bytes_max:
                raise _too_long(field)
            return values[name]
        undefined[name] = None
        return match[0]

    expanded = _USE.sub(put_in, text)
    if len(expanded.encode()) > bytes_max:
        raise _too_long(field)
    return Expanded(text=expanded, undefined=list(undefined))


def _too_long(field: str) -> OperationError:
    return OperationError(
        ErrorCode.INVALID,
        f"{field}: with its variables put in, it has more than {TEXT_BYTES_MAX} bytes",
        hint="Put long text into a file of the repository, and name the file.",
        field=field,
    )


def check(variables: Mapping[str, str]) -> None:
    """Raise INVALID, naming the field, where a name or a value cannot be one."""
    if len(variables) > VARIABLES_MAX:
        raise _invalid("variables", f"at most {VARIABLES_MAX}")
    for name, value in variables.items():
        field = f"variables.{name[:64]}"
        if NAME.fullmatch(name) is None:
            raise _invalid(field, "a name has letters, digits and underscores, and no digit first")
        if not isinstance(value, str) or len(value.encode("utf-8", "replace")) > VALUE_BYTES_MAX:
            raise _invalid(field, f"its value is a text of at most {VALUE_BYTES_MAX} bytes")
        if "\0" in value:
            raise _invalid(field, "its value cannot hold a NUL")


def _invalid(field: str, rule: str) -> OperationError:
    return OperationError(ErrorCode.INVALID, f"{field}: {rule}", field=field)
