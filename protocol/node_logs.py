"""The logs of one link at the node's end: where each stands at both ends, and whose turn it is.

A part of `NodeLink`. The hive's cursors are the truth: a log is sent from there on, also backwards;
where the two histories of it have parted, it is numbered on from the hive's cursor behind a gap.
Must not count credit or know phases: those are the link's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from protocol import limits
from protocol.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from protocol.log_chunks import GapChunk, LogChunk, through
from protocol.messages import LogAck, LogAgreed, LogMark, LogProbe, LogState
from protocol.node_effects import Adopt, ChunksWanted, Effect, LogsAcked, Probe, Send


@dataclass
class _Log:
    next_send: int
    next_new: int
    #: Where the hive stands, as it last said.
    mark: LogMark
    open: bool
    #: We lack `next_send`; once all before it is acknowledged, the log goes on behind a gap.
    holed: bool = False


class NodeLogs:
    """The logs that go over one link, from the cursors of its welcome on."""

    def __init__(self, named: Sequence[LogState]) -> None:
        #: The logs the hello names, as the node holds them.
        self.named = {state.execution_id: state for state in named}
        self._logs: dict[str, _Log] = {}
        # Logs that differ at both ends, with the lowest of our chunks the hive was asked about.
        self._probing: dict[str, int] = {}
        # Logs that the shell is numbering anew: until it has, what it would read is of before.
        self._adopting: set[str] = set()
        # Logs with chunks to send, in order of turns: running ones, and the others.
        self._running: dict[str, None] = {}
        self._resting: dict[str, None] = {}

    # --- at the welcome -----------------------------------------------------------------------

    def places(self, marks: Iterable[LogMark]) -> tuple[tuple[str, int], ...]:
        """Return where our digests have to be looked up: at the cursors inside our own logs."""
        return tuple(
            (mark.execution_id, mark.next_chunk - 1)
            for mark in marks
            if mark.execution_id in self.named
            and 1 < mark.next_chunk < self.named[mark.execution_id].next_chunk
        )

    def adopt_cursors(
        self, marks: Iterable[LogMark], digests: Mapping[tuple[str, int], bytes | None]
    ) -> list[Effect]:
        """Go on from the hive's cursors; where that is not our history, ask what it holds."""
        effects: list[Effect] = []
        for mark in marks:
            state = self.named.get(mark.execution_id)
            if state is None:
                raise RemoteProtocolError(
                    ErrorCode.BAD_FRAME, "a cursor for a log that was not named"
                )
            if mark.next_chunk == state.next_chunk:
                ours: bytes | None = state.digest
            else:
                ours = digests.get((mark.execution_id, mark.next_chunk - 1))
            _check(mark)
            ahead = mark.next_chunk > state.next_chunk
            # No digest of ours at a cursor inside our log: it stands within a gap, or in a hole.
            differs = 1 < mark.next_chunk <= state.next_chunk and ours != mark.digest
            if differs or (ahead and not mark.agreed):
                effects.extend(self.differs(mark.execution_id, state.next_chunk))
            elif ahead:
                effects.append(self._adopt(mark, state.next_chunk - 1))
            else:
                self.stream(mark, state.next_chunk)
                effects.append(LogsAcked((mark,)))
        return effects

    # --- two histories ------------------------------------------------------------------------

    def differs(self, execution_id: str, next_chunk: int) -> list[Effect]:
        """The hive holds another history of this log than ours, which ends before `next_chunk`."""
        self._probing[execution_id] = next_chunk
        return [Probe(execution_id, next_chunk)]

    def probed(self, execution_id: str, digests: Sequence[tuple[int, bytes]]) -> list[Effect]:
        """Ask the hive for the newest of these (chunk, digest), newest first, that it has too."""
        self._probing[execution_id] = min((chunk for chunk, _ in digests), default=1)
        return [Send(LogProbe(execution_id=execution_id, digests=list(digests)))]

    def agreed(self, agreed: LogAgreed) -> list[Effect]:
        """Take the answer: number on behind what both have, or ask about older chunks."""
        execution_id = agreed.mark.execution_id
        _check(agreed.mark)
        below = self._probing.get(execution_id)
        if below is None:
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "an answer to a probe never sent")
        if agreed.through == 0 and below > 1:
            return [Probe(execution_id, below)]
        del self._probing[execution_id]
        return [self._adopt(agreed.mark, agreed.through)]

    def _adopt(self, mark: LogMark, held_through: int) -> Adopt:
        # It is renumbered first; then it grows from the hive's cursor on.
        self.stream(mark, mark.next_chunk)
        self._adopting.add(mark.execution_id)
        return Adopt(mark, held_through)

    def adopted(self, execution_id: str, next_chunk: int, *, open_: bool) -> None:
        """The log is numbered anew, and its chunks end before `next_chunk`."""
        self._adopting.discard(execution_id)
        self.grew(execution_id, next_chunk, open_=open_)

    # --- what streams -------------------------------------------------------------------------

    def streams(self, execution_id: str) -> bool:
        """Whether this log goes over this link by itself: then answers leave it out."""
        return execution_id in self._logs or execution_id in self._probing

    def stream(self, mark: LogMark, next_chunk: int) -> None:
        """Send this log, whose chunks end before `next_chunk`, from where the hive stands."""
        _check(mark)
        # Until it grows under this link, nobody is waiting for its next line: not `open`.
        log = _Log(next_send=mark.next_chunk, next_new=next_chunk, mark=mark, open=False)
        self._logs[mark.execution_id] = log
        self._file(mark.execution_id, log)

    def grew(self, execution_id: str, next_chunk: int, *, open_: bool) -> None:
        """Chunks of a log before `next_chunk` are committed; one that was not named is new."""
        if execution_id in self._probing:
            return
        log = self._logs.get(execution_id)
        if log is None:
            mark = LogMark(execution_id, 1, 1, b"")
            log = _Log(next_send=1, next_new=next_chunk, mark=mark, open=open_)
            self._logs[execution_id] = log
        # Never less than before, whichever numbers it was told under: new ones are no lower.
        log.next_new = max(log.next_new, next_chunk)
        log.open = open_
        if execution_id not in self._adopting:
            self._file(execution_id, log)

    def acked(self, ack: LogAck) -> list[Effect]:
        """The hive holds these logs up to here."""
        for mark in ack.marks:
            _check(mark)
            log = self._logs.get(mark.execution_id)
            if log is None:
                continue
            if mark.next_chunk < log.mark.next_chunk:
                raise RemoteProtocolError(ErrorCode.HOLE, "a log's cursor went down under the link")
            if mark.next_chunk > log.next_send:
                # Of a life this node forgot: the next hello settles what the hive has beyond it.
                raise RemoteProtocolError(ErrorCode.HOLE, "chunks were acknowledged unsent")
            log.mark = mark
        effects: list[Effect] = [LogsAcked(tuple(ack.marks))]
        for mark in ack.marks:
            effects.extend(self._past_hole(mark.execution_id))
        return effects

    def hole_found(self, execution_id: str) -> list[Effect]:
        """We lack the chunk that was wanted: an older disk was restored under the log."""
        log = self._logs[execution_id]
        log.holed = True
        self._file(execution_id, log)
        return self._past_hole(execution_id)

    def _past_hole(self, execution_id: str) -> list[Effect]:
        log = self._logs.get(execution_id)
        if log is None or not log.holed or log.mark.next_chunk < log.next_send:
            return []
        return [self._adopt(log.mark, log.mark.next_chunk - 1)]

    # --- turns --------------------------------------------------------------------------------

    def wanted(self, bytes_max: int) -> ChunksWanted | None:
        """Return what to read of the log whose turn it is; running ones go first."""
        turns = self._running or self._resting
        if not turns:
            return None
        chosen = next(iter(turns))
        # To the end of its row: the next turn is another's.
        del turns[chosen]
        turns[chosen] = None
        return ChunksWanted(chosen, self._logs[chosen].next_send, bytes_max)

    def is_beyond_hole(self, chunk: LogChunk | GapChunk) -> bool:
        """Whether we lack what comes before this chunk."""
        return chunk.chunk_seq > self._logs[chunk.execution_id].next_send

    def sent(self, chunk: LogChunk | GapChunk) -> None:
        """This chunk is on its way now."""
        log = self._logs[chunk.execution_id]
        if chunk.chunk_seq != log.next_send:
            raise LocalProtocolError(
                ErrorCode.INTERNAL, f"chunk {chunk.chunk_seq} where {log.next_send} was due"
            )
        log.next_send = through(chunk) + 1
        self._file(chunk.execution_id, log)

    def gone(self, execution_id: str) -> None:
        """Nothing more of this log is to be sent (it was deleted, or its policy changed)."""
        self._logs.pop(execution_id, None)
        self._adopting.discard(execution_id)
        self._running.pop(execution_id, None)
        self._resting.pop(execution_id, None)

    def _file(self, execution_id: str, log: _Log) -> None:
        """Put a log into the row it belongs to, or out of both where nothing is to be sent."""
        waiting = log.next_send < log.next_new and not log.holed
        for row, belongs in ((self._running, log.open), (self._resting, not log.open)):
            if not (waiting and belongs):
                row.pop(execution_id, None)
            elif execution_id not in row:
                row[execution_id] = None


def _check(mark: LogMark) -> None:
    """A log is numbered on from where the hive stands, so that has to be a number of a log."""
    if not all(1 <= number <= limits.NUMBER_MAX for number in (mark.next_chunk, mark.next_entry)):
        raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a cursor is out of bounds")
