"""The files of a run folder: their names, who may own it, and records that are whole or absent.

Shared by the supervisor (writes) and `executions` (reads). Imports the standard library only. Must
not know what the records say.
"""

import json
import os
from pathlib import Path
from typing import Any, Final

#: Of the records and of the socket's requests. A node agent attaches supervisors of the previous
#: release, so a new version must go on reading the one before.
VERSION: Final = 1

SPEC: Final = "spec"
STDIN: Final = "stdin"
IDENTITY: Final = "identity"
PROCESS: Final = "process"
EXIT: Final = "exit"
SOCKET: Final = "ctl.sock"
SUPERVISOR_LOG: Final = "supervisor.log"
SEGMENT_PREFIX: Final = "out."


def segment_name(number: int) -> str:
    """Return the file name of a segment of the spool."""
    return f"{SEGMENT_PREFIX}{number}"


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record that is either absent or whole, also after a power cut."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(json.dumps(record).encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    draft.replace(path)


def read_record(path: Path) -> dict[str, Any] | None:
    """Return a record; None where there is none, or none that can be read."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def claim(folder: Path, record: dict[str, Any]) -> bool:
    """Decide who owns a run folder: True for the first caller ever, False for all others.

    A hard link is as exclusive as O_EXCL, and the claim is whole from its first moment.
    """
    draft = folder / f"{IDENTITY}.{os.getpid()}"
    write_record(draft, record)
    try:
        os.link(draft, folder / IDENTITY)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    sync_folder(folder)
    return True


def sync_folder(folder: Path) -> None:
    """Make names created, replaced or deleted in a folder safe from a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
