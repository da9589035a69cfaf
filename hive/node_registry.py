"""Who is connected: sends operations to a node over its link and waits for what it answers.

Owns the calls that are under way. Must not decide who may do what (`access`), nor record what was
done (`operation_proxy`): it carries.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import limits, tokens
from protocol.credit import PartWindow
from protocol.errors import ErrorCode, OperationError, operation_error
from protocol.messages import (
    Call,
    Cancel,
    End,
    HiveMessage,
    Need,
    Opened,
    OutboxState,
    Part,
    PartCredit,
    Result,
)
from protocol.operation_values import StreamHead
from protocol.operations import OPERATIONS, Role

#: Parts of one stream that may wait for their reader: the credit covers them all.
_PARTS_WAITING_MAX = limits.PART_WINDOW_BYTES_MAX // 1024


class Connection(Protocol):
    """The live socket of one node, as the gateway has it."""

    async def send(self, message: HiveMessage) -> None: ...

    async def close(self, code: ErrorCode) -> None: ...


@dataclass(kw_only=True)
class NodeLive:
    """What is known of a connected node beyond its facts."""

    node_id: str
    link_no: int
    since_ms: int
    activity: str = "idle"
    slots_total: int = 0
    slots_busy: int = 0
    outbox: OutboxState = field(default_factory=OutboxState)
    round_trip_ms: float | None = None
    last_frame_ms: int = 0


@dataclass(frozen=True, kw_only=True)
class Signer:
    """The hive's key for capabilities."""

    hive_id: str
    key_id: str
    key: Ed25519PrivateKey
    generation: Callable[[], int]


@dataclass
class _PendingCall:
    call: Call
    changing: bool
    answer: asyncio.Future[Result | Opened]
    parts: asyncio.Queue[Part | End]
    next_part: int = 0


