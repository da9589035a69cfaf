"""The SQLite backend: groups, savepoints, cancelled callers, full and broken disks, readers."""

import asyncio
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hive.store import sqlite
from hive.store.backend import Change, ReadTooLong, StoreBroken, StoreFull
from hive.store.sqlite import SqliteDatabase

NOTE = Change(kind="node.changed", ids={"node": "n"})


async def put(tx, key, value="v"):
    """Write one row."""
    await tx.execute(
        "INSERT INTO change (change_no, generation, kind, ids) VALUES (:key, 0, 'put', :value)",
        {"key": key, "value": value},
    )
    return key


async def keys(tx):
    """The rows written."""
    rows = await tx.fetch_all("SELECT change_no FROM change WHERE kind = 'put' ORDER BY change_no")
    return [row["change_no"] for row in rows]


async def put_then_fail(tx, key):
    """Write one row, then raise."""
    await put(tx, key)
    tx.note(NOTE)
    raise KeyError(key)


@pytest.fixture
def fatal():
    """What the database called fatal."""
    return []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "hive.db"


async def open_at(path: Path, fatal) -> SqliteDatabase:
    """Open the database."""
    return await SqliteDatabase.open(path, on_fatal=fatal.append)


@pytest.mark.asyncio
async def test_units_are_committed_in_order_and_read_at_once(path, fatal):
    """What was written is there for readers as soon as its submitter knows, and after a restart."""
    database = await open_at(path, fatal)
    try:
        assert await asyncio.gather(*(database.write(put, n) for n in range(500))) == list(
            range(500)
        )
        assert await database.read(keys) == list(range(500))
    finally:
        await database.close()
    again = await open_at(path, fatal)
    try:
        assert await again.read(keys) == list(range(500))
    finally:
        await again.close()


@pytest.mark.asyncio
async def test_a_unit_that_raises_is_undone_alone(path, fatal):
    """Its neighbours in the group are committed; what it noted is not published."""
    database = await open_at(path, fatal)
    published = []
    database.subscribe(published.extend)
    try:
        results = await asyncio.gather(
            database.write(put, 1),
            database.write(put_then_fail, 2),
            database.write(put, 3),
            return_exceptions=True,
        )
        assert (results[0], results[2]) == (1, 3)
        assert isinstance(results[1], KeyError)
        assert await database.read(keys) == [1, 3]
        await asyncio.sleep(0)
        assert published == []
    finally:
        await database.close()
    assert fatal == []


@pytest.mark.asyncio
async def test_changes_are_numbered_and_published_after_their_submitter_went_on(path, fatal):
    """Publishing comes after the commit, and after whoever submitted has had a turn."""
    database = await open_at(path, fatal)
    order = []
    database.subscribe(lambda changes: order.extend(change.change_no for change in changes))

    async def unit(tx):
        tx.note(NOTE)
        tx.note(NOTE)

    async def submit():
        await database.write(unit)
        order.append("acknowledged")

    try:
        await submit()
        await asyncio.sleep(0)
        assert order == ["acknowledged", 1]
    finally:
        await database.close()


@pytest.mark.asyncio
async def test_a_savepoint_undoes_its_body_alone(path, fatal):
    """A part of a unit can fail without the rest."""
    database = await open_at(path, fatal)

    async def unit(tx):
        await put(tx, 1)
        try:
            async with tx.savepoint():
                await put_then_fail(tx, 2)
        except KeyError:
            await put(tx, 3)

    try:
        await database.write(unit)
        assert await database.read(keys) == [1, 3]
    finally:
        await database.close()


@pytest.mark.asyncio
async def test_a_cancelled_submitter_cancels_no_transaction(path, fatal):
    """What was submitted is committed although nobody waits; the writer goes on."""
    database = await open_at(path, fatal)
    try:
        waiting = [asyncio.create_task(database.write(put, n)) for n in range(50)]
        await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await database.write(put, 99)
        assert await database.read(keys) == [*range(50), 99]
    finally:
        await database.close()


@pytest.mark.asyncio
async def test_what_was_submitted_before_the_close_is_committed(path, fatal):
    """Closing waits for what is queued; after it nothing is taken."""
    database = await open_at(path, fatal)
    waiting = [asyncio.create_task(database.write(put, n)) for n in range(20)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*waiting) == list(range(20))
    with pytest.raises(StoreBroken):
        await database.write(put, 21)
    await database.close()


