"""Backups: whole or not at all, what they make safe, and putting one back."""

import asyncio
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from hive.store import backups, credentials, identity, nodes
from hive.store.backups import COUNTED_MS, BackupRecord, Verified, lowest
from hive.store.credentials import Revocations
from hive.store.folder_lock import FolderLock
from hive.store.sqlite import SqliteDatabase
from protocol.errors import ErrorCode, SkepError
from tests.hive import reported
from tests.hive.reported import NODE, NOW_MS, OTHER, uid
from tests.hive.store.open_hive import OpenHive, Reporting


class Folder:
    """The files around a store."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "hive.db"
        self.listing = folder / "backups.jsonl"
        self.revocations = folder / "revocations.log"
        self.lock = folder / "hive.lock"

    async def backup(self, file: Path, now_ms: int = NOW_MS) -> BackupRecord:
        return await asyncio.to_thread(backups.backup, self.database, file, self.listing, now_ms)

    def safe(self, now_ms: int = NOW_MS, hive_id: str = "hive-1") -> backups.SafeMarks:
        return backups.read_safe_marks(self.listing, hive_id, now_ms)

    async def restore(self, file: Path, *, force: bool = False) -> backups.Restored:
        return await backups.restore(
            file, self.database, self.revocations, self.lock, force=force, now_ms=NOW_MS
        )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """The folder of the open hive."""
    return Folder(tmp_path)


async def founded(hive: OpenHive) -> Reporting:
    """Found the hive and have a node report an attempt with a whole log."""
    await hive.write(identity.found_hive, "hive-1", NOW_MS)
    await hive.write(identity.start_generation, 1000)
    alpha = await hive.reporting()
    await alpha.tells(reported.checkout(1), reported.attempt(), reported.execution())
    await alpha.sends(reported.chunk(1))
    await alpha.tells(reported.log_end(chunks=1))
    # One that lacks its last chunk, and one that may go on.
    await alpha.tells(reported.log_end(30, chunks=2))
    await alpha.sends(reported.chunk(1, number=30), reported.chunk(1, number=31))
    return alpha


async def refused(code: ErrorCode, work) -> SkepError:
    """The work must be refused with this code; return the error."""
    with pytest.raises(SkepError) as caught:
        await work
    assert caught.value.code is code
    assert caught.value.hint
    return caught.value


@pytest.mark.asyncio
async def test_a_backup_of_a_running_hive_is_whole(hive: OpenHive, folder: Folder, tmp_path: Path):
    """The copy holds all that was committed when it was made, alone in one private file."""
    alpha = await founded(hive)
    writing = [asyncio.create_task(alpha.tells(reported.attempt()))]
    file = tmp_path / "copies" / "a.db"
    file.parent.mkdir()
    record = await folder.backup(file)
    await asyncio.gather(*writing)
    assert (record.path, record.hive_id) == (str(file), "hive-1")
    assert record.bytes == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["a.db"]
    held = backups.verify(file)
    assert held.marks[NODE][1][0] >= 5
    [(name, digest)] = held.whole_logs[NODE]
    assert (name, len(digest)) == (uid(20), 16)
    assert backups.list_backups(folder.listing) == [record]


@pytest.mark.asyncio
async def test_a_backup_that_cannot_be_written_leaves_nothing(
    hive: OpenHive, folder: Folder, tmp_path: Path
):
    """A bad place is refused with what to do; an older copy under the name stays as it was."""
    await founded(hive)
    await refused(ErrorCode.INVALID, folder.backup(tmp_path / "nowhere" / "a.db"))
    await refused(ErrorCode.INVALID, folder.backup(tmp_path))
    assert backups.list_backups(folder.listing) == []
    missing = Folder(tmp_path / "empty")
    await refused(ErrorCode.NOT_FOUND, missing.backup(tmp_path / "b.db"))


_WITH_LITTLE_ROOM = """
import pathlib, resource, sys
from hive.store import backups
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
database, file, listing = map(pathlib.Path, sys.argv[1:])
backups.backup(database, file, listing, 1)
"""


@pytest.mark.asyncio
async def test_a_backup_that_finds_no_room_leaves_nothing(
    hive: OpenHive, folder: Folder, tmp_path: Path
):
    """Not even a journal, which the next one under that name would be mixed with."""
    await founded(hive)
    file = tmp_path / "copies" / "a.db"
    file.parent.mkdir()
    words = [str(path) for path in (folder.database, file, folder.listing)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WITH_LITTLE_ROOM, *words, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"the copy in" in said
    assert list(file.parent.iterdir()) == []
    await folder.backup(file)
    assert [path.name for path in file.parent.iterdir()] == ["a.db"]


@pytest.mark.asyncio
async def test_what_all_copies_hold_is_safe(hive: OpenHive, folder: Folder, tmp_path: Path):
    """The lowest mark of each epoch and the logs whole in every copy, read from the copies."""
    assert folder.safe().counted == 0
    alpha = await founded(hive)
    await folder.backup(tmp_path / "a.db")
    await alpha.tells(reported.execution(21), reported.log_end(21, chunks=1))
    await alpha.sends(reported.chunk(1, number=21))
    beta = await hive.reporting(OTHER)
    await beta.tells(reported.checkout(2))
    await folder.backup(tmp_path / "b.db", NOW_MS + 1)
    safe = folder.safe()
    assert safe.counted == 2
    assert [place[:2] for place in safe.epochs_of(NODE)] == [(1, 5)]
    assert [name for name, _ in safe.logs_of(NODE)] == [uid(20)]
    assert safe.logs_of(OTHER) == []
    assert safe.epochs_of(OTHER) == []


@pytest.mark.asyncio
async def test_only_copies_that_could_be_put_back_count(
    hive: OpenHive, folder: Folder, tmp_path: Path
):
    """Gone, damaged, foreign and old copies hold nothing back; the newest counts at any age."""
    alpha = await founded(hive)
    for name in ("gone", "damaged", "old"):
        await folder.backup(tmp_path / f"{name}.db", NOW_MS - COUNTED_MS - 1)
    await alpha.tells(reported.attempt())
    await folder.backup(tmp_path / "new.db", NOW_MS)
    (tmp_path / "gone.db").unlink()
    damaged = bytearray((tmp_path / "damaged.db").read_bytes())
    damaged[len(damaged) // 2 :] = bytes(len(damaged) - len(damaged) // 2)
    (tmp_path / "damaged.db").write_bytes(damaged)
    with folder.listing.open("ab") as file:
        file.write(b'{"path": "cut off')
    [(epoch, seq, _)] = folder.safe().epochs_of(NODE)
    assert (epoch, seq) == (1, 6)
    late = folder.safe(NOW_MS + 2 * COUNTED_MS)
    assert (late.counted, late.epochs_of(NODE)) == (1, folder.safe().epochs_of(NODE))
    assert folder.safe(hive_id="hive-2").counted == 0


@pytest.mark.asyncio
async def test_an_epoch_that_parts_between_copies_is_not_safe(
    hive: OpenHive, folder: Folder, tmp_path: Path
):
    """A copy that a rival of the node wrote on holds another history, however far it goes."""
    alpha = await founded(hive)
    await folder.backup(tmp_path / "a.db")
    await alpha.tells(reported.attempt())
    await folder.backup(tmp_path / "b.db", NOW_MS + 1)
    [(epoch, mark, _)] = folder.safe().epochs_of(NODE)
    with closing(sqlite3.connect(tmp_path / "b.db")) as rival:
        rival.execute("UPDATE op SET digest = zeroblob(16) WHERE seq < ?", (mark,))
        rival.commit()
        assert [place[:2] for place in folder.safe().epochs_of(NODE)] == [(epoch, mark)]
        rival.execute("UPDATE op SET digest = zeroblob(16) WHERE seq = ?", (mark,))
        rival.commit()
        assert folder.safe().epochs_of(NODE) == []
        rival.execute("DELETE FROM op WHERE seq <= ?", (mark,))
        rival.commit()
        assert [place[:2] for place in folder.safe().epochs_of(NODE)] == [(epoch, mark)]


def test_an_epoch_that_one_copy_lacks_is_not_safe():
    """A copy from before a node's new epoch holds nothing of it."""

    def copy(marks, logs):
        return Verified(
            hive_id="h",
            generation=1,
            marks={"n": marks},
            whole_logs={"n": frozenset((name, b"") for name in logs)},
        )

    safe = lowest([copy({1: (9, b"9"), 2: (5, b"5")}, "ab"), copy({1: (7, b"7")}, "bc")])
    assert safe.epochs_of("n") == [(1, 7, b"7")]
    assert safe.logs_of("n") == [("b", b"")]


