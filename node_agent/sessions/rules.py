"""When a conversation goes on with another session of the agent's, and when it closes. Pure."""

import datetime as dt
from typing import Final

from protocol.conversation import Session

#: An agent's own session is left at the first turn after this age: its context only grows.
AGENT_SESSION_AGE_MS_MAX: Final = 60 * 60 * 1000
#: A conversation in which nothing happened for so long is closed, until someone goes on with it.
IDLE_MS_MAX: Final = 30 * 60 * 1000
#: Errors after which the next turn would meet the same.
LASTING_ERRORS: Final = frozenset({"auth_required", "usage_limit", "silent"})
#: The word for what ended because its agent said nothing for longer than its project allows.
SILENT: Final = "silent"
#: A turn waits no longer at a time for a usage limit to end, whatever the agent says.
PARKED_MS_MAX: Final = 8 * 24 * 3600 * 1000
#: So many times one turn waits for usage limits; then it ends at one, as where no end is known.
PARKS_MAX: Final = 10
#: The shortest wait where a limit's end has passed, doubled each time the turn was parked before.
BACK_OFF_MS_FIRST: Final = 60 * 1000
BACK_OFF_MS_MAX: Final = 60 * 60 * 1000

ROTATED_TEXT: Final = (
    "The agent's own session was older than an hour; it goes on with a new one, and does not"
    " remember what was said before."
)
NOT_RESUMED_TEXT: Final = (
    "The agent could not take its session up again; it goes on with a new one, and does not"
    " remember what was said before."
)

#: Who is named as the author of what no person said.
OWN_NAME: Final = "Skep"
#: What an agent is told that a usage limit cut off in the middle of a turn.
CONTINUE_TEXT: Final = (
    "A usage limit cut you off in the middle of this turn. Go on with what you were asked for, from"
    " where you were."
)
SAID_AGAIN_TEXT: Final = (
    "The turn goes on: the agent had done nothing for it when it met the limit, and is given the"
    " same prompt again."
)


def parked_until_ms(now_ms: int, reset_at_ms: int, parks: int) -> int:
    """Return until when a turn waits for a limit, which was parked so many times before."""
    back_off_ms = min(BACK_OFF_MS_FIRST << min(parks, 16), BACK_OFF_MS_MAX)
    # Parked before, it waited as it was told, and met the limit all the same.
    soonest_ms = now_ms + back_off_ms if parks or reset_at_ms <= now_ms else reset_at_ms
    return min(max(reset_at_ms, soonest_ms), now_ms + PARKED_MS_MAX)


def silent_text(limit_s: float) -> str:
    """Return why an agent is stopped that was silent for so long."""
    return f"it said nothing for {length(limit_s)}, and its project has such agents stopped"


def length(seconds: float) -> str:
    """Return a length of time as people are told it."""
    if seconds < 2 * 60:
        return f"{seconds:g} seconds"
    return f"{round(seconds / 60, 1):g} minutes"


def is_too_old(session: Session, now_ms: int) -> bool:
    """Return whether the next turn is to begin with another session of the agent's."""
    begun_ms = session.agent_session_at_ms
    return begun_ms is not None and now_ms - begun_ms > AGENT_SESSION_AGE_MS_MAX


def moment(at_ms: int) -> str:
    """Return a moment as people are told it."""
    at = dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC)
    return at.strftime("%Y-%m-%d %H:%M UTC")
