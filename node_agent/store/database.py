"""One database file: one writer that groups what is submitted into commits, and a few readers.

Units of work are `async def unit(tx, ...)` that never really suspend here: on SQLite they run
whole on the connection's thread. Must not know what is in the tables.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

import aiosqlite

from node_agent.failpoints import failpoint
from node_agent.store import file_damage as damage
from node_agent.store import schema as schemas
from node_agent.store.errors import (
    ReadTooLong,
    SchemaTooNew,
    StoreBroken,
    StoreClosed,
    StoreFull,
    StoreUnreadable,
)
from node_agent.store.room import takes_no_more
from node_agent.store.transaction import Submitted, Transaction, drive

P = ParamSpec("P")
T = TypeVar("T")
Unit = Callable[Concatenate[Transaction, P], Coroutine[Any, Any, T]]
Listener = Callable[[Sequence[object]], None]

LOG: Final = logging.getLogger(__name__)
#: Units in one commit: beyond this the submitters at its front wait for those at its back.
GROUP_UNITS_MAX: Final = 200
#: Units that wait; a submitter beyond waits with its unit in hand.
QUEUE_UNITS_MAX: Final = 1_000
READERS_MAX: Final = 2
#: A longer read would keep the write-ahead log from being reset.
READ_S_MAX: Final = 5.0
#: Chunks are tens of kilobytes: half as many pages to write, twice, as of SQLite's usual size.
_PAGE_BYTES: Final = 8192
#: The write-ahead log is cut back to this after a checkpoint.
_WAL_BYTES_KEPT: Final = 16 * 1024 * 1024
_BUSY_MS: Final = 5_000
#: Instructions of SQLite's machine between two looks at the clock.
_PROGRESS_STEPS: Final = 20_000
#: Primary result codes after which a sync or a page cannot be trusted any more.
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_FATAL: Final = _DAMAGED | {sqlite3.SQLITE_IOERR}
#: Extended ones that may mean a used-up quota or a limit to the size of files.
_MAYBE_FULL: Final = frozenset(
    {sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMOPEN}
)


class Database:
    """A database file, open. Made by `Database.open`; `close` ends its threads."""

    def __init__(
        self,
        path: Path,
        writer: aiosqlite.Connection,
        on_fatal: Callable[[StoreBroken], None],
        *,
        replaceable: bool,
    ) -> None:
        self.path = path
        #: Where a damaged file is that stood in this one's place; None as it should be.
        self.replaced: Path | None = None
        self._replaceable = replaceable
        self._writer = writer
        self._on_fatal = on_fatal
        self._queue: asyncio.Queue[Submitted[Any] | None] = asyncio.Queue(QUEUE_UNITS_MAX)
        self._readers: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._readers_open: list[aiosqlite.Connection] = []
        self._reader_slots = asyncio.Semaphore(READERS_MAX)
        self._reads: set[asyncio.Task[Any]] = set()
        self._listeners: list[Listener] = []
        self._broken: StoreBroken | None = None
        self._closing = False
        self._writing = asyncio.create_task(self._run_writer(), name=f"writer of {path.name}")

    @classmethod
    async def open(
        cls,
        path: Path,
        schema: str,
        *,
        on_fatal: Callable[[StoreBroken], None],
        shrinks: bool = False,
        replaceable: bool = False,
    ) -> Self:
        """Open or make the database, and bring its schema up to date.

        `shrinks`: deleted rows give their room back to the disk, by `give_back`. `replaceable`: one
        that is damaged is set aside and begun anew, and `replaced` says where it is. Raises
        SchemaTooNew, StoreUnreadable or StoreFull.
        """
        if replaceable and damage.is_marked(path):
            return await cls._open_anew(path, schema, on_fatal, shrinks)
        try:
            return await cls._open(path, schema, on_fatal, shrinks, replaceable)
        except StoreUnreadable as error:
            if not (replaceable and error.damaged):
                raise
        return await cls._open_anew(path, schema, on_fatal, shrinks)

    @classmethod
    async def _open_anew(
        cls, path: Path, schema: str, on_fatal: Callable[[StoreBroken], None], shrinks: bool
    ) -> Self:
        aside = await asyncio.to_thread(damage.set_aside, path)
        LOG.error("%s is damaged; it is kept as %s, and a new one is begun", path, aside)
        database = await cls._open(path, schema, on_fatal, shrinks, True)
        database.replaced = aside
        return database

    @classmethod
    async def _open(
        cls,
        path: Path,
        schema: str,
        on_fatal: Callable[[StoreBroken], None],
        shrinks: bool,
        replaceable: bool,
    ) -> Self:
        steps = schemas.migrations_of(schema)
        try:
            # 0600 from its first byte: what an agent printed, and prompts, are in here.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            writer = await aiosqlite.connect(path, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnreadable(str(path), str(error), writable=_is_writable(path)) from error
        try:
            await _on_thread(writer, _prepare, path, writer, steps, shrinks)
        except sqlite3.Error as error:
            await writer.close()
            if await asyncio.to_thread(_found_no_room, error, path):
                raise StoreFull(str(path)) from error
            damaged = _primary_code(error) in _DAMAGED
            raise StoreUnreadable(
                str(path), str(error), damaged=damaged, writable=_is_writable(path)
            ) from error
        except SchemaTooNew:
            await writer.close()
            raise
        return cls(path, writer, on_fatal, replaceable=replaceable)

    # --- writing ------------------------------------------------------------------------------

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a unit in the next commit; return its result once that is on the disk.

        What the unit raises is raised here, and nothing of the unit is kept. A cancelled caller
        does not stop the unit.
        """
        if self._closing or self._broken is not None:
            raise self._broken or StoreClosed(str(self.path))
        submitted: Submitted[T] = Submitted(
            lambda tx: unit(tx, *args, **kwargs), asyncio.get_running_loop().create_future()
        )
        await self._queue.put(submitted)
        return await submitted.future

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` after each commit with what its units announced; returns the undoing.

        It is called on the event loop, before the submitters' results, and must not block.
        """
        self._listeners.append(listener)

        def stop() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return stop

    async def _run_writer(self) -> None:
        while (first := await self._queue.get()) is not None:
            group = [first]
            more: Submitted[Any] | None = first
            while len(group) < GROUP_UNITS_MAX and not self._queue.empty():
                more = self._queue.get_nowait()
                if more is None:
                    break
                group.append(more)
            await self._commit(group)
            if more is None:
                break

    async def _commit(self, group: list[Submitted[Any]]) -> None:
        failure: Exception | None = self._broken
        announced: list[object] = []
        if failure is None:
            try:
                announced = await _on_thread(self._writer, self._run_group, group)
            except Exception as error:  # noqa: BLE001  whatever it is, the submitters get it
                failure = await self._judge(error)
        if failure is not None:
            for submitted in group:
                submitted.fail(failure)
            return
        for listener in list(self._listeners):
            try:
                listener(announced)
            except Exception:
                LOG.exception("a listener of %s failed", self.path.name)
        for submitted in group:
            submitted.resolve()

    def _run_group(self, group: list[Submitted[Any]]) -> list[object]:
        """Run a group in one transaction, on the writer's thread."""
        connection = self._writer._conn  # noqa: SLF001  see _on_thread
        announced: list[object] = []
        connection.execute("BEGIN IMMEDIATE")
        try:
            for submitted in group:
                announced.extend(submitted.run(connection))
            failpoint("node.store.before_commit")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        failpoint("node.store.after_commit")
        return announced

    async def _judge(self, error: Exception) -> Exception:
        """Return what the submitters of a failed group are told; end it all where that is due."""
        if not isinstance(error, sqlite3.Error):
            return error
        if await asyncio.to_thread(_found_no_room, error, self.path):
            return StoreFull(str(self.path))
        code = _primary_code(error)
        if code in _FATAL:
            return self._break(code, error)
        return error

    def _break(self, code: int, error: sqlite3.Error) -> StoreBroken:
        """Give the file up in this process, and have the process end."""
        if code in _DAMAGED and self._replaceable:
            # The next process does not stumble over it again.
            damage.mark(self.path)
        if self._broken is None:
            # A failed fsync may have dropped the dirty pages: a second one would report success.
            self._broken = StoreBroken(str(self.path), str(error))
            self._on_fatal(self._broken)
        return self._broken

    # --- reading ------------------------------------------------------------------------------

    async def read(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a reading unit in one transaction of its own. Raises ReadTooLong after 5 s."""
        if self._closing:
            raise StoreClosed(str(self.path))
        # In a task of its own: a caller that is cancelled leaves while the thread still reads,
        # and the connection must not be given to the next one before that is over.
        task = asyncio.create_task(self._read(lambda tx: unit(tx, *args, **kwargs)))
        self._reads.add(task)
        task.add_done_callback(self._read_done)
        return await asyncio.shield(task)

    def _read_done(self, task: asyncio.Task[Any]) -> None:
        self._reads.discard(task)
        if not task.cancelled():
            # Seen by the caller, or by nobody: one that was cancelled has gone.
            task.exception()

    async def _read(self, unit: Callable[[Transaction], Awaitable[T]]) -> T:
        async with self._reader() as reader:
            try:
                return await _on_thread(reader, _run_read, reader, unit)
            except sqlite3.OperationalError as error:
                if _primary_code(error) == sqlite3.SQLITE_INTERRUPT:
                    raise ReadTooLong(READ_S_MAX) from error
                raise
            except sqlite3.DatabaseError as error:
                code = _primary_code(error)
                if code in _DAMAGED:
                    raise self._break(code, error) from error
                raise

    @contextlib.asynccontextmanager
    async def _reader(self) -> AsyncIterator[aiosqlite.Connection]:
        async with self._reader_slots:
            if self._readers.empty():
                # Read only, so that it never checkpoints, not even as the last one to close.
                reader = await aiosqlite.connect(
                    f"{self.path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
                )
                self._readers_open.append(reader)
                await _on_thread(reader, _prepare_reader, reader)
            else:
                reader = self._readers.get_nowait()
            try:
                yield reader
            finally:
                self._readers.put_nowait(reader)

    # --- upkeep -------------------------------------------------------------------------------

    async def checkpoint(self) -> None:
        """Move the write-ahead log into the database and cut it back, as far as readers allow."""
        await _on_thread(self._writer, _run_checkpoint, self._writer)

    async def give_back(self, pages_max: int) -> None:
        """Return up to `pages_max` free pages to the disk."""
        await _on_thread(self._writer, _run_give_back, self._writer, pages_max)

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log: one that grows and grows has a stuck reader."""
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    async def close(self) -> None:
        """Commit what was submitted, then close every connection."""
        if self._closing:
            return
        self._closing = True
        await self._queue.put(None)
        try:
            await asyncio.shield(self._writing)
            while not self._queue.empty():
                late = self._queue.get_nowait()
                if late is not None:
                    late.fail(StoreClosed(str(self.path)))
            if self._reads:
                await asyncio.wait(set(self._reads))
        finally:
            for reader in self._readers_open:
                await reader.close()
            await self._writer.close()


def _prepare(
    path: Path, writer: aiosqlite.Connection, steps: list[schemas.Migration], shrinks: bool
) -> None:
    connection = writer._conn  # noqa: SLF001  see _on_thread
    connection.row_factory = sqlite3.Row
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    schemas.check(connection, str(path), steps)
    # Both only before the first table, and only then are they obeyed.
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    if shrinks:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES_KEPT}")
    schemas.migrate(connection, steps)


def _prepare_reader(reader: aiosqlite.Connection) -> None:
    connection = reader._conn  # noqa: SLF001  see _on_thread
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA query_only = 1")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")


def _run_read(reader: aiosqlite.Connection, unit: Callable[[Transaction], Awaitable[T]]) -> T:
    connection = reader._conn  # noqa: SLF001  see _on_thread
    ends_at = time.monotonic() + READ_S_MAX
    connection.set_progress_handler(lambda: time.monotonic() > ends_at, _PROGRESS_STEPS)
    connection.execute("BEGIN")
    try:
        return drive(unit(Transaction(connection)))
    finally:
        connection.set_progress_handler(None, 0)
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _run_checkpoint(writer: aiosqlite.Connection) -> None:
    writer._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # noqa: SLF001  as above


def _run_give_back(writer: aiosqlite.Connection, pages_max: int) -> None:
    # Each step frees one page, and execute() makes only one step of a statement with no columns.
    writer._conn.executescript(  # noqa: SLF001  see _on_thread
        f"PRAGMA incremental_vacuum({int(pages_max)})"
    )


async def _on_thread(connection: aiosqlite.Connection, function: Callable[..., T], *args: Any) -> T:
    """Run `function` on the connection's thread, in one hop however many statements it makes."""
    # aiosqlite's public calls hop once for each statement: 200 units would be 600 hops.
    execute: Callable[..., Awaitable[T]] = connection._execute  # noqa: SLF001
    return await execute(function, *args)


def _is_writable(path: Path) -> bool:
    return os.access(path.parent, os.W_OK) and os.access(path, os.R_OK | os.W_OK)


def _found_no_room(error: sqlite3.Error, path: Path) -> bool:
    """Whether it failed because nothing more can be written; looks at the disk where in doubt."""
    if _primary_code(error) == sqlite3.SQLITE_FULL:
        return True
    return getattr(error, "sqlite_errorcode", 0) in _MAYBE_FULL and takes_no_more(path)


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
