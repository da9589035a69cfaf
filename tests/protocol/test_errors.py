"""Each code means something outside, and an error keeps all it says on its way."""

import pytest

from protocol.errors import (
    MEANINGS,
    REFUSALS,
    ErrorBody,
    ErrorCode,
    LocalProtocolError,
    OperationError,
    ProtocolError,
    RemoteProtocolError,
    operation_error,
)


@pytest.mark.parametrize("code", ErrorCode)
def test_each_code_has_a_meaning(code: ErrorCode) -> None:
    """HTTP says an error by a status of 4xx or 5xx; a close code is of the private range."""
    meaning = MEANINGS[code]
    assert 400 <= meaning.http_status < 600
    assert meaning.close_code is None or 4400 <= meaning.close_code < 4600


def test_a_refusal_is_not_worth_another_try() -> None:
    """What only a person can mend is not called retryable, and all else that closes is."""
    for meaning in MEANINGS.values():
        if meaning.close_code is not None:
            assert meaning.retryable is (meaning.close_code not in REFUSALS)
    assert {meaning.close_code for meaning in MEANINGS.values()} >= REFUSALS


def test_an_error_keeps_all_it_says() -> None:
    """What one process raises, another raises again with code, words, hint and details."""
    error = OperationError(ErrorCode.NODE_FULL, "no slot", hint="wait", slots=4)
    body = error.body()
    assert body == ErrorBody(
        code="node_full", message="no slot", hint="wait", retryable=True, details={"slots": 4}
    )
    again = operation_error(body)
    assert (again.code, again.message, again.hint) == (ErrorCode.NODE_FULL, "no slot", "wait")
    assert again.details == {"slots": 4}
    assert str(again) == "node_full: no slot"


def test_a_code_of_a_newer_release_is_the_nodes_failure() -> None:
    """An unknown code does not hide the error behind another one."""
    again = operation_error(ErrorBody(code="of_a_newer_release", message="no"))
    assert again.code is ErrorCode.NODE_FAILED
    assert again.message == "no"


@pytest.mark.parametrize("name", ["code", "message", "hint", "self"])
def test_details_of_any_name_survive(name: str) -> None:
    """Details come from another process: no name in them may break the rebuilding."""
    again = operation_error(ErrorBody(code="gone", message="m", hint="h", details={name: 1}))
    assert (again.code, again.message, again.hint) == (ErrorCode.GONE, "m", "h")
    assert again.details == {name: 1}


def test_whose_fault_it_is_shows_in_the_type() -> None:
    """Both trees are of the protocol, and neither is the other."""
    assert issubclass(LocalProtocolError, ProtocolError)
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)
    assert not issubclass(OperationError, ProtocolError)
