"""A diff in one piece, as tests look at it."""

import contextlib
from typing import Any

import msgspec

from node_agent.git.diff import DiffHead, diff_pieces
from node_agent.git.sources import Source


async def whole_diff(source: Source, *, base: str, **options: Any) -> dict[str, Any]:
    """Return the diff as one JSON value: `{base, head, source, files}`."""
    whole: dict[str, Any] = {"files": []}
    pieces = diff_pieces(source, base=base, **options)
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, DiffHead):
                whole = msgspec.to_builtins(piece) | whole
            else:
                whole["files"].append(msgspec.to_builtins(piece))
    return whole
