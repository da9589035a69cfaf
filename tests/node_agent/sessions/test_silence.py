"""Silence counts while someone is awake to hear it; it is told of once, stopped where wanted."""

from node_agent.sessions.silence import LOOK_S, Silence


def test_a_silence() -> None:
    """To be told after the limit, once; again only once it spoke and was silent again."""
    silence = Silence(10)
    assert (silence.is_to_tell(), silence.due_s()) == (False, None)
    silence.begin(0)
    silence.look(4)
    assert (silence.is_to_tell(), silence.due_s()) == (False, 6)
    silence.heard(5)
    silence.look(14)
    assert not silence.is_to_tell()
    silence.look(15)
    assert silence.is_to_tell()
    silence.told()
    assert (silence.is_to_tell(), silence.due_s()) == (False, None)
    silence.heard(100)
    silence.look(110)
    assert silence.is_to_tell()
    silence.end()
    silence.heard(120)
    silence.look(1000)
    assert (silence.is_to_tell(), silence.due_s()) == (False, None)


def test_no_limit() -> None:
    """0: as long as it likes."""
    silence = Silence(0)
    silence.begin(0)
    silence.look(50)
    assert (silence.is_to_tell(), silence.is_to_stop(), silence.due_s()) == (False, False, None)


def test_a_limit_to_stop_at() -> None:
    """It is looked at for as long as it is silent, told of at its time, and stopped at its own."""
    silence = Silence(100, 250)
    silence.begin(0)
    seen = []
    for now_s in range(50, 301, 50):
        silence.look(now_s)
        if silence.is_to_tell():
            silence.told()
            seen.append(("told", now_s))
        if silence.is_to_stop():
            seen.append(("stopped", now_s))
    assert seen == [("told", 100), ("stopped", 250), ("stopped", 300)]


def test_looks_are_wanted_often_enough() -> None:
    """At least every minute, and just when something is due."""
    silence = Silence(100, 250)
    silence.begin(0)
    assert silence.due_s() == LOOK_S
    silence.look(60)
    assert silence.due_s() == 40


def test_a_machine_that_slept() -> None:
    """A jump of the clock, ahead or back, is no silence; what was counted before it counts."""
    silence = Silence(100, 250)
    silence.begin(0)
    silence.look(50)
    silence.look(50 + 8 * 3600)
    assert silence.silent_s == 50
    assert not silence.is_to_tell()
    silence.look(50 + 8 * 3600 + 40)
    assert silence.silent_s == 90
    silence.look(10)
    assert silence.silent_s == 90
    silence.look(20)
    assert silence.is_to_tell()


def test_a_short_wait_slept_through() -> None:
    """However soon the next look was wanted, a sleep does not make up what was left."""
    silence = Silence(0, 100)
    silence.begin(0)
    silence.look(60)
    assert silence.due_s() == 40
    silence.look(60 + 3600)
    assert (silence.silent_s, silence.is_to_stop()) == (60, False)


def test_another_node_agent_goes_on() -> None:
    """With what the one before it counted and told; the time between them does not count."""
    silence = Silence(100, 250)
    silence.begin(9000, silent_s=120, told=True)
    silence.look(9050)
    assert (silence.silent_s, silence.is_to_tell()) == (170, False)
    assert silence.due_s() == LOOK_S
