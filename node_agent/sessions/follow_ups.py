"""What a follow-up may hold, by what the agent of its conversation says it can. Pure."""

import base64
import re
from typing import Final

from protocol.conversation import Session
from protocol.errors import ErrorCode, OperationError
from protocol.turn_requests import FollowUpRequest, TurnEdit

_DATA_URL: Final = re.compile(r"data:(image/[a-z0-9.+-]{1,60});base64,(.*)", re.DOTALL)
_IMAGES_MAX: Final = 16


def images_of(request: FollowUpRequest) -> list[tuple[str, str]]:
    """Return the images as (media type, base64). Raises OperationError (INVALID)."""
    if len(request.images) > _IMAGES_MAX:
        raise _invalid("images", f"at most {_IMAGES_MAX} images go with a prompt")
    images = []
    for url in request.images:
        found = _DATA_URL.fullmatch(url)
        if found is None:
            raise _invalid("images", "an image is a data URL: data:image/png;base64,...")
        try:
            base64.b64decode(found[2], validate=True)
        except ValueError:
            raise _invalid("images", "an image's base64 cannot be read") from None
        images.append((found[1], found[2]))
    return images


def check_follow_up(request: FollowUpRequest, session: Session | None, last_no: int | None) -> None:
    """Raise where the agent cannot take this; `last_no` is the newest turn that has begun.

    NOT_AVAILABLE for what this agent cannot do, INVALID for what nobody could.
    """
    _refuse_command(request.command)
    if not (request.prompt or "").strip():
        raise _invalid("prompt", "a follow-up needs a prompt")
    images_of(request)
    can = [] if session is None else session.capabilities
    for field, given, ability in (
        ("images", bool(request.images), "images"),
        ("from_turn", request.from_turn is not None, "fork"),
        ("steer", request.steer, "steer"),
    ):
        if given and ability not in can:
            raise OperationError(
                ErrorCode.NOT_AVAILABLE,
                f"this agent cannot take {field}",
                hint=f"Its session lists what it can; `{ability}` is not among it.",
                field=field,
            )
    if request.steer and (request.images or request.from_turn is not None):
        raise _invalid("steer", "what is said into a turn is text alone")
    if request.steer and request.profile is not None:
        raise _invalid("steer", "what is said into a turn is said to the agent that is at it")
    if request.from_turn not in {None, last_no}:
        raise OperationError(
            ErrorCode.NOT_AVAILABLE,
            f"agents fork their session where it stands: after turn {last_no}",
            hint="Name the newest turn, or leave it out to go on in the same session.",
            field="from_turn",
        )


def check_edit(edit: TurnEdit) -> None:
    """Raise where a queued turn would become one that nobody could have asked for."""
    _refuse_command(edit.command)
    if edit.prompt is not None and not edit.prompt.strip():
        raise _invalid("items", "a turn needs a prompt; drop it where it is not wanted any more")


def _refuse_command(command: str | None) -> None:
    if command is not None:
        raise OperationError(
            ErrorCode.NOT_AVAILABLE,
            "an agent that is spoken to takes prompts, no other command",
            hint="Give a prompt; for another agent start another attempt.",
            field="command",
        )


def check_session(meant_id: str, session: Session | None) -> None:
    """Raise CONFLICT where another session is meant than the one the attempt goes on in.

    `session`: that one; None where it is not there yet.
    """
    if session is not None and session.id == meant_id:
        return
    raise OperationError(
        ErrorCode.CONFLICT,
        "the attempt goes on in another session, which was forked from this one or took its place",
        hint="Read that one, and say it there if it is still meant.",
        field="session",
        session_id=None if session is None else session.id,
    )


def _invalid(field: str, message: str) -> OperationError:
    return OperationError(ErrorCode.INVALID, message, field=field)
