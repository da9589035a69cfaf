"""A request and its reply as handlers see them, whatever carried them.

The same handlers answer over the agent's socket and, with no agent running, to a command that has
opened the stores itself. Must not import an HTTP library.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from protocol.errors import ErrorCode, OperationError, SkepError
from protocol.whole_numbers import field_out_of_range
from protocol.wrong_fields import wrong_field

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, kw_only=True)
class ApiRequest:
    """What a caller asks: the names in the path, the query, the body, its idempotency key.

    `from_attempt`: whose program asks, where it is no person (see `callers`).
    """

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    key: str | None = None
    expected_head: str | None = None
    from_attempt: str | None = None

    def decode(self, kind: type[S], **named: str) -> S:
        """Return the JSON body as `kind`, with what the path named; other fields are refused."""
        return _as(kind, self.body, "body", named)

    def number(self, name: str, default: int, *, at_most: int) -> int:
        """Return a whole number of the query, 0 to `at_most`."""
        text = self.query.get(name)
        if text is None:
            return default
        if not text.isdecimal() or len(text) > 18:
            raise _wrong(name, f"{name} is a whole number, not {text[:40]!r}")
        return min(int(text), at_most)


@dataclass(frozen=True, kw_only=True)
class ApiReply:
    """What is answered: a body, or `pieces` of one that is written as it comes."""

    status: int = 200
    body: bytes = b""
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: AsyncIterator[bytes] | None = None


def reply_json(value: Any, *, status: int = 200) -> ApiReply:
    """Answer a value as JSON."""
    return ApiReply(status=status, body=msgspec.json.encode(value))


def reply_error(error: SkepError) -> ApiReply:
    """Answer an error in the one shape."""
    return reply_json({"error": error.body()}, status=error.meaning.http_status)


def from_query(kind: type[S], given: Mapping[str, str]) -> S:
    """Return a reading operation's request from its query, each value as its field's type."""
    known = {name.encode_name: name for name in msgspec.structs.fields(kind)}
    for name in given:
        if name not in known:
            raise _wrong(name, f"there is no parameter {name!r}")
    values: dict[str, Any] = {
        name: text.lower() if known[name].type is bool else text for name, text in given.items()
    }
    try:
        return _in_range(msgspec.convert(values, kind, strict=False))
    except msgspec.ValidationError as error:
        wrong = wrong_field(error)
        raise _wrong(wrong.field, wrong.message) from error


def _as(kind: type[S], body: bytes, where: str, named: Mapping[str, str]) -> S:
    try:
        given = msgspec.json.decode(body or b"{}")
        if isinstance(given, dict):
            given |= named
        known = {field.encode_name for field in msgspec.structs.fields(kind)}
        for name in given if isinstance(given, dict) else ():
            if name not in known:
                raise _wrong(name, f"there is no field {name!r}")
        return _in_range(msgspec.convert(given, kind))
    except msgspec.ValidationError as error:
        wrong = wrong_field(error)
        raise _wrong(wrong.field or where, wrong.message) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(where, f"the body is not JSON: {error}") from error


def _in_range(made: S) -> S:
    name = field_out_of_range(made)
    if name:
        raise _wrong(name, f"{name}: the number is too large")
    return made


def _wrong(name: str, message: str) -> OperationError:
    return OperationError(ErrorCode.INVALID, message, hint="Mend it and ask again.", field=name)
