"""The socket shell around `HiveLink`: one WebSocket at `/v1/link` for each node.

Owns the order of things on a link: verify, judge, welcome; commit, then acknowledge. The rules
themselves are in `protocol.hive_link`, the writing in `ingest`.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import WSMsgType, web

from hive.failpoints import failpoint
from hive.ingest import Ingest
from hive.minute_limit import MinuteLimit
from hive.node_registry import NodeLive, NodeRegistry
from hive.store.backend import CLOSES_PRESENT_LINK, ChunkKind, IngestStore
from protocol import codec, hive_link, limits, tokens
from protocol.credit import cost
from protocol.errors import ErrorCode, ProtocolError, RemoteProtocolError, SkepError
from protocol.messages import (
    SUBPROTOCOLS,
    Draining,
    HiveMessage,
    LiveText,
    LogMark,
    LogProbe,
    LogState,
    Ping,
)

log = logging.getLogger(__name__)

#: Frames of one link that may wait for their commit; windows and credit bound their bytes.
_COMMITS_WAITING_MAX: Final = 1024
#: Chunks of one link committed together.
_CHUNKS_PER_COMMIT_MAX: Final = 64
#: How long a link waits before it tries again to commit on a full disk.
_STORE_FULL_RETRY_S: Final = 2.0
#: How long a link that is closed may take to take that in, before it is cut.
_CLOSE_S_MAX: Final = 4.0
#: How often the control round trip is measured while log bytes arrive.
_MEASURE_INTERVAL_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class HiveFacts:
    """What a link has to know of its hive."""

    hive_id: str
    generation: Callable[[int], Awaitable[int]]
    keys: dict[str, bytes]
    hosts: frozenset[str]


LiveHook = Callable[[str], Awaitable[None]]
SaidHook = Callable[[str, LiveText], Awaitable[None]]
#: Given a node, and the executions whose logs its hello named as not all sent.
CaughtUpHook = Callable[[str, Collection[str]], None]


class NodeGateway:
    """Serves the links of all nodes."""

    def __init__(
        self,
        *,
        facts: HiveFacts,
        store: IngestStore,
        ingest: Ingest,
        registry: NodeRegistry,
        on_live: LiveHook,
        on_change: LiveHook,
        on_caught_up: CaughtUpHook,
        connects: MinuteLimit,
        on_said: SaidHook,
    ) -> None:
        self.facts = facts
        self.store = store
        self.ingest = ingest
        self.registry = registry
        #: Awaited once a node's link is live: links, safe marks, open needs.
        self.on_live = on_live
        #: Awaited when what is known of a connected node changed.
        self.on_change = on_change
        #: Called once the hive holds every op a node's hello told of, where it lacked some.
        self.on_caught_up = on_caught_up
        #: Awaited with what an agent of a node is just writing.
        self.on_said = on_said
        self._order = 0
        #: Links that nodes opened.
        self.connects = connects
        self._links: set[_Link] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self.draining = False

    def next_order(self) -> int:
        """Return the next number of the counter that orders challenges and acceptances."""
        self._order += 1
        return self._order

    def leaving(self, node_id: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start what goes on also where the link that waits for it is cancelled."""
        task = asyncio.create_task(work, name=f"leaving {node_id}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return task

    async def all_left(self) -> None:
        """Wait for what links that have ended still do, before the store is closed."""
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one link until it closes."""
        if "Origin" in request.headers:
            # Only browsers send one, and no page has any business on a node's link.
            raise web.HTTPForbidden(text="node links take no Origin header\n")
        socket = web.WebSocketResponse(
            protocols=SUBPROTOCOLS,
            compress=False,
            max_msg_size=limits.FRAME_BYTES_MAX,
            autoping=True,
            timeout=2.0,
        )
        await socket.prepare(request)
        link = _Link(self, socket, request)
        self._links.add(link)
        try:
            if self.draining:
                await link.close(ErrorCode.DRAINING)
            elif socket.ws_protocol not in SUBPROTOCOLS:
                await link.close(ErrorCode.NO_COMMON_VERSION)
            else:
                await link.run()
        finally:
            self._links.discard(link)
        return socket

    async def drain(self, retry_after_ms: int) -> None:
        """Tell every node that the hive is about to close, and close the links."""
        self.draining = True
        # At once: many that say nothing more would take a while one after the other.
        await asyncio.gather(*(link.drain(retry_after_ms) for link in list(self._links)))


class _Link:
    """One socket: reads frames, hands them to the machine, runs its two lanes of commits."""

    def __init__(
        self, gateway: NodeGateway, socket: web.WebSocketResponse, request: web.Request
    ) -> None:
        self.gateway = gateway
        self.socket = socket
        self._request = request
        self.challenged_at = gateway.next_order()
        self.machine = hive_link.HiveLink(gateway.facts.hive_id, secrets.token_bytes(32))
        self.node_id = ""
        self.live: NodeLive | None = None
        self._ops: asyncio.Queue[hive_link.Effect] = asyncio.Queue(_COMMITS_WAITING_MAX)
        self._chunks: asyncio.Queue[hive_link.Effect] = asyncio.Queue(_COMMITS_WAITING_MAX)
        self._pings: dict[int, float] = {}
        self._ping_no = 0
        self._log_bytes_came = False
        self._frame_bytes = 0
        #: What `on_caught_up` is given, until it was.
        self._logs_coming: Collection[str] | None = None
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    # --- life ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the link from challenge to close."""
        try:
            if await self._shake_hands():
                await self._run_live()
        finally:
            # However it ends, also half accepted: nobody is connected by a socket that is closed.
            # One that breaks cancels this task, also in here: what must be done is not lost.
            await asyncio.shield(self.gateway.leaving(self.node_id, self._end()))

    async def _shake_hands(self) -> bool:
        """Bring the link to be live; False where it is to be closed."""
        try:
            async with asyncio.timeout(limits.HANDSHAKE_S_MAX) as allowed:
                await self.send(self.machine.challenge())
                while self.machine.phase is not hive_link.Phase.LIVE:
                    if not await self._read_one(None):
                        return False
                    # Thousands of logs to name over a slow line take their time.
                    more_s = self._frame_bytes / limits.HANDSHAKE_BYTES_PER_S_MIN
                    allowed.reschedule((allowed.when() or 0.0) + more_s)
        except TimeoutError:
            # No refusal: a line that was too slow, or swallowed what was said, is tried again soon.
            await self.close(ErrorCode.DEADLINE_PASSED)
            return False
        except SkepError as error:
            await self._refuse(error)
            return False
        except ConnectionError:
            return False
        except Exception:
            log.exception("the handshake of a node broke")
            await self.close(ErrorCode.INTERNAL)
            return False
        return True

    async def _run_live(self) -> None:
        self._tasks = [
            asyncio.create_task(self._run_ops(), name=f"ops {self.node_id}"),
            asyncio.create_task(self._run_chunks(), name=f"chunks {self.node_id}"),
            asyncio.create_task(self._run_pings(), name=f"pings {self.node_id}"),
            asyncio.create_task(self._run_reader(), name=f"reader {self.node_id}"),
        ]
        try:
            await self.gateway.on_live(self.node_id)
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except SkepError as error:
            await self._refuse(error)
        except ConnectionError:
            pass
        except Exception:
            # Whatever a node says, it ends its own link.
            log.exception("link of node %s broke", self.node_id, extra={"node_id": self.node_id})
            await self.close(ErrorCode.INTERNAL)

    async def _end(self) -> None:
        """The node is away from here on, and whoever looks on hears of it."""
        gone = self.gateway.registry.detach(self.node_id, self)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.machine.close()
        if gone:
            log.info("node %s is offline", self.node_id, extra={"node_id": self.node_id})
            with contextlib.suppress(SkepError):
                await self.gateway.on_change(self.node_id)
        await self._close_socket(1000, "")

    async def _run_reader(self) -> None:
        while await self._read_one(limits.LINK_SILENT_S_MAX):
            pass

    async def _read_one(self, timeout_s: float | None) -> bool:
        try:
            frame = await self.socket.receive(timeout=timeout_s)
        except TimeoutError:
            log.info("node %s fell silent", self.node_id, extra={"node_id": self.node_id})
            return False
        if frame.type is WSMsgType.BINARY:
            if self.live is not None:
                self.live.last_frame_ms = _now_ms()
            self._frame_bytes = len(frame.data)
            message = codec.decode_from_node(frame.data)
            for effect in self.machine.receive(message):
                await self._take(effect)
            return True
        if frame.type is WSMsgType.TEXT:
            raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a text frame on a binary link")
        return False

    async def send(self, message: HiveMessage) -> None:
        """Send one frame. A socket that is closing takes nothing: its reader ends the link."""
        if self.socket.closed or self._closing:
            return
        try:
            async with asyncio.timeout(limits.LINK_SILENT_S_MAX):
                await self._say(codec.encode(message))
        except ConnectionError:
            pass
        except TimeoutError:
            # It may be the reader that waits here, who would notice a silence.
            log.info("node %s takes nothing", self.node_id, extra={"node_id": self.node_id})
            self._cut()

    async def _say(self, frame: bytes) -> None:
        try:
            await self.socket.send_bytes(frame)
        except asyncio.CancelledError:
            # The frame is on its way; only the wait for room has ended.
            if not _another_was_cancelled():
                raise

    async def close(self, code: ErrorCode) -> None:
        """Close the socket with what `code` means."""
        close_code = RemoteProtocolError(code, "").meaning.close_code or 1011
        await self._close_socket(close_code, code.value)

    async def drain(self, retry_after_ms: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S_MAX):
                await self.send(Draining(retry_after_ms=retry_after_ms))
        await self.close(ErrorCode.DRAINING)

    async def _refuse(self, error: SkepError) -> None:
        code = error.code if isinstance(error, ProtocolError) else ErrorCode.INTERNAL
        log.warning(
            "link of node %s refused: %s",
            self.node_id or "(unknown)",
            error,
            extra={"node_id": self.node_id, "code": error.code},
        )
        close_code = error.meaning.close_code or 1011
        await self._close_socket(close_code, f"{code}: {error.message}")

    async def _close_socket(self, close_code: int, reason: str) -> None:
        if self._closing or self.socket.closed:
            return
        self._closing = True
        # A close frame carries at most 123 bytes of reason (RFC 6455, section 5.5).
        message = reason.encode()[:120].decode(errors="ignore").encode()
        try:
            async with asyncio.timeout(_CLOSE_S_MAX):
                await self.socket.close(code=close_code, message=message)
        except (ConnectionError, RuntimeError):
            pass
        except asyncio.CancelledError:
            if not _another_was_cancelled():
                raise
            self._cut()
        except TimeoutError:
            # Its buffers are full: what is said last would never go, and nobody be told.
            self._cut()

    def _cut(self) -> None:
        """End the connection without a word, and with it all that waits for it."""
        if self._request.transport is not None:
            self._request.transport.abort()

    # --- effects ------------------------------------------------------------------------------

    async def _take(self, effect: hive_link.Effect) -> None:
        match effect:
            case hive_link.Judge():
                await self._judge(effect)
            case hive_link.CommitOps() | hive_link.CommitSnapshot() | hive_link.CommitSkip():
                await self._ops.put(effect)
            case hive_link.CommitChunk() | hive_link.CommitRecords() | hive_link.NeedAnswered():
                self._log_bytes_came = True
                await self._chunks.put(effect)
            case hive_link.Answered():
                self.gateway.registry.answered(self.node_id, effect.message)
            case hive_link.Beat():
                await self._beat(effect)
            case hive_link.Said(text):
                await self.gateway.on_said(self.node_id, text)
            case hive_link.Ponged():
                await self._ponged(effect.n)
            case hive_link.ForkSeen():
                await self._fork_seen(effect)
            case hive_link.FindAgreed(probe):
                await self._find_agreed(probe)

    async def _judge(self, judge: hive_link.Judge) -> None:
        gateway, hello = self.gateway, judge.hello
        tokens.check_hello(
            hello,
            public_key=await gateway.store.node_key(hello.node_id),
            hive_id=gateway.facts.hive_id,
            nonce=self.machine.challenge().nonce,
            hosts=gateway.facts.hosts,
        )
        # Only what the node signed counts: nobody else can lock it out.
        gateway.connects.check(hello.node_id)
        gateway.connects.count(hello.node_id)
        try:
            link_no = await gateway.store.accept_link(
                hello, challenged_at=self.challenged_at, accepted_at=gateway.next_order()
            )
        except RemoteProtocolError as error:
            if error.details.get(CLOSES_PRESENT_LINK):
                await gateway.registry.disconnect(hello.node_id, error.code)
            raise
        failpoint("hive.link.accepted")
        self.node_id = hello.node_id
        generation = await gateway.facts.generation(hello.generation_seen)
        journal = await gateway.store.journal_state(hello.node_id, link_no, hello.epochs)
        marks = await gateway.store.log_marks(hello.node_id, judge.logs)
        self._logs_coming = [state.execution_id for state in judge.logs]
        now_ms = _now_ms()
        frames = self.machine.welcomed(
            generation=generation,
            link_no=link_no,
            hive_time_ms=now_ms,
            marks=journal.marks,
            newest=journal.newest,
            snapshot_wanted=journal.snapshot_wanted,
            forks=journal.forks,
            logs=marks,
            keys=gateway.facts.keys,
        )
        self.live = NodeLive(
            node_id=hello.node_id, link_no=link_no, since_ms=now_ms, last_frame_ms=now_ms
        )
        replaced = gateway.registry.attach(self.live, self)
        if replaced is not None:
            # Not waited for: a socket that is half gone takes its time.
            _ = gateway.leaving(self.node_id, replaced.close(ErrorCode.SUPERSEDED))
        for frame in frames:
            failpoint("hive.link.before_welcome")
            await self.send(frame)
        log.info(
            "node %s is online (link %d)",
            hello.node_id,
            link_no,
            extra={"node_id": hello.node_id, "link_no": link_no},
        )
        await gateway.on_change(hello.node_id)

    async def _beat(self, beat: hive_link.Beat) -> None:
        heartbeat, live = beat.heartbeat, self.live
        if live is not None:
            before = (live.activity, live.slots_busy, live.slots_total)
            live.activity = heartbeat.activity
            live.slots_total = heartbeat.slots_total
            live.slots_busy = heartbeat.slots_busy
            live.outbox = heartbeat.outbox
            if before != (live.activity, live.slots_busy, live.slots_total):
                await self.gateway.on_change(self.node_id)
        await self.gateway.store.beat(self.node_id, self.machine.link_no, heartbeat)
        # Read anew: a store that was restored under the link has lower marks than we remember.
        epochs = [state.epoch for state in self.machine.hello.epochs[-8:]]
        marks = await self.gateway.store.marks(self.node_id, epochs)
        await self.send(self.machine.heartbeat_reply(heartbeat.n, _now_ms(), marks))

    async def _ponged(self, n: int) -> None:
        sent_at = self._pings.pop(n, None)
        if sent_at is None or self.live is None:
            return
        self.live.round_trip_ms = (time.monotonic() - sent_at) * 1000
        self.machine.round_trip(self.live.round_trip_ms)

    async def _fork_seen(self, effect: hive_link.ForkSeen) -> None:
        forked = effect.forked
        if await self.gateway.store.fork_seen(
            self.node_id, forked.epoch, forked.seq, forked.digest
        ):
            raise RemoteProtocolError(
                ErrorCode.QUARANTINED, "this node's history differs from what the hive holds"
            )

    async def _find_agreed(self, probe: LogProbe) -> None:
        store, state = self.gateway.store, LogState(probe.execution_id, 1, 1, b"")
        through = await store.agreed_chunk(self.node_id, probe.execution_id, probe.digests)
        [mark] = await store.log_marks(self.node_id, [state])
        await self.send(self.machine.agreed(mark, through))

    # --- lanes --------------------------------------------------------------------------------

    async def _run_ops(self) -> None:
        while True:
            effect = await self._ops.get()
            await self._retry_when_full(self._commit_state, effect)

    async def _commit_state(self, effect: hive_link.Effect) -> None:
        ingest, link_no = self.gateway.ingest, self.machine.link_no
        match effect:
            case hive_link.CommitOps(epoch, first_seq, ops):
                mark = await ingest.ops(self.node_id, link_no, epoch, first_seq, list(ops))
            case hive_link.CommitSkip(skip):
                epoch = skip.epoch
                mark = await ingest.skip(self.node_id, link_no, skip)
            case hive_link.CommitSnapshot(page):
                await ingest.snapshot(self.node_id, link_no, page)
                return
            case _:  # pragma: no cover  the lanes are filled by `_take` alone
                return
        failpoint("hive.link.before_ack")
        await self.send(self.machine.ops_committed(epoch, mark))
        failpoint("hive.link.after_ack")
        told = self.machine.hello.epochs[-1]
        if self._logs_coming is not None and epoch == told.epoch and mark >= told.last:
            self.gateway.on_caught_up(self.node_id, self._logs_coming)
            self._logs_coming = None

    async def _run_chunks(self) -> None:
        while True:
            batch = [await self._chunks.get()]
            while len(batch) < _CHUNKS_PER_COMMIT_MAX and not self._chunks.empty():
                batch.append(self._chunks.get_nowait())
            await self._retry_when_full(self._commit_history, batch)

    async def _commit_history(self, batch: list[hive_link.Effect]) -> None:
        while batch:
            run = _leading_chunks(batch)
            if run:
                await self._commit_chunks(run)
                del batch[: len(run)]
                continue
            match batch[0]:
                case hive_link.CommitRecords(records):
                    await self.gateway.ingest.records(self.node_id, self.machine.link_no, records)
                    grant = self.machine.settled(cost(records), time.monotonic())
                    if grant is not None:
                        await self.send(grant)
                case hive_link.NeedAnswered(done):
                    await self.gateway.ingest.need_done(self.node_id, self.machine.link_no, done)
                case _:  # pragma: no cover  the lanes are filled by `_take` alone
                    pass
            del batch[0]

    async def _commit_chunks(self, run: list[hive_link.CommitChunk]) -> None:
        chunks = [effect.chunk for effect in run]
        outcomes = await self.gateway.ingest.chunks(
            self.node_id,
            self.machine.link_no,
            chunks,
            fetched=run[0].request_id is not None,
        )
        marks: dict[str, LogMark] = {}
        for chunk, outcome in zip(chunks, outcomes, strict=True):
            if outcome.kind == ChunkKind.FOREIGN:
                raise RemoteProtocolError(
                    ErrorCode.FORBIDDEN, "a chunk of another node's log", audit=chunk.execution_id
                )
            if outcome.kind == ChunkKind.BAD:
                raise RemoteProtocolError(ErrorCode.BAD_FRAME, "a chunk does not decode")
            if outcome.kind == ChunkKind.HOLE and run[0].request_id is None:
                raise RemoteProtocolError(
                    ErrorCode.HOLE, "a chunk is missing", execution_id=chunk.execution_id
                )
            marks[chunk.execution_id] = outcome.mark
        failpoint("hive.link.before_log_ack")
        settled = sum(cost(chunk) for chunk in chunks)
        for frame in self.machine.chunks_committed(list(marks.values()), settled, time.monotonic()):
            await self.send(frame)
        failpoint("hive.link.after_log_ack")

    async def _retry_when_full(
        self, commit: Callable[[Any], Awaitable[None]], work: object
    ) -> None:
        while True:
            try:
                await commit(work)
            except SkepError as error:
                if error.code is not ErrorCode.STORE_FULL:
                    raise
                # Not acknowledged, no credit given: the node keeps it until there is room.
                log.warning("no room to commit for node %s; trying again", self.node_id)
                await asyncio.sleep(_STORE_FULL_RETRY_S)
            else:
                return

    async def _run_pings(self) -> None:
        opened_at = last_ping = time.monotonic()
        while True:
            await asyncio.sleep(_MEASURE_INTERVAL_S)
            now = time.monotonic()
            if now - opened_at > limits.LINK_AGE_S_MAX:
                await self.close(ErrorCode.DRAINING)
                return
            if self._log_bytes_came or now - last_ping >= limits.PING_INTERVAL_S:
                self._log_bytes_came = False
                last_ping = now
                self._ping_no += 1
                if len(self._pings) < 16:
                    self._pings[self._ping_no] = now
                await self.send(Ping(n=self._ping_no))


def _another_was_cancelled() -> bool:
    """Whether a CancelledError is not this task's own.

    All who wait for room on a socket wait for one future of aiohttp's: one of them who is
    cancelled cancels it for the others too, and nobody is to end for that.
    """
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


def _leading_chunks(batch: list[hive_link.Effect]) -> list[hive_link.CommitChunk]:
    """Return the chunks at the head of `batch` that are alike in being fetched or not."""
    run: list[hive_link.CommitChunk] = []
    for effect in batch:
        if not isinstance(effect, hive_link.CommitChunk):
            break
        if run and (effect.request_id is None) != (run[0].request_id is None):
            break
        run.append(effect)
    return run


def _now_ms() -> int:
    return int(time.time() * 1000)
