"""Opaque cursors: where a page of a list ended, packed so that nobody builds on what is inside."""

import base64
from typing import Annotated, Any, Final, TypeVar

import msgspec

from hive.api.decoding import PAGE_DEFAULT, PAGE_MAX, InvalidInput
from protocol.whole_numbers import holds

T = TypeVar("T")

_CHARACTERS_MAX: Final = 1000
Limit = Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)]


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What every list takes."""

    limit: Limit = PAGE_DEFAULT
    cursor: str | None = None


def pack(*place: Any) -> str:
    """Return a cursor for a place in a list."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode().rstrip("=")


def unpack(cursor: str | None, kind: type[T]) -> T | None:
    """Return the place of a cursor as `kind`, a tuple; None for the first page."""
    if cursor is None:
        return None
    try:
        # A longer one is none of ours: its rest is cut, and it does not decode.
        cursor = cursor[:_CHARACTERS_MAX]
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = msgspec.msgpack.decode(packed, type=kind)
    except (ValueError, msgspec.DecodeError, UnicodeEncodeError) as error:
        raise _none_of_this_list() from error
    if not holds(place):
        raise _none_of_this_list()
    return place


def _none_of_this_list() -> InvalidInput:
    return InvalidInput(
        "cursor: it is not one of this list",
        field="cursor",
        hint="Use the `next` of the page before, with the same filters.",
    )
