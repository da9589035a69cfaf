"""A store looked at from outside, by another process than its hive: is it whole, what stands out.

Reads only, and never folds in the write-ahead log: that is its writer's alone.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from hive.store.schema import schema_version
from protocol.errors import ErrorCode, SkepError

_HIVE = "SELECT hive_id FROM hive WHERE id = 1"
_DEAD = "SELECT count(*) FROM dead_op"
_UNKNOWN = "SELECT count(*) FROM unknown_op"
_PARTIAL = "SELECT count(*) FROM attempt WHERE sync_state <> 'complete'"
_QUARANTINED = """
SELECT name FROM node WHERE quarantined_at_ms IS NOT NULL AND revoked_at_ms IS NULL ORDER BY name
"""


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `integrity` is `ok`, or the first thing that is not."""

    hive_id: str
    schema: int
    integrity: str
    ops_dead: int
    ops_unknown: int
    attempts_partial: int
    quarantined: list[str]


def inspect(database: Path) -> Inspection:
    """Look at a store, also one in use. Raises INVALID where it cannot be read at all."""
    address = f"file:{quote(str(database.absolute()))}?mode=ro"
    if not may_be_used(database) and not _is_open(database):
        # Even to read, SQLite would make files beside it.
        address += "&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as connection:
            integrity = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            return Inspection(
                hive_id=_one(connection, _HIVE),
                schema=schema_version(connection),
                integrity=integrity,
                ops_dead=_one(connection, _DEAD),
                ops_unknown=_one(connection, _UNKNOWN),
                attempts_partial=_one(connection, _PARTIAL),
                quarantined=[row[0] for row in connection.execute(_QUARANTINED)],
            )
    except sqlite3.Error as error:
        raise SkepError(
            ErrorCode.INVALID,
            f"the store at {database} cannot be read: {error}",
            hint="Restore the newest whole backup: hive restore FILE --force"
            if may_be_used(database)
            else "That says nothing of what is in it: look as the user who owns the folder.",
        ) from error


def may_be_used(database: Path) -> bool:
    """Whether this user may write the store and the folder that it is in."""
    return os.access(database, os.R_OK | os.W_OK) and os.access(database.parent, os.W_OK)


def _is_open(database: Path) -> bool:
    """Whether a process has it open, or left something that is still to be folded in."""
    shared, log = (database.with_name(f"{database.name}{end}") for end in ("-shm", "-wal"))
    return shared.exists() or (log.exists() and log.stat().st_size > 0)


def _one(connection: sqlite3.Connection, statement: str) -> Any:
    return connection.execute(statement).fetchone()[0]
