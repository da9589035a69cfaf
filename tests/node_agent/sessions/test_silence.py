"""Silence is told of once, until the agent speaks; never without a turn, nor where it is off."""

from node_agent.sessions.silence import Silence


def test_a_silence() -> None:
    """Due after the limit, once; again only once it spoke and was silent again."""
    silence = Silence(10)
    assert (silence.is_due(1000), silence.due_s(1000)) == (False, None)
    silence.begin(0)
    assert (silence.is_due(9), silence.due_s(4)) == (False, 6)
    silence.heard(5)
    assert not silence.is_due(14)
    assert silence.is_due(15)
    silence.told()
    assert (silence.is_due(100), silence.due_s(100)) == (False, None)
    silence.heard(100)
    assert silence.is_due(110)
    silence.end()
    silence.heard(120)
    assert not silence.is_due(1000)


def test_no_limit() -> None:
    """0: as long as it likes."""
    silence = Silence(0)
    silence.begin(0)
    assert (silence.is_due(10**9), silence.due_s(10**9)) == (False, None)
