"""How long a project lets an agent be silent before it is stopped: the setting, as people write it.

Pure. Without the setting no agent is stopped for its silence; when one is silent is its node's to
say.
"""

from typing import Any

from protocol.errors import ErrorCode, OperationError
from protocol.limits import SILENCE_STOP_S_MAX, SILENCE_STOP_S_MIN

_FIELD = "policies.silence_stop_s"


def silence_stop_s_of_settings(policies: dict[str, Any]) -> float | None:
    """Return the limit in a project's `policies`: its key `silence_stop_s`. None there: never.

    Raises OperationError naming the field where it cannot be used.
    """
    value = policies.get("silence_stop_s")
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not SILENCE_STOP_S_MIN <= value <= SILENCE_STOP_S_MAX:
        raise OperationError(
            ErrorCode.INVALID,
            f"{_FIELD} is a number of seconds from {SILENCE_STOP_S_MIN:g} to"
            f" {SILENCE_STOP_S_MAX:g}, not {str(value)[:60]!r}",
            hint="Leave it out, and a silent agent is told of and never stopped.",
            field=_FIELD,
        )
    return float(value)
