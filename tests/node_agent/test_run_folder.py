"""Records are whole or absent, and a folder has one owner."""

from pathlib import Path

import pytest

from node_agent.run_folder import claim, read_record, write_record


def test_record_comes_back(tmp_path: Path) -> None:
    """What was written is read, text of any kind included, and only its owner may read it."""
    record = {"argv": ["a", "\N{SNOWMAN}\udcff\0"], "n": 1}
    write_record(tmp_path / "spec", record)
    assert read_record(tmp_path / "spec") == record
    assert (tmp_path / "spec").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["spec"]


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe", b"nul\0"])
def test_broken_record_is_none(tmp_path: Path, text: bytes) -> None:
    """A file that is no record reads as none, like a file that is not there."""
    (tmp_path / "spec").write_bytes(text)
    assert read_record(tmp_path / "spec") is None
    assert read_record(tmp_path / "other") is None


def test_first_claim_stands(tmp_path: Path) -> None:
    """The first claim wins for ever and its words are kept; the loser leaves nothing behind."""
    assert claim(tmp_path, {"who": "first"})
    assert not claim(tmp_path, {"who": "second"})
    assert read_record(tmp_path / "identity") == {"who": "first"}
    assert [path.name for path in tmp_path.iterdir()] == ["identity"]
