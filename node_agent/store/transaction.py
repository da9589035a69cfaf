"""What a unit of work is given, and how one is run inside a group without harming the others.

Must not open connections or commit: that is the database's.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, cast

T = TypeVar("T")
Parameters = Mapping[str, Any]
Row = sqlite3.Row

_NO_PARAMETERS: Final[Parameters] = {}


class Transaction:
    """Statements of one unit. On SQLite no call suspends; a unit awaits nothing else."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.announced: list[object] = []

    async def execute(self, sql: str, parameters: Parameters = _NO_PARAMETERS) -> int:
        """Run a statement; return how many rows it changed."""
        return self._connection.execute(sql, parameters).rowcount

    async def executemany(self, sql: str, parameters: Iterable[Parameters]) -> None:
        self._connection.executemany(sql, parameters)

    async def fetch_one(self, sql: str, parameters: Parameters = _NO_PARAMETERS) -> Row | None:
        row: Row | None = self._connection.execute(sql, parameters).fetchone()
        return row

    async def fetch_all(self, sql: str, parameters: Parameters = _NO_PARAMETERS) -> Sequence[Row]:
        return self._connection.execute(sql, parameters).fetchall()

    async def fetch_up_to(
        self, sql: str, parameters: Parameters, enough: Callable[[Row], bool]
    ) -> list[Row]:
        """Return rows until `enough` says so of one (which is still taken)."""
        rows: list[Row] = []
        for row in self._connection.execute(sql, parameters):
            rows.append(row)
            if enough(row):
                break
        return rows

    def announce(self, event: object) -> None:
        """Have the listeners told of `event` once this unit is committed."""
        self.announced.append(event)


class Submitted(Generic[T]):
    """A unit on its way through a group, and who waits for it."""

    def __init__(
        self, unit: Callable[[Transaction], Coroutine[Any, Any, T]], future: asyncio.Future[T]
    ) -> None:
        self._unit = unit
        self.future = future
        self._result: T | None = None
        self._error: Exception | None = None

    def run(self, connection: sqlite3.Connection) -> list[object]:
        """Run the unit in a savepoint, on the writer's thread; return what it announced.

        What a unit raises stays with it, unless SQLite has given up the whole transaction.
        """
        tx = Transaction(connection)
        connection.execute("SAVEPOINT unit")
        try:
            self._result = drive(self._unit(tx))
        except Exception as error:
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO unit")
            connection.execute("RELEASE unit")
            if isinstance(error, sqlite3.Error) and _hurts_all(error):
                raise
            self._error = error
            return []
        connection.execute("RELEASE unit")
        return tx.announced

    def resolve(self) -> None:
        """Tell the submitter, after the commit."""
        if self.future.done():
            return
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(cast("T", self._result))

    def fail(self, error: Exception) -> None:
        """Tell the submitter that the group was not committed."""
        if not self.future.done():
            self.future.set_exception(error)


def drive(unit: Awaitable[T]) -> T:
    """Run a unit that never suspends to its end."""
    steps = unit.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        return cast("T", stop.value)
    # close() is there on coroutines; a unit that waits would hold the only writer up.
    steps.close()
    raise RuntimeError("a unit of work awaited something other than its transaction")


def _hurts_all(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_NOMEM,
    }
