"""Cursors: what is none of a list's is refused, whatever it is made of."""

import base64

import pytest

from hive.api.decoding import InvalidInput
from hive.api.paging import pack, page_of, unpack
from tests.hive.api.running import RunningHive

LISTS = ("requests", "sessions", "tasks", "attempts", "templates", "projects", "operations")


def test_a_cursor_leads_back_to_its_place():
    """What was packed is unpacked; the first page has none."""
    assert unpack(pack(7, "x"), tuple[int, str]) == (7, "x")
    assert unpack(None, tuple[int, str]) is None


@pytest.mark.parametrize(("read", "more"), [(0, False), (2, False), (3, True)])
def test_a_page_says_whether_there_is_more(read: int, more: bool):
    """One row more than asked for is not shown, and says that a page follows its last."""
    page = page_of(range(read), 2, str, lambda row: (row,))
    assert page.items == [str(row) for row in range(min(read, 2))]
    assert unpack(page.next, tuple[int]) == ((1,) if more else None)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "ä",
        "=" * 2000,
        pack("x", 7),
        pack(7),
        pack(7, "x", 1),
        pack(2**63, "x"),
        pack(7, "x")[:-1],
        base64.urlsafe_b64encode(b"\xc1").decode(),
    ],
)
def test_what_is_no_cursor_is_refused(cursor: str):
    """The field is named, and how one gets a good one."""
    with pytest.raises(InvalidInput) as caught:
        unpack(cursor, tuple[int, str])
    assert caught.value.details["field"] == "cursor"


@pytest.mark.asyncio
async def test_no_list_fails_at_a_cursor(running: RunningHive):
    """Of another list, of no list, with numbers that no store holds: each is the caller's."""
    for path in LISTS:
        for cursor in ("x", pack(2**64 - 1, "x"), pack(-(2**63), "x", 1), pack(None, None)):
            refused = await running.get(path, cursor=cursor)
            assert (refused.status, refused.error["details"]["field"]) == (422, "cursor"), path
    for cursor in (pack(2**63, "x", 1), pack(1, "x", 2**63), pack(1, "x")):
        refused = await running.get("messages", cursor=cursor, task="00000000")
        assert refused.status in {404, 422}
