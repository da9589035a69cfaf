"""Files replaced whole, and readable by their owner alone."""

import os
import stat
from pathlib import Path

import pytest

from node_agent.private_files import write_private


def test_replaced_whole_and_private(tmp_path: Path) -> None:
    """A file is replaced by one of mode 0600 whatever the umask, and nothing is left beside it."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        write_private(path, b"new")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_replacement_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the new content cannot be synced the old file stays, and nothing else."""
    path = tmp_path / "file"
    write_private(path, b"old")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
