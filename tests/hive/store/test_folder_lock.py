"""The lock on a data folder: one holder, gone with its process."""

import subprocess
import sys
from pathlib import Path

import pytest

from hive.store.folder_lock import FolderLock
from protocol.errors import ErrorCode, SkepError

PROGRAM = """
import sys
from pathlib import Path
from hive.store.folder_lock import FolderLock
FolderLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_one_holder_at_a_time(tmp_path: Path):
    """A second holder is refused with what to do, and let in afterwards."""
    path = tmp_path / "hive.lock"
    with FolderLock(path):
        with pytest.raises(SkepError) as caught:
            FolderLock(path).acquire()
        assert caught.value.code is ErrorCode.CONFLICT
        assert "Stop it" in caught.value.hint
    with FolderLock(path):
        pass


def test_a_killed_holder_holds_nothing(tmp_path: Path, checkout: Path):
    """However its process ends, the folder is free."""
    path = tmp_path / "hive.lock"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=checkout,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(SkepError):
            FolderLock(path).acquire()
        holder.kill()
        holder.wait()
    with FolderLock(path):
        pass
