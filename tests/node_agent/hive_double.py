"""A hive's end of the link for tests of the node: accepts, acknowledges, and calls.

Keeps what it was sent. The rules of the hive's end proper are in `protocol.hive_link`; this one
only says yes.
"""

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from node_agent.identity import Enrolment
from protocol import codec, digest, limits
from protocol.log_chunks import GapChunk, LogChunk, through
from protocol.messages import (
    SUBPROTOCOLS,
    Ack,
    Call,
    Challenge,
    Credit,
    End,
    EpochMark,
    Heartbeat,
    HeartbeatReply,
    Hello,
    HelloLogs,
    LiveText,
    LogAck,
    LogMark,
    Opened,
    Ops,
    Part,
    Result,
    Snapshot,
    Welcome,
    WelcomeLogs,
)
from protocol.operation_values import Request
from protocol.ops import Op
from protocol.tokens import Capability, body_hash, check_hello, mint_capability

GENERATION = 5
Reply = Result | Opened | Part | End


class HiveDouble:
    """One hive for one node, on loopback."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.hive_id = "hive-of-tests"
        self.port = 0
        self.connected = asyncio.Event()
        self.hellos: list[Hello] = []
        self.heartbeats: list[Heartbeat] = []
        self.ops: list[Op] = []
        self.chunks: list[LogChunk | GapChunk] = []
        #: What it says it can do beyond the first release, and what came of it.
        self.features: list[str] = []
        self.live: list[LiveText] = []
        self.closed_with: list[int | None] = []
        self.node_key = b""
        self._marks: dict[int, int] = {}
        self._digests: dict[int, bytes] = {}
        self._sent_bytes = 0
        self._links = 0
        self._socket: ServerConnection | None = None
        self._calls: dict[str, asyncio.Queue[Reply]] = {}
        self._number = itertools.count(1)

    @property
    def enrolment(self) -> Enrolment:
        """What a node that joined here has written down."""
        public = self.key.public_key().public_bytes_raw()
        return Enrolment(
            url=f"http://127.0.0.1:{self.port}", hive_id=self.hive_id, keys={"k1": public}
        )

    async def wait(self, holds: Callable[[], Any], *, within_s: float = 60.0) -> Any:
        """Wait for a condition of what came."""
        async with asyncio.timeout(within_s):
            while not (found := holds()):
                await asyncio.sleep(0.02)
            return found

    async def call(
        self, operation: str, request: Request, *, attempt_id: str = "", **more: Any
    ) -> list[Reply]:
        """Call the node and return all frames of the answer."""
        body = msgspec.msgpack.encode(request)
        call_id = f"call-{next(self._number)}"
        now_s = int(time.time())
        capability = Capability(
            jti=secrets.token_hex(8),
            actor="ada",
            role=more.pop("role", "admin"),
            node_id=self.hellos[-1].node_id,
            operation=operation,
            attempt_id=attempt_id,
            body_hash=body_hash(body),
            hive_id=self.hive_id,
            generation=GENERATION,
            issued_at_s=now_s,
            expires_at_s=now_s + 60,
        )
        replies: asyncio.Queue[Reply] = asyncio.Queue()
        self._calls[call_id] = replies
        await self.send(
            Call(
                call_id=call_id,
                operation=operation,
                attempt_id=attempt_id,
                body=body,
                capability=mint_capability(capability, key=self.key, key_id="k1"),
                time_left_ms=20_000,
                **more,
            )
        )
        frames: list[Reply] = []
        async with asyncio.timeout(60):
            while not frames or not isinstance(frames[-1], Result | End):
                frames.append(await replies.get())
        return frames

    async def serve_link(self, socket: ServerConnection) -> None:
        """Serve one link until it closes."""
        self._socket = socket
        self._links += 1
        self._sent_bytes = 0
        try:
            await self._handshake(socket)
            self.connected.set()
            async for frame in socket:
                assert isinstance(frame, bytes)
                await self._take(codec.decode_from_node(frame))
        except ConnectionClosed:
            pass
        finally:
            self.connected.clear()
            self.closed_with.append(socket.close_code)

    async def _handshake(self, socket: ServerConnection) -> None:
        nonce = secrets.token_bytes(32)
        await self.send(Challenge(hive_id=self.hive_id, nonce=nonce))
        hello = codec.decode_from_node(await socket.recv(decode=False))
        assert isinstance(hello, Hello)
        check_hello(
            hello,
            public_key=self.node_key,
            hive_id=self.hive_id,
            nonce=nonce,
            hosts=frozenset({f"127.0.0.1:{self.port}"}),
        )
        self.hellos.append(hello)
        logs = codec.decode_from_node(await socket.recv(decode=False))
        assert isinstance(logs, HelloLogs)
        marks = [
            EpochMark(one.epoch, self._marks.get(one.epoch, 0), digest.EMPTY)
            for one in hello.epochs
        ]
        # What is held is never compared here: all that was acknowledged is told as the node has it.
        marks = [
            EpochMark(one.epoch, one.last, one.digest)
            if self._marks.get(one.epoch) == one.last
            else mark
            for one, mark in zip(hello.epochs, marks, strict=True)
        ]
        await self.send(
            Welcome(
                hive_id=self.hive_id,
                generation=GENERATION,
                link_no=self._links,
                hive_time_ms=int(time.time() * 1000),
                marks=marks,
                credit=limits.CREDIT_WINDOW_BYTES_MAX,
                features=self.features,
                keys={"k1": self.key.public_key().public_bytes_raw()},
            )
        )
        held = [LogMark(one.execution_id, 1, 1, digest.EMPTY) for one in logs.logs]
        await self.send(WelcomeLogs(marks=held, last=True))

    async def _take(self, message: Any) -> None:
        match message:
            case Ops():
                self.ops += message.ops
                mark = message.first_seq + len(message.ops) - 1
                self._marks[message.epoch] = mark
                before = self._digests.get(message.epoch, digest.EMPTY)
                self._digests[message.epoch] = digest.running(
                    before, message.epoch, message.first_seq, message.ops
                )[-1]
                await self.send(
                    Ack(link_no=self._links, generation=GENERATION, epoch=message.epoch, seq=mark)
                )
            case LogChunk() | GapChunk():
                self.chunks.append(message)
                self._sent_bytes += len(getattr(message, "blob", b"")) + 64
                following = message.first_entry + message.entries
                held = LogMark(message.execution_id, through(message) + 1, following, digest.EMPTY)
                await self.send(LogAck(link_no=self._links, generation=GENERATION, marks=[held]))
                total = self._sent_bytes + limits.CREDIT_WINDOW_BYTES_MAX
                await self.send(Credit(total=total))
            case Heartbeat():
                self.heartbeats.append(message)
                await self.send(
                    HeartbeatReply(
                        n=message.n,
                        hive_time_ms=int(time.time() * 1000),
                        marks=[
                            EpochMark(epoch, mark, self._digests[epoch])
                            for epoch, mark in self._marks.items()
                        ],
                        credit=self._sent_bytes + limits.CREDIT_WINDOW_BYTES_MAX,
                    )
                )
            case Result() | Opened() | Part() | End():
                # Of a call that a test sent by itself, nobody waits for the answer.
                if message.call_id in self._calls:
                    self._calls[message.call_id].put_nowait(message)
            case LiveText():
                self.live.append(message)
            case Snapshot():
                self.ops += [
                    Op(one.kind, one.entity_id, one.at_ms, one.body) for one in message.records
                ]

    async def send(self, message: Any) -> None:
        assert self._socket is not None
        await self._socket.send(codec.encode(message))


@contextlib.asynccontextmanager
async def hive_double() -> AsyncIterator[HiveDouble]:
    """Serve a hive on a free port of loopback."""
    hive = HiveDouble()
    async with serve(
        hive.serve_link,
        "127.0.0.1",
        0,
        subprotocols=list(SUBPROTOCOLS),  # type: ignore[arg-type]
        compression=None,
    ) as server:
        hive.port = server.sockets[0].getsockname()[1]
        yield hive
