"""Requests of operations on sessions: another topic."""

from typing import Annotated, Final

import msgspec

from protocol.operation_values import Request

#: In characters, as a topic that a first message gives.
TOPIC_CHARACTERS_MAX: Final = 120

Topic = Annotated[str, msgspec.Meta(min_length=1, max_length=TOPIC_CHARACTERS_MAX)]


class RenameSessionRequest(Request, frozen=True):
    """Give a session another topic: one line, in place of the first line of its first message."""

    session_id: str
    topic: Topic
