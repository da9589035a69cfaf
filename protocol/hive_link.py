"""The hive's end of a link, as a state machine: what is new, what to commit, what to refuse.

Rule 1: no sockets, clocks or stores; the shell commits what `receive` returns and reports back.
Rule 2: exactly mark + 1 is applied. Older is ignored; a hole closes the link, and the next hello
repairs it.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from protocol import limits
from protocol.credit import CreditGranted, cost
from protocol.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from protocol.log_chunks import DIGEST_BYTES, ID_CHARACTERS_MAX, GapChunk, LogChunk
from protocol.messages import (
    FEATURES,
    LIVE_TEXT,
    Ack,
    Challenge,
    Credit,
    End,
    EpochMark,
    Fetched,
    Fork,
    Forked,
    Heartbeat,
    HeartbeatReply,
    Hello,
    HelloLogs,
    HiveMessage,
    LiveText,
    LogAck,
    LogAgreed,
    LogMark,
    LogProbe,
    LogState,
    NeedDone,
    NodeMessage,
    NodePong,
    Opened,
    Ops,
    Part,
    Records,
    Result,
    Skip,
    Snapshot,
    Welcome,
    WelcomeLogs,
)
from protocol.ops import Op

#: Logs one hello may name in all its pages.
HELLO_LOGS_MAX = 100_000


class Phase(enum.Enum):
    """Where the link stands."""

    AWAIT_HELLO = "await_hello"
    AWAIT_HELLO_LOGS = "await_hello_logs"
    #: The hello is whole; the shell verifies it and reads the marks.
    JUDGING = "judging"
    LIVE = "live"
    CLOSED = "closed"


@dataclass(frozen=True)
class Judge:
    """The hello is whole: verify its signature, take a link number, answer with `welcomed`."""

    hello: Hello
    logs: tuple[LogState, ...]


@dataclass(frozen=True)
class CommitOps:
    """Commit these new ops, then tell `ops_committed`."""

    epoch: int
    first_seq: int
    ops: tuple[Op, ...]


@dataclass(frozen=True)
class CommitSnapshot:
    """Commit this page of a snapshot."""

    page: Snapshot


@dataclass(frozen=True)
class CommitSkip:
    """Commit this skip, then tell `ops_committed` with the mark."""

    skip: Skip


@dataclass(frozen=True)
class CommitChunk:
    """Commit this chunk, then tell `chunks_committed`. `request_id` where it answers a need."""

    chunk: LogChunk | GapChunk
    request_id: str | None = None


@dataclass(frozen=True)
class CommitRecords:
    """Commit this page of state, then tell `settled`."""

    records: Records


@dataclass(frozen=True)
class NeedAnswered:
    """Store what became of each id of a need."""

    done: NeedDone


@dataclass(frozen=True)
class Answered:
    """A frame that answers a call."""

    message: Result | Opened | Part | End


@dataclass(frozen=True)
class Beat:
    """The node's heartbeat: take note, and send `heartbeat_reply`."""

    heartbeat: Heartbeat


@dataclass(frozen=True)
class Said:
    """An agent of the node is just writing this: show it to who looks, and keep nothing."""

    text: LiveText


@dataclass(frozen=True)
class Ponged:
    """The answer to ping `n`: measure, and tell `round_trip`."""

    n: int


@dataclass(frozen=True)
class ForkSeen:
    """The node's digest at our mark differs: quarantine it."""

    forked: Forked


@dataclass(frozen=True)
class FindAgreed:
    """Find the newest of these chunks that we hold too, and answer with `agreed`."""

    probe: LogProbe


Effect = (
    Judge
    | FindAgreed
    | CommitOps
    | CommitSnapshot
    | CommitSkip
    | CommitChunk
    | CommitRecords
    | NeedAnswered
    | Answered
    | Beat
    | Said
    | Ponged
    | ForkSeen
)


