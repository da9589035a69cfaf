"""Times by a clock on the wall, in the words agents really use; never a guess."""

import datetime as dt
import time
from collections.abc import Callable, Iterator

import pytest

from node_agent.acp.reset_times import (
    OWN_ZONE,
    WallTime,
    moment_of,
    other_zone,
    told_in,
    wall_time_in,
)

#: A Sunday, 10:00 in UTC; in Berlin it is noon.
SAID = dt.datetime(2026, 7, 19, 10, 0, tzinfo=dt.UTC)

TOLD = {
    "You've hit your session limit · resets 10:30pm (Europe/Berlin)": "2026-07-19T20:30",
    "You've hit your limit · resets 1:30am (Asia/Dhaka)": "2026-07-19T19:30",
    "You've hit your limit · resets 3pm (UTC)": "2026-07-19T15:00",
    "You've hit your limit · resets 12am (UTC)": "2026-07-20T00:00",
    "You've hit your limit · resets 12pm (Europe/Berlin)": "2026-07-19T10:00",
    "Claude usage limit reached. Your limit will reset at 1pm (Etc/GMT+5).": "2026-07-19T18:00",
    "Claude usage limit reached. Your limit will reset at 9am (America/Chicago).":
        "2026-07-19T14:00",
    "You've hit your weekly limit · resets Jul 24, 11am (UTC)": "2026-07-24T11:00",
    "You've hit your Opus limit · resets Jul 24 at 9am (Europe/London)": "2026-07-24T08:00",
    "You've hit your limit · resets Sunday Jul 26, 2am (Europe/London)": "2026-07-26T01:00",
    "You've hit your limit · resets Jan 8, 2027, 2pm (UTC)": "2027-01-08T14:00",
    "Usage limit reached for a model. Access resets at 10:57 PM GMT-3.": "2026-07-20T01:57",
    "limit reached, resets at 2 p.m. UTC+05:30": "2026-07-20T08:30",
    # It was rounded, or told a moment longer: not tomorrow's.
    "You've hit your limit · resets 9:45am (UTC)": "2026-07-19T09:45",
    "You've hit your limit · resets Jul 19, 3am (UTC)": "2026-07-19T03:00",
    # And this is tomorrow's.
    "You've hit your limit · resets 9:15am (UTC)": "2026-07-20T09:15",
}  # fmt: skip


@pytest.mark.parametrize(("words", "meant"), TOLD.items(), ids=TOLD)
def test_a_time_with_its_zone(words: str, meant: str):
    """Means one moment, seen from when it was said."""
    told = wall_time_in(words)
    assert told is not None
    moment_ms = moment_of(told, int(SAID.timestamp() * 1000))
    assert moment_ms is not None
    at = dt.datetime.fromtimestamp(moment_ms / 1000, dt.UTC)
    assert at.strftime("%Y-%m-%dT%H:%M") == meant


#: By the clock of the machine, as Codex says it. Berlin's is set back on 2026-10-25 at 3:00.
BARE = {
    ("Europe/Berlin", "Try again at 8:19 PM."): "2026-07-19T18:19",
    ("America/New_York", "try again at 8:19 PM."): "2026-07-20T00:19",
    ("Asia/Kathmandu", "Or try again at 8:19 PM"): "2026-07-19T14:34",
    ("Europe/Berlin", "try again at Jul 25th, 2026 8:19 AM."): "2026-07-25T06:19",
    ("Europe/Berlin", "try again at Oct 25th, 2026 1:59 AM."): "2026-10-24T23:59",
    ("Europe/Berlin", "try again at Oct 25th, 2026 2:00 AM."): None,
    ("Europe/Berlin", "try again at Oct 25th, 2026 2:59 AM."): None,
    ("Europe/Berlin", "try again at Oct 25th, 2026 3:00 AM."): "2026-10-25T02:00",
    ("UTC", "try again at Oct 25th, 2026 2:30 AM."): "2026-10-25T02:30",
    # No clock shows it: it is set forward then.
    ("Europe/Berlin", "try again at Mar 29th, 2026 2:30 AM."): None,
    ("Europe/Berlin", "try again at Feb 30th, 2026 2:30 AM."): None,
    ("America/New_York", "try again at Dec 31st, 9999 11:59 PM."): None,
    ("Europe/Berlin", "try again at Jan 1st, 0001 12:00 AM."): None,
    # What names its zone means that, wherever the machine is.
    ("Europe/Berlin", "try again at 8:19 PM (UTC)."): "2026-07-19T20:19",
    ("Asia/Kathmandu", "resets Oct 25, 2026, 2:30am (Europe/Berlin)"): None,
}


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Have this machine's clock be in a zone."""

    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(("told", "meant"), BARE.items(), ids=map(": ".join, BARE))