@pytest.mark.asyncio
async def test_a_copy_is_put_back_with_what_was_revoked_since(
    hive: OpenHive, folder: Folder, tmp_path: Path
):
    """The store is as it was, but nobody revoked comes back, and the generation rises."""
    alpha = await founded(hive)
    await folder.backup(tmp_path / "a.db")
    await Revocations(folder.revocations).revoke_node(
        hive.database, OTHER, actor="ann", now_ms=NOW_MS + 1
    )
    await alpha.tells(reported.attempt(branch="later"))
    generation = await hive.write(identity.start_generation, 0)
    await hive.database.close()
    other = Folder(tmp_path / "other")
    other.revocations = folder.revocations
    restored = await other.restore(tmp_path / "a.db")
    assert (restored.hive_id, restored.revoked, restored.replaced) == ("hive-1", 1, None)
    assert restored.generation > generation
    assert sorted(path.name for path in other.database.parent.iterdir()) == ["hive.db", "hive.lock"]
    database = await SqliteDatabase.open(other.database)
    try:
        assert (await database.read(nodes.get_node, OTHER)).revoked_at_ms == NOW_MS + 1
        assert (await database.read(nodes.get_node, NODE)).revoked_at_ms is None
        assert (await database.read(identity.hive_row)).generation == restored.generation
    finally:
        await database.close()


