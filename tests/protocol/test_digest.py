"""The digest of a journal tells two histories apart, and is the same in every release."""

import msgspec
import pytest

from protocol import digest
from protocol.ops import Op

OP = Op("task", "t-1", 1_700_000_000_000, b"\x80")


def test_the_digest_is_for_ever() -> None:
    """Both ends keep it on disk, so no release may compute it in another way."""
    assert digest.after(digest.EMPTY, 2, 1, OP).hex() == "9867c35de0a2147ed0f5fc7084ae03c7"


@pytest.mark.parametrize(
    "changed",
    [{"kind": "node"}, {"entity_id": "t-2"}, {"at_ms": 1}, {"body": b"\x81"}],
)
def test_each_part_of_an_op_counts(changed: dict[str, object]) -> None:
    """Two ops that differ anywhere have different digests."""
    other = msgspec.structs.replace(OP, **changed)
    assert digest.after(digest.EMPTY, 2, 1, other) != digest.after(digest.EMPTY, 2, 1, OP)


def test_the_place_and_what_was_before_count() -> None:
    """The same op elsewhere, or after another history, has another digest."""
    places = [
        digest.after(digest.EMPTY, 2, 1, OP),
        digest.after(digest.EMPTY, 2, 2, OP),
        digest.after(digest.EMPTY, 3, 1, OP),
        digest.after(b"\x01" * 16, 2, 1, OP),
    ]
    assert len(set(places)) == len(places)


def test_parts_do_not_run_into_each_other() -> None:
    """Ops whose parts join to the same bytes are told apart by their lengths."""
    one, other = Op("ab", "c", 1, b"d"), Op("a", "bc", 1, b"d")
    assert digest.after(digest.EMPTY, 1, 1, one) != digest.after(digest.EMPTY, 1, 1, other)


def test_running_is_one_digest_after_each_op() -> None:
    """Many ops at once give what one after the other gives."""
    first = digest.after(digest.EMPTY, 2, 7, OP)
    assert digest.running(digest.EMPTY, 2, 7, [OP, OP]) == [first, digest.after(first, 2, 8, OP)]
    assert digest.running(digest.EMPTY, 2, 7, []) == []