class HiveLink:
    """One link, from challenge to close.

    Raises RemoteProtocolError where the node breaks a rule, and LocalProtocolError where the
    shell does.
    """

    def __init__(self, hive_id: str, nonce: bytes) -> None:
        self.phase = Phase.AWAIT_HELLO
        self.link_no = 0
        self.generation = 0
        self.credit = CreditGranted()
        self.hello: Hello
        self._hive_id = hive_id
        self._nonce = nonce
        self._logs: list[LogState] = []
        self._snapshot_whole = False
        self._received: dict[int, int] = {}
        self._committed: dict[int, EpochMark] = {}

    def challenge(self) -> Challenge:
        """Return the first frame of the link."""
        return Challenge(hive_id=self._hive_id, nonce=self._nonce)

    # --- what the node says -------------------------------------------------------------------

    def receive(self, message: NodeMessage) -> list[Effect]:
        """Take one message; return what the shell has to do about it, in order."""
        match self.phase, message:
            case Phase.AWAIT_HELLO, Hello():
                self.hello = message
                self.phase = Phase.AWAIT_HELLO_LOGS
                return []
            case Phase.AWAIT_HELLO_LOGS, HelloLogs():
                return self._on_hello_logs(message)
            case Phase.LIVE, _:
                return self._on_live(message)
            case Phase.CLOSED, _:
                raise LocalProtocolError(ErrorCode.INTERNAL, "the link is closed")
            case _:
                raise RemoteProtocolError(
                    ErrorCode.BAD_FRAME,
                    f"a {type(message).__name__} while the link is {self.phase.value}",
                )

    def _on_hello_logs(self, page: HelloLogs) -> list[Effect]:
        if not page.logs and not page.last:
            # Whoever says nothing without end would never be out of time.
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a page of a hello without logs")
        if any(not _is_possible(state) for state in page.logs):
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a log's numbers are out of bounds")
        self._logs.extend(page.logs)
        if len(self._logs) > HELLO_LOGS_MAX:
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "the hello names too many logs")
        if not page.last:
            return []
        if len(self.hello.epochs) > limits.HELLO_EPOCHS_MAX:
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "the hello names too many epochs")
        self._check_epochs()
        self.phase = Phase.JUDGING
        return [Judge(self.hello, tuple(self._logs))]

    def _check_epochs(self) -> None:
        states = self.hello.epochs
        if len({state.epoch for state in states}) < len(states):
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "the hello names an epoch twice")
        for state in states:
            kept = 1 <= state.first_kept <= limits.NUMBER_MAX
            if not kept or not 0 <= state.last <= limits.NUMBER_MAX or state.epoch < 0:
                raise RemoteProtocolError(
                    ErrorCode.BAD_FRAME, "an epoch's numbers are out of bounds", epoch=state.epoch
                )

    def _on_live(self, message: NodeMessage) -> list[Effect]:
        match message:
            case Ops():
                return self._on_ops(message)
            case LogChunk() | GapChunk():
                return [self._on_chunk(message, None)]
            case Fetched():
                return [self._on_chunk(message.chunk, message.request_id)]
            case Records():
                self.credit.take(cost(message))
                return [CommitRecords(message)]
            case NeedDone():
                return [NeedAnswered(message)]
            case Snapshot():
                self._check_snapshot(message)
                self._snapshot_whole = self._snapshot_whole or message.last
                return [CommitSnapshot(message)]
            case Skip():
                self._check_skip(message)
                self._received[message.epoch] = max(self._received[message.epoch], message.through)
                return [CommitSkip(message)]
            case Result() | Opened() | Part() | End():
                return [Answered(message)]
            case Heartbeat():
                if len(message.activity) > limits.ACTIVITY_CHARACTERS_MAX:
                    raise RemoteProtocolError(ErrorCode.BAD_FRAME, "an activity is too long")
                return [Beat(message)]
            case LiveText():
                return [self._on_live_text(message)]
            case NodePong():
                return [Ponged(message.n)]
            case Forked():
                return [ForkSeen(message)]
            case LogProbe():
                if len(message.digests) > limits.LOG_PROBE_DIGESTS_MAX:
                    raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a probe is too large")
                return [FindAgreed(message)]
            case _:
                raise RemoteProtocolError(
                    ErrorCode.BAD_FRAME, f"a {type(message).__name__} on a live link"
                )

    def _on_live_text(self, said: LiveText) -> Said:
        if LIVE_TEXT not in self.hello.features:
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "live text of a node that named no such")
        nbytes = len(said.text.encode("utf-8", "replace"))
        # Viewers' queues count pieces, so each part of one is bounded.
        named = len(f"{said.role}{said.session_id}{said.message_id}".encode("utf-8", "replace"))
        too_large = nbytes > limits.LIVE_TEXT_BYTES_MAX or named > limits.LIVE_TEXT_NAMES_BYTES_MAX
        if too_large or said.at < 0:
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a piece of live text is out of bounds")
        return Said(said)

    def _on_ops(self, frame: Ops) -> list[Effect]:
        self._check_epoch(frame.epoch)
        last = frame.first_seq + len(frame.ops) - 1
        numbered = frame.first_seq >= 1 and last <= limits.NUMBER_MAX
        if len(frame.ops) > limits.OPS_PER_FRAME_MAX or not numbered:
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a frame of ops is out of bounds")
        for op in frame.ops:
            if len(op.body) > limits.OP_BODY_BYTES_MAX:
                raise RemoteProtocolError(ErrorCode.BAD_FRAME, "the body of an op is too large")
        received = self._received[frame.epoch]
        finished = self.hello.epochs[-1].epoch != frame.epoch
        if finished and last > self._last_of(frame.epoch):
            # Only the newest epoch grows; more of an older one is of a life the node forgot.
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "ops beyond the end of their epoch")
        if frame.first_seq > received + 1:
            raise RemoteProtocolError(
                ErrorCode.HOLE,
                f"op {frame.first_seq} where {received + 1} was due",
                epoch=frame.epoch,
            )
        known = received + 1 - frame.first_seq
        new = tuple(frame.ops[known:])
        if not new:
            return []
        self._received[frame.epoch] = received + len(new)
        return [CommitOps(frame.epoch, received + 1, new)]

    def _last_of(self, epoch: int) -> int:
        return next(state.last for state in self.hello.epochs if state.epoch == epoch)

    def _on_chunk(self, chunk: LogChunk | GapChunk, request_id: str | None) -> CommitChunk:
        if isinstance(chunk, LogChunk):
            if (
                chunk.raw_bytes > limits.CHUNK_RAW_BYTES_MAX
                or len(chunk.blob) > limits.CHUNK_BLOB_BYTES_MAX
            ):
                raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a chunk is over the limit")
        elif chunk.through_seq < chunk.chunk_seq:
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a gap ends before it begins")
        if chunk.chunk_seq < 1 or chunk.entries < 0 or chunk.first_entry < 1:
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a chunk's numbers are out of bounds")
        self.credit.take(cost(chunk))
        return CommitChunk(chunk, request_id)

    def _check_snapshot(self, page: Snapshot) -> None:
        self._check_epoch(page.epoch)
        named = len(page.snapshot_id) <= limits.SNAPSHOT_ID_CHARACTERS_MAX
        if not named or not 0 <= page.seq <= limits.NUMBER_MAX:
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a page of a snapshot is out of bounds")

    def _check_skip(self, skip: Skip) -> None:
        """A skip gives up ops for ever, so it must be of this hello, behind a whole snapshot."""
        self._check_epoch(skip.epoch)
        given_up = any(
            state.epoch == skip.epoch and skip.through < state.first_kept
            for state in self.hello.epochs
        )
        if not given_up or not self._snapshot_whole:
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a skip that no snapshot stands for")
        if len(skip.digest) != DIGEST_BYTES:
            # Ops would be chained to it, and the node's history would seem to be another's.
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a skip without its digest")

    def _check_epoch(self, epoch: int) -> None:
        if epoch not in self._received:
            raise RemoteProtocolError(
                ErrorCode.BAD_FRAME, "an epoch that the hello did not name", epoch=epoch
            )

    # --- what the hive's stores say -----------------------------------------------------------

    def welcomed(
        self,
        *,
        generation: int,
        link_no: int,
        hive_time_ms: int,
        marks: Sequence[EpochMark],
        newest: tuple[int, int] | None,
        snapshot_wanted: bool,
        forks: Sequence[Fork],
        logs: Sequence[LogMark],
        keys: dict[str, bytes],
    ) -> list[HiveMessage]:
        """Accept the link; return welcome and cursors, in order. The link is live from here."""
        if self.phase is not Phase.JUDGING:
            raise LocalProtocolError(ErrorCode.INTERNAL, "no hello to welcome")
        self.phase = Phase.LIVE
        self.link_no = link_no
        self.generation = generation
        self._received = {mark.epoch: mark.mark for mark in marks}
        self._committed = {mark.epoch: mark for mark in marks}
        welcome = Welcome(
            hive_id=self._hive_id,
            generation=generation,
            link_no=link_no,
            hive_time_ms=hive_time_ms,
            marks=list(marks),
            credit=self.credit.repeat(),
            newest=newest,
            snapshot_wanted=snapshot_wanted,
            forks=list(forks),
            features=[name for name in FEATURES if name in self.hello.features],
            keys=keys,
        )
        return [welcome, *_pages(list(logs))]

    def ops_committed(self, epoch: int, mark: int, digest: bytes = b"") -> Ack:
        """Ops of `epoch` up to `mark` are committed; return the acknowledgement."""
        self._committed[epoch] = EpochMark(epoch, mark, digest)
        return Ack(link_no=self.link_no, generation=self.generation, epoch=epoch, seq=mark)

    def chunks_committed(
        self, marks: Sequence[LogMark], settled_bytes: int, now_s: float
    ) -> list[LogAck | Credit]:
        """Chunks are settled and the logs stand at `marks`; return what to tell the node."""
        frames: list[LogAck | Credit] = [
            LogAck(link_no=self.link_no, generation=self.generation, marks=list(marks))
        ]
        grant = self.settled(settled_bytes, now_s)
        return frames if grant is None else [*frames, grant]

    def agreed(self, mark: LogMark, through: int) -> LogAgreed:
        """Return the answer to a probe."""
        return LogAgreed(mark=mark, through=through)

    def settled(self, nbytes: int, now_s: float) -> Credit | None:
        """Bytes that took credit are settled; return a grant where one is worth telling."""
        self.credit.settle(nbytes, now_s)
        return self.credit.next_grant()

    def round_trip(self, milliseconds: float) -> None:
        """A control round trip was measured."""
        self.credit.pace.round_trip(milliseconds)

    def heartbeat_reply(
        self, n: int, hive_time_ms: int, marks: Sequence[EpochMark] | None = None
    ) -> HeartbeatReply:
        """Return the answer to heartbeat `n`.

        `marks` as just read from the store, where they were: the link's own memory would not
        notice a store that lost some.
        """
        told = list(marks) if marks is not None else list(self._committed.values())
        return HeartbeatReply(
            n=n, hive_time_ms=hive_time_ms, marks=told[-8:], credit=self.credit.repeat()
        )

    def close(self) -> None:
        """The socket is gone."""
        self.phase = Phase.CLOSED


def _is_possible(state: LogState) -> bool:
    # Nobody has signed this yet, and it is kept until all pages have come.
    if len(state.execution_id) > ID_CHARACTERS_MAX or len(state.digest) > DIGEST_BYTES:
        return False
    return all(1 <= number <= limits.NUMBER_MAX for number in (state.next_chunk, state.next_entry))


def _pages(marks: list[LogMark]) -> list[WelcomeLogs]:
    size = limits.HELLO_LOGS_PER_PAGE_MAX
    starts = range(0, max(1, len(marks)), size)
    return [
        WelcomeLogs(marks=marks[start : start + size], last=start + size >= len(marks))
        for start in starts
    ]
