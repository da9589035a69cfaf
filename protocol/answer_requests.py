"""Requests of operations on what agents ask of people: a person's answer."""

from typing import Annotated, Any

import msgspec

from protocol.operation_values import Request

#: Longer ones do not fit into the op that tells of them.
AnswerText = Annotated[str, msgspec.Meta(min_length=1, max_length=16 * 1024)]


class AnswerRequest(Request, frozen=True):
    """Answer what an agent asks: with one of its options, by id, with a text, or with a form."""

    request_id: str
    option: str | None = None
    text: AnswerText | None = None
    form: dict[str, Any] | None = None