@pytest.mark.asyncio
async def test_a_full_disk_fails_the_group_and_no_more(path, fatal):
    """A group that finds no room fails whole; reading goes on, and so does writing once it fits."""
    database = await open_at(path, fatal)

    async def limit(tx):
        [pages] = await tx.fetch_one("PRAGMA page_count")
        await tx.fetch_one(f"PRAGMA max_page_count = {pages + 2}")

    async def unlimit(tx):
        await tx.fetch_one("PRAGMA max_page_count = 1000000")

    try:
        await database.write(put, 1)
        await database.write(limit)
        results = await asyncio.gather(
            database.write(put, 2),
            database.write(put, 3, "x" * 100_000),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [StoreFull, StoreFull]
        assert await database.read(keys) == [1]
        await database.write(unlimit)
        assert await database.write(put, 3, "x" * 100_000) == 3
    finally:
        await database.close()
    assert fatal == []


@pytest.mark.asyncio
async def test_a_failed_sync_is_fatal_and_never_tried_again(path, fatal, monkeypatch):
    """An I/O error at the commit stops the store for good: later writes fail without trying."""
    database = await open_at(path, fatal)
    broken = StoreBroken("disk I/O error (SQLITE_IOERR_FSYNC)")
    calls = []

    def fail(connection, group):
        calls.append(len(group))
        raise broken

    try:
        await database.write(put, 1)
        monkeypatch.setattr(sqlite, "_run_group", fail)
        with pytest.raises(StoreBroken):
            await database.write(put, 2)
        with pytest.raises(StoreBroken):
            await database.write(put, 3)
        assert (fatal, calls) == ([broken], [1])
        assert await database.read(keys) == [1]
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SQLITE_FULL", StoreFull),
        ("SQLITE_BUSY", StoreFull),
        ("SQLITE_IOERR_FSYNC", StoreBroken),
        ("SQLITE_IOERR_WRITE", StoreBroken),
        ("SQLITE_CORRUPT", StoreBroken),
        ("SQLITE_INTERRUPT", ReadTooLong),
        ("SQLITE_CONSTRAINT", sqlite3.OperationalError),
    ],
)
def test_errors_mean_what_they_say(name, kind):
    """Each error of SQLite is full, broken, too long, or the statement's own."""
    error = sqlite3.OperationalError("x")
    error.sqlite_errorname = name
    assert isinstance(sqlite._translated(error), kind)


@pytest.mark.asyncio
async def test_a_read_is_cut_off(path, fatal, monkeypatch):
    """A read that takes too long is stopped, and the reader serves the next one."""
    monkeypatch.setattr(sqlite, "READ_S_MAX", 0.05)
    database = await open_at(path, fatal)

    async def count_for_ever(tx):
        await tx.fetch_one(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
        )

    try:
        for _ in range(5):
            with pytest.raises(ReadTooLong):
                await database.read(count_for_ever)
        assert await database.read(keys) == []
    finally:
        await database.close()


@pytest.mark.asyncio
async def test_a_reader_cannot_write_and_sees_one_view(path, fatal):
    """Readers are read-only, and a unit that reads twice reads the same."""
    database = await open_at(path, fatal)
    try:
        with pytest.raises(StoreBroken):
            await database.read(put, 1)
        seen = []

        async def twice(tx):
            seen.append(await keys(tx))
            # Another connection commits between the two looks.
            other = sqlite3.connect(path)
            other.execute("INSERT INTO change VALUES (7, 0, 'put', '')")
            other.commit()
            other.close()
            seen.append(await keys(tx))

        await database.read(twice)
        assert seen == [[], []]
        assert await database.read(keys) == [7]
    finally:
        await database.close()


@pytest.mark.asyncio
async def test_a_unit_may_await_nothing_but_its_transaction(path, fatal):
    """A unit that would suspend is refused: it would hold the writer's thread."""
    database = await open_at(path, fatal)

    async def sleeps(tx):
        await asyncio.sleep(1)

    try:
        with pytest.raises(RuntimeError):
            await database.write(sleeps)
        assert await database.write(put, 1) == 1
    finally:
        await database.close()


@pytest.mark.asyncio
async def test_the_file_is_its_users_alone(path, fatal):
    """Database and write-ahead log are private, and commits are synced."""
    database = await open_at(path, fatal)

    async def pragmas(tx):
        return [
            (await tx.fetch_one(f"PRAGMA {name}"))[0] for name in ("journal_mode", "synchronous")
        ]

    try:
        await database.write(put, 1)
        for name in ("hive.db", "hive.db-wal"):
            assert stat.S_IMODE(path.with_name(name).stat().st_mode) == 0o600
        assert await database.write(pragmas) == ["wal", 2]
    finally:
        await database.close()
    # The last one to close folds the log in.
    assert not path.with_name("hive.db-wal").exists()


@pytest.mark.asyncio
async def test_a_long_write_ahead_log_is_emptied_when_idle(path, fatal, monkeypatch):
    """Once nothing waits, a log over its limit is folded in and emptied."""
    monkeypatch.setattr(sqlite, "WAL_BYTES_MAX", 100_000)
    monkeypatch.setattr(sqlite, "_CHECKPOINT_PAGES", 100_000)
    database = await open_at(path, fatal)
    try:
        await database.write(put, 1, "x" * 300_000)
        await database.write(put, 2)
        assert path.with_name("hive.db-wal").stat().st_size < 100_000
    finally:
        await database.close()


@pytest.mark.asyncio
async def test_a_file_that_is_no_database_is_refused(path, fatal):
    """Something else under the name is not written to, and every thread ends."""
    path.write_bytes(b"this is no database " * 1000)
    with pytest.raises(StoreBroken):
        await open_at(path, fatal)
    assert path.read_bytes().startswith(b"this is no database")


#: Meets a limit to the size of its files in a large write, twice, and has it lifted.
LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from hive.store.sqlite import SqliteDatabase

async def put(tx, number, value):
    await tx.execute(
        "INSERT INTO change (change_no, generation, kind, ids) VALUES (:number, 0, 'put', :value)",
        {"number": number, "value": value},
    )

async def numbers(tx):
    return [row[0] for row in await tx.fetch_all("SELECT change_no FROM change WHERE kind = 'put'")]

async def main(path):
    fatal = []
    database = await SqliteDatabase.open(path, on_fatal=fatal.append)
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
