"""The node's end of a link, as a state machine: what to say, what to send next, what they may say.

Rule 1: no sockets, clocks or stores; the shell reads what `next_wanted` asks for and hands it in.
Rule 2: the hive's marks are the truth. The node sends what follows them, also backwards.
"""

import enum
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from protocol import limits, tokens
from protocol.credit import CreditSpent, cost
from protocol.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from protocol.log_chunks import GapChunk, LogChunk
from protocol.messages import (
    FEATURES,
    LIVE_TEXT,
    Ack,
    Call,
    Cancel,
    Challenge,
    Credit,
    Draining,
    EpochMark,
    Fetched,
    Forked,
    HeartbeatReply,
    Hello,
    HelloLogs,
    HiveMessage,
    Links,
    LogAck,
    LogAgreed,
    LogMark,
    LogState,
    Need,
    NeedDone,
    NodeMessage,
    NodePong,
    Ops,
    PartCredit,
    Ping,
    Records,
    Safe,
    Skip,
    Snapshot,
    Welcome,
    WelcomeLogs,
)
from protocol.node_effects import (
    Accepted,
    AnswerWanted,
    ChunksWanted,
    Compare,
    CompareMarks,
    Effect,
    OpsAcked,
    OpsWanted,
    Received,
    Refork,
    Send,
    SnapshotWanted,
    Wanted,
)
from protocol.node_logs import NodeLogs
from protocol.ops import EpochState, Op, Record, record_pages


