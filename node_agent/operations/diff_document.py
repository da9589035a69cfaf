"""A diff as one JSON document that is written as it is found: `{base, head, source, files}`.

Owns the order of its bytes. Must not compare anything: git's part yields head and files.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec

from node_agent.git.diff import DiffHead
from protocol.work_requests import FileDiff

_ENCODER = msgspec.json.Encoder()


class DiffDocument:
    """The bytes of a diff, piece by piece. `open` has read far enough to know that it works."""

    def __init__(
        self,
        head: DiffHead,
        first: FileDiff | None,
        rest: AsyncGenerator[DiffHead | FileDiff, None],
        beside: Mapping[str, Any],
    ) -> None:
        self._waiting: list[bytes] = [_opening(head, beside)]
        if first is not None:
            self._waiting.append(_ENCODER.encode(first))
        self._any = first is not None
        self._ended = first is None
        self._closed = False
        self._rest = rest

    @classmethod
    async def open(
        cls,
        found: AsyncGenerator[DiffHead | FileDiff, None],
        beside: Mapping[str, Any] | None = None,
    ) -> "DiffDocument":
        """Read head and first file, so that what fails at once fails before anything is sent.

        `beside` is written before the files, next to what the diff says of itself.
        """
        try:
            head = await anext(found)
            assert isinstance(head, DiffHead)  # noqa: S101  diff_pieces begins with it
            first = await anext(found, None)
            assert not isinstance(first, DiffHead)  # noqa: S101  and never repeats it
        except BaseException:
            await found.aclose()
            raise
        return cls(head, first, found, beside or {})

    def __aiter__(self) -> "DiffDocument":
        return self

    async def __anext__(self) -> bytes:
        if self._waiting:
            return self._waiting.pop(0)
        if self._closed:
            raise StopAsyncIteration
        if not self._ended:
            async for file in self._rest:
                return (b"," if self._any else b"") + _ENCODER.encode(file)
            self._ended = True
        self._closed = True
        return b"]}"

    async def aclose(self) -> None:
        """End the git program behind it."""
        self._closed = True
        self._waiting.clear()
        await self._rest.aclose()


def _opening(head: DiffHead, beside: Mapping[str, Any]) -> bytes:
    told = {**msgspec.to_builtins(head), **beside}
    return _ENCODER.encode(told).removesuffix(b"}") + b',"files":['
