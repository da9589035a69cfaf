"""What a store of the hive is, whatever holds it: the contract that every backend keeps.

Owns the types that pass between the store and the shells above it. Must not know a database.

A unit of work is `async def unit(tx, ...)`. It runs inside one transaction; it may only await the
transaction it was given. Units submitted together may share one commit, but a unit that raises is
undone alone.
"""

import enum
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeAlias, TypeVar

import msgspec

from protocol.digest import EMPTY
from protocol.errors import ErrorCode, SkepError
from protocol.log_chunks import GapChunk, LogChunk
from protocol.messages import (
    EpochMark,
    Fork,
    Heartbeat,
    Hello,
    LogMark,
    LogState,
    Need,
    NeedDone,
    Skip,
    Snapshot,
)
from protocol.ops import EpochState, Op, Record

P = ParamSpec("P")
T = TypeVar("T")

Parameters: TypeAlias = Mapping[str, Any]
#: Wall-clock milliseconds, for people; injected so that tests and the simulator rule it.
Clock: TypeAlias = Callable[[], int]


# --- live changes ---------------------------------------------------------------------------------


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something viewers may want to read anew. Numbered in the transaction that made it.

    `kind` is an event name of the live stream (`attempt.changed`, `log.appended`, ...), `ids` says
    what changed, by the word of the thing: session, message, request, attempt, execution, project,
    node, task, operation.
    """

    kind: str
    ids: dict[str, str]
    generation: int = 0
    change_no: int = 0

    @property
    def id(self) -> str:
        """The id of the live event; `Last-Event-ID` resumes after it."""
        return f"{self.generation}.{self.change_no}"

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics a viewer may follow that this belongs to."""
        named = [f"{word}:{self.ids[word]}" for word in TOPIC_WORDS if word in self.ids]
        return ("nodes", *named) if self.kind == "node.changed" else tuple(named)


#: Words of `Change.ids` that are topics of the live stream.
TOPIC_WORDS: Final = ("session", "attempt", "project", "node", "task")

#: Among the details of a refused hello: the link that the node has must be closed too.
CLOSES_PRESENT_LINK: Final = "closes_present_link"


# --- databases ------------------------------------------------------------------------------------


class Row(Protocol):
    """One row of an answer, by column name or place."""

    def __getitem__(self, key: str | int, /) -> Any: ...

    def keys(self) -> Iterable[str]: ...


class Transaction(Protocol):
    """An open transaction, as a unit of work sees it."""

    async def execute(self, sql: str, parameters: Parameters = ...) -> int:
        """Run one statement; return how many rows it changed."""
        ...

    async def executemany(self, sql: str, parameters: Iterable[Parameters]) -> None: ...

    async def fetch_one(self, sql: str, parameters: Parameters = ...) -> Row | None: ...

    async def fetch_all(self, sql: str, parameters: Parameters = ...) -> list[Row]: ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Undo what its body did, and nothing else, where the body raises."""
        ...

    def note(self, change: Change) -> None:
        """Have this change numbered with the commit and published after it."""
        ...


Unit: TypeAlias = Callable[Concatenate[Transaction, P], Awaitable[T]]


class Database(Protocol):
    """Runs units of work: writes in the order they were submitted, reads beside them."""

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `unit` and commit it; return its result after the commit. Raises StoreFull."""
        ...

    async def read(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `unit` on one consistent view of the store. Raises ReadTooLong."""
        ...

    def subscribe(self, listener: Callable[[Sequence[Change]], None]) -> None:
        """Call `listener` after each commit with the changes it made, in order."""
        ...

    async def close(self) -> None: ...


class StoreFull(SkepError):  # noqa: N818  said of the store, as the protocol says it
    """There is no room to write. Nothing of the unit is kept; reading goes on."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            ErrorCode.STORE_FULL,
            f"the hive's store has no room: {reason}",
            hint="Free space on the disk that holds the hive's data; it goes on by itself.",
        )


class StoreBroken(SkepError):  # noqa: N818  said of the store
    """The store failed in a way that only a restart can judge (an I/O error, a corrupt page)."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            ErrorCode.INTERNAL,
            f"the hive's store failed: {reason}",
            hint="See the hive's log; run hive doctor, and restore from a backup if it says so.",
        )


class ReadTooLong(SkepError):  # noqa: N818  said of the read
    """A read took longer than it may: it would keep the store's log from being folded in."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            ErrorCode.DEADLINE_PASSED,
            f"the read took longer than {seconds:g} s",
            hint="Ask for less: a smaller page, or a narrower filter.",
        )


# --- what the links need --------------------------------------------------------------------------


class IngestPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the hive that decide what ingest makes of a node's facts."""

    #: Whether a checkout or attempt of a repository the hive does not know makes a project.
    nodes_may_create_projects: bool = True


class JournalState(msgspec.Struct, kw_only=True):
    """What the hive holds of a node's journal."""

    marks: list[EpochMark]
    newest: tuple[int, int] | None = None
    forks: list[Fork] = []
    #: What is shown is of two times: a snapshot was begun and not ended, a holder was released, or
    #: the node lacks what we have seen of it.
    snapshot_wanted: bool = False


