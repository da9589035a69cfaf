"""Who may hold a node's identity: restarts pass, clones betray themselves, a person decides."""

import pytest

from protocol import holders
from protocol.holders import Holder, Verdict

FIRST, SECOND, THIRD = 11, 22, 33


def hello(
    holder: Holder, instance: int, connect_no: int = 1, *, challenged_at: int | None = None
) -> tuple[Verdict, Holder]:
    """Judge a hello (challenged after the present link, unless said otherwise) and go on."""
    at = holder.accepted_at + 1 if challenged_at is None else challenged_at
    verdict = holders.judge(holder, instance=instance, connect_no=connect_no, challenged_at=at)
    if verdict is Verdict.GRANTED:
        holder = holders.granted(
            holder, instance=instance, connect_no=connect_no, accepted_at=at + 1
        )
    elif verdict is Verdict.QUARANTINE:
        holder = holders.quarantined(holder, instance=instance)
    return verdict, holder


def after(*hellos: tuple[int, int]) -> Holder:
    """Return the holder after these granted hellos."""
    holder = Holder()
    for instance, connect_no in hellos:
        verdict, holder = hello(holder, instance, connect_no)
        assert verdict is Verdict.GRANTED
    return holder


def cloned() -> Holder:
    """Return a quarantined holder: SECOND replaced FIRST, and FIRST came back."""
    verdict, holder = hello(after((FIRST, 1), (SECOND, 1)), FIRST, 2)
    assert verdict is Verdict.QUARANTINE
    return holder


def test_reconnects_and_restarts_are_granted() -> None:
    """One process that reconnects, and its successors, are no clones, however often."""
    holder = after((FIRST, 1), (FIRST, 2), (SECOND, 1), (SECOND, 5), (THIRD, 1))
    assert (holder.instance, holder.connect_no) == (THIRD, 1)
    assert holder.replaced == {FIRST, SECOND}


def test_a_replaced_process_that_comes_back_is_a_clone() -> None:
    """Two processes with one key are found out when the replaced one returns."""
    holder = cloned()
    assert holder.quarantined
    assert holder.contenders == {FIRST, SECOND}


@pytest.mark.parametrize("connect_no", [2, 1])
def test_a_connection_that_was_counted_before_is_a_clone(connect_no: int) -> None:
    """A copied process counts its connections again from where it was copied."""
    assert hello(after((FIRST, 2)), FIRST, connect_no)[0] is Verdict.QUARANTINE


def test_a_slow_socket_is_no_clone() -> None:
    """A hello to a nonce given before the present link was accepted is only late."""
    holder = after((FIRST, 1), (SECOND, 1))
    late = holder.accepted_at - 1
    assert hello(holder, FIRST, 2, challenged_at=late)[0] is Verdict.SUPERSEDED
    assert hello(holder, FIRST, 2, challenged_at=holder.accepted_at)[0] is Verdict.QUARANTINE


def test_quarantine_refuses_all() -> None:
    """Until a person chooses, neither contender nor a new process is let in."""
    holder = cloned()
    for instance in (FIRST, SECOND, THIRD):
        assert hello(holder, instance, 9)[0] is Verdict.REFUSED


def test_a_person_lets_one_on_and_its_rivals_stay_out() -> None:
    """The one let on calls again, whatever it counted; the others are refused for ever."""
    holder = holders.released(cloned(), instance=FIRST)
    assert holder.refused == {SECOND}
    assert hello(holder, SECOND, 9)[0] is Verdict.REFUSED
    verdict, holder = hello(holder, FIRST, 1)
    assert verdict is Verdict.GRANTED
    assert hello(holder, THIRD)[0] is Verdict.GRANTED


def test_a_third_process_may_be_let_on() -> None:
    """Letting on a process that was no contender refuses the holder and all contenders."""
    holder = holders.released(cloned(), instance=THIRD)
    assert holder.refused == {FIRST, SECOND}


def test_the_first_of_all_may_be_quarantined() -> None:
    """A node with no holder yet has only the newcomer to contend."""
    assert holders.quarantined(Holder(), instance=FIRST).contenders == {FIRST}
    assert holders.released(Holder(), instance=FIRST).refused == frozenset()


def test_replaced_processes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node restarted for years does not grow its row without end."""
    monkeypatch.setattr(holders, "REPLACED_MAX", 2)
    holder = after((1, 1), (2, 1), (3, 1), (4, 1))
    assert len(holder.replaced) == 2
    assert 4 not in holder.replaced


def test_a_start_of_the_hive_forgets_its_counter_only() -> None:
    """After a restart a first nonce is not taken for a late one, and a clone is still a clone."""
    holder = holders.restarted(after((FIRST, 1), (SECOND, 1)))
    assert hello(holder, SECOND, 2, challenged_at=0)[0] is Verdict.GRANTED
    assert hello(holder, FIRST, 2, challenged_at=0)[0] is Verdict.QUARANTINE
