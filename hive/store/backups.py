"""Copies of the hive's store: made while it runs, verified, listed outside it, put back.

What every verified copy of the last days holds is safe: nodes may delete it. That is read from the
copies themselves, never from memory of having made them.

All of this blocks: call it on a thread, but for `restore`.
"""

import asyncio
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from hive.failpoints import failpoint
from hive.projections import EventDraft
from hive.store import credentials, deferred, events, identity, operations, schema
from hive.store.credentials import Revocations
from hive.store.folder_lock import FolderLock
from hive.store.line_files import NO_ROOM, append_line
from hive.store.ownership import give_to_owner
from hive.store.replacing import put_in_place, remove_store
from hive.store.signing_key import sync_folder
from hive.store.sqlite import SqliteDatabase
from protocol.errors import ErrorCode, SkepError

#: A copy counts for this long; the newest one counts however old it is.
COUNTED_MS: Final = 7 * 86_400_000

_SELECT_HIVE = "SELECT hive_id, generation FROM hive WHERE id = 1"
_SELECT_MARKS = "SELECT node_id, epoch, mark, digest FROM epoch"
_SELECT_DIGEST = "SELECT digest FROM op WHERE node_id = ? AND epoch = ? AND seq = ?"
#: The mark of each epoch and the running digest there, by node.
_Marks = dict[str, dict[int, tuple[int, bytes]]]
_SELECT_WHOLE_LOGS = """
SELECT node_id, execution_id, digest FROM log
WHERE end_chunks IS NOT NULL AND next_chunk > end_chunks
    AND (end_chain = digest OR coalesce(length(end_chain), 0) = 0)
"""


class BackupRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One copy, as it stands in the list. `path` is absolute."""

    path: str
    at_ms: int
    hive_id: str
    bytes: int


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a copy holds: marks by node and epoch, whole logs (id, running digest) by node."""

    hive_id: str
    generation: int
    marks: _Marks
    whole_logs: dict[str, frozenset[tuple[str, bytes]]]


