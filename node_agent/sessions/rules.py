"""When a conversation goes on with another session of the agent's, and when it closes. Pure."""

import datetime as dt
from typing import Final

from protocol.conversation import Session

#: An agent's own session is left at the first turn after this age: its context only grows.
AGENT_SESSION_AGE_MS_MAX: Final = 60 * 60 * 1000
#: A conversation in which nothing happened for so long is closed, until someone goes on with it.
IDLE_MS_MAX: Final = 30 * 60 * 1000
#: Errors after which the next turn would meet the same.
LASTING_ERRORS: Final = frozenset({"auth_required", "usage_limit"})

ROTATED_TEXT: Final = (
    "The agent's own session was older than an hour; it goes on with a new one, and does not"
    " remember what was said before."
)
NOT_RESUMED_TEXT: Final = (
    "The agent could not take its session up again; it goes on with a new one, and does not"
    " remember what was said before."
)


def is_too_old(session: Session, now_ms: int) -> bool:
    """Return whether the next turn is to begin with another session of the agent's."""
    begun_ms = session.agent_session_at_ms
    return begun_ms is not None and now_ms - begun_ms > AGENT_SESSION_AGE_MS_MAX


def moment(at_ms: int) -> str:
    """Return a moment as people are told it."""
    at = dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC)
    return at.strftime("%Y-%m-%d %H:%M UTC")
