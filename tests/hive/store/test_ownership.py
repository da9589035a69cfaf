"""What root makes in a data folder belongs to the folder's owner; nothing else is given away."""

import os
from pathlib import Path

import pytest

from hive.store.line_files import append_line
from hive.store.signing_key import load_or_make_signing_key


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Which file was given to whom, as root would: only root could."""
    said: list[tuple[int, int]] = []

    def fchown(descriptor: int, user: int, _group: int) -> None:
        said.append((os.fstat(descriptor).st_ino, user))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", fchown)
    return said


def test_what_root_makes_is_the_folders_owners(tmp_path: Path, given: list[tuple[int, int]]):
    """The list of backups and the key, once; a file or a link that is there stays whose it is."""
    owner = tmp_path.stat().st_uid
    append_line(tmp_path / "backups.jsonl", b"one")
    append_line(tmp_path / "backups.jsonl", b"two")
    load_or_make_signing_key(tmp_path / "hive.key")
    made = [(tmp_path / name).stat().st_ino for name in ("backups.jsonl", "hive.key")]
    assert given == [(file, owner) for file in made]
    (tmp_path / "link").symlink_to(tmp_path / "backups.jsonl")
    append_line(tmp_path / "link", b"three")
    assert len(given) == 2


def test_others_give_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They could not, and the file is theirs."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    append_line(tmp_path / "backups.jsonl", b"one")
    assert (tmp_path / "backups.jsonl").stat().st_uid == os.getuid()
