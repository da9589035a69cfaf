"""What a connected node is told unasked: its projects, which worktrees are over, what is safe.

Owns when it is told anew. Must not decide any of it: links and worktrees are the store's, what is
safe stands in the backups.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from hive.store.backend import Change
from protocol import limits
from protocol.errors import SkepError
from protocol.messages import HiveMessage, Links, ProjectLink, Safe

log = logging.getLogger(__name__)

#: Backups are made by another process, and worktrees kept for hours are over without a commit: so
#: both are looked up this often.
_LOOK_S: Final = 600.0
#: Log ids in one frame, and of one node in all: the others are told once these are deleted.
_SAFE_LOGS_MAX: Final = 2000
#: Worktrees named at a time: the others are told once these are gone.
OVER_MAX: Final = 500

LinksOf = Callable[[str], Awaitable[Links]]
NodesOfTask = Callable[[str], Awaitable[Iterable[str]]]
SafeOf = Callable[[str], Awaitable[Safe]]


class Nodes(Protocol):
    """The connected nodes; `NodeRegistry` is these."""

    def is_online(self, node_id: str) -> bool: ...

    def online(self) -> set[str]: ...

    async def send(self, node_id: str, message: HiveMessage) -> bool: ...


def pages_of(links: Links) -> Iterator[Links]:
    """Yield links in frames that the wire takes; the last one names the worktrees that are over."""
    page: list[ProjectLink] = []
    page_bytes = 0
    for link in links.links:
        link_bytes = len(msgspec.msgpack.encode(link))
        if page and page_bytes + link_bytes > limits.RECORDS_PAGE_BYTES_MAX:
            # What is over is the latest word of all on it, so until then it is said of none.
            yield Links(links=page)
            page, page_bytes = [], 0
        page.append(link)
        page_bytes += link_bytes
    yield Links(links=page, over=links.over)


class NodeBriefing:
    """Tells nodes. `run` is its one task."""

    def __init__(
        self, nodes: Nodes, links_of: LinksOf, safe_of: SafeOf, nodes_of_task: NodesOfTask
    ) -> None:
        self._nodes = nodes
        self._links_of = links_of
        self._safe_of = safe_of
        self._nodes_of_task = nodes_of_task
        self._told: dict[str, Links] = {}
        self._due: set[str] = set()
        self._tasks: set[str] = set()
        self._woken = asyncio.Event()

    def on_changes(self, changes: Sequence[Change]) -> None:
        """Look again at the nodes that a commit may have given other projects or worktrees."""
        for change in changes:
            if change.kind in {"node.changed", "attempt.changed"}:
                self._mark(change.ids.get("node"))
            elif change.kind == "task.changed" and "task" in change.ids:
                # Whose worktrees its attempts have is looked up when they are told.
                self._tasks.add(change.ids["task"])
                self._woken.set()
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
        """Tell a node its projects and which worktrees are over, where that is news."""
        found = await self._links_of(node_id)
        links = Links(links=found.links, over=found.over[:OVER_MAX])
        if self._told.get(node_id) == links:
            return
        for page in pages_of(links):
            if not await self._nodes.send(node_id, page):
                return
        self._told[node_id] = links

    async def tell_safe(self, node_id: str) -> None:
        """Tell a node what every verified backup holds."""
        safe = await self._safe_of(node_id)
        shown = Safe(epochs=safe.epochs, logs=safe.logs[:_SAFE_LOGS_MAX], backups=safe.backups)
        await self._nodes.send(node_id, shown)

    async def run(self) -> None:
        """Tell what is news, for ever."""
        clock = asyncio.get_running_loop().time
        look_at_s = clock() + _LOOK_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(look_at_s):
                    await self._woken.wait()
            self._woken.clear()
            await self._mark_nodes_of_tasks()
            due, self._due = self._due, set()
            # Not only where nothing was changed for so long: a busy hive makes backups too.
            if clock() >= look_at_s:
                look_at_s = clock() + _LOOK_S
                due |= self._nodes.online()
                for node_id in self._nodes.online():
                    await self._try(self.tell_safe, node_id)
            for node_id in due:
                await self._try(self.tell_links, node_id)
            for gone in set(self._told) - self._nodes.online():
                del self._told[gone]

    async def _mark_nodes_of_tasks(self) -> None:
        tasks, self._tasks = self._tasks, set()
        for task_id in tasks:
            await self._try(self._mark_nodes_of, task_id)

    async def _mark_nodes_of(self, task_id: str) -> None:
        for node_id in await self._nodes_of_task(task_id):
            if self._nodes.is_online(node_id):
                self._due.add(node_id)

    async def _try(self, tell: Callable[[str], Awaitable[None]], about: str) -> None:
        try:
            await tell(about)
        except SkepError as error:
            # It is told at its next connection at the latest.
            log.warning("what is news of %s could not be told: %s", about, error)
        except Exception:
            log.exception("what is news of %s could not be told", about)
