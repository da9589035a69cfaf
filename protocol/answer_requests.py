"""Requests of operations on what agents ask of people: a person's answer."""

from collections.abc import Mapping, Sequence
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


def answer_in_words(
    words: str, options: Sequence[Mapping[str, Any]], *, free_text: bool
) -> dict[str, str]:
    """Return what a person means by these words: an option, by its id or its name, else a text.

    Where no option is called so and no text is taken, it is sent as an option, to be refused.
    """
    wanted = words.strip().casefold()
    for part in ("id", "name"):
        exact = [one["id"] for one in options if one[part] == words]
        alike = exact or [one["id"] for one in options if one[part].strip().casefold() == wanted]
        if len(alike) == 1:
            return {"option": alike[0]}
    return {"text": words} if free_text else {"option": words}
