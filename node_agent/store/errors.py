"""What can go wrong with a database file, each with what the operator can do about it."""

from typing import Any

from protocol.errors import ErrorCode, SkepError


class StoreFull(SkepError):  # noqa: N818  the condition is the name people search for
    """There is no room for a commit; nothing of the group was kept. Reading goes on."""

    def __init__(self, path: str) -> None:
        super().__init__(
            ErrorCode.STORE_FULL,
            f"no room left to write {path}",
            hint="Free disk space; the node goes on by itself once there is room.",
            path=path,
        )


class StoreBroken(SkepError):  # noqa: N818
    """A commit or its sync failed in a way that must not be tried again."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            ErrorCode.INTERNAL,
            f"writing {path} failed: {reason}",
            hint="Check the disk (dmesg, smartctl); then start the node agent again.",
            path=path,
        )


class StoreClosed(SkepError):  # noqa: N818
    """The database is closed or closing."""

    def __init__(self, path: str) -> None:
        super().__init__(ErrorCode.NOT_AVAILABLE, f"{path} is closed", path=path)


class StoreUnreadable(SkepError):  # noqa: N818
    """The file is no database of ours, or not this user's to write."""

    def __init__(
        self, path: str, reason: str, *, damaged: bool = False, writable: bool = True
    ) -> None:
        super().__init__(
            ErrorCode.INTERNAL,
            f"{path} cannot be opened: {reason}",
            hint="Restore the data folder from a backup, or move this file away to begin anew."
            if writable
            else "Run this as the user who owns the data folder; it must be mounted writable.",
            path=path,
        )
        self.damaged = damaged


class SchemaTooNew(SkepError):  # noqa: N818
    """A newer program has written this database; nothing was changed."""

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(
            ErrorCode.CONFLICT,
            f"{path} has schema {found}; this program knows up to {known}",
            hint="Run the newer node agent, or restore the data folder from before the upgrade.",
            path=path,
            found=found,
            known=known,
        )


class ReadTooLong(SkepError):  # noqa: N818
    """A read took longer than a read may; it was broken off so that the write-ahead log shrinks."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            ErrorCode.DEADLINE_PASSED,
            f"reading took longer than {seconds:g} s",
            hint="Ask for less at a time.",
        )


class NotStored(SkepError):  # noqa: N818
    """There is no such row."""

    def __init__(self, kind: str, identifier: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(
            ErrorCode.NOT_FOUND,
            f"there is no {kind} {identifier!r}",
            hint=hint,
            kind=kind,
            **details,
        )


class LogMoved(SkepError):  # noqa: N818
    """A log was renumbered since its writer looked: the chunk does not follow what is there."""

    def __init__(self, execution_id: str, expected: int, found: int) -> None:
        super().__init__(
            ErrorCode.CONFLICT,
            f"chunk {found} of {execution_id} where {expected} is due",
            execution_id=execution_id,
            expected=expected,
            found=found,
        )