class SafeMarks(msgspec.Struct, frozen=True, kw_only=True):
    """What every copy that counts holds. `counted`: how many there are; 0 where there is none."""

    counted: int
    marks: _Marks
    whole_logs: dict[str, frozenset[tuple[str, bytes]]]

    def epochs_of(self, node_id: str) -> list[tuple[int, int, bytes]]:
        """Return (epoch, seq, digest) through which a node's ops are, the same, in all copies."""
        marks = self.marks.get(node_id, {})
        return [(epoch, *marks[epoch]) for epoch in sorted(marks)]

    def logs_of(self, node_id: str) -> list[tuple[str, bytes]]:
        """Return a node's logs that are complete, and the same, in all copies."""
        return sorted(self.whole_logs.get(node_id, ()))


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What was put back. `revoked`: nodes and tokens the copy still held good."""

    hive_id: str
    generation: int
    revoked: int
    replaced: str | None


# --- making ---------------------------------------------------------------------------------------


def backup(database: Path, file: Path, listing: Path, now_ms: int) -> BackupRecord:
    """Copy a store, also one in use, to `file`; verify the copy; list it.

    `file` appears whole and verified, or not at all.
    """
    if not database.exists():
        raise SkepError(
            ErrorCode.NOT_FOUND,
            f"there is no hive's store at {database}",
            hint="Give the hive's folder by --data.",
        )
    if file.is_dir():
        raise SkepError(ErrorCode.INVALID, f"{file} is a folder", hint="Give the name of a file.")
    file = file.absolute()
    temporary = file.with_name(f".{file.name}.new")
    try:
        _copy(database, temporary, database)
        verified = verify(temporary)
        failpoint("hive.backup.verified")
        temporary.replace(file)
        sync_folder(file.parent)
    except OSError as error:
        raise SkepError(
            ErrorCode.STORE_FULL if error.errno in NO_ROOM else ErrorCode.INVALID,
            f"cannot write {file}: {error.strerror}",
            hint="Give a file in a folder you may write to, with room.",
        ) from error
    finally:
        remove_store(temporary)
    failpoint("hive.backup.written")
    record = BackupRecord(
        path=str(file), at_ms=now_ms, hive_id=verified.hive_id, bytes=file.stat().st_size
    )
    append_line(listing, msgspec.json.encode(record))
    return record


def _copy(database: Path, temporary: Path, owned_as: Path) -> None:
    # With its journal: SQLite would take it for the new file's, and play it back.
    remove_store(temporary)
    made = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        give_to_owner(made, owned_as)
    finally:
        os.close(made)
    try:
        with _opened(database) as source, closing(sqlite3.connect(temporary)) as target:
            # In one step: in several, each write of the hive would begin it anew.
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        code = ErrorCode.STORE_FULL if "full" in str(error) else ErrorCode.INTERNAL
        raise SkepError(
            code,
            f"the copy in {temporary.parent} failed: {error}",
            hint="Check that the disk there has room, and that the hive's folder is yours.",
        ) from error
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_backups(listing: Path) -> list[BackupRecord]:
    """Return the copies that were made, oldest first; the latest word on each path."""
    if not listing.exists():
        return []
    records: dict[str, BackupRecord] = {}
    for line in listing.read_bytes().splitlines():
        try:
            record = msgspec.json.decode(line, type=BackupRecord)
        except msgspec.MsgspecError:
            # Cut off by a crash: the copy is there, and not counted.
            continue
        records.pop(record.path, None)
        records[record.path] = record
    return list(records.values())


# --- reading --------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path, *, immutable: bool = False) -> Iterator[sqlite3.Connection]:
    options = "mode=ro&immutable=1" if immutable else "mode=ro"
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?{options}", uri=True, isolation_level=None
    )
    with closing(connection):
        yield connection


def is_hidden(file: Path) -> bool:
    """Whether this copy may be there, and this user may not look at it."""
    try:
        file.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(file, os.R_OK)


def verify(file: Path) -> Verified:
    """Check a copy from end to end and return what it holds. Raises INVALID, or NOT_FOUND."""
    if is_hidden(file):
        raise SkepError(
            ErrorCode.INVALID,
            f"{file} cannot be read by this user",
            hint="Make backups as the hive's user; until this one can be read nodes keep all.",
            file=str(file),
        )
    if not file.is_file():
        raise SkepError(
            ErrorCode.NOT_FOUND,
            f"there is no file {file}",
            hint="Give a copy that `hive backup` made.",
            file=str(file),
        )
    try:
        with _opened(file, immutable=True) as connection:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise _damaged(file, found)
            newest = schema.migrations()[-1][0]
            if not 0 < schema.schema_version(connection) <= newest:
                raise _damaged(file, "its schema is not one of this release's")
            return _contents(connection)
    except sqlite3.Error as error:
        raise _damaged(file, str(error)) from error


def _contents(connection: sqlite3.Connection) -> Verified:
    hive_id, generation = connection.execute(_SELECT_HIVE).fetchone()
    marks: _Marks = {}
    for node_id, epoch, mark, digest in connection.execute(_SELECT_MARKS):
        marks.setdefault(node_id, {})[epoch] = (mark, bytes(digest))
    logs: dict[str, set[tuple[str, bytes]]] = {}
    for node_id, execution_id, digest in connection.execute(_SELECT_WHOLE_LOGS):
        logs.setdefault(node_id, set()).add((execution_id, bytes(digest)))
    return Verified(
        hive_id=hive_id,
        generation=generation,
        marks=marks,
        whole_logs={node_id: frozenset(ids) for node_id, ids in logs.items()},
    )


def _damaged(file: Path, why: str) -> SkepError:
    return SkepError(
        ErrorCode.INVALID,
        f"{file} is no whole copy of a hive's store: {why}",
        hint="Use another copy; hive doctor lists them.",
    )


def read_safe_marks(listing: Path, hive_id: str, now_ms: int) -> SafeMarks:
    """Return what is in every verified copy that counts, from the copies themselves.

    A copy that is gone or damaged could not be restored, so it holds nothing back. With one that
    may not be looked at nothing is known to be safe. Raises OSError for a list that cannot be read.
    """
    whole, hidden_ms = [], []
    for record in list_backups(listing):
        if is_hidden(Path(record.path)):
            hidden_ms.append(record.at_ms)
            continue
        try:
            verified = verify(Path(record.path))
        except SkepError:
            continue
        if verified.hive_id == hive_id:
            whole.append((record.at_ms, Path(record.path), verified))
    whole.sort(key=lambda one: one[0])
    # Where all are too old, the newest counts.
    counted_from_ms = min(now_ms - COUNTED_MS, whole[-1][0] if whole else 0)
    if any(at_ms >= counted_from_ms for at_ms in hidden_ms):
        return SafeMarks(counted=1, marks={}, whole_logs={})
    counted = [one for one in whole if one[0] >= now_ms - COUNTED_MS] or whole[-1:]
    safe = lowest([verified for _, _, verified in counted])
    for _, path, verified in counted:
        _drop_parted(safe.marks, path, verified)
    return safe


def lowest(copies: Sequence[Verified]) -> SafeMarks:
    """Return what all of these copies hold."""
    if not copies:
        return SafeMarks(counted=0, marks={}, whole_logs={})
    first, *others = copies
    marks = {
        node_id: {
            epoch: min([mark, *(one.marks[node_id][epoch] for one in others)])
            for epoch, mark in epochs.items()
            if all(epoch in one.marks.get(node_id, {}) for one in others)
        }
        for node_id, epochs in first.marks.items()
    }
    logs = {
        node_id: ids.intersection(*(one.whole_logs.get(node_id, frozenset()) for one in others))
        for node_id, ids in first.whole_logs.items()
    }
    return SafeMarks(counted=len(copies), marks=marks, whole_logs=logs)


def _drop_parted(safe: _Marks, path: Path, verified: Verified) -> None:
    """Take out the epochs of which this copy holds another history than the one with the mark."""
    with _opened(path, immutable=True) as connection:
        for node_id, epochs in safe.items():
            for epoch, (mark, digest) in list(epochs.items()):
                if verified.marks[node_id][epoch] == (mark, digest):
                    continue
                row = connection.execute(_SELECT_DIGEST, (node_id, epoch, mark)).fetchone()
                # Given up there, behind a snapshot: nothing to compare, and nothing to lose.
                if row is not None and bytes(row[0]) != digest:
                    del epochs[epoch]


# --- putting back ---------------------------------------------------------------------------------


async def restore(
    file: Path, database: Path, revocations: Path, lock: Path, *, force: bool, now_ms: int
) -> Restored:
    """Put a copy in the place of a hive's store.

    What was revoked stays revoked, and the generation rises, so that nodes see the regression and
    send again what the copy lacks. Raises CONFLICT where a hive runs on the folder, EXISTS where
    there is a store and not `force`; with `force` that one is kept beside.
    """
    verified = await asyncio.to_thread(verify, file)
    database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FolderLock(lock):
        if not force:
            _check_free(database)
        fresh = database.with_name(f".{database.name}.restored")
        try:
            await asyncio.to_thread(_copy, file, fresh, database.parent)
            generation, revoked = await _brought_up(fresh, revocations, now_ms)
            failpoint("hive.restore.ready")
            replaced = await asyncio.to_thread(put_in_place, fresh, database, now_ms)
        finally:
            remove_store(fresh)
        failpoint("hive.restore.in_place")
    return Restored(
        hive_id=verified.hive_id,
        generation=generation,
        revoked=revoked,
        replaced=None if replaced is None else str(replaced),
    )


def _check_free(database: Path) -> None:
    if database.exists():
        raise SkepError(
            ErrorCode.EXISTS,
            f"there is a hive's store at {database}",
            hint="Give an empty folder by --data, or --force to put that store aside.",
        )


async def _brought_up(fresh: Path, revocations: Path, now_ms: int) -> tuple[int, int]:
    store = await SqliteDatabase.open(fresh, readers=1)
    try:
        revoked = await store.write(
            credentials.apply_revocations, Revocations(revocations).read(), now_ms
        )
        generation = await store.write(identity.start_generation, now_ms // 1000)
        await store.write(operations.lose_sight, now_ms)
        await store.write(deferred.hold_all, now_ms)
        draft = EventDraft(
            kind="hive_restored",
            what="hive",
            what_id="",
            to_state=str(generation),
            why="the store was put back from a copy",
            audit=True,
            actor_kind="hive",
        )
        await store.write(events.record, draft, now_ms)
    finally:
        await store.close()
    return generation, revoked
