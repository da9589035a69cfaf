"""The table of operations holds together: routes, commands, roles and types."""

import msgspec
import pytest

from protocol.operation_values import Request, StreamHead
from protocol.operations import OPERATIONS, Operation, Role

ROWS = list(OPERATIONS.values())


def _name(row: Operation) -> str:
    return row.name


def test_names_commands_and_routes_are_used_once() -> None:
    """No two operations share a name, a command or a route."""
    assert all(name == row.name for name, row in OPERATIONS.items())
    assert len({row.command for row in ROWS}) == len(ROWS)
    assert len({(row.method, row.path) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=_name)
def test_what_changes_is_posted_by_an_operator(row: Operation) -> None:
    """A GET changes nothing, and only an operator changes anything."""
    assert row.changing == (row.method in {"POST", "PUT", "PATCH", "DELETE"})
    assert row.role >= (Role.OPERATOR if row.changing else Role.VIEWER)
    assert row.deadline_s > 0
    assert row.summary


@pytest.mark.parametrize("row", ROWS, ids=_name)
def test_types_travel(row: Operation) -> None:
    """A request and a reply can be read from msgpack; a streamed reply opens with its head."""
    assert issubclass(row.request, Request)
    msgspec.msgpack.Decoder(row.request)
    msgspec.msgpack.Decoder(row.reply)
    assert row.streamed == (row.reply is StreamHead)


def test_the_auditor_includes_nobody() -> None:
    """Each role includes those below it, and the auditor is below all that may see attempts."""
    assert sorted(Role) == [
        Role.AUDITOR,
        Role.VIEWER,
        Role.OPERATOR,
        Role.MAINTAINER,
        Role.ADMIN,
    ]
    assert all(row.role > Role.AUDITOR for row in ROWS)
