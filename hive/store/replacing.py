"""One store's file put in another's place: at any moment the old or the new one is there whole.

A write-ahead log belongs to the file it was written beside, and SQLite takes any that it finds: the
old store is made one file before anything of it is moved. All of this blocks: call it on a thread.
"""

import contextlib
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from hive.failpoints import failpoint
from hive.store.signing_key import sync_folder
from protocol.errors import ErrorCode, SkepError

_SIDES: Final = ("-wal", "-shm")
#: SQLite's words for a store that is good, but cannot be made one file now.
_IN_USE: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def put_in_place(fresh: Path, database: Path, now_ms: int) -> Path | None:
    """Put `fresh` in the place of `database`; return where the old store is kept, if there was one.

    Nobody else may have either open. Raises CONFLICT where someone has, STORE_FULL without room.
    """
    _as_one_file(fresh)
    replaced = None
    if database.exists():
        replaced = database.with_name(f"{database.name}.replaced-{now_ms}")
        _put_aside(database, replaced)
        failpoint("hive.restore.aside")
    fresh.replace(database)
    sync_folder(database.parent)
    return replaced


def remove_store(file: Path) -> None:
    """Delete a store with what SQLite keeps beside it."""
    file.unlink(missing_ok=True)
    _beside(file, "-journal").unlink(missing_ok=True)
    _remove_sides(file)


def _put_aside(database: Path, aside: Path) -> None:
    """Keep a store under a second name, alone in its file where that can be."""
    for left in database.parent.glob(f"{database.name}.replaced-*"):
        _drop_unfinished(left, database)
    # SQLite throws the log of a store away that it cannot read.
    for suffix in _SIDES:
        with contextlib.suppress(FileNotFoundError):
            _link(_beside(database, suffix), _beside(aside, suffix))
    try:
        _as_one_file(database)
    except sqlite3.Error:
        # It was not whole before either; all there is of it is kept for who wants to save some.
        pass
    else:
        _remove_sides(aside)
    failpoint("hive.restore.folded")
    _link(database, aside)
    sync_folder(database.parent)
    _remove_sides(database)


def _drop_unfinished(left: Path, database: Path) -> None:
    """Delete what a restore left that died here: second names of what a hive has used since."""
    whole = Path(str(left).removesuffix("-wal").removesuffix("-shm"))
    if not whole.exists() or whole.samefile(database):
        left.unlink(missing_ok=True)


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def _remove_sides(file: Path) -> None:
    for suffix in _SIDES:
        _beside(file, suffix).unlink(missing_ok=True)


def _as_one_file(file: Path) -> None:
    """Bring what stands beside a store into it. Raises sqlite3.Error where it is damaged."""
    try:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=1.0)) as connection:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise SkepError(
                ErrorCode.STORE_FULL,
                f"there is no room to close {file}",
                hint="Make room on its disk.",
            ) from error
        if code not in _IN_USE:
            raise
        busy = 1
    if busy:
        raise SkepError(
            ErrorCode.CONFLICT,
            f"another program reads {file}",
            hint="Wait for it, or end it: a backup, hive doctor, or sqlite3.",
        )


def _link(file: Path, second: Path) -> None:
    try:
        os.link(file, second)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:
        # A file system without second names.
        shutil.copy2(file, second)
