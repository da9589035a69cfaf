"""Ids are ordered by time, told apart by chance, and the same for the same key."""

import uuid

import pytest

from protocol import ids


def test_the_example_of_the_rfc() -> None:
    """The bits lie where RFC 9562, appendix A.6, puts them."""
    tail = (0xCC3 << 68 | 0x18C4DC0C0C07398F).to_bytes(10, "big")
    assert ids.uuid7(0x017F22E279B0, tail) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@pytest.mark.parametrize("random", [bytes(10), b"\xff" * 10])
def test_version_and_variant_whatever_the_chance(random: bytes) -> None:
    """Random bytes never reach the bits that say what kind of id it is."""
    made = uuid.UUID(ids.uuid7(1_700_000_000_000, random))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_later_ids_sort_later() -> None:
    """The order of ids as text is that of their times, whatever their random parts."""
    assert ids.uuid7(1, b"\xff" * 10) < ids.uuid7(2, bytes(10))


@pytest.mark.parametrize("random", [bytes(10), b"\xff" * 10])
def test_ids_of_one_millisecond_sort_as_they_were_made(random: bytes) -> None:
    """Two rows of one moment keep their order, whatever chance gives each of them."""
    sequence = ids.IdSequence()
    later = bytes(byte ^ 0xFF for byte in random)
    made = [sequence.next(7, random), *(sequence.next(7, later) for _ in range(2047))]
    assert made == sorted(set(made))
    assert sequence.next(8, random) > made[-1]


def test_an_id_tells_when_it_was_made() -> None:
    """Neither a clock set back nor a millisecond of many ids gives an id of another time."""
    sequence = ids.IdSequence()
    times_ms = [9, *[5] * 5000, 9]
    made = [uuid.UUID(sequence.next(at_ms, b"\xff" * 10)) for at_ms in times_ms]
    assert [one.int >> 80 for one in made] == times_ms
    assert {(one.version, one.variant) for one in made} == {(7, uuid.RFC_4122)}


def test_a_nodes_id_is_for_ever() -> None:
    """A key gives the same id in every release, and another key another one."""
    made = ids.node_id_of(bytes(range(32)))
    assert made == "2581d15b-c645-8469-baf6-28261e8029eb"
    assert uuid.UUID(made).version == 8
    assert ids.node_id_of(bytes(32)) != made


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f", True),
        ("017F22E2-79B0-7CC3-98C4-DC0C0C07398F", False),
        ("017f22e279b07cc398c4dc0c0c07398f", False),
        ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f\n", False),
        ("../017f22e2-79b0-7cc3-98c4-dc0c0c07398f", False),
        ("", False),
    ],
)
def test_only_canonical_ids_are_ids(text: str, whole: bool) -> None:
    """An id may stand in a path, so nothing else passes for one."""
    assert ids.is_id(text) is whole


def test_the_short_id_is_the_random_end() -> None:
    """People see the digits that differ between ids of one moment."""
    assert ids.short_id("017f22e2-79b0-7cc3-98c4-dc0c0c07398f") == "0c07398f"
