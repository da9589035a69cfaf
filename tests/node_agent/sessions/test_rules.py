"""How long a turn waits for a usage limit to end."""

import pytest

from node_agent.sessions.rules import (
    BACK_OFF_MS_FIRST,
    BACK_OFF_MS_MAX,
    PARKED_MS_MAX,
    parked_until_ms,
)

NOW_MS = 1_900_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@pytest.mark.parametrize(
    ("reset_ms", "parks", "waits_ms"),
    [
        (HOUR_MS, 0, HOUR_MS),
        (1500, 0, 1500),
        (0, 0, BACK_OFF_MS_FIRST),
        (-3 * DAY_MS, 0, BACK_OFF_MS_FIRST),
        (1500, 1, 2 * BACK_OFF_MS_FIRST),
        (HOUR_MS, 1, HOUR_MS),
        (-1, 3, 8 * BACK_OFF_MS_FIRST),
        (0, 9, BACK_OFF_MS_MAX),
        (0, 1000, BACK_OFF_MS_MAX),
        (30 * DAY_MS, 0, PARKED_MS_MAX),
        (10**15, 2, PARKED_MS_MAX),
    ],
)
def test_how_long_it_waits(reset_ms: int, parks: int, waits_ms: int) -> None:
    """As long as it is told, within bounds; where that has passed or was not enough, a while."""
    assert parked_until_ms(NOW_MS, NOW_MS + reset_ms, parks) == NOW_MS + waits_ms
