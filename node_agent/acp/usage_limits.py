"""How agents say that a usage limit was reached, and until when. Pure: it knows no time of day.

Each agent has words and fields of its own for it; one that says it in none of these ways is
believed to have failed for another reason, which is told in its own words.
"""

import re
from datetime import datetime
from typing import Any, Final

import msgspec

from node_agent.acp.reset_times import WallTime, wall_time_in
from node_agent.acp.wire import RpcError, mapping_in, text_in

#: Claude's `errorKind`, Codex's `codexErrorInfo`, what other agents put in their error's data.
_KINDS: Final = frozenset({
    "rate_limit", "usage_limit", "usage_limit_exceeded", "usagelimitexceeded",
    "usage_limit_reached",
    "quota_exhausted", "quotaexhausted", "quota_exceeded", "rate_limit_exceeded",
    "ratelimitexceeded", "insufficient_quota", "resource_exhausted",
})  # fmt: skip
_WORDS: Final = re.compile(
    r"(?:usage|session|weekly|hourly|daily|request|rate|opus|sonnet|5-hour) limit"
    r"(?:s)?(?: was| has been| is)? (?:reached|exceeded|hit)"
    r"|(?:hit|reached|exceeded) (?:your|the|its) (?:[\w-]+ )?limit"
    r"|limit reached\b|out of (?:extra )?(?:usage|credits)"
    r"|(?:exceeded|exhausted) your (?:current |daily |monthly )?(?:quota|capacity)"
    r"|quota (?:exceeded|exhausted)"
    r"|RESOURCE_EXHAUSTED|too many requests",
    re.IGNORECASE,
)
_RESET_NAMES: Final = frozenset({"resetsat", "resetat", "resettime", "resetsatms", "resetatms"})
_DELAY_NAMES: Final = frozenset({"resetsinseconds", "resetafterseconds", "retryafter",
                                 "retryafterseconds", "retrydelay"})  # fmt: skip
_STAMP_IN_TEXT: Final = re.compile(r"\|\s*(\d{10}(?:\d{3})?)\b")
_ISO_IN_TEXT: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)"
)
_DELAY_IN_TEXT: Final = re.compile(
    r"(?:again|reset(?:s|ting)?|retry|available)(?: \w+)? (?:in|after) "
    r"((?:\d+(?:\.\d+)?\s*(?:days?|d|hours?|hrs?|hr|h|minutes?|mins?|min|m|seconds?|secs?|sec|s)"
    r"(?:\b|(?=\d))[\s,]*(?:and\s+)?)+)",
    re.IGNORECASE,
)
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([dhms])", re.IGNORECASE)
_UNIT_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}
_TEXT_READ_MAX: Final = 8000
_DEPTH_MAX: Final = 6
_SECONDS_MIN, _SECONDS_MAX = 1_000_000_000, 10_000_000_000


class UsageLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that was reached: when it ends, how long after this was said, or by which clock."""

    reset_at_ms: int | None = None
    reset_after_ms: int | None = None
    reset_by_clock: WallTime | None = None


def usage_limit_in(error: RpcError) -> UsageLimit | None:
    """Return the usage limit that an agent's error speaks of, or None."""
    text = error.message[:_TEXT_READ_MAX]
    fields = list(_fields(error.data))
    texts = [text, *(value[:_TEXT_READ_MAX] for _, value in fields if isinstance(value, str))]
    kinds = {value.lower() for _, value in fields if isinstance(value, str)}
    if not kinds & _KINDS and not any(_WORDS.search(one) for one in texts):
        return None
    reset_at_ms = next(filter(None, (_moment(name, value) for name, value in fields)), None)
    reset_after_ms = next(filter(None, (_delay(name, value) for name, value in fields)), None)
    by_clock = None
    for one in texts:
        reset_at_ms = reset_at_ms or _moment_in_text(one)
        reset_after_ms = reset_after_ms or _delay_in_text(one)
        by_clock = by_clock or wall_time_in(one)
    return UsageLimit(
        reset_at_ms=reset_at_ms, reset_after_ms=reset_after_ms, reset_by_clock=by_clock
    )


def reset_told(update: dict[str, Any]) -> int | None:
    """Return when a limit ends that Claude says it was stopped by, in passing."""
    limit = mapping_in(mapping_in(update, "_meta"), "_claude/rateLimit")
    if text_in(limit, "status") != "rejected":
        return None
    return _moment("resetsAt", limit.get("resetsAt"))


def _fields(value: Any, depth: int = 0) -> list[tuple[str, Any]]:
    """Return each named value in an error's data, however deep within reason."""
    if depth > _DEPTH_MAX:
        return []
    found: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        for name, one in list(value.items())[:64]:
            found.append((str(name), one))
            found += _fields(one, depth + 1)
    elif isinstance(value, list):
        for one in value[:64]:
            found += _fields(one, depth + 1)
    elif depth == 0 and isinstance(value, str):
        found.append(("", value))
    return found


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _moment(name: str, value: Any) -> int | None:
    if _plain(name) not in _RESET_NAMES:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _stamp_ms(value)
    if isinstance(value, str):
        return _stamp_ms(int(value)) if value.isdecimal() and len(value) < 16 else _iso_ms(value)
    return None


def _delay(name: str, value: Any) -> int | None:
    if _plain(name) not in _DELAY_NAMES:
        return None
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}(?:\.\d+)?s?", value):
        value = float(value.removesuffix("s"))
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**9:
        return None
    return int(value * 1000)


def _stamp_ms(value: float) -> int | None:
    if _SECONDS_MIN <= value < _SECONDS_MAX:
        return int(value * 1000)
    return int(value) if _SECONDS_MIN * 1000 <= value < _SECONDS_MAX * 1000 else None


def _iso_ms(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    # A time without its zone could be any of a day's: it is not guessed.
    return None if moment.tzinfo is None else int(moment.timestamp() * 1000)


def _moment_in_text(text: str) -> int | None:
    if stamp := _STAMP_IN_TEXT.search(text):
        return _stamp_ms(int(stamp[1]))
    found = _ISO_IN_TEXT.search(text)
    return None if found is None else _iso_ms(found[0])


def _delay_in_text(text: str) -> int | None:
    found = _DELAY_IN_TEXT.search(text)
    if found is None:
        return None
    parts = _PART.findall(found[1])
    return int(sum(float(number) * _UNIT_MS[unit.lower()] for number, unit in parts)) or None
