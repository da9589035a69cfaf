"""Kinds of ops, their bodies, and the pages that carry records."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, entities, limits, ops
from protocol.messages import Snapshot
from protocol.ops import OpKind, Record


def record(nbytes: int, n: int = 0) -> Record:
    """Return a record with a body of this size."""
    return Record("task", f"t-{n}", 1_700_000_000_000, bytes(nbytes), 2**32, 2**32)


def test_each_kind_has_a_body_and_none_is_reserved() -> None:
    """A kind without a body could not be read, and a reserved one is another release's."""
    assert set(ops.BODIES) == set(OpKind)
    assert not ops.RESERVED_KINDS & set(OpKind)


def test_a_body_comes_back_as_its_kind() -> None:
    """What is written for a kind is read as the same value, and unknown fields are ignored."""
    body = entities.OperationRecord(key="k", operation="stop", actor="ada")
    encoded = ops.encode_body(body)
    assert ops.decode_body("operation", encoded) == body
    newer = msgspec.msgpack.encode({**msgspec.msgpack.decode(encoded), "of_a_newer_release": 1})
    assert ops.decode_body("operation", newer) == body


@pytest.mark.parametrize("kind", ["slot", "of_a_newer_release", ""])
def test_an_unknown_kind_is_left_alone(kind: str) -> None:
    """A kind of another release is no error, whatever its body is."""
    assert ops.decode_body(kind, b"\xc1") is None


@pytest.mark.parametrize("body", [b"\x80", b"\xc1", b"", b"\x81\xa3key\x01"])
def test_a_body_that_is_not_its_kind_is_refused(body: bytes) -> None:
    """A body that cannot be read raises one type of error."""
    with pytest.raises(msgspec.DecodeError):
        ops.decode_body("operation", body)


def test_no_records_are_one_empty_page() -> None:
    """A snapshot of nothing still ends."""
    assert ops.record_pages([]) == [[]]


def test_pages_are_cut_at_both_bounds() -> None:
    """A page is full by count or by bytes, whichever comes first."""
    most = limits.RECORDS_PER_PAGE_MAX
    assert [len(page) for page in ops.record_pages([record(1)] * (most + 1))] == [most, 1]
    half = limits.RECORDS_PAGE_BYTES_MAX // 2
    assert [len(page) for page in ops.record_pages([record(half)] * 3)] == [2, 1]


@given(st.lists(st.integers(0, limits.OP_BODY_BYTES_MAX), max_size=30))
def test_pages_keep_all_records_in_order_and_fit_a_frame(sizes: list[int]) -> None:
    """Whatever the sizes, nothing is lost or turned round and each page can be sent."""
    records = [record(nbytes, n) for n, nbytes in enumerate(sizes)]
    pages = ops.record_pages(records)
    assert [one for page in pages for one in page] == records
    for page in pages:
        codec.encode(Snapshot(snapshot_id="s", epoch=1, seq=1, records=page, last=False))
