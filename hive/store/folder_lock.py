"""One hive for one data folder: a lock on a file, held by the process as long as it lives."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from hive.store.ownership import open_or_make
from protocol.errors import ErrorCode, SkepError


class FolderLock:
    """Holds a data folder. The lock goes with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the folder. Raises CONFLICT where a hive runs on it."""
        descriptor = open_or_make(self._path, 0)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise SkepError(
                ErrorCode.CONFLICT,
                f"a hive is running on {self._path.parent}",
                hint="Stop it first, or give another folder by --data.",
            ) from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the folder go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
