"""Asks nodes for what the hive lacks: at a reconnect, when someone looks, and by a slow sweep.

Owns when to ask; what is lacking is the store's to say, what came is ingest's to take. A need is
stored before it is sent. Must not wait for answers: they come as chunks and records, and viewers
see them by the live feed.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from hive.store.backend import IngestStore, Lacking, LogLack
from protocol import limits
from protocol.errors import SkepError
from protocol.messages import Need

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Attempts looked at for one node at a time; the next are as these are answered.
_ATTEMPTS_PER_LOOK: Final = 100
#: Looks at opened attempts that wait; beyond it the sweep finds them.
_OPENED_WAITING_MAX: Final = 1000
#: What a node answered and is lacking all the same is not asked again sooner than this: an answer
#: that changes nothing would be asked for without end.
_AGAIN_S: Final = 60.0
#: Where a person waits for it.
_AGAIN_OPENED_S: Final = 5.0
_ASKED_MAX: Final = 10_000
#: Of a session at a time: from its first hole on, until someone looks again.
_MESSAGES_BYTES_MAX: Final = 4 * limits.MIB


class Links(Protocol):
    """The connected nodes; `NodeRegistry` is these."""

    def is_online(self, node_id: str) -> bool: ...

    def online(self) -> set[str]: ...

    async def ask(self, node_id: str, need: Need) -> bool: ...


#: Reads which node an attempt is on and what of it is not here, whatever its project's policy;
#: None where there is no such attempt or nothing is lacking.
LackOf = Callable[[str], Awaitable[tuple[str, Lacking] | None]]


def needs_for(lacking: Iterable[Lacking]) -> Iterator[Need]:
    """Yield what to ask for, newest attempts first, a page of ids at a time. Pure but for ids."""
    attempts: list[str] = []
    logs: list[LogLack] = []
    for lack in lacking:
        if lack.executions:
            attempts.append(lack.attempt_id)
        logs.extend(lack.logs)
    # State first: it is small, and says which logs there are.
    for page in _pages(attempts):
        yield Need(request_id=_request_id(), kind="executions", ids=page)
    for rows in _pages(logs):
        yield Need(
            request_id=_request_id(),
            kind="logs",
            ids=[row.execution_id for row in rows],
            after=[row.after for row in rows],
            from_chunk=[row.from_chunk for row in rows],
            digests=[row.digest for row in rows],
            max_bytes=limits.NEED_BYTES_DEFAULT,
        )


class Backfill:
    """Decides when to ask. `run` is its one task."""

    def __init__(
        self, store: IngestStore, links: Links, lack_of: LackOf, *, sweep_interval_s: float
    ) -> None:
        self._store = store
        self._links = links
        self._lack_of = lack_of
        self._sweep_interval_s = sweep_interval_s
        #: Nodes to look at, in order; those that just connected have their open needs asked again.
        self._due: dict[str, bool] = {}
        #: Logs that need not be asked for at the next look at a node.
        self._coming: dict[str, frozenset[str]] = {}
        self._opened: dict[str, None] = {}
        #: Sessions that lack messages, with their nodes.
        self._missed: dict[str, str] = {}
        self._woken = asyncio.Event()
        #: When what was last asked for, by what is asked.
        self._asked: dict[tuple[str, str, int], float] = {}
        #: Needs a node was sent on its present link and has not answered: it takes no more at once.
        self._under_way: dict[str, set[str]] = {}

    # --- reasons to ask -----------------------------------------------------------------------

    def reconnected(self, node_id: str) -> None:
        """A node's link is live: what was asked and not answered is asked again, then the rest."""
        self._due[node_id] = True
        self._woken.set()

    def caught_up(self, node_id: str, coming: Collection[str]) -> None:
        """All that a node's hello told of is here: a restored hive learns now what it lacks.

        `coming`: executions whose logs the node still sends by itself.
        """
        self._coming[node_id] = frozenset(coming)
        self._due.setdefault(node_id, False)
        self._woken.set()

    def answered(self, node_id: str, cut_short: Collection[str] = ()) -> None:
        """A need was answered: there may be more to ask for.

        `cut_short`: attempts of which the answer held as much as was asked for, and not all. No
        look at a node finds the rest of those that only a person wanted.
        """
        for attempt_id in cut_short:
            self.opened(attempt_id)
        self._due.setdefault(node_id, False)
        self._woken.set()

    def opened(self, attempt_id: str) -> None:
        """Someone looks at an attempt; what is not here of it is asked for, once."""
        if len(self._opened) < _OPENED_WAITING_MAX:
            self._opened[attempt_id] = None
            self._woken.set()

    def missed_messages(self, node_id: str, session_id: str) -> None:
        """Someone looks at a session with a hole; what is missing of it is asked for, once."""
        if len(self._missed) < _OPENED_WAITING_MAX:
            self._missed[session_id] = node_id
            self._woken.set()

    async def fetch(self, attempt_id: str, *, again_s: float = 0.0) -> bool:
        """Ask for what the hive lacks of an attempt; False where nothing is lacking."""
        found = await self._lack_of(attempt_id)
        if found is None:
            return False
        node_id, lacking = found
        await self._ask(node_id, [lacking], again_s=again_s)
        return True

    # --- the task -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask, for ever. One at a time: a hive just started does not flood its store."""
        while True:
            try:
                async with asyncio.timeout(self._sweep_interval_s):
                    await self._woken.wait()
            except TimeoutError:
                for node_id in self._links.online():
                    self._due.setdefault(node_id, False)
            self._woken.clear()
            await self._work_off()

    async def _work_off(self) -> None:
        while self._opened or self._missed or self._due:
            try:
                if self._missed:
                    await self._ask_messages(*self._missed.popitem())
                elif self._opened:
                    attempt_id = next(iter(self._opened))
                    del self._opened[attempt_id]
                    await self.fetch(attempt_id, again_s=_AGAIN_OPENED_S)
                else:
                    node_id = next(iter(self._due))
                    await self._look_at(node_id, connected=self._due.pop(node_id))
            except SkepError as error:
                # Full or slow: the sweep looks again, nothing is lost by not having asked.
                log.warning("backfill put off: %s", error)
            except Exception:
                # A bug in one look must not end the hive; the sweep comes by again.
                log.exception("backfill broke off")

    async def _look_at(self, node_id: str, *, connected: bool) -> None:
        if not self._links.is_online(node_id):
            self._coming.pop(node_id, None)
            self._under_way.pop(node_id, None)
            return
        if connected:
            self._under_way[node_id] = set()
        if not await self._send_waiting(node_id):
            return
        lacking = await self._store.lacking(node_id, _ATTEMPTS_PER_LOOK)
        coming = self._coming.pop(node_id, frozenset())
        if coming:
            lacking = [_without(lack, coming) for lack in lacking]
        # A new link is a new chance, whatever came of asking over the one before.
        await self._ask(node_id, lacking, again_s=0.0 if connected else _AGAIN_S)

    async def _send_waiting(self, node_id: str) -> bool:
        """Send the stored needs that the node was not sent yet; whether it takes more after."""
        stored = await self._store.open_needs(node_id)
        under_way = self._under_way.setdefault(node_id, set())
        under_way &= {need.request_id for need in stored}
        for need in stored:
            if need.request_id not in under_way and not await self._send(node_id, need):
                return False
        return len(stored) < limits.NEEDS_OPEN_MAX

    async def _send(self, node_id: str, need: Need) -> bool:
        """Send a stored need; False where it stays stored: as others are answered, it is sent."""
        under_way = self._under_way.setdefault(node_id, set())
        if len(under_way) >= limits.NEEDS_OPEN_MAX:
            return False
        # Where the node is away, it is asked when it is back.
        with contextlib.suppress(ConnectionError):
            if await self._links.ask(node_id, need):
                under_way.add(need.request_id)
                return True
        return False

    async def _ask(self, node_id: str, lacking: Sequence[Lacking], *, again_s: float) -> None:
        for need in needs_for(self._not_asked_since(lacking, again_s)):
            stored = await self._store.store_need(node_id, need)
            if stored is None or stored.request_id != need.request_id:
                # Nothing left to ask for, or it is being fetched already.
                continue
            await self._send(node_id, stored)

    async def _ask_messages(self, session_id: str, node_id: str) -> None:
        now, what = time.monotonic(), ("messages", session_id, 0)
        if now - self._asked.get(what, float("-inf")) < _AGAIN_OPENED_S:
            return
        self._asked[what] = now
        need = Need(
            request_id=_request_id(),
            kind="messages",
            ids=[session_id],
            max_bytes=_MESSAGES_BYTES_MAX,
        )
        # From where on is the store's to say, as of when it is sent.
        stored = await self._store.store_need(node_id, need)
        if stored is not None and stored.request_id == need.request_id:
            await self._send(node_id, stored)

    def _not_asked_since(self, lacking: Sequence[Lacking], again_s: float) -> Iterator[Lacking]:
        now = time.monotonic()
        if len(self._asked) > _ASKED_MAX:
            self._asked.clear()

        def is_due(kind: str, identifier: str, held: int) -> bool:
            what = (kind, identifier, held)
            if now - self._asked.get(what, float("-inf")) < again_s:
                return False
            self._asked[what] = now
            return True

        for lack in lacking:
            held = len(lack.executions)
            yield Lacking(
                attempt_id=lack.attempt_id,
                executions=(lack.executions if is_due("executions", lack.attempt_id, held) else []),
                logs=[
                    entry
                    for entry in lack.logs
                    if is_due("logs", entry.execution_id, entry.from_chunk)
                ],
            )


def _without(lack: Lacking, coming: frozenset[str]) -> Lacking:
    logs = [entry for entry in lack.logs if entry.execution_id not in coming]
    return Lacking(attempt_id=lack.attempt_id, executions=lack.executions, logs=logs)


def _request_id() -> str:
    return secrets.token_hex(16)


def _pages(rows: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(rows), limits.NEED_IDS_MAX):
        yield rows[start : start + limits.NEED_IDS_MAX]
