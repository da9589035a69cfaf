"""What a connected node is told unasked: which project each checkout is of, and what is safe.

Owns when it is told anew. Must not decide either: links are the store's, what is safe stands in
the backups.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from hive.store.backend import Change
from protocol.errors import SkepError
from protocol.messages import HiveMessage, Links, ProjectLink, Safe

log = logging.getLogger(__name__)

#: Backups are made by another process, so what is safe is looked up this often.
_SAFE_LOOK_S: Final = 600.0
_LINKS_MAX: Final = 1000
#: Log ids in one frame, and of one node in all: the others are told once these are deleted.
_SAFE_LOGS_MAX: Final = 2000

LinksOf = Callable[[str], Awaitable[list[ProjectLink]]]
SafeOf = Callable[[str], Awaitable[Safe]]


class Nodes(Protocol):
    """The connected nodes; `NodeRegistry` is these."""

    def is_online(self, node_id: str) -> bool: ...

    def online(self) -> set[str]: ...

    async def send(self, node_id: str, message: HiveMessage) -> bool: ...


class NodeBriefing:
    """Tells nodes. `run` is its one task."""

    def __init__(self, nodes: Nodes, links_of: LinksOf, safe_of: SafeOf) -> None:
        self._nodes = nodes
        self._links_of = links_of
        self._safe_of = safe_of
        self._told: dict[str, list[ProjectLink]] = {}
        self._due: set[str] = set()
        self._woken = asyncio.Event()

    def on_changes(self, changes: Sequence[Change]) -> None:
        """Look again at the nodes that a commit may have given other projects."""
        for change in changes:
            if change.kind == "node.changed":
                self._mark(change.ids.get("node"))
            elif change.kind == "project.changed":
                for node_id in self._nodes.online():
                    self._mark(node_id)

    def _mark(self, node_id: str | None) -> None:
        if node_id is not None and self._nodes.is_online(node_id):
            self._due.add(node_id)
            self._woken.set()

    async def connected(self, node_id: str) -> None:
        """Tell a node that has just connected, whatever it was told before."""
        self._told.pop(node_id, None)
        await self.tell_links(node_id)
        await self.tell_safe(node_id)

    async def tell_links(self, node_id: str) -> None:
        """Tell a node its projects, where that is news."""
        links = (await self._links_of(node_id))[:_LINKS_MAX]
        if self._told.get(node_id) == links:
            return
        if await self._nodes.send(node_id, Links(links=links)):
            self._told[node_id] = links

    async def tell_safe(self, node_id: str) -> None:
        """Tell a node what every verified backup holds."""
        safe = await self._safe_of(node_id)
        shown = Safe(epochs=safe.epochs, logs=safe.logs[:_SAFE_LOGS_MAX], backups=safe.backups)
        await self._nodes.send(node_id, shown)

    async def run(self) -> None:
        """Tell what is news, for ever."""
        while True:
            try:
                async with asyncio.timeout(_SAFE_LOOK_S):
                    await self._woken.wait()
            except TimeoutError:
                for node_id in self._nodes.online():
                    await self._try(self.tell_safe, node_id)
            self._woken.clear()
            due, self._due = self._due, set()
            for node_id in due:
                await self._try(self.tell_links, node_id)
            for gone in set(self._told) - self._nodes.online():
                del self._told[gone]

    async def _try(self, tell: Callable[[str], Awaitable[None]], node_id: str) -> None:
        try:
            await tell(node_id)
        except SkepError as error:
            # It is told at its next connection at the latest.
            log.warning("node %s could not be told: %s", node_id, error)
        except Exception:
            log.exception("node %s could not be told", node_id)
