"""When a usage limit ends that an agent tells of by a clock on the wall: "3pm (Europe/Berlin)".

Only what names its zone is read: a bare time could be any of a day's. Which day is meant follows
from the moment it was said. Pure, but for the table of time zones.
"""

import datetime as dt
import re
import zoneinfo
from typing import Final

import msgspec

_MONTHS: Final = (
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
)  # fmt: skip
_CLOCK: Final = re.compile(
    r"\bresets?(?: at| on)? (?:[a-z]{3,9},? (?=[a-z]))?"
    r"(?:(?P<month>[a-z]{3})[a-z]* (?P<day>\d{1,2})(?:st|nd|rd|th)?(?:,? (?P<year>\d{4}))?"
    r"(?:,| at|, at)? )?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))? ?(?P<half>[ap])\.?m\.?"
    r" ?(?:\((?P<zone>[A-Za-z0-9_+/-]{1,64})\)"
    r"|(?P<offset>(?:UTC|GMT)(?:[+-]\d{1,2}(?::?\d\d)?)?)\b)",
    re.IGNORECASE,
)
_OFFSET: Final = re.compile(r"(?:UTC|GMT)(?:([+-])(\d{1,2})(?::?(\d\d))?)?", re.IGNORECASE)
#: What was said so shortly after the time it names is about that time, not about tomorrow's: agents
#: round their times, and a limit that has ended is told for a moment longer.
_PASSED_S_MAX: Final = 30 * 60
_DAY: Final = dt.timedelta(days=1)


class WallTime(msgspec.Struct, frozen=True, kw_only=True):
    """A time as a clock in a zone shows it; without a day, the next one. `zone`: name or offset."""

    hour: int
    minute: int
    zone: str
    month: int | None = None
    day: int | None = None
    year: int | None = None


def wall_time_in(text: str) -> WallTime | None:
    """Return the time at which these words say that something resets; None where they do not."""
    found = _CLOCK.search(" ".join(text.split()))
    if found is None:
        return None
    hour, minute = int(found["hour"]), int(found["minute"] or 0)
    month = found["month"]
    if not 1 <= hour <= 12 or minute > 59 or (month and month.lower() not in _MONTHS):
        return None
    told = WallTime(
        hour=hour % 12 + (12 if found["half"].lower() == "p" else 0),
        minute=minute,
        zone=found["zone"] or found["offset"],
        month=None if month is None else _MONTHS.index(month.lower()) + 1,
        day=None if found["day"] is None else int(found["day"]),
        year=None if found["year"] is None else int(found["year"]),
    )
    return None if _zone_of(told.zone) is None else told


def moment_of(told: WallTime, said_at_ms: int) -> int | None:
    """Return the moment that was meant by who said this then; None for a day there is not."""
    zone = _zone_of(told.zone)
    if zone is None:
        return None
    said_at = dt.datetime.fromtimestamp(said_at_ms / 1000, zone)
    earliest = said_at - dt.timedelta(seconds=_PASSED_S_MAX)
    if told.month is None:
        days = [said_at.date() + offset * _DAY for offset in (-1, 0, 1)]
    else:
        years = [told.year] if told.year else [said_at.year + offset for offset in (-1, 0, 1)]
        days = [day for year in years if (day := _day(year, told.month, told.day or 0))]
    at = dt.time(told.hour, told.minute)
    moments = [dt.datetime.combine(day, at, zone) for day in days]
    if told.month is None:
        meant = next(moment for moment in moments if moment >= earliest)
    elif moments:
        # Of a day without its year, the nearest: one that has passed is not told a year ahead.
        meant = min(moments, key=lambda moment: abs(moment - said_at))
    else:
        return None
    return int(meant.timestamp() * 1000)


def _day(year: int, month: int, day: int) -> dt.date | None:
    try:
        return dt.date(year, month, day)
    except ValueError:
        return None


def _zone_of(name: str) -> dt.tzinfo | None:
    if offset := _OFFSET.fullmatch(name):
        hours, minutes = int(offset[2] or 0), int(offset[3] or 0)
        if hours > 14 or minutes > 59:
            return None
        ahead = dt.timedelta(hours=hours, minutes=minutes)
        return dt.timezone(-ahead if offset[1] == "-" else ahead)
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None
