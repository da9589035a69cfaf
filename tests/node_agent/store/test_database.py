"""One writer per file: groups, savepoints, cancellation, a full or broken disk, bounded reads."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node_agent.store import database as database_module
from node_agent.store.database import Database
from node_agent.store.errors import (
    ReadTooLong,
    SchemaTooNew,
    StoreBroken,
    StoreClosed,
    StoreFull,
    StoreUnreadable,
)
from node_agent.store.transaction import Transaction


async def put(tx: Transaction, name: str, value: bytes = b"v") -> str:
    """Write a row."""
    await tx.execute(
        "INSERT INTO setting (name, value) VALUES (:name, :value)", {"name": name, "value": value}
    )
    tx.announce(name)
    return name


async def names(tx: Transaction) -> list[str]:
    """All rows' names."""
    return [row["name"] for row in await tx.fetch_all("SELECT name FROM setting ORDER BY name")]


class Opened:
    """A database and what it complained of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fatal: list[StoreBroken] = []
        self.database: Database

    async def open(self) -> Database:
        self.database = await Database.open(self.path, "state", on_fatal=self.fatal.append)
        return self.database


@pytest_asyncio.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    """An open database."""
    holder = Opened(tmp_path / "state.db")
    await holder.open()
    yield holder
    await holder.database.close()


@pytest.mark.asyncio
async def test_a_unit_is_on_the_disk_when_its_write_returns(opened: Opened):
    """Another connection sees it, and so does the next process."""
    assert await opened.database.write(put, "a") == "a"
    with sqlite3.connect(opened.path) as other:
        assert other.execute("SELECT name FROM setting").fetchall() == [("a",)]
    other.close()
    await opened.database.close()
    assert await (await opened.open()).read(names) == ["a"]


@pytest.mark.asyncio
async def test_the_file_is_the_owners_alone(opened: Opened):
    """Prompts and output are in it: nobody else reads it, nor the files beside it."""
    await opened.database.write(put, "a")
    for file in opened.path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


@pytest.mark.asyncio
async def test_commits_are_synced(opened: Opened):
    """The journal mode and the level of syncing are what the promises rest on."""

    async def settings(tx: Transaction) -> tuple[str, int]:
        mode = await tx.fetch_one("PRAGMA journal_mode")
        level = await tx.fetch_one("PRAGMA synchronous")
        assert mode is not None
        assert level is not None
        return mode[0], level[0]

    assert await opened.database.write(settings) == ("wal", 2)


@pytest.mark.asyncio
async def test_what_waits_is_one_commit(opened: Opened):
    """Units submitted together are grouped, and their order is kept."""
    heard: list[list[object]] = []
    opened.database.listen(lambda events: heard.append(list(events)))
    wanted = [f"{number:03}" for number in range(150)]
    await asyncio.gather(*(opened.database.write(put, name) for name in wanted))
    assert [name for group in heard for name in group] == wanted
    assert len(heard) <= 3


@pytest.mark.asyncio
async def test_a_unit_that_raises_harms_no_other(opened: Opened):
    """It is rolled back alone, tells nobody, and its submitter learns why."""
    heard: list[object] = []
    opened.database.listen(heard.extend)

    async def fails(tx: Transaction) -> None:
        await put(tx, "half")
        raise KeyError("why")

    results = await asyncio.gather(
        opened.database.write(put, "a"),
        opened.database.write(fails),
        opened.database.write(put, "a"),
        opened.database.write(put, "b"),
        return_exceptions=True,
    )
    assert results[0] == "a"
    assert isinstance(results[1], KeyError)
    assert isinstance(results[2], sqlite3.IntegrityError)
    assert results[3] == "b"
    assert await opened.database.read(names) == ["a", "b"]
    assert heard == ["a", "b"]


@pytest.mark.asyncio
async def test_a_cancelled_submitter_leaves_its_unit_and_no_open_transaction(opened: Opened):
    """Cancelling at any moment changes nothing but who hears of it."""
    tasks = [asyncio.create_task(opened.database.write(put, str(n))) for n in range(50)]
    for number, task in enumerate(tasks):
        if number % 3 == 0:
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await opened.database.write(put, "after")
    found = await opened.database.read(names)
    assert "after" in found
    # Those that were in the queue were written; the others were never submitted.
    assert len(found) == len(set(found))


@pytest.mark.asyncio
async def test_a_unit_that_waits_is_refused(opened: Opened):
    """A unit that awaits something else would hold the only writer up."""

    async def waits(tx: Transaction) -> None:
        await put(tx, "half")
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="awaited something other"):
        await opened.database.write(waits)
    assert await opened.database.read(names) == []


@pytest.mark.asyncio
async def test_a_listener_that_fails_stops_nobody(opened: Opened):
    """The commit stands, its submitter hears of it, and so do other listeners."""
    heard: list[object] = []

    def fails(events: object) -> None:
        raise ValueError(events)

    opened.database.listen(fails)
    opened.database.listen(heard.extend)
    assert await opened.database.write(put, "a") == "a"
    assert heard == ["a"]


@pytest.mark.asyncio
async def test_a_full_disk_fails_the_group_and_heals(opened: Opened):
    """Nothing of the group is kept, reading goes on, and later commits work again."""
    await opened.database.write(put, "before")

    async def shrink(tx: Transaction) -> None:
        pages = await tx.fetch_one("PRAGMA page_count")
        assert pages is not None
        await tx.fetch_one(f"PRAGMA max_page_count = {pages[0] + 2}")

    async def grow(tx: Transaction) -> None:
        await tx.fetch_one("PRAGMA max_page_count = 1000000")

    await opened.database.write(shrink)
    results = await asyncio.gather(
        opened.database.write(put, "small"),
        opened.database.write(put, "large", bytes(1_000_000)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [StoreFull, StoreFull]
    assert await opened.database.read(names) == ["before"]
    await opened.database.write(grow)
    await opened.database.write(put, "large", bytes(1_000_000))
    assert await opened.database.read(names) == ["before", "large"]
    assert opened.fatal == []


@pytest.mark.asyncio
async def test_after_an_io_error_nothing_is_tried_again(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
):
    """The group fails, the process is told to end, and no later write is even begun."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR | (4 << 8)

    def broken(group: object) -> list[object]:
        raise error

    monkeypatch.setattr(opened.database, "_run_group", broken)
    with pytest.raises(StoreBroken):
        await opened.database.write(put, "a")
    monkeypatch.undo()
    with pytest.raises(StoreBroken):
        await opened.database.write(put, "b")
    assert len(opened.fatal) == 1
    assert await opened.database.read(names) == []


