"""Requests of operations on what agents ask of people: a person's answer."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from protocol.errors import ErrorCode, OperationError
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
    Raises INVALID where the words are one option's id and another's name, or two options' names.
    """
    wanted = words.strip().casefold()
    called = [(one["id"], one[part]) for one in options for part in ("id", "name")]
    exact = {option for option, text in called if text == words}
    alike = exact or {option for option, text in called if text.strip().casefold() == wanted}
    if len(alike) > 1:
        raise OperationError(
            ErrorCode.INVALID,
            f"{words[:80]!r} may mean more than one option: {', '.join(sorted(alike))}",
            hint="Give its id: --option ID.",
            field="option",
            options=[{"id": one["id"], "name": one["name"]} for one in options],
        )
    if alike:
        return {"option": alike.pop()}
    return {"text": words} if free_text else {"option": words}
