"""Pages of lists, and their cursors: where a page ended, packed so that nobody builds on it."""

import base64
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeVar

import msgspec

from hive.api.decoding import PAGE_DEFAULT, PAGE_MAX, InvalidInput
from hive.api.replies import Page
from protocol.whole_numbers import holds

T = TypeVar("T")
Row = TypeVar("Row")

_CHARACTERS_MAX: Final = 1000
Limit = Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)]


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What every list takes."""

    limit: Limit = PAGE_DEFAULT
    cursor: str | None = None


def page_of(
    rows: Sequence[Row],
    limit: int,
    shown: Callable[[Row], T],
    place: Callable[[Row], tuple[Any, ...]],
) -> Page[T]:
    """Return the first `limit` rows as a page; there is more where one more was read."""
    page = rows[:limit]
    following = pack(*place(page[-1])) if len(rows) > limit else None
    return Page(items=[shown(row) for row in page], next=following)


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
