"""Killed at any step, the store loses nothing it acknowledged, and goes on to the same end."""

import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from hive.store import backups
from tests.hive.store.kill_driver import CHUNKS, OPS

HIVE = Path(__file__).resolve().parents[3] / "hive"
NAMES = sorted(
    {
        name
        for path in (HIVE / "ingest.py", *(HIVE / "store").glob("*.py"))
        # Its points are passed only where there is a store already: see `test_replacing`.
        if path.name != "replacing.py"
        for name in re.findall(r'failpoint\("([^"]+)"\)', path.read_text(encoding="utf-8"))
    }
)


def run(folder: Path, *failpoint: str) -> tuple[int, list[list[str]]]:
    """Run the driver; return how it ended and what it said."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.hive.store.kill_driver", str(folder), *failpoint],
        capture_output=True,
        text=True,
        check=False,
        cwd=HIVE.parent,
        timeout=60,
    )
    assert ended.returncode in {0, -signal.SIGKILL}, ended.stderr
    return ended.returncode, [line.split() for line in ended.stdout.splitlines()]


def held(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """What the store holds that must be the same however often it was killed."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return {
            table: connection.execute(
                f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3"  # noqa: S608  a test
            ).fetchall()
            for table, columns in (
                ("epoch", "epoch, mark, hex(digest), rank"),
                ("op", "epoch, seq, kind, hex(digest)"),
                ("chunk", "execution_id, chunk_seq, hex(digest), hex(blob)"),
                ("log", "execution_id, next_chunk, next_entry, raw_bytes, end_chunks"),
                ("attempt", "id, branch, sync_state, rank, seq, forgotten_at_ms"),
                ("execution", "id, status, rank, seq, forgotten_at_ms"),
                ("task", "id, status, title"),
                ("checkout", "id, path, problem"),
            )
        }


def acknowledged(said: list[list[str]], word: str) -> int:
    """The highest number acknowledged under a word."""
    return max((int(words[1]) for words in said if words[0] == word), default=0)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[object, ...]]]:
    """What a hive holds that was never killed."""
    folder = tmp_path_factory.mktemp("whole")
    ended, said = run(folder)
    assert (ended, said[-1]) == (0, ["done"])
    return held(folder / "hive.db")


def test_an_unharmed_run_takes_all(expected: dict[str, list[tuple[object, ...]]]):
    """The yardstick is what was sent."""
    assert len(expected["op"]) == len(OPS)
    assert len(expected["chunk"]) == len(CHUNKS)
    assert expected["attempt"][0][2] == "complete"


@pytest.mark.parametrize("name", NAMES)
def test_killed_at(name: str, tmp_path: Path, expected: dict[str, list[tuple[object, ...]]]):
    """Killed there, nothing acknowledged is lost; started again, it comes to the same end."""
    ended, said = run(tmp_path, f"{name}:kill9")
    assert ended == -signal.SIGKILL, f"{name} is never passed"
    database = tmp_path / "hive.db"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        marks = dict(connection.execute("SELECT epoch, mark FROM epoch").fetchall())
        chunks = connection.execute("SELECT coalesce(max(through_seq), 0) FROM chunk").fetchone()
    assert marks.get(1, 0) >= acknowledged(said, "ops")
    assert marks.get(2, 0) >= acknowledged(said, "skip")
    assert chunks[0] >= acknowledged(said, "chunks")
    if (tmp_path / "copy.db").exists():
        # A copy is whole from the moment it is there.
        backups.verify(tmp_path / "copy.db")
    ended, said = run(tmp_path)
    assert (ended, said[-1]) == (0, ["done"])
    assert held(database) == expected
    assert held(tmp_path / "other" / "hive.db") == expected


@pytest.mark.parametrize("nth", [2, 5, 9, 14])
@pytest.mark.parametrize("name", ["hive.store.before_commit", "hive.store.after_commit"])
def test_killed_at_a_later_commit(
    name: str, nth: int, tmp_path: Path, expected: dict[str, list[tuple[object, ...]]]
):
    """Any commit may be the last one before the end."""
    ended, _ = run(tmp_path, f"{name}:kill9:{nth}")
    assert ended == -signal.SIGKILL
    ended, said = run(tmp_path)
    assert (ended, said[-1]) == (0, ["done"])
    assert held(tmp_path / "hive.db") == expected
