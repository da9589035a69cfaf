"""Git's output cut into its records as it streams. Pure but for the waiting."""

from collections.abc import AsyncIterator
from typing import Final

from node_agent.git.errors import OutputTooLarge

#: A path is at most 4 KiB; a record holds two of them and a few numbers.
RECORD_BYTES_MAX: Final = 64 * 1024


async def records(pieces: AsyncIterator[bytes], separator: bytes = b"\0") -> AsyncIterator[bytes]:
    """Yield what stands between separators; a last record without one is yielded too."""
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(separator)
        for record in whole:
            yield record
        if len(rest) > RECORD_BYTES_MAX:
            raise OutputTooLarge(("git",), RECORD_BYTES_MAX)
    if rest:
        yield rest
