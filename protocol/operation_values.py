"""What the Structs of every operation rest on: the base of requests, a streamed reply's head."""

from typing import Any, Final

import msgspec

#: Paths that begin with one of these stand directly below `/api/v1/`, not below an attempt.
ROOTS: Final = ("tasks/", "executions/", "requests/")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all requests: fields by name, unknown ones refused at the edge (`forbid`)."""


class StreamHead(msgspec.Struct, frozen=True, kw_only=True):
    """What opens a streamed reply: the media type of its bytes, and facts about them."""

    media_type: str
    headers: dict[str, str] = {}
    details: dict[str, Any] = {}
