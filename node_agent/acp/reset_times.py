"""When a usage limit ends that an agent tells of by a clock on the wall: "3pm (Europe/Berlin)".

Read is what names its zone, and Codex's "try again at", which is by the clock of the machine it
runs on; any other bare time could be any of a day's. Which day is meant follows from the moment it
was said. Pure, but for the table of time zones and the machine's own.
"""

import datetime as dt
import re
import zoneinfo
from collections.abc import Mapping
from typing import Final

import msgspec

_MONTHS: Final = (
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
)  # fmt: skip
_CLOCK: Final = re.compile(
    r"\b(?:resets?(?: at| on)?|(?P<own>try again at)) (?:[a-z]{3,9},? (?=[a-z]))?"
    r"(?:(?P<month>[a-z]{3})[a-z]* (?P<day>\d{1,2})(?:st|nd|rd|th)?(?:,? (?P<year>\d{4}))?"
    r"(?:,| at|, at)? )?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))? ?(?P<half>[ap])\.?m\b(?P<stop>\.?)"
    r"(?: ?\((?P<zone>[A-Za-z0-9_+/-]{1,64})\)"
    r"| ?(?P<offset>(?:UTC|GMT)(?:[+-]\d{1,2}(?::?\d\d)?)?)\b)?",
    re.IGNORECASE,
)
#: The zone of an agent that tells times by the clock of its machine.
OWN_ZONE: Final = ""
_OFFSET: Final = re.compile(r"(?:UTC|GMT)(?:([+-])(\d{1,2})(?::?(\d\d))?)?", re.IGNORECASE)
#: What was said so shortly after the time it names is about that time, not about tomorrow's: agents
#: round their times, and a limit that has ended is told for a moment longer.
_PASSED_S_MAX: Final = 30 * 60
_DAY: Final = dt.timedelta(days=1)


class WallTime(msgspec.Struct, frozen=True, kw_only=True):
    """A time as a clock in a zone shows it; without a day, the next one.

    `zone`: a name, an offset, or `OWN_ZONE`.
    """

    hour: int
    minute: int
    zone: str
    month: int | None = None
    day: int | None = None
    year: int | None = None


def wall_time_in(text: str) -> WallTime | None:
    """Return the time at which these words say that something resets; None where they do not."""
    words = " ".join(text.split())
    return next(filter(None, (_wall_time(found) for found in _CLOCK.finditer(words))), None)


def _wall_time(found: re.Match[str]) -> WallTime | None:
    hour, minute = int(found["hour"]), int(found["minute"] or 0)
    month = found["month"]
    if not 1 <= hour <= 12 or minute > 59 or (month and month.lower() not in _MONTHS):
        return None
    zone = found["zone"] or found["offset"] or OWN_ZONE
    if zone == OWN_ZONE:
        # What stands behind the time, but in another sentence, may be a zone in words of its own.
        ends = bool(found["stop"]) or found.end() == len(found.string)
        if not (found["own"] and found["minute"] and ends):
            return None
    elif _zone_of(zone) is None:
        return None
    return WallTime(
        hour=hour % 12 + (12 if found["half"].lower() == "p" else 0),
        minute=minute,
        zone=zone,
        month=None if month is None else _MONTHS.index(month.lower()) + 1,
        day=None if found["day"] is None else int(found["day"]),
        year=None if found["year"] is None else int(found["year"]),
    )


def other_zone(agents: Mapping[str, str], nodes: Mapping[str, str]) -> str | None:
    """Return the zone of a program with this environment; None where it is this node's own.

    Where its TZ names none that can be read, it is one that nobody knows.
    """
    told = agents.get("TZ")
    if told is None or told == nodes.get("TZ"):
        return None
    name = told.removeprefix(":") or "UTC"
    # There "UTC+3" is three hours behind.
    return "?" if _OFFSET.fullmatch(name) and name != "UTC" else name


def told_in(told: WallTime | None, own_zone: str | None) -> WallTime | None:
    """Return a time as told by an agent whose own zone is this one; None: this machine's."""
    if told is None or own_zone is None or told.zone != OWN_ZONE:
        return told
    return msgspec.structs.replace(told, zone=own_zone)


def moment_of(told: WallTime, said_at_ms: int) -> int | None:
    """Return the moment that was meant by who said this then.

    None for a day there is not, and where the clock shows that time twice or never: it is set back
    or forward then.
    """
    # Without a zone it is this machine's time that Python reckons by.
    zone = None if told.zone == OWN_ZONE else _zone_of(told.zone)
    if zone is None and told.zone != OWN_ZONE:
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
    return _only_moment_ms(meant)


def _only_moment_ms(shown: dt.datetime) -> int | None:
    """Return when a clock shows this, where it does so once; None for the far ends of time."""
    try:
        first_s, second_s = (shown.replace(fold=fold).timestamp() for fold in (0, 1))
    except (ValueError, OverflowError):
        return None
    return int(first_s * 1000) if first_s == second_s else None


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
