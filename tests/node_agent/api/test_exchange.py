"""Requests become typed values, and each wrong one names its field."""

import pytest

from node_agent.api.exchange import ApiRequest, from_query
from protocol.attempt_requests import HoldRequest, StartRequest
from protocol.errors import ErrorCode, OperationError
from protocol.work_requests import DiffRequest, ReadFileRequest


def test_a_body_becomes_a_request() -> None:
    """JSON becomes the operation's request; an empty body has all defaults."""
    asked = ApiRequest(body=b'{"command": "true", "environment": {"A": "b"}}')
    assert asked.decode(StartRequest).environment == {"A": "b"}
    assert ApiRequest().decode(StartRequest) == StartRequest()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"commando": "true"}', "commando"),
        (b'{"command": 5}', "command"),
        (b'{"environment": {"A": 1}}', "environment[...]"),
        (b"[1]", "body"),
        (b"{", "body"),
        (b"\xff", "body"),
        (b'{"a":' * 100_000, "body"),
    ],
)
def test_a_wrong_body_names_its_field(body: bytes, field: str) -> None:
    """A field of the wrong type or an unknown one is named, as 422."""
    with pytest.raises(OperationError) as caught:
        ApiRequest(body=body).decode(StartRequest)
    assert caught.value.code is ErrorCode.INVALID
    assert caught.value.details["field"] == field


def test_a_number_no_store_can_hold_is_named() -> None:
    """JSON has numbers that neither the wire nor a store takes."""
    with pytest.raises(OperationError) as caught:
        ApiRequest(body=b'{"until_ms": %d}' % 2**63).decode(HoldRequest)
    assert (caught.value.code, caught.value.details["field"]) == (ErrorCode.INVALID, "until_ms")


def test_a_query_becomes_a_request() -> None:
    """Text of a query becomes the types of the fields, booleans in any case of letters."""
    assert from_query(DiffRequest, {"stat": "True", "context": "5"}) == DiffRequest(
        stat=True, context=5
    )
    assert from_query(DiffRequest, {"stat": "1"}).stat
    for wrong in ({"context": "x"}, {"depth": "1"}, {"context": "9" * 30}):
        with pytest.raises(OperationError) as caught:
            from_query(DiffRequest, wrong)
        assert caught.value.details["field"] == next(iter(wrong))
    with pytest.raises(OperationError):
        from_query(ReadFileRequest, {})


def test_numbers_of_a_query() -> None:
    """A whole number of a query is bounded; anything else is named."""
    asked = ApiRequest(query={"limit": "5000", "wait_ms": "-1", "after": "9" * 30})
    assert asked.number("limit", 10, at_most=200) == 200
    assert asked.number("other", 10, at_most=200) == 10
    for name in ("wait_ms", "after"):
        with pytest.raises(OperationError) as caught:
            asked.number(name, 0, at_most=10)
        assert caught.value.details["field"] == name
