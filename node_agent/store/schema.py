"""Numbered schema changes: which a database has, which it lacks, and applying them in order.

Forward only. Must not touch a database whose schema is newer than this program.
"""

import re
import sqlite3
from collections.abc import Iterator
from importlib import resources
from typing import NamedTuple

from node_agent.store.errors import SchemaTooNew

_NAME = re.compile(r"(\d{4})_\w+\.sql")


class Migration(NamedTuple):
    """One step of a schema: its number and the statements."""

    number: int
    name: str
    text: str


def migrations_of(schema: str) -> list[Migration]:
    """Return the steps of `schema` (a folder below `migrations/`), in order."""
    folder = resources.files("node_agent.store") / "migrations" / schema
    found = []
    for entry in folder.iterdir():
        match = _NAME.fullmatch(entry.name)
        if match:
            text = entry.read_text(encoding="utf-8")
            found.append(Migration(int(match[1]), entry.name, text))
    found.sort()
    return found


def schema_of(connection: sqlite3.Connection) -> int:
    """Return the number of the newest step this database has; 0 for an empty one."""
    table = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'"
    ).fetchone()
    if table is None:
        return 0
    newest = connection.execute("SELECT max(version) FROM schema_version").fetchone()[0]
    return int(newest or 0)


def check(connection: sqlite3.Connection, path: str, steps: list[Migration]) -> None:
    """Raise SchemaTooNew, before anything is written, where this program is the older one."""
    found, known = schema_of(connection), steps[-1].number
    if found > known:
        raise SchemaTooNew(path, found, known)


def migrate(connection: sqlite3.Connection, steps: list[Migration]) -> None:
    """Apply the steps the database lacks, each in one transaction with its row."""
    found = schema_of(connection)
    for step in steps:
        if step.number <= found:
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(step.text):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO schema_version (version, name) VALUES (?, ?)",
                (step.number, step.name),
            )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _statements(text: str) -> Iterator[str]:
    # Not executescript(): it commits what is open, and a half-applied step must not stay.
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
