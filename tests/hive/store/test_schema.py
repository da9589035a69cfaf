"""Migrations: applied once, in order, whole; a newer store is not touched."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hive.store import schema
from hive.store.schema import SchemaTooNew
from hive.store.sqlite import SqliteDatabase


def connect(path: Path) -> sqlite3.Connection:
    """Open a file in autocommit mode."""
    return sqlite3.connect(path, isolation_level=None)


def test_migrations_are_applied_once(tmp_path):
    """A second run finds nothing to do."""
    with closing(connect(tmp_path / "a.db")) as connection:
        assert schema.schema_version(connection) == 0
        schema.migrate(connection)
        newest = schema.migrations()[-1][0]
        assert schema.schema_version(connection) == newest
        schema.migrate(connection)
        rows = connection.execute("SELECT version FROM schema_version ORDER BY version").fetchall()
        assert [row[0] for row in rows] == [number for number, _ in schema.migrations()]


def test_numbers_follow_each_other():
    """Migrations are numbered from 1 without a hole."""
    numbers = [number for number, _ in schema.migrations()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_migration_that_fails_leaves_nothing(tmp_path, monkeypatch):
    """A step that breaks half-way is undone whole."""
    steps = [*schema.migrations(), (99, "CREATE TABLE half (a INTEGER) STRICT; CREATE TABLE half;")]
    monkeypatch.setattr(schema, "migrations", lambda: steps)
    with closing(connect(tmp_path / "a.db")) as connection:
        with pytest.raises(sqlite3.Error):
            schema.migrate(connection)
        assert schema.schema_version(connection) == steps[-2][0]
        found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'")
        assert found.fetchone()[0] == 0


@pytest.mark.asyncio
async def test_a_newer_store_is_refused_before_anything_is_written(tmp_path):
    """A release that is older than the store leaves every byte of it alone."""
    path = tmp_path / "hive.db"
    with closing(connect(path)) as connection:
        schema.migrate(connection)
        connection.execute("INSERT INTO schema_version (version) VALUES (999)")
    before = hashlib.sha256(path.read_bytes()).digest()
    with pytest.raises(SchemaTooNew) as caught:
        await SqliteDatabase.open(path)
    assert "newer" in caught.value.hint
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_statements_are_parted_where_they_end():
    """A semicolon in a comment or a text ends nothing."""
    text = "-- one; two\nCREATE TABLE a (b TEXT DEFAULT ';') STRICT;\nSELECT 1;\n"
    found = list(schema.statements(text))
    assert len(found) == 2
    assert found[1].strip() == "SELECT 1;"
