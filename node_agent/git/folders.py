"""Folders deleted to the last entry, and small files written whole or not at all."""

import contextlib
import os
import shutil
import stat
from pathlib import Path


def remove_folder(path: Path) -> None:
    """Delete a folder and all in it, never following a link; gone already is fine.

    Folders an agent's tools made read-only are made writable first.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        if os.path.lexists(path):  # an entry went away under us; what is left still has to go
            shutil.rmtree(path, ignore_errors=True)
    except PermissionError:
        _allow(str(path))
        for folder, names, _ in os.walk(path):
            for place in (folder, *(os.path.join(folder, name) for name in names)):  # noqa: PTH118
                _allow(place)
        shutil.rmtree(path)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it is there with all of its content, or as before."""
    beside = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    # O_EXCL: never through a link someone left at that name.
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(file, "wb") as output:
        output.write(content)
        output.flush()
        os.fsync(output.fileno())
    beside.replace(path)


def _allow(folder: str) -> None:
    with contextlib.suppress(OSError):
        mode = os.lstat(folder).st_mode
        if stat.S_ISDIR(mode) and mode & 0o700 != 0o700:
            os.chmod(folder, mode | 0o700)  # noqa: PTH101  a plain string from os.walk
