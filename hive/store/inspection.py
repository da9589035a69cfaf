"""A store looked at from outside, by another process than its hive: is it whole, what stands out.

Reads only, and never folds in the write-ahead log: that is its writer's alone.
"""

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
            hint="Restore the newest whole backup: hive restore FILE --force",
        ) from error


def _one(connection: sqlite3.Connection, statement: str) -> Any:
    return connection.execute(statement).fetchone()[0]
