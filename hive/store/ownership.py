"""Whose a data folder's files are: its owner's, also those that root made there.

A backup from root's timer must not shut the hive out of its own folder. Only what was just made is
given away, by its descriptor: a name could lead elsewhere.
"""

import os
from pathlib import Path


def give_to_owner(descriptor: int, of: Path) -> None:
    """Where root made this file, give it to whom `of` belongs."""
    if os.geteuid() == 0:
        owner = of.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def open_or_make(path: Path, flags: int) -> int:
    """Open a file of the folder, to read and write; one that is made is its owner's alone."""
    try:
        descriptor = os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o600)
    give_to_owner(descriptor, path.parent)
    return descriptor
