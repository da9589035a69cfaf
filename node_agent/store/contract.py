"""What the rest of the node asks of its stores: the journal, and the chunk store.

The SQLite implementations stand beside this file; a simulator brings its own. One suite
(`tests/contract/test_node_store.py`) holds both to it. Must not import a database.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from protocol.log_chunks import GapChunk, LogChunk
from protocol.messages import LogMark, LogState
from protocol.ops import EpochState, Op, Position, Record

#: A chunk, and the opaque note of where its writer goes on in the spool (`log_cutter.SpoolEnd`).
Cut = tuple[LogChunk | GapChunk, bytes]


class JournalGrew(NamedTuple):
    """Op `seq` of `epoch` is committed. Told once for each op, in order."""

    epoch: int
    seq: int


class LogGrew(NamedTuple):
    """A log changed: chunks before `next_chunk` are committed, or it was closed."""

    execution_id: str
    next_chunk: int
    closed: bool
    checkout_id: str


class ChunksCommitted(NamedTuple):
    """These chunks of one log were committed at its end, in order."""

    chunks: Sequence[LogChunk | GapChunk]


class ChunksChanged(NamedTuple):
    """Chunks of a log that were committed before are no longer what they were, or are gone."""

    execution_id: str


class PendingOps(NamedTuple):
    """Ops the hive has not got: how many, how large, and when the oldest happened."""

    ops: int
    bytes: int
    oldest_ms: int | None


class PendingChunks(NamedTuple):
    """Chunks the hive has not got: how many, how large, and when the oldest began."""

    chunks: int
    bytes: int
    oldest_ms: int | None


class Log(NamedTuple):
    """A log as the store has it. `purged`: its chunks are deleted and only this is left."""

    execution_id: str
    attempt_id: str
    checkout_id: str
    next_chunk: int
    next_entry: int
    digest: bytes
    raw_bytes: int
    closed: bool
    acked_chunk: int
    spool_end: bytes | None
    created_at_ms: int
    purged: bool


class JournalStore(Protocol):
    """The numbered state changes of a node, and the state they add up to."""

    async def open_epoch(self, instance: int) -> None:
        """Begin the epoch of this process: all that is appended from now on is numbered in it."""

    async def epochs(self) -> list[EpochState]:
        """Return the epochs in order of birth, also those wholly pruned, newest 1,000."""

    async def digest_at(self, epoch: int, seq: int) -> bytes | None:
        """Return the running digest after op `seq`; None where it is no longer known."""

    async def ops_after(self, epoch: int, seq: int, *, ops_max: int, bytes_max: int) -> list[Op]:
        """Return the ops that follow `seq`, at least one where there is one, within the bounds.

        Empty where the next one is no longer kept: a later one in its place would be a lie.
        """

    async def snapshot(self) -> tuple[Position, list[Record]]:
        """Return the state of all the node owns and its newest position, read as one."""

    async def records(self, kind: str, ids: Sequence[str]) -> list[Record]:
        """Return the state of these entities, each with its position, without the unknown ones."""

    async def prune(self, epoch: int, through: int) -> int:
        """Delete the ops of `epoch` up to `through`, which are safe; return how many."""

    async def refork(self, epoch: int, agreed_seq: int, new_epoch: int) -> None:
        """Open `new_epoch` and write the ops of `epoch` above `agreed_seq` again in it.

        The old epoch ends at `agreed_seq` from then on. Entities whose newer state was told in
        another epoch are told once more behind them, so that the newest position has the newest
        state.
        """

    async def withhold(self, epoch: int, seq: int, reason: str, *, told_again: bool = True) -> None:
        """Put `withheld` in the place of an op that cannot be sent, and chain what follows anew.

        With `told_again`, the state it told of is told under a new number, where it is still the
        newest.
        """

    async def pending(self, marks: Mapping[int, int]) -> PendingOps:
        """Return what of the journal lies above the hive's marks (none for an epoch: all of it)."""

    async def saw_marks(self, marks: Mapping[int, int]) -> None:
        """Keep the hive's marks, for people to see while it is away. Never trusted by a link."""

    async def marks_seen(self) -> dict[int, int]:
        """Return the marks kept last, by epoch."""

    def listen(self, listener: Callable[[JournalGrew], None]) -> Callable[[], None]:
        """Call `listener` for each op committed from now on; returns the undoing."""


class ChunkStore(Protocol):
    """The logs of executions, in numbered chunks. A commit is synced before it returns."""

    async def open_log(self, execution_id: str, attempt_id: str, checkout_id: str) -> Log:
        """Begin a log; one that is there already is returned as it stands."""

    async def commit(self, cuts: Sequence[Cut]) -> None:
        """Append chunks, each of which must be the next of its log.

        Raises `errors.LogMoved` where a log was renumbered since its writer looked: nothing is
        kept, and the writer goes on from the log as it stands.
        """

    async def close_log(self, execution_id: str) -> Log:
        """Say that no chunk will follow."""

    async def log(self, execution_id: str) -> Log | None:
        """Return a log as it stands."""

    async def logs_of(self, attempt_id: str) -> list[Log]:
        """Return the logs of an attempt, oldest first."""

    async def logs_to_name(self, without: Collection[str] = ()) -> list[LogState]:
        """Return the logs a hello names: open, or not fully acknowledged; oldest first.

        `without` names checkouts whose logs the hive fetches itself, or never keeps.
        """

    async def digest_at(self, execution_id: str, chunk_seq: int) -> bytes | None:
        """Return the running digest after that chunk; None where it is not known."""

    async def chunks_from(
        self, execution_id: str, chunk_seq: int, *, chunks_max: int, bytes_max: int
    ) -> list[LogChunk | GapChunk]:
        """Return chunks from `chunk_seq` on, at least one where there is one, within the bounds."""

    async def whole_from(self, execution_id: str, chunk_seq: int) -> bool:
        """Return whether no chunk is missing from `chunk_seq` to the log's end.

        One is where an older disk was restored under a log that was numbered on before.
        """

    async def chunks_covering(
        self, execution_id: str, after_entry: int, *, chunks_max: int, bytes_max: int
    ) -> list[LogChunk | GapChunk]:
        """Return chunks from the one in which the entry after `after_entry` begins."""

    async def acked(self, marks: Sequence[LogMark]) -> None:
        """Take what the hive holds, also where it is less than it held before."""

    async def digests_below(
        self, execution_id: str, chunk_seq: int, *, limit: int
    ) -> list[tuple[int, bytes]]:
        """Return (last chunk number, running digest after it) below `chunk_seq`, newest first."""

    async def adopt(self, mark: LogMark, held_through: int) -> Log:
        """Number a log on from the hive's cursor, behind a gap `node_restored`; return it.

        The hive holds our chunks up to `held_through`; what follows them goes behind the gap under
        new numbers.
        """

    async def outbox(self, without: Collection[str] = ()) -> PendingChunks:
        """Return what the hive has not acknowledged; `without` as in `logs_to_name`."""

    async def purge(self, execution_id: str) -> None:
        """Delete a log's chunks; that it was there is kept. May be run again after a crash."""

    def listen(self, listener: Callable[[LogGrew], None]) -> Callable[[], None]:
        """Call `listener` for each log that changed from now on; returns the undoing."""