class ChunkOutcome(msgspec.Struct, kw_only=True):
    """What became of one chunk, and where its log stands after it.

    `kind`: `stored`; `known` (held already, or a log this hive does not keep); `hole` (it does not
    follow); `foreign` (another node's log, audited); `bad` (its checksum does not fit).
    """

    kind: str
    mark: LogMark


class ChunkKind(enum.StrEnum):
    """The values of `ChunkOutcome.kind`."""

    STORED = "stored"
    KNOWN = "known"
    HOLE = "hole"
    FOREIGN = "foreign"
    BAD = "bad"


class LogLack(msgspec.Struct, frozen=True, kw_only=True):
    """A log the hive should hold and does not, and from where on; `digest` is of what it holds."""

    execution_id: str
    from_chunk: int
    after: int
    digest: bytes = EMPTY


class Lacking(msgspec.Struct, frozen=True, kw_only=True):
    """What the hive should hold of an attempt and does not."""

    attempt_id: str
    executions: list[str]
    logs: list[LogLack]


class IngestStore(Protocol):
    """The store as links, ingest and backfill use it. All raise StoreFull where there is no room.

    Every commit is conditional on `link_no` being the node's present one: SUPERSEDED where another
    link has taken its place, QUARANTINED or REVOKED where the node may not write at all.
    """

    async def node_key(self, node_id: str) -> bytes:
        """Return a node's public key. Raises UNKNOWN_NODE, REVOKED."""
        ...

    async def accept_link(self, hello: Hello, *, challenged_at: int, accepted_at: int) -> int:
        """Take a verified hello; return the link's number, which makes it the node's present one.

        Raises UNKNOWN_NODE, REVOKED, SUPERSEDED, QUARANTINED. A quarantine is written down before
        it is raised, with CLOSES_PRESENT_LINK: nobody may write for the node then. Epochs not seen
        before get their ranks, in the hello's order.
        """
        ...

    async def journal_state(
        self, node_id: str, link_no: int, epochs: list[EpochState]
    ) -> JournalState:
        """Return the marks of `epochs`, the newest position, and forks to settle.

        A history that differs from ours is a fork: raises QUARANTINED, unless a person released
        this instance; then `forks` names our newest digests. `forks` also names the node's present
        epoch where we know one of higher rank, or hold more of this one than the node has (another
        holder of the identity wrote after it, or in it), and where a person released this
        instance: its state could not stand beside that one's, so the node goes on in a new epoch.
        """
        ...

    async def marks(self, node_id: str, epochs: list[int]) -> list[EpochMark]:
        """Return the marks as they stand in the store now."""
        ...

    async def fork_seen(self, node_id: str, epoch: int, seq: int, digest: bytes) -> bool:
        """Take the node's word that its digest at `seq` is `digest`; True where it is quarantined.

        False where ours is the same after all. Where a person released this instance, raises HOLE:
        the next hello is answered with `forks`.
        """
        ...

    async def log_marks(self, node_id: str, logs: Sequence[LogState]) -> list[LogMark]:
        """Return the cursor of each log. Raises FORBIDDEN, audited, for another node's log.

        `agreed` where our digest after the node's last chunk is the node's.
        """
        ...

    async def agreed_chunk(
        self, node_id: str, execution_id: str, digests: Sequence[tuple[int, bytes]]
    ) -> int:
        """Return the newest of these chunks after which our digest is the one given; 0: none.

        Raises FORBIDDEN, audited, for another node's log.
        """
        ...

    async def commit_ops(
        self, node_id: str, link_no: int, epoch: int, first_seq: int, ops: list[Op]
    ) -> int:
        """Commit the ops that are new; return the mark after. Raises HOLE, FORBIDDEN."""
        ...

    async def commit_snapshot(self, node_id: str, link_no: int, page: Snapshot) -> None:
        """Commit one page; with the last one, what the snapshot does not name is forgotten."""
        ...

    async def commit_skip(self, node_id: str, link_no: int, skip: Skip) -> int:
        """Record that ops up to `through` are gone; return the mark after, never lower."""
        ...

    async def commit_chunks(
        self,
        node_id: str,
        link_no: int,
        chunks: Sequence[LogChunk | GapChunk],
        *,
        fetched: bool = False,
    ) -> list[ChunkOutcome]:
        """Commit the chunks that follow; return what became of each, in order."""
        ...

    async def commit_records(
        self, node_id: str, link_no: int, request_id: str, records: Sequence[Record]
    ) -> None:
        """Commit state that answers a need, each record under its own position."""
        ...

    async def beat(self, node_id: str, link_no: int, heartbeat: Heartbeat) -> None:
        """Remember when and how the node was last heard of."""
        ...

    async def store_need(self, node_id: str, need: Need) -> Need | None:
        """Store a need before it is sent; return what to send.

        Ids that are gone, unknown to the node, or being fetched already are left out. Where all
        of them are being fetched, the open need that does is returned; None where nothing is left.
        """
        ...

    async def open_needs(self, node_id: str) -> list[Need]:
        """Return the node's needs without an answer, oldest first.

        Logs are asked for from where they stand now: since a need was stored, another holder of
        the node's identity may have sent more of them.
        """
        ...

    async def need_done(self, node_id: str, link_no: int, done: NeedDone) -> None:
        """Store what became of each id of a need."""
        ...

    async def lacking(self, node_id: str, limit: int) -> list[Lacking]:
        """Return the node's attempts that are partial and should not be, newest first."""
        ...
