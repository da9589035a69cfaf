"""Whether a write failed for want of room, where SQLite says only that it failed.

SQLite tells a disk that is full, and nothing else: a quota that is used up, and a limit to the size
of a file, are errors of the disk to it. So a write beside the file that failed is tried. Must not
be asked after a failed sync: what that lost may pass for written.
"""

import errno
import os
import tempfile
from pathlib import Path
from typing import Final

#: What the system says where nothing more can be written.
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: More than one page of the write-ahead log, so that less than that counts as none.
_TRIED_BYTES: Final = 64 * 1024


def takes_no_more(database: Path) -> bool:
    """Whether nothing can be written beside this file, or behind its write-ahead log."""
    try:
        end = _size(database.with_name(f"{database.name}-wal"))
        with tempfile.TemporaryFile(dir=database.parent, buffering=0) as tried:
            # At the same place as in the log: a limit to the size of files is met there alone.
            return os.pwrite(tried.fileno(), bytes(_TRIED_BYTES), end) < _TRIED_BYTES
    except OSError as error:
        return error.errno in _NO_ROOM


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