@pytest.mark.asyncio
async def test_a_read_sees_one_moment(opened: Opened):
    """What is committed while a read unit runs is not seen by its later statements."""
    other = sqlite3.connect(opened.path, isolation_level=None)

    async def twice(tx: Transaction) -> tuple[list[str], list[str]]:
        first = await names(tx)
        other_thread = sqlite3.connect(opened.path, isolation_level=None)
        other_thread.execute("INSERT INTO setting VALUES ('between', x'00')")
        other_thread.close()
        return first, await names(tx)

    assert await opened.database.read(twice) == ([], [])
    assert await opened.database.read(names) == ["between"]
    other.close()


@pytest.mark.asyncio
async def test_a_read_cannot_write(opened: Opened):
    """Readers are read only, whatever a unit tries."""
    with pytest.raises(sqlite3.OperationalError):
        await opened.database.read(put, "a")


@pytest.mark.asyncio
async def test_a_read_that_takes_too_long_is_broken_off(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
):
    """It would keep the write-ahead log from shrinking; its reader works again afterwards."""
    monkeypatch.setattr(database_module, "READ_S_MAX", 0.05)

    async def endless(tx: Transaction) -> None:
        await tx.fetch_all(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT sum(x) FROM n"
        )

    for _ in range(3):
        with pytest.raises(ReadTooLong):
            await opened.database.read(endless)
    assert await opened.database.read(names) == []