@pytest.mark.asyncio
async def test_a_store_in_place_is_not_written_over(hive: OpenHive, folder: Folder, tmp_path: Path):
    """Without force it is refused; with it the old store is kept beside, whole."""
    await founded(hive)
    await folder.backup(tmp_path / "a.db")
    await hive.reporting(OTHER)
    await hive.database.close()
    await refused(ErrorCode.EXISTS, folder.restore(tmp_path / "a.db"))
    restored = await folder.restore(tmp_path / "a.db", force=True)
    assert restored.replaced is not None
    with closing(sqlite3.connect(restored.replaced)) as old:
        assert old.execute("SELECT link_no FROM node WHERE id = ?", (OTHER,)).fetchone()[0] == 1
    with closing(sqlite3.connect(folder.database)) as new:
        assert new.execute("SELECT link_no FROM node WHERE id = ?", (OTHER,)).fetchone()[0] == 0


@pytest.mark.asyncio
async def test_nothing_is_put_under_a_running_hive(hive: OpenHive, folder: Folder, tmp_path: Path):
    """The folder of a running hive is locked, also against force."""
    await founded(hive)
    await folder.backup(tmp_path / "a.db")
    with FolderLock(folder.lock):
        await refused(ErrorCode.CONFLICT, folder.restore(tmp_path / "a.db", force=True))
    await hive.database.close()
    assert (await folder.restore(tmp_path / "a.db", force=True)).hive_id == "hive-1"


@pytest.mark.asyncio
async def test_what_is_no_copy_is_refused(folder: Folder, tmp_path: Path):
    """A file that is none, is cut short, or is not there is refused before anything is touched."""
    text = tmp_path / "text.db"
    text.write_text("not a database")
    await refused(ErrorCode.INVALID, folder.restore(text))
    await refused(ErrorCode.NOT_FOUND, folder.restore(tmp_path / "missing.db"))
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE a (b)")
    await refused(ErrorCode.INVALID, folder.restore(other))
    assert not folder.database.exists()


@pytest.mark.asyncio
async def test_tokens_revoked_since_stay_revoked(hive: OpenHive, folder: Folder, tmp_path: Path):
    """A token revoked after the copy was made is refused after it is put back."""
    await founded(hive)
    secret, row = await hive.write(
        credentials.create_token,
        name="ci",
        role=credentials.Role.ADMIN,
        actor="ann",
        ttl_ms=None,
        now_ms=NOW_MS,
    )
    await folder.backup(tmp_path / "a.db")
    await Revocations(folder.revocations).revoke_token(
        hive.database, row.id, actor="ann", now_ms=NOW_MS
    )
    await hive.database.close()
    await folder.restore(tmp_path / "a.db", force=True)
    database = await SqliteDatabase.open(folder.database)
    try:
        assert await database.read(credentials.find_token, secret, NOW_MS) is None
    finally:
        await database.close()


def test_the_latest_word_on_a_path_counts(folder: Folder):
    """A file written twice is listed once, under its later time."""
    for at_ms in (1, 2):
        record = BackupRecord(path="/a", at_ms=at_ms, hive_id="h", bytes=1)
        with folder.listing.open("ab") as file:
            file.write(msgspec.json.encode(record) + b"\n")
    assert [record.at_ms for record in backups.list_backups(folder.listing)] == [2]
