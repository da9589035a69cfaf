"""The node's end of a link, as a state machine: what to say, what to send next, what they may say.

Rule 1: no sockets, clocks or stores; the shell reads what `next_wanted` asks for and hands it in.
Rule 2: the hive's marks are the truth. The node sends what follows them, also backwards.
"""

import enum
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from protocol import limits, tokens
from protocol.credit import CreditSpent, cost
from protocol.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from protocol.log_chunks import GapChunk, LogChunk
from protocol.messages import (
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
    LogProbe,
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
    Adopt,
    AnswerWanted,
    ChunksWanted,
    Compare,
    Effect,
    LogsAcked,
    OpsAcked,
    OpsWanted,
    Probe,
    Received,
    Refork,
    Send,
    SnapshotWanted,
    Wanted,
)
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


@dataclass
class _Log:
    next_send: int
    next_new: int
    #: Where the hive stands, as it last said.
    mark: LogMark
    open: bool
    #: We lack `next_send`; once all before it is acknowledged, the log goes on behind a gap.
    holed: bool = False


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
        self, caller: Caller, epochs: Sequence[EpochState], logs: Sequence[LogState]
    ) -> None:
        self.phase = Phase.AWAIT_CHALLENGE
        self.link_no = 0
        self.generation = 0
        self.credit = CreditSpent()
        self._caller = caller
        self._hello_epochs = list(epochs[-limits.HELLO_EPOCHS_MAX :])
        self._hello_logs = {state.execution_id: state for state in logs}
        self._epochs = {
            state.epoch: _Epoch(state.first_kept, state.last, state.digest)
            for state in self._hello_epochs
        }
        self._logs: dict[str, _Log] = {}
        # Logs that differ at both ends, with the lowest of our chunks the hive was asked about.
        self._probing: dict[str, int] = {}
        # What grew while the hello was on its way: cursors come first, then this.
        self._grew_early: dict[str, tuple[int, bool]] = {}
        # Logs with chunks to send, in order of turns: running ones, and the others.
        self._running: dict[str, None] = {}
        self._resting: dict[str, None] = {}
        self._needs: deque[str] = deque()
        self._in_flight: deque[tuple[int, int, int]] = deque()
        self._in_flight_bytes = 0
        self._snapshot_due = False
        self._welcome: _Welcome
        self._answer_next = False

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
        )
        self.phase = Phase.AWAIT_WELCOME
        return [Send(hello), *map(Send, _pages(list(self._hello_logs.values())))]

    def _on_welcome(self, welcome: Welcome) -> list[Effect]:
        self._welcome = _Welcome(welcome)
        self.phase = Phase.AWAIT_WELCOME_LOGS
        return []

    def _on_welcome_logs(self, page: WelcomeLogs) -> list[Effect]:
        self._welcome.marks.extend(page.marks)
        if len(self._welcome.marks) > len(self._hello_logs):
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "more cursors than logs were named")
        if not page.last:
            return []
        welcome = self._welcome.welcome
        self.phase = Phase.SETTLING
        self.link_no = welcome.link_no
        self.generation = welcome.generation
        self.credit.granted(welcome.credit)
        if welcome.forks:
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
                logs=tuple(
                    (mark.execution_id, mark.next_chunk - 1)
                    for mark in self._welcome.marks
                    if mark.execution_id in self._hello_logs
                    and 1 < mark.next_chunk < self._hello_logs[mark.execution_id].next_chunk
                ),
            ),
        ]

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
        effects = self._adopt_cursors(self._welcome.marks, logs)
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
            if epoch.sent + 1 < epoch.first_kept:
                self._snapshot_due = True
        lacks_newest = welcome.newest is not None and not self._holds(*welcome.newest)
        if lacks_newest or welcome.snapshot_wanted:
            self._snapshot_due = True

    def _holds(self, epoch: int, seq: int) -> bool:
        return epoch in self._epochs and self._epochs[epoch].last >= seq

    def _adopt_cursors(
        self, marks: Iterable[LogMark], digests: Mapping[tuple[str, int], bytes | None]
    ) -> list[Effect]:
        effects: list[Effect] = []
        for mark in marks:
            state = self._hello_logs.get(mark.execution_id)
            if state is None:
                raise RemoteProtocolError(
                    ErrorCode.BAD_FRAME, "a cursor for a log that was not named"
                )
            if mark.next_chunk == state.next_chunk:
                ours: bytes | None = state.digest
            else:
                ours = digests.get((mark.execution_id, mark.next_chunk - 1))
            ahead = mark.next_chunk > state.next_chunk
            differs = mark.next_chunk > 1 and ours is not None and ours != mark.digest
            if differs or (ahead and not mark.agreed):
                self._probing[mark.execution_id] = state.next_chunk
                effects.append(Probe(mark.execution_id, state.next_chunk))
                continue
            if ahead:
                effects.append(self._adopt(mark, state.next_chunk - 1))
                continue
            self._take_up(mark, next_new=state.next_chunk)
            effects.append(LogsAcked((mark,)))
        return effects

    def _take_up(self, mark: LogMark, *, next_new: int) -> None:
        # Until it grows under this link, nobody is waiting for its next line: not `open`.
        log = _Log(next_send=mark.next_chunk, next_new=next_new, mark=mark, open=False)
        self._logs[mark.execution_id] = log
        self._file(mark.execution_id, log)

    def _adopt(self, mark: LogMark, held_through: int) -> Adopt:
        # It is renumbered first; then it grows from the hive's cursor on.
        self._take_up(mark, next_new=mark.next_chunk)
        return Adopt(mark, held_through)

    def probed(self, execution_id: str, digests: Sequence[tuple[int, bytes]]) -> list[Effect]:
        """Take the digests `Probe` asked for, newest first; none are left where it is empty."""
        if digests:
            self._probing[execution_id] = min(chunk for chunk, _ in digests)
        else:
            self._probing[execution_id] = 1
        return [Send(LogProbe(execution_id=execution_id, digests=list(digests)))]

    def _on_log_agreed(self, agreed: LogAgreed) -> list[Effect]:
        execution_id = agreed.mark.execution_id
        below = self._probing.get(execution_id)
        if below is None:
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "an answer to a probe never sent")
        if agreed.through == 0 and below > 1:
            return [Probe(execution_id, below)]
        del self._probing[execution_id]
        return [self._adopt(agreed.mark, agreed.through)]

    def streams(self, execution_id: str) -> bool:
        """Whether this log goes over this link by itself: then answers leave it out."""
        return execution_id in self._logs or execution_id in self._probing

    def log_differs(self, execution_id: str, next_chunk: int) -> list[Effect]:
        """A need shows that the hive holds another history of a log that the hello did not name.

        It is settled as after a hello, and from then on the log streams.
        """
        self._probing[execution_id] = next_chunk
        return [Probe(execution_id, next_chunk)]

    def stream(self, mark: LogMark, next_chunk: int) -> None:
        """A need asks for a log with a hole: it streams from where the hive stands, and past it."""
        self._take_up(mark, next_new=next_chunk)

    def _on_live(self, message: HiveMessage) -> list[Effect]:
        match message:
            case Ack():
                return self._on_ack(message)
            case LogAck():
                return self._on_log_ack(message)
            case LogAgreed():
                return self._on_log_agreed(message)
            case Credit():
                self.credit.granted(message.total)
                return []
            case HeartbeatReply():
                self.credit.granted(message.credit)
                for mark in message.marks:
                    self._acknowledged(mark.epoch, mark.mark)
                return [Received(message)]
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
        for mark in ack.marks:
            log = self._logs.get(mark.execution_id)
            if log is None:
                continue
            if mark.next_chunk < log.mark.next_chunk:
                raise RemoteProtocolError(ErrorCode.HOLE, "a log's cursor went down under the link")
            log.mark = mark
        effects: list[Effect] = [LogsAcked(tuple(ack.marks))]
        for mark in ack.marks:
            effects.extend(self._past_hole(mark.execution_id))
        return effects

    def hole_found(self, execution_id: str) -> list[Effect]:
        """We lack the chunk `ChunksWanted` asked for: an older disk was restored under it."""
        log = self._logs[execution_id]
        log.holed = True
        self._file(execution_id, log)
        return self._past_hole(execution_id)

    def _past_hole(self, execution_id: str) -> list[Effect]:
        log = self._logs.get(execution_id)
        if log is None or not log.holed or log.mark.next_chunk < log.next_send:
            return []
        return [self._adopt(log.mark, log.mark.next_chunk - 1)]

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
        if self.phase is not Phase.LIVE:
            self._grew_early[execution_id] = (next_chunk, open_)
            return
        if execution_id in self._probing:
            return
        log = self._logs.get(execution_id)
        if log is None:
            mark = LogMark(execution_id, 1, 1, b"")
            log = _Log(next_send=1, next_new=next_chunk, mark=mark, open=open_)
            self._logs[execution_id] = log
        log.next_new = max(log.next_new, next_chunk)
        log.open = open_
        self._file(execution_id, log)

    # --- what to send next --------------------------------------------------------------------

    def next_wanted(self) -> Wanted | None:
        """Return what to read and send next below the control lane, or None: nothing to send."""
        if self.phase is not Phase.LIVE:
            return None
        if self._snapshot_due:
            return SnapshotWanted(self._skips())
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
                    limits.OPS_PER_FRAME_MAX,
                    min(room, limits.OPS_FRAME_BYTES_MAX),
                )
        return None

    def _chunks_wanted(self) -> ChunksWanted | None:
        turns = self._running or self._resting
        if not turns:
            return None
        chosen = next(iter(turns))
        # To the end of its row: the next turn is another's.
        del turns[chosen]
        turns[chosen] = None
        return ChunksWanted(chosen, self._logs[chosen].next_send, max(1, self.credit.left))

    def _file(self, execution_id: str, log: _Log) -> None:
        """Put a log into the row it belongs to, or out of both where nothing is to be sent."""
        waiting = log.next_send < log.next_new and not log.holed
        for row, belongs in ((self._running, log.open), (self._resting, not log.open)):
            if not (waiting and belongs):
                row.pop(execution_id, None)
            elif execution_id not in row:
                row[execution_id] = None

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
        digests: Mapping[tuple[int, int], bytes],
    ) -> list[NodeMessage]:
        """Take the state of all we own as of `position`; return snapshot and skips, in order."""
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
        for number, through in self._skips():
            frames.append(Skip(epoch=number, through=through, digest=digests[number, through]))
            epoch = self._epochs[number]
            epoch.sent = epoch.acked = through
        self._snapshot_due = False
        return frames

    def may_begin_chunk(self) -> bool:
        """Whether any credit is left: then a whole chunk may go."""
        return self.credit.left > 0

    def chunk_read(self, chunk: LogChunk | GapChunk) -> LogChunk | GapChunk:
        """Take one chunk of a log; return the frame. It is on its way now."""
        log = self._logs[chunk.execution_id]
        if chunk.chunk_seq != log.next_send:
            raise LocalProtocolError(
                ErrorCode.INTERNAL, f"chunk {chunk.chunk_seq} where {log.next_send} was due"
            )
        log.next_send = chunk.through_seq + 1 if isinstance(chunk, GapChunk) else log.next_send + 1
        self._file(chunk.execution_id, log)
        self.credit.spend(cost(chunk))
        return chunk

    def log_gone(self, execution_id: str) -> None:
        """Nothing more of this log is to be sent (it was deleted, or its policy changed)."""
        self._logs.pop(execution_id, None)
        self._running.pop(execution_id, None)
        self._resting.pop(execution_id, None)

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