@pytest.mark.asyncio
async def test_a_cancelled_read_gives_its_connection_back(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
):
    """Readers are few: one that was given up on serves the next once it is done."""
    monkeypatch.setattr(database_module, "READ_S_MAX", 0.05)

    async def endless(tx: Transaction) -> None:
        await tx.fetch_all(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT sum(x) FROM n"
        )

    for _ in range(5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(opened.database.read(endless), 0.01)
    assert await opened.database.read(names) == []


@pytest.mark.asyncio
async def test_readers_do_not_wait_for_the_writer(opened: Opened):
    """Many reads and writes at once all come to their end."""
    results = await asyncio.gather(
        *(opened.database.write(put, str(n)) for n in range(100)),
        *(opened.database.read(names) for _ in range(100)),
    )
    assert len(results) == 200


@pytest.mark.asyncio
async def test_a_newer_schema_is_refused_before_anything_is_written(opened: Opened):
    """An older program leaves the file of a newer one as it is."""
    await opened.database.close()
    with sqlite3.connect(opened.path) as other:
        other.execute("INSERT INTO schema_version VALUES (9999, '9999_later.sql')")
        other.execute("PRAGMA journal_mode = DELETE")
    other.close()
    before = opened.path.read_bytes()
    with pytest.raises(SchemaTooNew) as refused:
        await opened.open()
    assert (refused.value.details["found"], opened.path.read_bytes()) == (9999, before)
    with sqlite3.connect(opened.path) as other:
        other.execute("DELETE FROM schema_version WHERE version = 9999")
    other.close()
    await opened.open()


@pytest.mark.asyncio
async def test_what_is_no_database_is_named(tmp_path: Path):
    """The operator learns which file it is and what can be done."""
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    with pytest.raises(StoreUnreadable) as refused:
        await Database.open(path, "state", on_fatal=lambda _: None)
    assert str(path) in refused.value.message
    assert refused.value.hint
    with pytest.raises(StoreUnreadable):
        await Database.open(tmp_path / "no" / "folder.db", "state", on_fatal=lambda _: None)


@pytest.mark.asyncio
async def test_closing_commits_what_was_submitted(opened: Opened):
    """Nothing that was accepted is dropped; what comes later is refused."""
    pending = [asyncio.create_task(opened.database.write(put, str(n))) for n in range(20)]
    await asyncio.sleep(0)
    await opened.database.close()
    assert sorted(await asyncio.gather(*pending)) == sorted(map(str, range(20)))
    with pytest.raises(StoreClosed):
        await opened.database.write(put, "late")
    with pytest.raises(StoreClosed):
        await opened.database.read(names)
    assert len(await (await opened.open()).read(names)) == 20


@pytest.mark.asyncio
async def test_the_write_ahead_log_can_be_cut_back(opened: Opened):
    """An idle node's log of writes takes no room."""
    await opened.database.write(put, "large", os.urandom(500_000))
    assert opened.database.wal_bytes() > 500_000
    await opened.database.checkpoint()
    assert opened.database.wal_bytes() == 0


@pytest.mark.asyncio
async def test_deleted_rows_give_their_room_back(tmp_path: Path):
    """The file of logs shrinks after a purge."""
    database = await Database.open(
        tmp_path / "logs.db", "logs", on_fatal=lambda _: None, shrinks=True
    )

    async def fill(tx: Transaction) -> None:
        await tx.execute("CREATE TABLE filler (content BLOB)")
        await tx.execute("INSERT INTO filler VALUES (zeroblob(1000000))")

    async def empty(tx: Transaction) -> None:
        await tx.execute("DELETE FROM filler")

    try:
        await database.write(fill)
        await database.checkpoint()
        full = database.path.stat().st_size
        await database.write(empty)
        await database.give_back(10_000)
        await database.checkpoint()
        assert database.path.stat().st_size < full - 900_000
    finally:
        await database.close()


#: Opens a store in a folder that it may only read, also as root: that is what is dropped.
FORBIDDEN = """
import asyncio, ctypes, os, sys
from pathlib import Path

if len(sys.argv) == 2:
    for capability in (1, 2) if os.geteuid() == 0 else ():
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
    os.execv(sys.executable, [sys.executable, "-c", sys.orig_argv[2], sys.argv[1], "dropped"])

from node_agent.store.database import Database
from node_agent.store.errors import StoreUnreadable

try:
    asyncio.run(Database.open(Path(sys.argv[1]), "state", on_fatal=print))
except StoreUnreadable as error:
    print(error.damaged, error.hint)
"""


@pytest.mark.asyncio
async def test_a_folder_that_cannot_be_written_is_no_damage(opened: Opened):
    """A whole database in it wants another user, or another mount, and no backup."""
    await opened.database.write(put, "a")
    await opened.database.close()
    opened.path.parent.chmod(0o500)
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", FORBIDDEN, opened.path],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        opened.path.parent.chmod(0o700)
    assert done.stdout.startswith("False Run this as the user who owns"), done.stderr


#: Meets a limit to the size of its files in a large write, twice, and has it lifted.
LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from node_agent.store.database import Database

async def put(tx, number, value):
    await tx.execute(
        "INSERT INTO setting (name, value) VALUES (:number, :value)",
        {"number": number, "value": value},
    )

async def numbers(tx):
    return [int(row[0]) for row in await tx.fetch_all("SELECT name FROM setting ORDER BY name")]

async def main(path):
    fatal = []
    database = await Database.open(path, "state", on_fatal=fatal.append)
    await database.write(put, 1, "x")
    written = max(file.stat().st_size for file in path.parent.glob(path.name + "*"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (written + 40_000, hard))
    for _ in range(2):
        try:
            await database.write(put, 2, "x" * 300_000)
        except Exception as error:
            print(type(error).__name__)
    print(await database.read(numbers))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await database.write(put, 2, "x" * 300_000)
    print(await database.read(numbers), fatal)
    await database.close()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_limit_to_the_size_of_files_is_no_broken_disk(tmp_path: Path):
    """SQLite tells it as an error of the disk, as it does a used-up quota; the store goes on."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "store.db"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.splitlines(), done.stderr) == (
        ["StoreFull", "StoreFull", "[1]", "[1, 2] []"],
        "",
    )
