"""A hive's store in a file, with nodes that report to it. For tests of the store."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from hive.store import backend, nodes
from hive.store.backend import Change, IngestPolicy, Row
from hive.store.ingest_store import SqliteIngestStore
from hive.store.sqlite import SqliteDatabase
from protocol.messages import Snapshot
from protocol.ops import Op
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS, OTHER, hello


class OpenHive:
    """An open store; `changes` are those published so far."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        self.now_ms = NOW_MS
        self.changes: list[Change] = []
        database.subscribe(self.changes.extend)
        self.store = SqliteIngestStore(database, clock=lambda: self.now_ms)

    def with_policy(self, **policy: bool) -> None:
        """Take the nodes' word under other settings."""
        self.store = SqliteIngestStore(
            self.database, clock=lambda: self.now_ms, policy=IngestPolicy(**policy)
        )

    async def enrol(self, node_id: str, name: str = "") -> None:
        """Take a node in."""
        await self.write(
            nodes.enrol,
            node_id=node_id,
            name=name,
            public_key=b"k" * 32,
            labels=[],
            now_ms=self.now_ms,
        )

    async def reporting(self, node_id: str = NODE, instance: int = 1, at: int = 1) -> "Reporting":
        """Open a link of a node."""
        link_no = await self.store.accept_link(
            hello(node_id, instance), challenged_at=at, accepted_at=at
        )
        return Reporting(self, node_id, link_no, instance)

    async def write(self, unit: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a unit that writes."""
        return await self.database.write(unit, *args, **kwargs)

    async def read(self, unit: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a unit that reads."""
        return await self.database.read(unit, *args, **kwargs)

    async def row(self, table: str, entity_id: str) -> Row:
        """One row, whole."""

        async def unit(tx: backend.Transaction) -> Row | None:
            return await tx.fetch_one(
                f"SELECT * FROM {table} WHERE id = :id",  # noqa: S608  a test
                {"id": entity_id},
            )

        found = await self.database.read(unit)
        assert found is not None, f"no {table} {entity_id}"
        return found

    async def rows(self, statement: str, **values: Any) -> list[Row]:
        """The rows of a statement."""

        async def unit(tx: backend.Transaction) -> list[Row]:
            return await tx.fetch_all(statement, values)

        return await self.database.read(unit)

    async def plans(self, unit: Any, *args: Any, **kwargs: Any) -> list[str]:
        """How SQLite goes about the statements of a unit: a line for each table it looks into."""
        steps: list[str] = []

        async def explained(tx: backend.Transaction) -> None:
            await unit(_Explaining(tx, steps), *args, **kwargs)

        await self.database.write(explained)
        return steps

    async def heard(self) -> list[Change]:
        """The changes published since the last call; they come after their submitter went on."""
        await asyncio.sleep(0)
        heard, self.changes[:] = list(self.changes), []
        return heard

    async def happened(self) -> list[str]:
        """The kinds of events so far, oldest first."""
        found = await self.rows("SELECT kind FROM event ORDER BY no")
        return [row["kind"] for row in found]


class _Explaining:
    """A transaction that asks how each statement would be carried out, and carries it out."""

    def __init__(self, tx: backend.Transaction, steps: list[str]) -> None:
        self._tx, self._steps = tx, steps

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._tx, name)
        if name not in {"execute", "fetch_one", "fetch_all"}:
            return asked

        async def run(sql: str, parameters: backend.Parameters = {}) -> Any:  # noqa: B006  read only
            for row in await self._tx.fetch_all(f"EXPLAIN QUERY PLAN {sql}", parameters):
                self._steps.append(row["detail"])
            return await asked(sql, parameters)

        return run


class Reporting:
    """A node's present link, which numbers its ops itself."""

    def __init__(self, hive: OpenHive, node_id: str, link_no: int, epoch: int) -> None:
        self.hive, self.node_id, self.link_no, self.epoch = hive, node_id, link_no, epoch
        self.seq = 0

    async def tells(self, *ops: Op) -> None:
        """Commit ops that follow those before."""
        mark = await self.hive.store.commit_ops(
            self.node_id, self.link_no, self.epoch, self.seq + 1, list(ops)
        )
        assert mark == self.seq + len(ops)
        self.seq = mark

    async def sends(self, *chunks: Any) -> list[str]:
        """Commit chunks; return what became of each."""
        outcomes = await self.hive.store.commit_chunks(self.node_id, self.link_no, chunks)
        return [outcome.kind for outcome in outcomes]

    async def snapshot(self, *ops: Op, last: bool = True) -> None:
        """Commit a whole snapshot as of the newest op, or (not `last`) a part of one."""
        page = Snapshot(
            snapshot_id=f"s{self.seq}",
            epoch=self.epoch,
            seq=self.seq,
            records=[reported.record(op) for op in ops],
            last=last,
        )
        await self.hive.store.commit_snapshot(self.node_id, self.link_no, page)


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[OpenHive]:
    """Open a store with two nodes enrolled."""
    database = await SqliteDatabase.open(folder / "hive.db", on_fatal=_fatal)
    try:
        hive = OpenHive(database)
        await hive.enrol(NODE, "alpha")
        await hive.enrol(OTHER, "beta")
        yield hive
    finally:
        await database.close()


def _fatal(error: Exception) -> None:
    raise AssertionError(error)