class Phase(enum.Enum):
    """Where the link stands."""

    AWAIT_CHALLENGE = "await_challenge"
    AWAIT_WELCOME = "await_welcome"
    AWAIT_WELCOME_LOGS = "await_welcome_logs"
    #: The welcome is read; the shell looks up the digests it has to be compared with.
    SETTLING = "settling"
    LIVE = "live"
    #: Our history and the hive's have parted: nothing more is said on this link.
    FORKED = "forked"
    CLOSED = "closed"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who calls: everything a hello is made of that is not in the stores."""

    node_id: str
    instance: int
    connect_no: int
    host: str
    hive_id: str
    generation_seen: int
    version: str
    sign: Callable[[bytes], bytes]


@dataclass
class _Epoch:
    first_kept: int
    last: int
    digest: bytes
    sent: int = 0
    acked: int = 0
    #: The hive's mark at the welcome, be it above all we have.
    welcomed: int = 0


@dataclass
class _Welcome:
    welcome: Welcome
    marks: list[LogMark] = field(default_factory=list)


class NodeLink:
    """One link, from challenge to close.

    Raises RemoteProtocolError where the hive breaks a rule, and LocalProtocolError where the
    shell does.
    """

    def __init__(
        self,
        caller: Caller,
        epochs: Sequence[EpochState],
        logs: Sequence[LogState],
        *,
        singly: bool = False,
    ) -> None:
        #: One op at a time and nothing beside it: the hive refused a frame, and it is sought which.
        self._singly = singly
        self.phase = Phase.AWAIT_CHALLENGE
        self.link_no = 0
        self.generation = 0
        self.credit = CreditSpent()
        #: Epoch -> the mark at which the hive's digest was last found to be ours.
        self._compared: dict[int, int] = {}
        self._caller = caller
        self._hello_epochs = list(epochs[-limits.HELLO_EPOCHS_MAX :])
        self._epochs = {
            state.epoch: _Epoch(state.first_kept, state.last, state.digest)
            for state in self._hello_epochs
        }
        self._logs = NodeLogs(logs)
        # What grew while the hello was on its way: cursors come first, then this.
        self._grew_early: dict[str, tuple[int, bool]] = {}
        self._needs: deque[str] = deque()
        self._in_flight: deque[tuple[int, int, int]] = deque()
        self._in_flight_bytes = 0
        self._snapshot_due = False
        self._welcome: _Welcome
        self._answer_next = False

    @property
    def takes_live_text(self) -> bool:
        """Whether live text may be sent now."""
        return self.phase is Phase.LIVE and LIVE_TEXT in self._welcome.welcome.features

    # --- what the hive says -------------------------------------------------------------------

    def receive(self, message: HiveMessage) -> list[Effect]:
        """Take one message; return what the shell has to do about it, in order."""
        match self.phase, message:
            case Phase.AWAIT_CHALLENGE, Challenge():
                return self._on_challenge(message)
            case Phase.AWAIT_WELCOME, Welcome():
                return self._on_welcome(message)
            case Phase.AWAIT_WELCOME_LOGS, WelcomeLogs():
                return self._on_welcome_logs(message)
            case Phase.LIVE, _:
                return self._on_live(message)
            case Phase.FORKED, _:
                # Sent before the link is closed; the next one begins where both agree.
                return []
            case Phase.CLOSED, _:
                raise LocalProtocolError(ErrorCode.INTERNAL, "the link is closed")
            case _:
                raise RemoteProtocolError(
                    ErrorCode.BAD_FRAME,
                    f"a {type(message).__name__} while the link is {self.phase.value}",
                )

    def _on_challenge(self, challenge: Challenge) -> list[Effect]:
        caller = self._caller
        if challenge.hive_id != caller.hive_id:
            raise RemoteProtocolError(
                ErrorCode.AUTHENTICATION_FAILED,
                "another hive answers at this address",
                hint="If the hive was set up anew, join it again: node-agent join URL TOKEN.",
                expected=caller.hive_id,
                found=challenge.hive_id,
            )
        signed = tokens.hello_bytes(
            caller.hive_id,
            caller.host,
            challenge.nonce,
            caller.node_id,
            caller.instance,
            caller.connect_no,
        )
        hello = Hello(
            node_id=caller.node_id,
            instance=caller.instance,
            connect_no=caller.connect_no,
            host=caller.host,
            signature=caller.sign(signed),
            version=caller.version,
            epochs=self._hello_epochs,
            generation_seen=caller.generation_seen,
            features=list(FEATURES),
        )
        self.phase = Phase.AWAIT_WELCOME
        return [Send(hello), *map(Send, _pages(list(self._logs.named.values())))]

    def _on_welcome(self, welcome: Welcome) -> list[Effect]:
        self._welcome = _Welcome(welcome)
        self.phase = Phase.AWAIT_WELCOME_LOGS
        return []

    def _on_welcome_logs(self, page: WelcomeLogs) -> list[Effect]:
        self._welcome.marks.extend(page.marks)
        if len(self._welcome.marks) > len(self._logs.named):
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "more cursors than logs were named")
        if not page.last:
            return []
        welcome = self._welcome.welcome
        self.phase = Phase.SETTLING
        self.link_no = welcome.link_no
        self.generation = welcome.generation
        self.credit.granted(welcome.credit)
        if welcome.forks:
            self._check_forks(welcome)
            self.phase = Phase.FORKED
            return [Accepted(welcome), *(Refork(fork) for fork in welcome.forks)]
        return [
            Accepted(welcome),
            Compare(
                epochs=tuple(
                    (mark.epoch, mark.mark)
                    for mark in welcome.marks
                    if mark.epoch in self._epochs and self._comparable(mark)
                ),
                logs=self._logs.places(self._welcome.marks),
            ),
        ]

    def _check_forks(self, welcome: Welcome) -> None:
        forked = [fork.epoch for fork in welcome.forks]
        if len(set(forked)) < len(forked) or not set(forked) <= set(self._epochs):
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a fork of what the hello did not name")

    def _comparable(self, mark: EpochMark) -> bool:
        epoch = self._epochs[mark.epoch]
        return max(1, epoch.first_kept) <= mark.mark <= epoch.last

    def settled(
        self,
        epochs: Mapping[tuple[int, int], bytes | None],
        logs: Mapping[tuple[str, int], bytes | None],
    ) -> list[Effect]:
        """Take the digests `Compare` asked for (None: no longer kept); the link goes live."""
        welcome = self._welcome.welcome
        for mark in welcome.marks:
            ours = epochs.get((mark.epoch, mark.mark))
            if ours is not None and ours != mark.digest:
                # Not ours to decide: the hive quarantines, a person releases.
                self.phase = Phase.FORKED
                return [Send(Forked(epoch=mark.epoch, seq=mark.mark, digest=ours))]
        self._adopt_marks(welcome)
        self.phase = Phase.LIVE
        effects = self._logs.adopt_cursors(self._welcome.marks, logs)
        for execution_id, (next_chunk, open_) in self._grew_early.items():
            self.log_grew(execution_id, next_chunk=next_chunk, open_=open_)
        return effects

    def _adopt_marks(self, welcome: Welcome) -> None:
        for mark in welcome.marks:
            epoch = self._epochs.get(mark.epoch)
            if epoch is None:
                continue
            # Ours if the hive is ahead: then our disk was restored, and `newest` says so too.
            epoch.sent = epoch.acked = min(mark.mark, epoch.last)
            epoch.welcomed = mark.mark
            if epoch.sent + 1 < epoch.first_kept:
                self._snapshot_due = True
        untold = welcome.newest is not None and not self._told(*welcome.newest)
        if untold or welcome.snapshot_wanted:
            self._snapshot_due = True

    def _told(self, epoch: int, seq: int) -> bool:
        """Whether what the hive knows up to there is surely ours, because ops told it.

        Beyond its mark a snapshot did, maybe of this very process before its machine went back.
        """
        held = self._epochs.get(epoch)
        return held is not None and seq <= held.acked and seq <= held.last

    def probed(self, execution_id: str, digests: Sequence[tuple[int, bytes]]) -> list[Effect]:
        """Take the digests `Probe` asked for, newest first; none are left where it is empty."""
        return self._logs.probed(execution_id, digests)

    def _on_live(self, message: HiveMessage) -> list[Effect]:
        match message:
            case Ack():
                return self._on_ack(message)
            case LogAck():
                return self._on_log_ack(message)
            case LogAgreed():
                return self._logs.agreed(message)
            case Credit():
                self.credit.granted(message.total)
                return []
            case HeartbeatReply():
                self.credit.granted(message.credit)
                for mark in message.marks:
                    self._acknowledged(mark.epoch, mark.mark)
                return [Received(message), *self._doubtful(message.marks)]
            case Ping():
                return [Send(NodePong(n=message.n))]
            case Need():
                if message.request_id in self._needs:
                    return []
                if len(self._needs) >= limits.NEEDS_OPEN_MAX:
                    raise RemoteProtocolError(ErrorCode.BAD_FRAME, "too many needs are open")
                self._needs.append(message.request_id)
                return [Received(message)]
            case Call() | Cancel() | PartCredit() | Links() | Safe() | Draining():
                return [Received(message)]
            case _:
                raise RemoteProtocolError(
                    ErrorCode.BAD_FRAME, f"a {type(message).__name__} on a live link"
                )

    def _doubtful(self, marks: Sequence[EpochMark]) -> list[Effect]:
        """Have marks compared that were not yet: the hive may have taken ops that are not ours."""
        unseen = tuple(
            mark
            for mark in marks
            if mark.epoch in self._epochs
            and 0 < mark.mark <= self._epochs[mark.epoch].last
            and self._compared.get(mark.epoch) != mark.mark
        )
        return [CompareMarks(unseen)] if unseen else []

    def marks_compared(
        self, marks: Sequence[EpochMark], digests: Mapping[tuple[int, int], bytes | None]
    ) -> None:
        """Take our digests at marks of the hive's; one that is no longer kept says nothing.

        Raises RemoteProtocolError where they differ: the next hello settles which history holds.
        """
        for mark in marks:
            ours = digests.get((mark.epoch, mark.mark))
            if ours is not None and ours != mark.digest:
                raise RemoteProtocolError(
                    ErrorCode.HOLE, "the hive holds other ops than ours", epoch=mark.epoch
                )
            self._compared[mark.epoch] = mark.mark

    def _on_ack(self, ack: Ack) -> list[Effect]:
        if ack.link_no != self.link_no or ack.generation < self.generation:
            return []
        self._acknowledged(ack.epoch, ack.seq)
        return [OpsAcked(ack.epoch, ack.seq)]

    def _acknowledged(self, epoch_no: int, seq: int) -> None:
        epoch = self._epochs.get(epoch_no)
        if epoch is None:
            return
        if seq < epoch.acked:
            # The hive lost what it had acknowledged: the next hello is the one way to rewind.
            raise RemoteProtocolError(ErrorCode.HOLE, "the hive's mark went down under the link")
        if seq > max(epoch.sent, epoch.acked):
            if seq <= epoch.last:
                raise RemoteProtocolError(ErrorCode.BAD_FRAME, "ops were acknowledged unsent")
            if seq > epoch.welcomed:
                # Of a life this process forgot: the next hello settles what is to become of it.
                raise RemoteProtocolError(ErrorCode.HOLE, "the hive holds ops that are not ours")
            # A mark above all we have, known since the welcome of a restored node.
            return
        epoch.acked = seq
        while (
            self._in_flight and self._in_flight[0][0] == epoch_no and self._in_flight[0][1] <= seq
        ):
            self._in_flight_bytes -= self._in_flight.popleft()[2]

    def _on_log_ack(self, ack: LogAck) -> list[Effect]:
        if ack.link_no != self.link_no or ack.generation < self.generation:
            return []
        return self._logs.acked(ack)

    # --- what the node's stores say -----------------------------------------------------------

    def journal_grew(self, epoch: int, last: int) -> None:
        """Op `last` of `epoch` is committed."""
        held = self._epochs.get(epoch)
        if held is None:
            self._epochs[epoch] = _Epoch(first_kept=1, last=last, digest=b"")
        else:
            held.last = max(held.last, last)

    def log_grew(self, execution_id: str, *, next_chunk: int, open_: bool) -> None:
        """Chunks of a log before `next_chunk` are committed; one the hello did not name is new."""
        if self.phase is Phase.LIVE:
            self._logs.grew(execution_id, next_chunk, open_=open_)
        else:
            self._grew_early[execution_id] = (next_chunk, open_)

    def log_adopted(self, execution_id: str, *, next_chunk: int, open_: bool) -> None:
        """What `Adopt` asked for is done: the log's chunks end before `next_chunk` now."""
        self._logs.adopted(execution_id, next_chunk, open_=open_)

    def streams(self, execution_id: str) -> bool:
        """Whether this log goes over this link by itself: then answers leave it out."""
        return self._logs.streams(execution_id)

    def log_differs(self, execution_id: str, next_chunk: int) -> list[Effect]:
        """A need shows that the hive holds another history of a log that the hello did not name.

        It is settled as after a hello, and from then on the log streams.
        """
        return self._logs.differs(execution_id, next_chunk)

    def stream(self, mark: LogMark, next_chunk: int) -> None:
        """A need asks for a log with a hole: it streams from where the hive stands, and past it."""
        self._logs.stream(mark, next_chunk)

    def hole_found(self, execution_id: str) -> list[Effect]:
        """We lack the chunk `ChunksWanted` asked for: an older disk was restored under it."""
        return self._logs.hole_found(execution_id)

    # --- what to send next --------------------------------------------------------------------

    def next_wanted(self) -> Wanted | None:
        """Return what to read and send next below the control lane, or None: nothing to send."""
        if self.phase is not Phase.LIVE:
            return None
        if self._snapshot_due:
            return SnapshotWanted(self._skips())
        if self._singly and self._in_flight:
            return None
        wanted: Wanted | None = self._ops_wanted()
        if wanted is not None or self.credit.left <= 0:
            return wanted
        # Answers and live logs take turns, so neither starves behind the other.
        self._answer_next = not self._answer_next
        if self._answer_next:
            return self._answer_wanted() or self._chunks_wanted()
        return self._chunks_wanted() or self._answer_wanted()

    def _skips(self) -> tuple[tuple[int, int], ...]:
        return tuple(
            (number, epoch.first_kept - 1)
            for number, epoch in self._epochs.items()
            if epoch.sent + 1 < epoch.first_kept
        )

    def _ops_wanted(self) -> OpsWanted | None:
        room = limits.OPS_IN_FLIGHT_BYTES_MAX - self._in_flight_bytes
        if room <= 0:
            return None
        for number, epoch in self._epochs.items():
            if epoch.sent < epoch.last:
                return OpsWanted(
                    number,
                    epoch.sent,
                    1 if self._singly else limits.OPS_PER_FRAME_MAX,
                    min(room, limits.OPS_FRAME_BYTES_MAX),
                )
        return None

    def _chunks_wanted(self) -> ChunksWanted | None:
        return self._logs.wanted(max(1, self.credit.left))

    def _answer_wanted(self) -> AnswerWanted | None:
        if not self._needs:
            return None
        self._needs.rotate(-1)
        return AnswerWanted(self._needs[-1])

    # --- what was read ------------------------------------------------------------------------

    def ops_read(self, epoch_no: int, ops: Sequence[Op]) -> Ops:
        """Take the ops `OpsWanted` asked for; return their frame. They are on their way now.

        Raises LocalProtocolError (4410) where they are no longer kept: the next hello says so.
        """
        epoch = self._epochs[epoch_no]
        if not ops:
            raise LocalProtocolError(ErrorCode.HOLE, "ops were pruned under the link")
        frame = Ops(epoch=epoch_no, first_seq=epoch.sent + 1, ops=list(ops))
        epoch.sent += len(ops)
        nbytes = sum(len(op.body) for op in ops) + 64 * len(ops)
        self._in_flight.append((epoch_no, epoch.sent, nbytes))
        self._in_flight_bytes += nbytes
        return frame

    def snapshot_read(
        self,
        snapshot_id: str,
        position: tuple[int, int],
        records: Sequence[Record],
        digests: Mapping[tuple[int, int], bytes | None],
    ) -> list[NodeMessage]:
        """Take the state of all we own as of `position`; return snapshot and skips, in order.

        Raises LocalProtocolError (4410) where more was pruned since the hello: a skip without the
        digest of its place would part the two histories, and the next hello says how far it goes.
        """
        skips = [(place, digests.get(place)) for place in self._skips()]
        pages = record_pages(records)
        frames: list[NodeMessage] = [
            Snapshot(
                snapshot_id=snapshot_id,
                epoch=position[0],
                seq=position[1],
                records=page,
                last=number == len(pages),
            )
            for number, page in enumerate(pages, 1)
        ]
        for (number, through), digest in skips:
            if digest is None:
                raise LocalProtocolError(ErrorCode.HOLE, "ops were pruned under the link")
            frames.append(Skip(epoch=number, through=through, digest=digest))
            # Not acknowledged before it is: until then heartbeats tell the mark of before.
            self._epochs[number].sent = through
        self._snapshot_due = False
        return frames

    def may_begin_chunk(self, chunk: LogChunk | GapChunk) -> bool:
        """Whether a chunk that was read may go: any credit is left, and no hole is before it.

        A hole ends what is sent of a page: at its turn it is wanted, and found to be lacking.
        """
        return self.credit.left > 0 and not self._logs.is_beyond_hole(chunk)

    def chunk_read(self, chunk: LogChunk | GapChunk) -> LogChunk | GapChunk:
        """Take one chunk of a log; return the frame. It is on its way now."""
        self._logs.sent(chunk)
        self.credit.spend(cost(chunk))
        return chunk

    def log_gone(self, execution_id: str) -> None:
        """Nothing more of this log is to be sent (it was deleted, or its policy changed)."""
        self._logs.gone(execution_id)

    def answer_read(
        self, message: Fetched | Records | NeedDone
    ) -> Fetched | Records | NeedDone | None:
        """Take one frame of an answer; return it, or None where it need not go.

        `NeedDone` ends the answer. A chunk of a log that streams over this link goes there alone:
        under way twice, it could arrive under the numbers of before and of after an adoption.
        """
        if isinstance(message, NeedDone):
            self._needs.remove(message.request_id)
        elif isinstance(message, Fetched) and self.streams(message.chunk.execution_id):
            return None
        else:
            self.credit.spend(cost(message))
        return message

    def under_way(self) -> tuple[int, int] | None:
        """Return (epoch, seq) of the first op that was sent and not acknowledged, if any."""
        if not self._in_flight:
            return None
        number = self._in_flight[0][0]
        return number, self._epochs[number].acked + 1

    def close(self) -> None:
        """The socket is gone."""
        self.phase = Phase.CLOSED


def _pages(logs: list[LogState]) -> list[HelloLogs]:
    size = limits.HELLO_LOGS_PER_PAGE_MAX
    starts = range(0, max(1, len(logs)), size)
    return [
        HelloLogs(logs=logs[start : start + size], last=start + size >= len(logs))
        for start in starts
    ]
