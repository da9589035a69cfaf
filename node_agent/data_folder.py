"""One agent per data folder: its lock, and where its local socket stands.

Owns `agent.lock`, and the choice of the socket's path. Must not open stores or serve anything.
"""

import errno
import fcntl
import hashlib
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import Final

from node_agent.config import NodeConfig
from node_agent.private_files import write_private
from protocol.errors import ErrorCode, SkepError

LOCK_FILE: Final = "agent.lock"
SOCKET_FILE: Final = "agent.sock"
#: Says where the socket is when the data folder's path is too long to hold it.
SOCKET_POINTER_FILE: Final = "agent.sock.path"
#: `sun_path` has 108 bytes on Linux and 104 on macOS, the final NUL included.
_SOCKET_PATH_BYTES_MAX: Final = 103
_LOCK_RETRY_S: Final = 0.05


class DataFolderBusyError(SkepError):
    """Another process works on this data folder; `pid` is its number, where it is known."""

    def __init__(self, data_dir: Path, pid: int | None) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            ErrorCode.CONFLICT,
            f"{who} is already at work on {data_dir}",
            hint="One agent runs per data folder; use another --data for a second node.",
            pid=pid,
        )
        self.pid = pid


class DataFolderLock:
    """Held while a process works on a data folder; let go by `close`, or by the process's end."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / LOCK_FILE
        self._descriptor = -1

    def acquire(self, *, wait_s: float = 0.0) -> None:
        """Take the lock, waiting at most `wait_s`; raises DataFolderBusyError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not inherited: an execution must not keep the folder locked after its agent's end.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline_s = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in {errno.EWOULDBLOCK, errno.EAGAIN}:
                    if time.monotonic() < deadline_s:
                        time.sleep(_LOCK_RETRY_S)
                        continue
                    pid = _read_pid(descriptor)
                    os.close(descriptor)
                    raise DataFolderBusyError(self._path.parent, pid) from error
                os.close(descriptor)
                raise
            break
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        self._descriptor = descriptor

    def close(self) -> None:
        """Let go. The file stays: removing it would let two hold two different files."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _read_pid(descriptor: int) -> int | None:
    try:
        return int(os.pread(descriptor, 32, 0))
    except ValueError:
        return None


def socket_to_serve(config: NodeConfig) -> Path:
    """Choose the socket's path and write it down where it is not in the data folder itself."""
    path = config.data_dir / SOCKET_FILE
    pointer = config.data_dir / SOCKET_POINTER_FILE
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX:
        pointer.unlink(missing_ok=True)
        return path
    digest = hashlib.blake2b(os.fsencode(config.data_dir), digest_size=8).hexdigest()
    path = _private_runtime_dir(config) / f"{digest}.sock"
    if len(os.fsencode(path)) > _SOCKET_PATH_BYTES_MAX:
        raise SkepError(
            ErrorCode.INVALID,
            f"the path of the local socket is too long: {path}",
            hint="Set runtime_dir (SKEP_NODE_RUNTIME_DIR) to a short path of your own.",
        )
    write_private(pointer, os.fsencode(path))
    return path


def socket_to_call(data_dir: Path) -> Path:
    """Return where the agent of this data folder serves, if it runs."""
    try:
        return Path(os.fsdecode((data_dir / SOCKET_POINTER_FILE).read_bytes()))
    except FileNotFoundError:
        return data_dir / SOCKET_FILE


def _private_runtime_dir(config: NodeConfig) -> Path:
    folder = config.runtime_dir or Path(tempfile.gettempdir()) / f"skep-{os.geteuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    # In a shared /tmp someone else may have made it first.
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.geteuid()
        or (config.runtime_dir is None and found.st_mode & 0o077)
    ):
        raise SkepError(
            ErrorCode.FORBIDDEN,
            f"{folder} belongs to someone else",
            hint="Set runtime_dir (SKEP_NODE_RUNTIME_DIR) to a folder of your own.",
        )
    return folder