class NodeStream:
    """A streamed reply on its way from a node: its head, then its bytes as the node cut them."""

    def __init__(
        self, registry: "NodeRegistry", node_id: str, pending: _PendingCall, head: StreamHead
    ) -> None:
        self.head = head
        self._registry = registry
        self._node_id = node_id
        self._pending = pending
        live = registry.state(node_id)
        self._window = PartWindow(None if live is None else live.round_trip_ms)
        self._ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces. Raises OperationError where the stream broke off."""
        call_id = self._pending.call.call_id
        while True:
            piece = await self._pending.parts.get()
            if isinstance(piece, End):
                self._ended = True
                if piece.error is not None:
                    raise operation_error(piece.error)
                return
            yield piece.data
            total = self._window.take(len(piece.data), time.monotonic())
            if total is not None:
                await self._registry.send(self._node_id, PartCredit(call_id=call_id, total=total))

    async def aclose(self) -> None:
        """End the stream; the node is told where it has not ended by itself."""
        self._registry.forget_call(self._node_id, self._pending.call.call_id)
        if not self._ended:
            self._ended = True
            await self._registry.send(self._node_id, Cancel(call_id=self._pending.call.call_id))


@dataclass
class _Node:
    connection: Connection
    live: NodeLive
    calls: dict[str, _PendingCall] = field(default_factory=dict)


class NodeRegistry:
    """The connected nodes and the calls under way on them."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._nodes: dict[str, _Node] = {}

    # --- who is there -------------------------------------------------------------------------

    def is_online(self, node_id: str) -> bool:
        return node_id in self._nodes

    def online(self) -> set[str]:
        return set(self._nodes)

    def state(self, node_id: str) -> NodeLive | None:
        node = self._nodes.get(node_id)
        return None if node is None else node.live

    def attach(self, live: NodeLive, connection: Connection) -> Connection | None:
        """Take a link as the node's present one; return the one it replaces, to be closed."""
        before = self._nodes.get(live.node_id)
        self._nodes[live.node_id] = _Node(connection, live)
        if before is None:
            return None
        self._break_calls(before)
        return before.connection

    def detach(self, node_id: str, connection: Connection) -> bool:
        """The link is gone; False where another has taken its place already."""
        node = self._nodes.get(node_id)
        if node is None or node.connection is not connection:
            return False
        del self._nodes[node_id]
        self._break_calls(node)
        return True

    # --- to a node ----------------------------------------------------------------------------

    async def send(self, node_id: str, message: HiveMessage) -> bool:
        """Send one control frame; False where the node is not connected."""
        node = self._nodes.get(node_id)
        if node is None:
            return False
        await node.connection.send(message)
        return True

    async def ask(self, node_id: str, need: Need) -> bool:
        """Send a need that is already stored; False where the node is away (it is asked later)."""
        return await self.send(node_id, need)

    async def disconnect(self, node_id: str, code: ErrorCode) -> None:
        """Close a node's link with what `code` means."""
        node = self._nodes.get(node_id)
        if node is not None:
            await node.connection.close(code)

    async def call(
        self,
        node_id: str,
        operation: str,
        attempt_id: str,
        body: bytes,
        *,
        actor: str,
        role: Role,
        project_id: str | None = None,
        idempotency_key: str | None = None,
        expected_head: str | None = None,
        expected_execution: str | None = None,
        deadline_s: float,
    ) -> bytes:
        """Run a unary operation at its node; return the reply's msgpack bytes.

        Raises OperationError: the node's own error; `node_offline`; `unknown` where a changing
        operation left and no answer came; `deadline_passed` where a reading one took too long.
        """
        pending = await self._send_call(
            node_id,
            operation,
            attempt_id,
            body,
            actor=actor,
            role=role,
            project_id=project_id,
            idempotency_key=idempotency_key,
            expected_head=expected_head,
            expected_execution=expected_execution,
            deadline_s=deadline_s,
        )
        try:
            answer = await self._answer(node_id, pending, deadline_s)
        finally:
            self.forget_call(node_id, pending.call.call_id)
        if isinstance(answer, Opened):
            raise OperationError(ErrorCode.NODE_FAILED, "the node streams what should be one reply")
        return answer.body

    async def open_stream(
        self,
        node_id: str,
        operation: str,
        attempt_id: str,
        body: bytes,
        *,
        actor: str,
        role: Role,
        project_id: str | None = None,
        deadline_s: float,
    ) -> NodeStream:
        """Open a streamed operation at its node. Raises OperationError as `call` does."""
        pending = await self._send_call(
            node_id,
            operation,
            attempt_id,
            body,
            actor=actor,
            role=role,
            project_id=project_id,
            idempotency_key=None,
            expected_head=None,
            deadline_s=deadline_s,
        )
        try:
            answer = await self._answer(node_id, pending, deadline_s)
            head = _stream_head(answer)
        except BaseException:
            self.forget_call(node_id, pending.call.call_id)
            raise
        return NodeStream(self, node_id, pending, head)

    async def _send_call(
        self,
        node_id: str,
        operation: str,
        attempt_id: str,
        body: bytes,
        *,
        actor: str,
        role: Role,
        project_id: str | None,
        idempotency_key: str | None,
        expected_head: str | None,
        expected_execution: str | None = None,
        deadline_s: float,
    ) -> _PendingCall:
        node = self._nodes.get(node_id)
        if node is None:
            raise _offline(node_id)
        if len(node.calls) >= limits.CALLS_OPEN_MAX:
            raise OperationError(
                ErrorCode.SLOW_DOWN,
                f"{limits.CALLS_OPEN_MAX} operations are under way on this node",
                hint="Try again when some have ended.",
            )
        now_s = int(time.time())
        streamed = OPERATIONS[operation].streamed
        ttl_s = limits.STREAM_TOKEN_TTL_S if streamed else limits.CAPABILITY_TTL_S
        capability = tokens.Capability(
            jti=secrets.token_hex(16),
            actor=actor,
            role=role.name.lower(),
            node_id=node_id,
            operation=operation,
            attempt_id=attempt_id,
            body_hash=tokens.body_hash(body),
            hive_id=self._signer.hive_id,
            generation=self._signer.generation(),
            issued_at_s=now_s,
            expires_at_s=now_s + ttl_s,
            project_id=project_id,
        )
        call = Call(
            call_id=secrets.token_hex(16),
            operation=operation,
            attempt_id=attempt_id,
            body=body,
            capability=tokens.mint_capability(
                capability, key=self._signer.key, key_id=self._signer.key_id
            ),
            time_left_ms=int(deadline_s * 1000),
            idempotency_key=idempotency_key,
            expected_head=expected_head,
            expected_execution=expected_execution,
        )
        pending = _PendingCall(
            call,
            OPERATIONS[operation].changing,
            asyncio.get_running_loop().create_future(),
            asyncio.Queue(_PARTS_WAITING_MAX),
        )
        node.calls[call.call_id] = pending
        try:
            await node.connection.send(call)
        except BaseException:
            self.forget_call(node_id, call.call_id)
            raise
        return pending

    async def _answer(
        self, node_id: str, pending: _PendingCall, deadline_s: float
    ) -> Result | Opened:
        try:
            async with asyncio.timeout(deadline_s):
                answer = await pending.answer
        except TimeoutError as late:
            await self.send(node_id, Cancel(call_id=pending.call.call_id))
            if pending.changing:
                raise _unknown(pending.call, "no answer came in time") from late
            raise OperationError(
                ErrorCode.DEADLINE_PASSED,
                f"the node took longer than {deadline_s:g} s",
                hint="Ask for less at a time, or again later.",
            ) from late
        except asyncio.CancelledError:
            # Whoever asked is gone; what only reads has no reason to go on.
            if not pending.changing:
                await self.send(node_id, Cancel(call_id=pending.call.call_id))
            raise
        if isinstance(answer, Result) and answer.error is not None:
            raise operation_error(answer.error)
        return answer

    # --- from a node --------------------------------------------------------------------------

    def answered(self, node_id: str, message: Result | Opened | Part | End) -> None:
        """Take a frame that answers a call; one that nobody waits for any more is dropped."""
        node = self._nodes.get(node_id)
        pending = None if node is None else node.calls.get(message.call_id)
        if node is None or pending is None:
            return
        match message:
            case Result() | Opened():
                if not pending.answer.done():
                    pending.answer.set_result(message)
            case Part():
                if message.n != pending.next_part:
                    self._end_stream(pending, ErrorCode.NODE_FAILED, "a piece of the reply is lost")
                    return
                pending.next_part += 1
                self._put(pending, message)
            case End():
                self._put(pending, message)

    def forget_call(self, node_id: str, call_id: str) -> None:
        """Nobody waits for this call any more."""
        node = self._nodes.get(node_id)
        if node is not None:
            node.calls.pop(call_id, None)

    def _put(self, pending: _PendingCall, piece: Part | End) -> None:
        try:
            pending.parts.put_nowait(piece)
        except asyncio.QueueFull:
            # The node sent past its credit: it broke the rule, its stream pays.
            self._end_stream(pending, ErrorCode.NODE_FAILED, "the node sent more than was asked")

    def _end_stream(self, pending: _PendingCall, code: ErrorCode, message: str) -> None:
        while not pending.parts.empty():
            pending.parts.get_nowait()
        error = OperationError(code, message).body()
        pending.parts.put_nowait(End(call_id=pending.call.call_id, error=error))

    def _break_calls(self, node: _Node) -> None:
        for pending in node.calls.values():
            if not pending.answer.done():
                error = (
                    _unknown(pending.call, "the link broke before an answer came")
                    if pending.changing
                    else _offline(node.live.node_id)
                )
                pending.answer.set_exception(error)
                # Its waiter may be cancelled by now; then nobody will ever look.
                pending.answer.exception()
            else:
                self._end_stream(pending, ErrorCode.NODE_OFFLINE, "the link to the node broke")
        node.calls.clear()


def _stream_head(answer: Result | Opened) -> StreamHead:
    if not isinstance(answer, Opened):
        raise OperationError(ErrorCode.NODE_FAILED, "the node did not stream its reply")
    return msgspec.msgpack.decode(answer.body, type=StreamHead)


def _offline(node_id: str) -> OperationError:
    return OperationError(
        ErrorCode.NODE_OFFLINE,
        "the node is not connected",
        hint="It goes on working by itself; try again when it is back.",
        node_id=node_id,
    )


def _unknown(call: Call, why: str) -> OperationError:
    return OperationError(
        ErrorCode.UNKNOWN_OUTCOME,
        f"{why}; the node may have carried it out",
        hint="Look the outcome up by its key, or send the same key again.",
        key=call.idempotency_key,
    )
