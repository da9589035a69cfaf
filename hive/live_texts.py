"""What agents are just writing, from their nodes to those who look; nothing of it is kept.

Owns that a node speaks in its own sessions alone, and not too much. Must not store anything: the
message itself comes as an op.
"""

import time
from typing import Final

from hive.live_feed import LiveFeed, LivePiece
from hive.store import sessions
from hive.store.backend import TOPIC_WORDS, Database
from protocol import limits
from protocol.messages import LiveText

DELTA: Final = "message.delta"
#: Twice what a node sends: pieces bunch up on their way.
_PER_S_MAX: Final = 2 * limits.LIVE_TEXT_PER_S_MAX
_KNOWN_MAX: Final = 10_000


class LiveTexts:
    """Publishes live text."""

    def __init__(self, database: Database, feed: LiveFeed) -> None:
        self._database = database
        self._feed = feed
        #: What a session's pieces are told with, by node and session.
        self._known: dict[tuple[str, str], dict[str, str]] = {}
        #: When each node's allowance was looked at, and what was left of it then.
        self._allowed: dict[str, tuple[float, float]] = {}

    async def say(self, node_id: str, said: LiveText) -> None:
        """Show a piece to who looks; drop it where it is another node's session, or too much."""
        if not self._feed.viewers or not self._allows(node_id):
            return
        ids = await self._ids_of(node_id, said.session_id)
        if ids is None:
            return
        fields = {f"{word}_id": identifier for word, identifier in ids.items()}
        piece = LivePiece(
            kind=DELTA,
            fields={
                **fields,
                "message_id": said.message_id,
                "role": said.role,
                "at": said.at,
                "text": said.text,
            },
        )
        self._feed.say((f"{word}:{ids[word]}" for word in TOPIC_WORDS if word in ids), piece)

    async def _ids_of(self, node_id: str, session_id: str) -> dict[str, str] | None:
        known = self._known.get((node_id, session_id))
        if known is not None:
            return known
        found = await self._database.read(sessions.live_ids_of, node_id, session_id)
        if found is not None and "project" in found:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[node_id, session_id] = found
        return found

    def _allows(self, node_id: str) -> bool:
        now_s = time.monotonic()
        looked_s, left = self._allowed.get(node_id, (now_s, float(_PER_S_MAX)))
        left = min(_PER_S_MAX, left + (now_s - looked_s) * _PER_S_MAX)
        allowed = left >= 1
        self._allowed[node_id] = (now_s, left - 1 if allowed else left)
        return allowed
