"""Whether there was no room to write: asked of a real file, under a limit and without one."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from node_agent.store.room import takes_no_more

#: Asks, with no file larger than 100,000 bytes allowed.
ASKED = """
import resource, sys
from pathlib import Path
from node_agent.store.room import takes_no_more

_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
print(takes_no_more(Path(sys.argv[1])))
"""


@pytest.mark.parametrize(("wal_bytes", "said"), [(0, "False"), (100_000, "True"), (90_000, "True")])
def test_a_limit_is_met_where_the_write_ahead_log_ends(tmp_path: Path, wal_bytes: int, said: str):
    """A log at its limit takes no more, though a new file would; nothing is left behind."""
    (tmp_path / "store.db-wal").write_bytes(bytes(wal_bytes))
    done = subprocess.run(
        [sys.executable, "-c", ASKED, tmp_path / "store.db"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == said
    assert [file.name for file in tmp_path.iterdir()] == ["store.db-wal"]


@pytest.mark.parametrize(
    ("code", "full"), [(errno.EDQUOT, True), (errno.ENOSPC, True), (errno.EIO, False)]
)
def test_only_a_lack_of_room_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, full: bool
):
    """A quota is one; a disk that fails is not."""

    def fails(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    assert not takes_no_more(tmp_path / "store.db")
    monkeypatch.setattr(os, "pwrite", fails)
    assert takes_no_more(tmp_path / "store.db") is full
