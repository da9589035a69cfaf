"""A store put in another's place, by processes that die on the way."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from hive.store.replacing import put_in_place
from protocol.errors import ErrorCode, SkepError

CHECKOUT = Path(__file__).resolve().parents[3]
REPLACING = """
import sys
from pathlib import Path
from hive.failpoints import arm
from hive.store.replacing import put_in_place
arm(sys.argv[1] + ":kill9")
put_in_place(Path("fresh.db"), Path("hive.db"), 7)
"""


def make_store(file: Path, *words: str) -> None:
    """Make a store as a hive that was killed leaves it: the last words are in its log alone."""
    made = file.with_name("made.db")
    with closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE word (text)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.executemany("INSERT INTO word VALUES (?)", [(word,) for word in words])
        for suffix in ("", "-wal"):
            shutil.copy(f"{made}{suffix}", f"{file}{suffix}")
    made.unlink()
    assert file.with_name(f"{file.name}-wal").stat().st_size


def words_of(file: Path) -> list[str]:
    """Read a store, as a hive would that is started on it."""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [text for (text,) in connection.execute("SELECT text FROM word ORDER BY rowid")]


def test_the_new_store_is_there_and_the_old_one_beside(tmp_path: Path) -> None:
    """Each is whole in its file, with what stood in its log alone."""
    database = tmp_path / "hive.db"
    make_store(tmp_path / "fresh.db", "new", "newer")
    assert put_in_place(tmp_path / "fresh.db", database, 6) is None
    assert words_of(database) == ["new", "newer"]
    make_store(tmp_path / "fresh.db", "newest")
    replaced = put_in_place(tmp_path / "fresh.db", database, 7)
    assert replaced is not None
    assert words_of(database) == ["newest"]
    assert words_of(replaced) == ["new", "newer"]
    assert not replaced.samefile(database)


@pytest.mark.parametrize("point", ["hive.restore.folded", "hive.restore.aside"])
def test_who_dies_leaves_the_old_store_whole(tmp_path: Path, point: str) -> None:
    """It goes on as if nothing was; the next try puts the new one in its place."""
    database = tmp_path / "hive.db"
    make_store(database, "old", "older")
    make_store(tmp_path / "fresh.db", "new")
    died = subprocess.run(
        [sys.executable, "-c", REPLACING, point],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CHECKOUT)},
        check=False,
        timeout=60,
    )
    assert died.returncode == -signal.SIGKILL
    assert words_of(database) == ["old", "older"]
    with closing(sqlite3.connect(database, isolation_level=None)) as hive:
        hive.execute("INSERT INTO word VALUES ('oldest')")
    replaced = put_in_place(tmp_path / "fresh.db", database, 8)
    assert replaced is not None
    assert words_of(database) == ["new"]
    assert words_of(replaced) == ["old", "older", "oldest"]
    # What the first try had put aside is the same file, and is not left as another copy.
    assert [file.name for file in tmp_path.glob("*.replaced-*")] == ["hive.db.replaced-8"]


def test_a_damaged_store_is_put_aside_as_it_is(tmp_path: Path) -> None:
    """What cannot be read keeps nobody from putting a copy back, and is kept with its log."""
    database = tmp_path / "hive.db"
    database.write_bytes(b"no store at all, but as long as a header of one" * 200)
    (tmp_path / "hive.db-wal").write_bytes(b"its log")
    make_store(tmp_path / "fresh.db", "new")
    replaced = put_in_place(tmp_path / "fresh.db", database, 7)
    assert replaced is not None
    assert words_of(database) == ["new"]
    assert replaced.read_bytes().startswith(b"no store")
    assert (tmp_path / "hive.db.replaced-7-wal").read_bytes() == b"its log"


def test_a_store_that_is_read_is_left_alone(tmp_path: Path) -> None:
    """Whoever reads it holds on to its log; the refusal says what may be doing so."""
    database = tmp_path / "hive.db"
    make_store(database, "old")
    make_store(tmp_path / "fresh.db", "new")
    with closing(sqlite3.connect(database, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM word").fetchone() == (1,)
        with pytest.raises(SkepError) as caught:
            put_in_place(tmp_path / "fresh.db", database, 7)
        assert caught.value.code is ErrorCode.CONFLICT
        reader.execute("COMMIT")
    assert words_of(database) == ["old"]
