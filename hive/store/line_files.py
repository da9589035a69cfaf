"""Files of lines that only grow, beside the database: each line is on disk before it counts.

Must not know what a line says. Whoever reads them passes over one that a crash cut off.
"""

import errno
import os
from pathlib import Path
from typing import Final

from hive.store.backend import StoreFull
from hive.store.ownership import open_or_make

#: What the system says where nothing more can be written.
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def append_line(path: Path, line: bytes) -> None:
    """Write a line; it is on disk, and a line of its own, once this returns. Raises StoreFull."""
    descriptor = open_or_make(path, os.O_APPEND)
    try:
        size = os.fstat(descriptor).st_size
        # Where a crash cut the last one off, the next must not be lost with it.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        said = (b"\n" if torn else b"") + line + b"\n"
        if os.write(descriptor, said) != len(said):
            raise StoreFull(f"{path} takes no more")
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise StoreFull(f"{path} takes no more") from error
    finally:
        os.close(descriptor)