def test_a_time_by_the_machines_clock(
    told: tuple[str, str], meant: str | None, in_zone: Callable[[str], None]
):
    """Means one moment where the machine's zone has one for it, and none where it has not."""
    zone, words = told
    in_zone(zone)
    wall = wall_time_in(f"You've hit your usage limit. {words}")
    assert wall is not None
    moment_ms = moment_of(wall, int(SAID.timestamp() * 1000))
    if meant is None:
        assert moment_ms is None
        return
    assert moment_ms is not None
    at = dt.datetime.fromtimestamp(moment_ms / 1000, dt.UTC)
    assert at.strftime("%Y-%m-%dT%H:%M") == meant


@pytest.mark.parametrize(
    ("agents", "nodes", "zone"),
    [
        ({}, {}, None),
        ({}, {"TZ": "Asia/Tokyo"}, None),
        ({"TZ": "Asia/Tokyo"}, {"TZ": "Asia/Tokyo"}, None),
        ({"TZ": ":Asia/Tokyo"}, {}, "Asia/Tokyo"),
        ({"TZ": ""}, {"TZ": "Asia/Tokyo"}, "UTC"),
        ({"TZ": "UTC"}, {}, "UTC"),
        ({"TZ": "UTC+3"}, {}, "?"),
        ({"TZ": "CET-1CEST"}, {}, "CET-1CEST"),
    ],
)
def test_an_agent_in_another_zone(
    agents: dict[str, str],
    nodes: dict[str, str],
    zone: str | None,
    in_zone: Callable[[str], None],
):
    """Its bare times are by its own clock; where nobody can read which that is, they are none."""
    in_zone("Europe/Berlin")
    assert other_zone(agents, nodes) == zone
    bare = WallTime(hour=15, minute=0, zone=OWN_ZONE)
    told = told_in(bare, zone)
    assert told is not None
    moment_ms = moment_of(told, int(SAID.timestamp() * 1000))
    hours = {None: 13, "Asia/Tokyo": 6 + 24, "UTC": 15}
    expected = hours.get(zone)
    assert moment_ms == (
        None
        if expected is None
        else int((SAID + dt.timedelta(hours=expected - 10)).timestamp() * 1000)
    )
    named = WallTime(hour=15, minute=0, zone="UTC")
    assert told_in(named, zone) == named


@pytest.mark.parametrize(
    "words",
    [
        "5-hour limit reached ∙ resets 3pm",
        "You've hit your usage limit. Try again at 8 PM.",
        "You've hit your usage limit. Try again at 8:19 PM PST.",
        "You've hit your usage limit. Try again at 8:19 PM, Pacific time.",
        "You've hit your usage limit. Try again at 20:19.",
        "You've hit your usage limit. Try again at Jul 5th, 2026 8:19 PM (Middle/Earth).",
        "You've hit your limit · resets 3pm (Middle/Earth)",
        "You've hit your limit · resets 3pm (../../etc/passwd)",
        "You've hit your limit · resets 13pm (UTC)",
        "You've hit your limit · resets 3:75pm (UTC)",
        "You've hit your limit · resets Foo 3, 3pm (UTC)",
        "resets 3pm GMT+99",
        "It resets every week.",
        "",
        "resets " * 5000,
    ],
)
def test_what_could_be_any_time(words: str):
    """Without a zone, or with nonsense in it, it is not read."""
    assert wall_time_in(words) is None


def test_a_day_there_is_not():
    """A date that no calendar has is no moment."""
    told = wall_time_in("resets Feb 30, 3pm (UTC)")
    assert told is not None
    assert moment_of(told, int(SAID.timestamp() * 1000)) is None


def test_around_new_year():
    """A day without its year is the nearest such day."""
    said = dt.datetime(2026, 12, 30, 12, 0, tzinfo=dt.UTC)
    told = wall_time_in("You've hit your weekly limit · resets Jan 3, 11am (UTC)")
    assert told is not None
    assert moment_of(told, int(said.timestamp() * 1000)) == int(
        dt.datetime(2027, 1, 3, 11, 0, tzinfo=dt.UTC).timestamp() * 1000
    )
