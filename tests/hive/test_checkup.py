"""A hive's health from its files: what is advised where they cannot be written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

#: Without what lets root write any file: a test as root would find every folder writable.
UNPRIVILEGED = """
import ctypes, os, sys
for capability in (1, 2) if os.geteuid() == 0 else ():
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "hive", *sys.argv[1:]])
"""


def hive(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run `hive` as a user that permissions hold for."""
    return subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("folder_mode", "log_bytes", "store"),
    [(0o700, 0, "ok"), (0o500, 0, "ok"), (0o500, 100, "error"), (0o000, 0, "")],
)
def test_a_folder_that_cannot_be_written_is_told_as_that(
    tmp_path: Path, folder_mode: int, log_bytes: int, store: str
) -> None:
    """A whole store in it is whole, and no restore is advised, which would fail there too."""
    data = tmp_path / "data"
    assert hive("init", "--data", str(data)).returncode == 0
    for end in ("-shm", "-wal"):
        (data / f"hive.db{end}").unlink(missing_ok=True)
    if log_bytes:
        (data / "hive.db-wal").write_bytes(bytes(log_bytes))
    data.chmod(folder_mode)
    try:
        said = hive("doctor", "--data", str(data), "--json")
    finally:
        data.chmod(0o700)
    assert "restore" not in said.stdout + said.stderr
    if not store:
        assert "owns" in json.loads(said.stderr)["error"]["hint"]
        return
    found = {one["name"]: one["level"] for one in json.loads(said.stdout)["findings"]}
    assert found["store"] == store
    assert found.get("permissions") == ("error" if folder_mode == 0o500 else None)
    assert said.returncode == (folder_mode == 0o500)


def test_copies_that_were_removed_are_not_missed(tmp_path: Path) -> None:
    """Only what is left of them counts; where none is, that is told, and no copy's name."""
    data, copies = tmp_path / "data", [tmp_path / "one.db", tmp_path / "two.db"]
    hive("init", "--data", str(data))

    def told() -> list[tuple[str, str]]:
        said = hive("doctor", "--data", str(data), "--json")
        found = json.loads(said.stdout)["findings"]
        return [(one["level"], one["message"]) for one in found if one["name"] == "backups"]

    for copy in copies:
        hive("backup", str(copy), "--data", str(data))
    assert told() == [("ok", "2 of 2 are whole")]
    copies[0].unlink()
    assert told() == [("ok", "1 of 1 are whole")]
    copies[1].unlink()
    assert told() == [("warning", "none of the 2 that were made is where it was")]
