"""An op that the hive refuses is found and named, and nothing else is."""

from node_agent.refused_ops import RefusedOps

OP = (7, 3)


def refuse(refused: RefusedOps, under_way: tuple[int, int] | None = OP) -> tuple[int, int] | None:
    """A link ends because the hive refused a frame."""
    return refused.closed(close_code=4400, lived_s=1.0, under_way=under_way)


def test_an_op_refused_three_times_alone_is_named() -> None:
    """The first refusal only makes ops go singly; three more of the same op name it."""
    refused = RefusedOps()
    assert refuse(refused) is None
    assert refused.singly
    assert [refuse(refused), refuse(refused), refuse(refused)] == [None, None, OP]
    # It is out of the way; the next one starts from nothing.
    assert refuse(refused, (7, 4)) is None


def test_another_op_starts_the_count_again() -> None:
    """Refusals of different ops do not add up."""
    refused = RefusedOps()
    refuse(refused)
    for seq in (3, 4, 3, 4, 3):
        assert refuse(refused, (7, seq)) is None


def test_a_refused_frame_that_is_no_op_names_nothing() -> None:
    """Where no op was under way, none is to blame."""
    refused = RefusedOps()
    for _ in range(5):
        assert refuse(refused, None) is None
    assert not refused.singly


def test_a_healthy_link_ends_the_search() -> None:
    """After a link that lived, ops go in frames again; a short one that broke says nothing."""
    refused = RefusedOps()
    refuse(refused)
    assert refused.closed(close_code=None, lived_s=1.0, under_way=OP) is None
    assert refused.singly
    assert refused.closed(close_code=4503, lived_s=100.0, under_way=None) is None
    assert not refused.singly
