"""Lines beside the database: whole, on their own, and for their owner alone."""

import stat
from pathlib import Path

import pytest

from hive.store.backend import StoreFull
from hive.store.line_files import append_line


def test_each_line_is_one_whatever_a_crash_left(tmp_path: Path):
    """What a crash cut off costs that line alone, never the next."""
    path = tmp_path / "lines"
    append_line(path, b"one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open("ab") as file:
        file.write(b"tw")
    append_line(path, b"three")
    append_line(path, b"four")
    assert path.read_bytes() == b"one\ntw\nthree\nfour\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk always full")
def test_a_full_disk_is_told_as_that():
    """A revocation or a backup that cannot be noted says why, and is no failure of the hive."""
    with pytest.raises(StoreFull, match="/dev/full takes no more"):
        append_line(Path("/dev/full"), b"one")
