"""The node's two databases, opened together, and what is read through them.

Owns the order of opening and closing. Must not know who asks: the agent, or a command alone.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from node_agent.config import NodeConfig
from node_agent.stamps import now_ms
from node_agent.store.answers import StoredAnswers
from node_agent.store.database import Database
from node_agent.store.errors import StoreBroken
from node_agent.store.journal import SqliteJournal
from node_agent.store.log_chunks import SqliteChunkStore
from node_agent.store.operations import SqliteKeyLedger


@dataclass(frozen=True, kw_only=True)
class Stores:
    """The opened stores. `broken` is set where a disk failed so that no write may be retried."""

    database: Database
    logs: Database
    journal: SqliteJournal
    chunks: SqliteChunkStore
    answers: StoredAnswers
    ledger: SqliteKeyLedger
    broken: asyncio.Future[StoreBroken]


@contextlib.asynccontextmanager
async def open_stores(config: NodeConfig) -> AsyncIterator[Stores]:
    """Open both databases; they are closed whatever happens."""
    broken: asyncio.Future[StoreBroken] = asyncio.get_running_loop().create_future()

    def on_fatal(error: StoreBroken) -> None:
        if not broken.done():
            broken.set_result(error)

    async with contextlib.AsyncExitStack() as closing:
        database = await Database.open(config.state_database, "state", on_fatal=on_fatal)
        closing.push_async_callback(database.close)
        logs = await Database.open(
            config.log_database, "logs", on_fatal=on_fatal, shrinks=True, replaceable=True
        )
        closing.push_async_callback(logs.close)
        chunks = SqliteChunkStore(logs, now_ms)
        closing.push_async_callback(chunks.close)
        journal = SqliteJournal(database)
        yield Stores(
            database=database,
            logs=logs,
            journal=journal,
            chunks=chunks,
            answers=StoredAnswers(database, journal, chunks),
            ledger=SqliteKeyLedger(database),
            broken=broken,
        )
