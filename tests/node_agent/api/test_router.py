"""Paths to handlers: names taken out whole, and clear words for what is not there."""

import pytest

from node_agent.api.exchange import ApiReply, ApiRequest
from node_agent.api.router import Route, find_route
from protocol.errors import ErrorCode, OperationError


async def nothing(_: None, __: ApiRequest) -> ApiReply:
    """A handler."""
    return ApiReply()


ROUTES = [
    Route("GET", "attempts", nothing),
    Route("GET", "attempts/{id}", nothing),
    Route("POST", "attempts", nothing),
    Route("GET", "attempts/{id}/files/{path:rest}", nothing),
]


def test_names_are_taken_out_of_the_path() -> None:
    """A name is one part of the path, decoded; a rest holds slashes, and dots are not special."""
    route, names = find_route(ROUTES, "GET", "/api/v1/attempts/a%2Fb%20c")
    assert (route.path, names) == ("attempts/{id}", {"id": "a/b c"})
    _, names = find_route(ROUTES, "GET", "/api/v1/attempts/a/files/src/a%0Ab/x.py")
    assert names == {"id": "a", "path": "src/a\nb/x.py"}


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/attemptsx", ErrorCode.NOT_FOUND),
        ("GET", "/api/v1/attempts/", ErrorCode.NOT_FOUND),
        ("GET", "/attempts", ErrorCode.NOT_FOUND),
        ("DELETE", "/api/v1/attempts", ErrorCode.INVALID),
    ],
)
def test_what_is_not_there(method: str, path: str, code: ErrorCode) -> None:
    """A path that is no route's, and a method that a path does not take, are told apart."""
    with pytest.raises(OperationError) as caught:
        find_route(ROUTES, method, path)
    assert caught.value.code is code
