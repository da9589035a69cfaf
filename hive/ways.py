"""The ways to an attempt's node: straight to its own address within 2 s, else through the hive.

Owns which way is in use and when the other is tried again. Only reads go either way: the same
request answers the same by both, so that a switch loses nothing. Must not print.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from hive.client import HiveClient, path_of
from protocol.errors import ErrorCode, SkepError

#: For a direct address to answer; whoever waits longer is better served by the relay.
DIRECT_S_MAX: Final = 2.0
#: After a failure the direct way is not tried for so long.
RETRY_S: Final = 30.0
#: A token this close to its end is replaced first.
_TOKEN_LEFT_S_MIN: Final = 30.0
#: What says nothing against the way: what was asked for is not to be had there.
_OF_THE_REQUEST: Final = frozenset(
    {
        ErrorCode.NOT_FOUND,
        ErrorCode.GONE,
        ErrorCode.INVALID,
        ErrorCode.CONFLICT,
        ErrorCode.WORKTREE_GONE,
        ErrorCode.TOO_LARGE,
        ErrorCode.BINARY,
        ErrorCode.OUTSIDE,
        ErrorCode.NOT_A_DIRECTORY,
    }
)


class Ways:
    """The ways to the node of one attempt. `told` hears `direct`, `relay` or `offline`.

    `attempt` is an id or the beginning of one. A node's own address takes whole ids alone: whoever
    was given less asks for `attempt_id` first.
    """

    def __init__(
        self, hive: HiveClient, attempt: str, told: Callable[[str], None] = lambda _: None
    ) -> None:
        self._hive = hive
        self._attempt_id = attempt
        self._told = told
        self._direct: HiveClient | None = None
        self._expires_s = 0.0
        self._retry_s = 0.0
        self.now = ""

    def close(self) -> None:
        if self._direct is not None:
            self._direct.close()
            self._direct = None

    def attempt_id(self) -> str:
        """Return the attempt's whole id, as the hive has it."""
        if not self.now:
            self._client()
        return self._attempt_id

    def is_direct(self) -> bool:
        """Whether the next request goes straight to the node."""
        return self._client() is not None

    def get(self, path: str, /, *, timeout_s: float = 60.0, **query: Any) -> Any:
        """Return the decoded reply of a read, by whichever way works."""
        direct = self._client()
        if direct is not None:
            try:
                return direct.get(path, timeout_s=timeout_s, **query)
            except SkepError as error:
                self._failed(error)
        return self._hive.get(path, timeout_s=timeout_s, **query)

    def get_direct(self, path: str, /, *, timeout_s: float = 60.0, **query: Any) -> Any:
        """Return the reply of what only a node answers; None where it cannot be reached."""
        direct = self._client()
        if direct is None:
            return None
        try:
            return direct.get(path, timeout_s=timeout_s, **query)
        except SkepError as error:
            self._failed(error)
            return None

    def pieces(self, path: str, /, *, timeout_s: float = 120.0, **query: Any) -> Iterator[bytes]:
        """Yield the bytes of a read as they come; raises where its way broke."""
        direct = self._client()
        if direct is None:
            yield from self._hive.pieces(path, timeout_s=timeout_s, **query)
            return
        begun = False
        try:
            for piece in direct.pieces(path, timeout_s=timeout_s, **query):
                begun = True
                yield piece
        except SkepError as error:
            self._failed(error)
            if begun:
                raise
        else:
            return
        yield from self._hive.pieces(path, timeout_s=timeout_s, **query)

    # --- which way ----------------------------------------------------------------------------

    def _client(self) -> HiveClient | None:
        left_s = self._expires_s - time.time()
        if self._direct is not None and left_s > _TOKEN_LEFT_S_MIN:
            return self._direct
        if self._direct is None and time.monotonic() < self._retry_s:
            return None
        try:
            info = self._hive.get(f"attempts/{path_of(self._attempt_id)}/stream-connection-info")
        except SkepError:
            if self._direct is not None and left_s > 0:
                # The hive is away; what it said before holds a while longer.
                return self._direct
            raise
        self.close()
        self._attempt_id = info["attempt_id"]
        self._direct = self._reached(info)
        self._expires_s = info["expires_at_ms"] / 1000
        if self._direct is None:
            self._retry_s = time.monotonic() + RETRY_S
        self._tell("direct" if self._direct else "relay" if info["reachable"] else "offline")
        return self._direct

    def _reached(self, info: dict[str, Any]) -> HiveClient | None:
        until = time.monotonic() + DIRECT_S_MAX
        for url in info["direct_urls"]:
            left_s = until - time.monotonic()
            if left_s <= 0:
                break
            client = HiveClient(url, info["token"], self._hive.ca, connect_s=left_s)
            try:
                client.get(f"attempts/{path_of(self._attempt_id)}", timeout_s=left_s)
            except SkepError:
                # Behind another network, switched off, or not the node at all: the next one.
                client.close()
            else:
                return client
        return None

    def _failed(self, error: SkepError) -> None:
        if error.code in _OF_THE_REQUEST:
            return
        self.close()
        # A token that ended, or is of a hive that was started anew, says nothing against the way.
        ended = time.time() > self._expires_s - _TOKEN_LEFT_S_MIN
        if not ended and error.code is not ErrorCode.UNAUTHENTICATED:
            self._retry_s = time.monotonic() + RETRY_S
        self._tell("relay")

    def _tell(self, way: str) -> None:
        if way != self.now:
            self.now = way
            self._told(way)
