"""A database file that is damaged as a whole is set aside, once, and a new one begun."""

import sqlite3
from pathlib import Path

import pytest

from node_agent.store.database import Database
from node_agent.store.errors import StoreBroken, StoreUnreadable
from node_agent.store.file_damage import is_marked
from node_agent.store.log_chunks import SqliteChunkStore
from protocol.log_chunks import STDOUT, Segment, seal


async def open_logs(folder: Path, fatal: list[StoreBroken]) -> Database:
    """Open the database of logs as the agent does."""
    return await Database.open(
        folder / "logs.db", "logs", on_fatal=fatal.append, shrinks=True, replaceable=True
    )


async def fill(database: Database) -> None:
    """Write a log, into the file itself."""
    store = SqliteChunkStore(database, lambda: 1)
    await store.open_log("e", "a", "c")
    chunk = seal(
        [Segment(STDOUT, 1, b"line\n")],
        execution_id="e",
        chunk_seq=1,
        first_entry=1,
        entries=1,
    )
    await store.commit([(chunk, b"")])
    await store.close()
    await database.checkpoint()


def damage(path: Path, table: str) -> None:
    """Overwrite the pages a table and its indexes begin at; the rest still opens."""
    with sqlite3.connect(path) as database:
        found = database.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = ?", (table,))
        pages = [page for (page,) in found]
        (size,) = database.execute("PRAGMA page_size").fetchone()
    database.close()
    content = bytearray(path.read_bytes())
    for page in pages:
        content[(page - 1) * size : page * size] = bytes(size)
    path.write_bytes(content)


@pytest.mark.asyncio
async def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path):
    """The node starts all the same, and keeps what was there."""
    garbage = b"no database" * 1_000
    (tmp_path / "logs.db").write_bytes(garbage)
    database = await open_logs(tmp_path, [])
    try:
        await fill(database)
        assert database.replaced == tmp_path / "logs.db.damaged-1"
        assert database.replaced.read_bytes() == garbage
    finally:
        await database.close()
    database = await open_logs(tmp_path, [])
    assert database.replaced is None
    await database.close()


@pytest.mark.asyncio
async def test_damage_found_while_running_is_met_once(tmp_path: Path):
    """The process that meets it ends; the next one sets the file aside and goes on."""
    fatal: list[StoreBroken] = []
    database = await open_logs(tmp_path, fatal)
    await fill(database)
    await database.close()
    damage(tmp_path / "logs.db", "log")
    database = await open_logs(tmp_path, fatal)
    try:
        assert database.replaced is None
        with pytest.raises(StoreBroken):
            await SqliteChunkStore(database, lambda: 1).log("e")
        with pytest.raises(StoreBroken):
            await SqliteChunkStore(database, lambda: 1).open_log("f", "a", "c")
        assert len(fatal) == 1
        assert is_marked(tmp_path / "logs.db")
    finally:
        await database.close()
    database = await open_logs(tmp_path, fatal)
    try:
        assert database.replaced == tmp_path / "logs.db.damaged-1"
        assert not is_marked(tmp_path / "logs.db")
        await fill(database)
    finally:
        await database.close()


@pytest.mark.asyncio
async def test_state_is_never_replaced_by_itself(tmp_path: Path):
    """What the node owns is a person's to restore or to give up."""
    (tmp_path / "state.db").write_bytes(b"no database" * 1_000)
    for _ in range(2):
        with pytest.raises(StoreUnreadable):
            await Database.open(tmp_path / "state.db", "state", on_fatal=lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["state.db"]


@pytest.mark.asyncio
async def test_each_damaged_file_is_kept(tmp_path: Path):
    """A second one does not take the first one's place."""
    for number in (1, 2):
        for end in ("", "-wal", "-shm"):
            (tmp_path / f"logs.db{end}").write_bytes(b"%d" % number * 5_000)
        database = await open_logs(tmp_path, [])
        assert database.replaced == tmp_path / f"logs.db.damaged-{number}"
        await database.close()
