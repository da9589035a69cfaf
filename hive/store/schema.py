"""The schema of a SQLite store and how it grows: numbered files, each applied once, in order.

Must not open databases: it is given a connection in autocommit mode.
"""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from protocol.errors import ErrorCode, SkepError

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


class SchemaTooNew(SkepError):  # noqa: N818  said of the schema
    """A newer release has written this store; this one would not understand what it finds."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            ErrorCode.CONFLICT,
            f"the store has schema {found}, and this release knows {known} at most",
            hint="Run the release that wrote it, or a newer one; or restore an older backup.",
        )


def migrations() -> list[tuple[int, str]]:
    """Return number and text of every migration, in order."""
    found = []
    for path in sorted(MIGRATIONS.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is not None:
            found.append((int(match[1]), path.read_text(encoding="utf-8")))
    return found


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the number of the newest migration applied; 0 for an empty database."""
    known = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'"
    ).fetchone()
    if known is None:
        return 0
    row = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    return int(row[0] or 0)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to this release's. Raises SchemaTooNew before anything is written."""
    steps = migrations()
    newest = steps[-1][0]
    present = schema_version(connection)
    if present > newest:
        raise SchemaTooNew(present, newest)
    for number, text in steps:
        if number > present:
            _apply(connection, number, text)


def _apply(connection: sqlite3.Connection, number: int, text: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY) STRICT"
        )
        for statement in statements(text):
            connection.execute(statement)
        connection.execute("INSERT INTO schema_version (version) VALUES (?)", (number,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def statements(text: str) -> Iterator[str]:
    """Part a migration into statements: `executescript` would commit in between."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
