"""Texts in requests that must be more than text: one line, or the name of a branch.

Must not know any route. What a node would refuse is refused here where it would be stored: else
each start would fail, for a reason that its caller did not give.
"""

from collections.abc import Mapping
from typing import Any, Final

from hive.api.decoding import InvalidInput
from protocol.branch_names import wrong_branch_name, wrong_ref_name
from protocol.one_line import is_one_line

#: Fields with the name of a branch: what may be wrong with it.
_BRANCHES: Final = {
    "base_branch": wrong_ref_name,
    "default_branch": wrong_ref_name,
    "target_branch": wrong_branch_name,
}


def check_line(field: str, text: str, *, hint: str = "") -> None:
    """Raise InvalidInput where a text is not one line that can be read."""
    if not is_one_line(text):
        raise InvalidInput(f"{field}: one line of printable characters", field=field, hint=hint)


def check_branches(given: Mapping[str, Any]) -> None:
    """Raise InvalidInput where a field with the name of a branch holds what can be none."""
    for field, wrong in _BRANCHES.items():
        name = given.get(field)
        if isinstance(name, str) and (hint := wrong(name)):
            raise InvalidInput(
                f"{field}: {name[:100]!r} cannot be used as the name of a branch",
                field=field,
                hint=hint,
            )
