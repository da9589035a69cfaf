"""One socket to the hive: a reader, a sender with three lanes, heartbeats.

Owns the order in which frames leave: control first, then ops, then parts, logs and answers as
`protocol.node_link` allows. Nothing is sent that was not committed before.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from websockets.asyncio.client import ClientConnection

from node_agent.failpoints import failpoint
from node_agent.hive_clock import HiveClock
from node_agent.identity import HiveIdentity
from node_agent.link_calls import Dispatcher, LinkCalls
from node_agent.live_text import LiveTextQueue
from node_agent.need_answers import AnswerStore, Frame, answer
from protocol import codec, limits, node_effects, node_link
from protocol.log_chunks import GapChunk, LogChunk
from protocol.messages import (
    Call,
    Cancel,
    Draining,
    Fork,
    Heartbeat,
    HeartbeatReply,
    Links,
    LiveText,
    LogMark,
    LogState,
    Need,
    NodeMessage,
    PartCredit,
    Safe,
    Welcome,
)
from protocol.ops import EpochState, Op, Position, Record

log = logging.getLogger(__name__)

_CHUNKS_PER_READ_MAX: Final = 16
#: A wall of time this much longer than the wait asked for means that the machine slept.
_SLEPT_S: Final = 5.0
_HANDSHAKE_TICK_S: Final = 0.2
#: Beats whose answer may still say what time it is at the hive.
_BEATS_MAX: Final = 16


class Journal(Protocol):
    """What the link reads of the journal."""

    async def epochs(self) -> list[EpochState]: ...

    async def digest_at(self, epoch: int, seq: int) -> bytes | None: ...

    async def ops_after(
        self, epoch: int, seq: int, *, ops_max: int, bytes_max: int
    ) -> list[Op]: ...

    async def snapshot(self) -> tuple[Position, list[Record]]: ...

    async def refork(self, epoch: int, agreed_seq: int, new_epoch: int) -> None: ...

    async def withhold(
        self, epoch: int, seq: int, reason: str, *, told_again: bool = ...
    ) -> None: ...


class KeptLog(Protocol):
    """A log as the chunk store has it."""

    @property
    def execution_id(self) -> str: ...

    @property
    def next_chunk(self) -> int: ...

    @property
    def closed(self) -> bool: ...

    @property
    def purged(self) -> bool: ...


class Chunks(Protocol):
    """What the link reads of the chunk store."""

    async def logs_to_name(self, without: Collection[str] = ...) -> list[LogState]: ...

    async def log(self, execution_id: str) -> KeptLog | None: ...

    async def digest_at(self, execution_id: str, chunk_seq: int) -> bytes | None: ...

    async def chunks_from(
        self, execution_id: str, chunk_seq: int, *, chunks_max: int, bytes_max: int
    ) -> list[LogChunk | GapChunk]: ...

    async def whole_from(self, execution_id: str, chunk_seq: int) -> bool: ...

    async def acked(self, marks: Sequence[LogMark]) -> None: ...

    async def digests_below(
        self, execution_id: str, chunk_seq: int, *, limit: int
    ) -> list[tuple[int, bytes]]: ...

    async def adopt(self, mark: LogMark, held_through: int) -> KeptLog: ...


class Agent(Protocol):
    """What the rest of the node agent does about the hive's word."""

    async def heartbeat(self, n: int) -> Heartbeat: ...

    async def linked(self, links: Links) -> None: ...

    async def safe_moved(self, safe: Safe) -> None: ...

    def marks_moved(self, marks: Mapping[int, int]) -> None: ...

    def unstreamed(self) -> frozenset[str]:
        """Return the checkouts whose logs the hive fetches itself, or never keeps."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Everything a link reads from and reports to."""

    journal: Journal
    chunks: Chunks
    answers: AnswerStore
    dispatcher: Dispatcher
    agent: Agent


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What the uplink does about events of its link."""

    accepted: Callable[[Welcome], None]
    forked: Callable[[Fork], None]
    draining: Callable[[Draining], None]


class LinkSession:
    """One link over one open socket, from hello to close."""

    def __init__(
        self,
        socket: ClientConnection,
        caller: node_link.Caller,
        keys: Mapping[str, bytes],
        sources: Sources,
        hooks: Hooks,
        detached: set[asyncio.Task[None]],
        clock: HiveClock,
        *,
        singly: bool = False,
    ) -> None:
        self._singly = singly
        self._socket = socket
        self._caller = caller
        self._keys = dict(keys)
        self._sources = sources
        self._hooks = hooks
        self._status_changed = asyncio.Event()
        self._wake = asyncio.Event()
        self._control: deque[NodeMessage] = deque()
        self._calls = LinkCalls(
            sources.dispatcher,
            control=self._control.append,
            wake=self._wake.set,
            detached=detached,
        )
        self._answers: dict[str, AsyncIterator[Frame]] = {}
        self._live = LiveTextQueue()
        self._clock = clock
        self._began_s = clock.steady_s()
        #: Beats that were not answered, with the time each was made.
        self._beats: dict[int, float] = {}
        self._tick_due_s = math.inf
        self._machine: node_link.NodeLink | None = None
        # What was committed between reading the stores and the machine's birth.
        self._grew: dict[int, int] = {}
        self._logs_grew: dict[str, tuple[int, bool]] = {}

    # --- told by the stores -------------------------------------------------------------------

    def journal_grew(self, epoch: int, last: int) -> None:
        if self._machine is None:
            self._grew[epoch] = last
        else:
            self._machine.journal_grew(epoch, last)
            self._wake.set()

    def log_grew(self, execution_id: str, next_chunk: int, open_: bool) -> None:
        if self._machine is None:
            self._logs_grew[execution_id] = (next_chunk, open_)
        else:
            self._machine.log_grew(execution_id, next_chunk=next_chunk, open_=open_)
            self._wake.set()

    def status_changed(self) -> None:
        self._status_changed.set()

    def say_live(self, piece: LiveText) -> None:
        """Pass on what an agent is just writing, if the hive takes it and the link keeps up."""
        if self._machine is not None and self._machine.takes_live_text and self._live.put(piece):
            self._wake.set()

    def under_way(self) -> tuple[int, int] | None:
        """Return (epoch, seq) of the first op that was sent and not acknowledged, if any."""
        return None if self._machine is None else self._machine.under_way()

    async def close(self) -> None:
        """End this link; the uplink dials anew."""
        await self._socket.close()

    # --- life ---------------------------------------------------------------------------------

    async def run(self) -> int | None:
        """Serve the link until it closes; return the close code."""
        epochs = await self._sources.journal.epochs()
        logs = await self._sources.chunks.logs_to_name(self._sources.agent.unstreamed())
        machine = node_link.NodeLink(self._caller, epochs, logs, singly=self._singly)
        self._machine = machine
        for epoch, last in self._grew.items():
            machine.journal_grew(epoch, last)
        for execution_id, (next_chunk, open_) in self._logs_grew.items():
            machine.log_grew(execution_id, next_chunk=next_chunk, open_=open_)
        tasks = [
            asyncio.create_task(self._run_reader(machine), name="link reader"),
            asyncio.create_task(self._run_sender(machine), name="link sender"),
            asyncio.create_task(self._run_heartbeats(machine), name="link heartbeats"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._calls.close()
            machine.close()
        return self._socket.close_code

    async def _run_reader(self, machine: node_link.NodeLink) -> None:
        while True:
            try:
                async with asyncio.timeout(limits.LINK_SILENT_S_MAX):
                    frame = await self._socket.recv(decode=False)
            except TimeoutError:
                log.warning("the hive fell silent")
                return
            if self._slept():
                # What waited is of before: the hive may have told its caller another outcome.
                return
            for effect in machine.receive(codec.decode_from_hive(frame)):
                await self._take(machine, effect)
            self._wake.set()

    # --- effects ------------------------------------------------------------------------------

    async def _take(self, machine: node_link.NodeLink, effect: node_effects.Effect) -> None:
        match effect:
            case node_effects.Send(message):
                self._control.append(message)
            case node_effects.Accepted(welcome):
                self._clock.heard(welcome.hive_time_ms, asked_at_s=self._began_s)
                self._keys.update(welcome.keys)
                # Also of epochs that end before this link: nothing of them is acknowledged again.
                self._sources.agent.marks_moved({mark.epoch: mark.mark for mark in welcome.marks})
                self._hooks.accepted(welcome)
            case node_effects.Compare():
                await self._compare(machine, effect)
            case node_effects.Probe(execution_id, below):
                digests = await self._sources.chunks.digests_below(
                    execution_id, below, limit=limits.LOG_PROBE_DIGESTS_MAX
                )
                for following in machine.probed(execution_id, digests):
                    await self._take(machine, following)
            case node_effects.Adopt(mark, held_through):
                failpoint("node.link.before_adopt")
                adopted = await self._sources.chunks.adopt(mark, held_through)
                machine.log_adopted(
                    adopted.execution_id,
                    next_chunk=adopted.next_chunk,
                    open_=not adopted.closed,
                )
            case node_effects.Refork(fork):
                self._hooks.forked(fork)
                await self._socket.close()
            case node_effects.LogsAcked(marks):
                failpoint("node.link.before_log_ack_stored")
                await self._sources.chunks.acked(marks)
            case node_effects.OpsAcked(epoch, seq):
                failpoint("node.link.ops_acked")
                self._sources.agent.marks_moved({epoch: seq})
            case node_effects.CompareMarks(marks):
                journal = self._sources.journal
                places = [(mark.epoch, mark.mark) for mark in marks]
                ours = {place: await journal.digest_at(*place) for place in places}
                machine.marks_compared(marks, ours)
            case node_effects.Received(message):
                await self._received(machine, message)

    async def _compare(self, machine: node_link.NodeLink, compare: node_effects.Compare) -> None:
        journal, chunks = self._sources.journal, self._sources.chunks
        epochs = {place: await journal.digest_at(*place) for place in compare.epochs}
        logs = {place: await chunks.digest_at(*place) for place in compare.logs}
        for effect in machine.settled(epochs, logs):
            await self._take(machine, effect)
        self._status_changed.set()

    async def _answer(self, machine: node_link.NodeLink, need: Need) -> AsyncIterator[Frame]:
        # Compared here and not when the need is read: the machine may want the answer at once.
        if need.kind == "logs":
            await self._compare_logs(machine, need)
        async for frame in answer(need, self._sources.answers):
            yield frame

    async def _compare_logs(self, machine: node_link.NodeLink, need: Need) -> None:
        """Have logs that differ from what the hive holds of them settled, before an answer."""
        chunks = self._sources.chunks
        for name, place, after, digest in zip(
            need.ids, need.from_chunk, need.after, need.digests, strict=False
        ):
            log = await chunks.log(name)
            if log is None or log.purged:
                continue
            if machine.streams(name):
                machine.log_grew(name, next_chunk=log.next_chunk, open_=not log.closed)
            elif await chunks.digest_at(name, place - 1) != digest:
                for effect in machine.log_differs(name, log.next_chunk):
                    await self._take(machine, effect)
            elif not await chunks.whole_from(name, place):
                machine.stream(LogMark(name, place, after + 1, digest), log.next_chunk)

    async def _received(self, machine: node_link.NodeLink, message: object) -> None:
        agent = self._sources.agent
        match message:
            case Need():
                self._answers[message.request_id] = self._answer(machine, message)
            case Call():
                caller = self._caller
                self._calls.start(
                    message,
                    now_s=self._clock.now_s(),
                    hive=HiveIdentity(caller.hive_id, machine.generation, self._keys),
                )
            case Cancel():
                self._calls.cancel(message.call_id)
            case PartCredit():
                self._calls.grant(message)
            case Links():
                await agent.linked(message)
            case Safe():
                await agent.safe_moved(message)
            case Draining():
                self._hooks.draining(message)
            case HeartbeatReply():
                asked_at_s = self._beats.pop(message.n, None)
                if asked_at_s is not None:
                    self._clock.heard(message.hive_time_ms, asked_at_s=asked_at_s)

    # --- sending ------------------------------------------------------------------------------

    async def _run_sender(self, machine: node_link.NodeLink) -> None:
        while True:
            self._wake.clear()
            if self._control:
                await self._send(self._control.popleft())
            elif (piece := self._live.take(time.monotonic())) is not None:
                # A few small frames in a second: they delay ops and logs by next to nothing.
                await self._send(piece)
            elif not await self._send_next(machine):
                await self._wait_for_work()

    async def _wait_for_work(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._live.due_in_s(time.monotonic())):
                await self._wake.wait()

    async def _send(self, message: NodeMessage) -> None:
        await self._socket.send(codec.encode(message))

    async def _send_next(self, machine: node_link.NodeLink) -> bool:
        """Send one step of what the machine wants, or a part; False where there is nothing."""
        parts = self._calls.parts
        sent_part = not parts.empty()
        if sent_part:
            await self._send(parts.get_nowait())
        match machine.next_wanted():
            case None:
                return sent_part
            case node_effects.OpsWanted() as wanted:
                await self._send_ops(machine, wanted)
            case node_effects.ChunksWanted() as wanted:
                await self._send_chunks(machine, wanted)
            case node_effects.AnswerWanted(request_id):
                frame = machine.answer_read(await anext(self._answers[request_id]))
                failpoint("node.link.before_send_answer")
                if frame is not None:
                    await self._send(frame)
            case node_effects.SnapshotWanted() as wanted:
                await self._send_snapshot(machine, wanted)
        return True

    async def _send_ops(self, machine: node_link.NodeLink, wanted: node_effects.OpsWanted) -> None:
        ops = await self._sources.journal.ops_after(
            wanted.epoch, wanted.after, ops_max=wanted.ops_max, bytes_max=wanted.bytes_max
        )
        failpoint("node.link.before_send_ops")
        await self._send(machine.ops_read(wanted.epoch, ops))
        failpoint("node.link.after_send_ops")

    async def _send_chunks(
        self, machine: node_link.NodeLink, wanted: node_effects.ChunksWanted
    ) -> None:
        chunks = await self._sources.chunks.chunks_from(
            wanted.execution_id,
            wanted.chunk_seq,
            chunks_max=_CHUNKS_PER_READ_MAX,
            bytes_max=wanted.bytes_max,
        )
        if not chunks:
            machine.log_gone(wanted.execution_id)
        elif chunks[0].chunk_seq > wanted.chunk_seq:
            for effect in machine.hole_found(wanted.execution_id):
                await self._take(machine, effect)
            return
        for chunk in chunks:
            if not machine.may_begin_chunk(chunk):
                break
            failpoint("node.link.before_send_chunk")
            await self._send(machine.chunk_read(chunk))
            failpoint("node.link.after_send_chunk")
            while self._control:
                await self._send(self._control.popleft())

    async def _send_snapshot(
        self, machine: node_link.NodeLink, wanted: node_effects.SnapshotWanted
    ) -> None:
        journal = self._sources.journal
        position, records = await journal.snapshot()
        digests = {place: await journal.digest_at(*place) for place in wanted.skips}
        snapshot_id = f"{position.epoch:x}-{position.seq:x}-{self._caller.connect_no:x}"
        frames = machine.snapshot_read(
            snapshot_id, (position.epoch, position.seq), records, digests
        )
        for frame in frames:
            failpoint("node.link.before_send_snapshot")
            await self._send(frame)

    async def _run_heartbeats(self, machine: node_link.NodeLink) -> None:
        n = 0
        while True:
            live = machine.phase is node_link.Phase.LIVE
            if live:
                n += 1
                self._beats = {k: at_s for k, at_s in self._beats.items() if k > n - _BEATS_MAX}
                self._beats[n] = self._clock.steady_s()
                self._control.append(await self._sources.agent.heartbeat(n))
                self._wake.set()
            wait_s = limits.PING_INTERVAL_S if live else _HANDSHAKE_TICK_S
            self._tick_due_s = self._clock.steady_s() + wait_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._status_changed.wait()
            self._status_changed.clear()
            if self._slept():
                return
            self._tick_due_s = math.inf

    def _slept(self) -> bool:
        if self._clock.steady_s() <= self._tick_due_s + _SLEPT_S:
            return False
        log.info("the machine slept; calling the hive anew")
        return True
