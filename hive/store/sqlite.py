"""The SQLite backend: one connection that writes, a few that read, all of one file.

Owns the writer's queue, its groups and their commits. Must not know what is written.

Writes are taken from a bounded queue as they are there and committed as one group, each in its own
savepoint, in one hop on aiosqlite's thread. A unit is a coroutine, so that the same text serves an
asynchronous driver; here it never suspends and is driven on that thread.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, cast
from urllib.parse import quote

import aiosqlite

from hive.failpoints import failpoint
from hive.store import schema
from hive.store.backend import (
    Change,
    Parameters,
    ReadTooLong,
    Row,
    StoreBroken,
    StoreFull,
    Unit,
)
from hive.store.changes import coalesced, number_changes
from hive.store.room import takes_no_more

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

#: Units committed together at most, and units that may wait for their group.
GROUP_UNITS_MAX: Final = 200
QUEUE_UNITS_MAX: Final = 2_000
#: A longer read would keep the write-ahead log from being folded in.
READ_S_MAX: Final = 5.0
READERS: Final = 3
#: A write-ahead log larger than this is emptied as soon as nothing waits to be written.
WAL_BYTES_MAX: Final = 64 * 1024 * 1024
#: Chunks are tens of kilobytes: half as many pages to write, twice, as of SQLite's usual size.
_PAGE_BYTES: Final = 8192
_CHECKPOINT_PAGES: Final = 2_000
_BUSY_TIMEOUT_MS: Final = 5_000
#: Steps of SQLite's machine between two looks at the clock: well under a millisecond.
_PROGRESS_STEPS: Final = 4_000
_FULL_EXTENDED: Final = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMOPEN"})

OnFatal = Callable[[StoreBroken], None]


@dataclass(frozen=True)
class _Submission:
    work: Callable[["_SqliteTransaction"], Coroutine[Any, Any, Any]]
    done: asyncio.Future[Any]


@dataclass(frozen=True)
class _Outcome:
    value: Any = None
    error: BaseException | None = None


class SqliteDatabase:
    """One SQLite file. Open it with `await SqliteDatabase.open(path)`, close it in `finally`."""

    def __init__(self, path: Path, on_fatal: OnFatal) -> None:
        self.path = path
        self._on_fatal = on_fatal
        self._queue: asyncio.Queue[_Submission | None] = asyncio.Queue(QUEUE_UNITS_MAX)
        self._readers: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._listeners: list[Callable[[Sequence[Change]], None]] = []
        self._broken: StoreBroken | None = None
        self._closing = False
        self._connection: aiosqlite.Connection
        self._writer: asyncio.Task[None]

    @classmethod
    async def open(
        cls, path: Path, *, on_fatal: OnFatal | None = None, readers: int = READERS
    ) -> "SqliteDatabase":
        """Open or create the file and bring its schema up to date. Raises SchemaTooNew."""
        database = cls(path, on_fatal or _log_fatal)
        # Nobody else on the machine may read it; -wal and -shm take the file's mode.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        opened: list[aiosqlite.Connection] = []
        try:
            database._connection = await aiosqlite.connect(
                path, isolation_level=None, cached_statements=512
            )
            opened.append(database._connection)
            await _on_thread(database._connection, _prepare_writer)
            for _ in range(readers):
                reader = await aiosqlite.connect(
                    _read_only_uri(path), uri=True, isolation_level=None, cached_statements=256
                )
                opened.append(reader)
                await _on_thread(reader, _prepare_reader)
                database._readers.put_nowait(reader)
        except BaseException as error:
            for connection in reversed(opened):
                await connection.close()
            if isinstance(error, sqlite3.Error):
                raise StoreBroken(f"{path} cannot be opened: {error}") from error
            raise
        database._writer = asyncio.create_task(database._run_writer(), name="store writer")
        return database

    def subscribe(self, listener: Callable[[Sequence[Change]], None]) -> None:
        """Call `listener` after each commit, once its submitters have gone on."""
        self._listeners.append(listener)

    # --- writing ------------------------------------------------------------------------------

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `unit` in a group and return its result after the commit."""
        if self._broken is not None:
            raise self._broken
        if self._closing:
            raise StoreBroken("it is being closed")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def work(tx: _SqliteTransaction) -> Coroutine[Any, Any, T]:
            return cast("Coroutine[Any, Any, T]", unit(tx, *args, **kwargs))

        await self._queue.put(_Submission(work, done))
        return await done

    async def _run_writer(self) -> None:
        while True:
            group = await self._next_group()
            if not group:
                return
            try:
                outcomes, changes = await self._commit(group)
            except Exception as error:  # noqa: BLE001  whatever failed, its submitters must learn
                outcomes, changes = [_Outcome(error=error)] * len(group), []
                if isinstance(error, StoreBroken):
                    self._fail(error)
            for submission, outcome in zip(group, outcomes, strict=True):
                _resolve(submission.done, outcome)
            if changes:
                # After the submitters' next step: they acknowledge, then viewers hear of it.
                asyncio.get_running_loop().call_soon(self._tell, changes)
            if self._queue.empty():
                await self._empty_wal()

    async def _commit(self, group: list[_Submission]) -> tuple[list[_Outcome], list[Change]]:
        if self._broken is not None:
            # A failed sync is never tried again: what it lost would pass for written.
            raise self._broken
        try:
            return await _on_thread(self._connection, _run_group, group)
        except StoreBroken as error:
            # So SQLite tells a used-up quota, too, and a limit to the size of files.
            unwritten = _name(error.__cause__) == "SQLITE_IOERR_WRITE"
            if unwritten and await asyncio.to_thread(takes_no_more, self.path):
                raise StoreFull(f"{self.path} takes no more") from error
            raise

    async def _next_group(self) -> list[_Submission]:
        first = await self._queue.get()
        if first is None:
            return []
        group = [first]
        while len(group) < GROUP_UNITS_MAX and not self._queue.empty():
            following = self._queue.get_nowait()
            if following is None:
                # What was submitted before the close is still committed, then the writer ends.
                self._queue.put_nowait(None)
                break
            group.append(following)
        return group

    def _fail(self, error: StoreBroken) -> None:
        if self._broken is None:
            self._broken = error
            self._on_fatal(error)

    def _tell(self, changes: list[Change]) -> None:
        for listener in self._listeners:
            listener(changes)

    async def _empty_wal(self) -> None:
        wal = self.path.with_name(self.path.name + "-wal")
        with contextlib.suppress(OSError):
            if wal.stat().st_size > WAL_BYTES_MAX:
                await _on_thread(self._connection, _truncate_wal)

    # --- reading ------------------------------------------------------------------------------

    async def read(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `unit` on one consistent view, for at most `READ_S_MAX`."""

        def work(tx: _SqliteTransaction) -> Coroutine[Any, Any, T]:
            return cast("Coroutine[Any, Any, T]", unit(tx, *args, **kwargs))

        reader = await self._readers.get()
        try:
            result: T = await _on_thread(reader, _run_read, work)
        finally:
            # Also when cancelled: its thread takes the next read only after this one.
            self._readers.put_nowait(reader)
        return result

    async def close(self) -> None:
        """Commit what was submitted, then close every connection, the writer's last."""
        if self._closing:
            return
        self._closing = True
        try:
            await self._queue.put(None)
            await self._writer
        finally:
            while not self._readers.empty():
                await self._readers.get_nowait().close()
            # The last one to close folds the write-ahead log in.
            await self._connection.close()


# --- on aiosqlite's thread ------------------------------------------------------------------------


async def _on_thread(connection: aiosqlite.Connection, step: Callable[..., T], *args: object) -> T:
    # One hop for a whole step; through aiosqlite's public calls each statement would be one.
    run: Callable[..., Awaitable[T]] = connection._execute  # noqa: SLF001  the only way there
    return await run(step, connection._conn, *args)  # noqa: SLF001  used on its own thread


class _SqliteTransaction:
    """`Transaction` on SQLite. Its coroutines never suspend."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.changes: list[Change] = []

    async def execute(self, sql: str, parameters: Parameters = {}) -> int:  # noqa: B006  read only
        try:
            return self._connection.execute(sql, parameters).rowcount
        except sqlite3.Error as error:
            raise _translated(error) from error

    async def executemany(self, sql: str, parameters: Iterable[Parameters]) -> None:
        try:
            self._connection.executemany(sql, parameters)
        except sqlite3.Error as error:
            raise _translated(error) from error

    async def fetch_one(self, sql: str, parameters: Parameters = {}) -> Row | None:  # noqa: B006  read only
        try:
            row: Row | None = self._connection.execute(sql, parameters).fetchone()
        except sqlite3.Error as error:
            raise _translated(error) from error
        return row

    async def fetch_all(self, sql: str, parameters: Parameters = {}) -> list[Row]:  # noqa: B006  read only
        try:
            rows: list[Row] = self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise _translated(error) from error
        return rows

    @contextlib.asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        noted = len(self.changes)
        await self.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            del self.changes[noted:]
            # SQLite may have undone all of it already (a full disk): then there is no savepoint.
            if self._connection.in_transaction:
                await self.execute("ROLLBACK TO part")
                await self.execute("RELEASE part")
            raise
        await self.execute("RELEASE part")

    def note(self, change: Change) -> None:
        self.changes.append(change)


def _run_group(
    connection: sqlite3.Connection, group: list[_Submission]
) -> tuple[list[_Outcome], list[Change]]:
    tx = _SqliteTransaction(connection)
    _drive(tx.execute("BEGIN IMMEDIATE"))
    try:
        outcomes = [_run_unit(connection, tx, submission) for submission in group]
        changes = _drive(number_changes(tx, coalesced(tx.changes)))
        failpoint("hive.store.before_commit")
        _drive(tx.execute("COMMIT"))
        failpoint("hive.store.after_commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return outcomes, changes


def _run_unit(
    connection: sqlite3.Connection, tx: _SqliteTransaction, submission: _Submission
) -> _Outcome:
    try:
        return _Outcome(value=_drive(_in_savepoint(tx, submission)))
    except (StoreFull, StoreBroken):
        raise
    except Exception as error:
        # It is its submitter's, and undone alone.
        if not connection.in_transaction:
            raise StoreFull("SQLite gave up the transaction") from error
        return _Outcome(error=error)


async def _in_savepoint(tx: _SqliteTransaction, submission: _Submission) -> object:
    async with tx.savepoint():
        return await submission.work(tx)


def _run_read(
    connection: sqlite3.Connection,
    work: Callable[[_SqliteTransaction], Coroutine[Any, Any, T]],
) -> T:
    deadline = time.monotonic() + READ_S_MAX
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_STEPS)
    tx = _SqliteTransaction(connection)
    _drive(tx.execute("BEGIN"))
    try:
        return _drive(work(tx))
    finally:
        connection.set_progress_handler(None, 0)
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _drive(unit: Coroutine[Any, Any, T]) -> T:
    try:
        unit.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    unit.close()
    raise RuntimeError("a unit of work may await nothing but its transaction")


def _read_only_uri(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}?mode=ro"


def _prepare_writer(connection: sqlite3.Connection) -> None:
    connection.row_factory = sqlite3.Row
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    if schema.schema_version(connection) > schema.migrations()[-1][0]:
        # Before the journal mode is touched: a newer store is not written to at all.
        schema.migrate(connection)
    # Of a new file only.
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
    connection.execute("PRAGMA cache_size = -32000")
    schema.migrate(connection)


def _prepare_reader(connection: sqlite3.Connection) -> None:
    connection.row_factory = sqlite3.Row
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA query_only = ON")


def _truncate_wal(connection: sqlite3.Connection) -> None:
    # A reader may be in the way: then not now. Nothing waits for it.
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError:
        log.info("the write-ahead log cannot be emptied now")
    finally:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")


def _translated(error: sqlite3.Error) -> Exception:
    """Return what an error of SQLite means to us; itself where it is the statement's fault."""
    name = _name(error)
    if name in _FULL_EXTENDED:
        return StoreFull(str(error))
    if name.startswith(("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_READONLY")):
        return StoreBroken(f"{error} ({name})")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreFull(f"another process holds it ({name})")
    if name == "SQLITE_INTERRUPT":
        return ReadTooLong(READ_S_MAX)
    return error


def _name(error: BaseException | None) -> str:
    name: str = getattr(error, "sqlite_errorname", "")
    return name


def _resolve(done: asyncio.Future[Any], outcome: _Outcome) -> None:
    # A cancelled submitter has nobody to tell; what it submitted is committed all the same.
    if done.done():
        return
    if outcome.error is not None:
        done.set_exception(outcome.error)
    else:
        done.set_result(outcome.value)


def _log_fatal(error: StoreBroken) -> None:
    log.critical("%s", error)
