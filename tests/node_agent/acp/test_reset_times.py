"""Times by a clock on the wall, in the words agents really use; never a guess."""

import datetime as dt

import pytest

from node_agent.acp.reset_times import moment_of, wall_time_in

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


@pytest.mark.parametrize(
    "words",
    [
        "5-hour limit reached ∙ resets 3pm",
        "You've hit your usage limit. Try again at Jul 5th, 2026 8:19 PM.",
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
