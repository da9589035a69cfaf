"""A database file that is damaged as a whole: marked by who finds it, set aside by who opens it.

Nothing is deleted: a person may still get something out of it.
"""

from pathlib import Path
from typing import Final

#: Beside the file while it is known to be damaged.
_MARK: Final = ".damaged"
_COMPANIONS: Final = ("", "-wal", "-shm")


def mark(path: Path) -> None:
    """Say that the file is damaged, for the next process."""
    _mark_of(path).touch(mode=0o600)


def is_marked(path: Path) -> bool:
    """Whether a process before this one found the file damaged."""
    return _mark_of(path).exists()


def set_aside(path: Path) -> Path:
    """Move the file and its companions away; return where it is now."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    # The file itself last: cut short in between, the next process finds it and does the rest.
    for end in reversed(_COMPANIONS):
        companion = path.with_name(f"{path.name}{end}")
        if companion.exists():
            companion.rename(aside.with_name(f"{aside.name}{end}"))
    _mark_of(path).unlink(missing_ok=True)
    return aside


def _mark_of(path: Path) -> Path:
    return path.with_name(f"{path.name}{_MARK}")
