"""The node as its own operator sees it, its agent running or not: what the local API answers from.

Holds the opened stores and what of the agent there is. Must not start or stop anything.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from node_agent.changes import Changes
from node_agent.config import NodeConfig
from node_agent.elsewhere import Elsewhere
from node_agent.hive_tools import HiveTools
from node_agent.identity import NodeRecord
from node_agent.operations.dispatcher import OperationDispatcher
from node_agent.run_context import OpenRequest, open_request
from node_agent.store.contract import ChunkStore, JournalStore
from node_agent.store.database import Database
from node_agent.uplink_view import LinkView

#: What is watched in `LocalNode.changes` for anything the journal tells of; a log by its own id.
JOURNAL: Final = "journal"


@dataclass(kw_only=True)
class LocalNode:
    """Everything a handler of the local API needs."""

    config: NodeConfig
    record: Callable[[], NodeRecord]
    name: str
    slots: int
    database: Database
    journal: JournalStore
    chunks: ChunkStore
    dispatcher: OperationDispatcher
    running: bool = False
    changes: Changes = field(default_factory=Changes)
    link: Callable[[], LinkView | None] = lambda: None
    #: How far the hive is with each epoch, where someone knows better than the store.
    marks: Callable[[], Awaitable[dict[int, int]]] | None = None
    enrolment_changed: Callable[[], Awaitable[None]] | None = None
    #: What is hidden in what agents say, and how their questions are opened.
    secrets: Callable[[], list[bytes]] = list
    open_request: OpenRequest = open_request
    #: Where tools are asked for that the hive answers.
    hive_tools: HiveTools | None = None
    #: Where attempts of other nodes are asked for.
    elsewhere: Elsewhere | None = None

    async def hive_marks(self) -> dict[int, int]:
        """Return how far the hive is with each epoch."""
        return await (self.marks or self.journal.marks_seen)()
