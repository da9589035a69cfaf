"""How long commands that follow wait for a hive or node that is away."""

import pytest

from hive.commands.patience import AWAY_S_MAX, Patience
from protocol.errors import ErrorCode, SkepError

AWAY = SkepError(ErrorCode.HIVE_OFFLINE, "no answer")
BROKEN = SkepError(ErrorCode.NODE_FAILED, "a piece is lost")


def test_waits_grow_up_to_a_bound() -> None:
    """Each wait is twice the one before, up to 5 s; a sign of life begins anew."""
    patience = Patience()
    waits = [patience.next_wait_s(AWAY, now_s=0.0) for _ in range(7)]
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    patience.answered()
    assert patience.next_wait_s(AWAY, now_s=0.0) == 0.2


def test_it_gives_up() -> None:
    """What is away for too long is told, counted from the first error since a sign of life."""
    patience = Patience()
    patience.next_wait_s(AWAY, now_s=0.0)
    patience.answered()
    patience.next_wait_s(AWAY, now_s=100.0)
    patience.next_wait_s(AWAY, now_s=100.0 + AWAY_S_MAX)
    with pytest.raises(SkepError) as caught:
        patience.next_wait_s(AWAY, now_s=101.0 + AWAY_S_MAX)
    assert caught.value is AWAY


def test_what_does_not_pass_is_told_at_once() -> None:
    """An error that no wait mends is raised, unless it passes for this command."""
    with pytest.raises(SkepError) as caught:
        Patience().next_wait_s(BROKEN, now_s=0.0)
    assert caught.value is BROKEN
    assert Patience([ErrorCode.NODE_FAILED]).next_wait_s(BROKEN, now_s=0.0) > 0
