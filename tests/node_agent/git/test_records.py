"""Records of git's output, however it is cut."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.git.errors import OutputTooLarge
from node_agent.git.records import records


@given(st.lists(st.binary(max_size=10)))
def test_cuts_make_no_difference(pieces: list[bytes]) -> None:
    """Records are what stands between separators of the whole."""
    *whole, rest = b"".join(pieces).split(b"\0")
    assert asyncio.run(_all(pieces)) == [*whole, *([rest] if rest else [])]


def test_endless_record_is_refused() -> None:
    """What never ends is not gathered for ever."""
    with pytest.raises(OutputTooLarge):
        asyncio.run(_all([b"x" * 60_000, b"x" * 60_000]))


async def _all(pieces: list[bytes]) -> list[bytes]:
    async def given_pieces() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [record async for record in records(given_pieces())]
